"""azure-core's own LROPoller, unmodified, against our gateway in the form of Azure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from snapshots import RULES, Snapshots
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from lro_grpc import testing
from lro_grpc.http import gateway, listening_in_thread

azure = pytest.importorskip("azure.core")
rest = pytest.importorskip("azure.core.rest")
polling = pytest.importorskip("azure.core.polling")
base_polling = pytest.importorskip("azure.core.polling.base_polling")
policies = pytest.importorskip("azure.core.pipeline.policies")
transports = pytest.importorskip("azure.core.pipeline.transport")
exceptions = pytest.importorskip("azure.core.exceptions")

pytestmark = pytest.mark.vendors

SECONDS = 15


class SleptSnapshots(Snapshots):
    """A snapshot takes until its poller has slept so often."""

    def __init__(self) -> None:
        super().__init__()
        self.sleeps: list[float] = []
        self.sleeps_needed = 1

    def slept(self, seconds: float) -> None:
        """Stands for the time that an operation takes: nobody really sleeps."""
        self.sleeps.append(seconds)
        if len(self.sleeps) == self.sleeps_needed:
            self.may_end.set()


class Client:
    """What Azure's generator makes for a service: a pipeline, and a poller for its method."""

    def __init__(self, service: SleptSnapshots, url: str) -> None:
        class Transport(transports.RequestsTransport):  # type: ignore[misc, name-defined]
            def sleep(self, duration: float) -> None:
                service.slept(duration)

        self.pipeline = azure.PipelineClient(
            base_url=url, transport=Transport(), policies=[policies.RequestIdPolicy()]
        )

    def begin_take(self, object_id: str) -> Any:
        request = rest.HttpRequest(
            "POST", self.pipeline.format_url("/face/v1.0/snapshots"), json={"objectId": object_id}
        )
        initial = self.pipeline.send_request(request, _return_pipeline_response=True)
        assert initial.http_response.status_code == 202
        return polling.LROPoller(
            self.pipeline,
            initial,
            lambda response: response.http_response.json(),
            base_polling.LROBasePolling(),  # with its own pause of 30 s where none is recommended
        )


@pytest.fixture
def service() -> SleptSnapshots:
    return SleptSnapshots()


@pytest.fixture
def client(service: SleptSnapshots) -> Iterator[Client]:
    """It finds the snapshots themselves beside the operations, under one URL."""

    async def snapshot(request: Any) -> JSONResponse:
        return JSONResponse({"snapshot": request.path_params["snapshot"]})

    app = Starlette(routes=[Route("/snapshots/{snapshot}", snapshot)])
    with (
        testing.serve(configure=service.add_to, poll_after=timedelta(milliseconds=1500)) as served,
        listening_in_thread(app, "127.0.0.1:0") as port,
    ):
        url = f"http://127.0.0.1:{port}"
        served_there = gateway(served.operations, rules=RULES, public_url=url)
        app.router.routes.append(Mount("/", served_there))
        client = Client(service, url)
        with client.pipeline:
            yield client
        service.may_end.set()


@pytest.mark.parametrize("sleeps", [1, 3])
def test_it_sleeps_as_long_as_the_server_recommends(
    client: Client, service: SleptSnapshots, sleeps: int
) -> None:
    service.sleeps_needed = sleeps
    poller = client.begin_take("src")
    assert poller.result(SECONDS) == {"snapshot": "src"}
    assert poller.status() == "succeeded"
    assert len(service.sleeps) >= sleeps
    assert set(service.sleeps) == {2.0}


def test_after_success_it_gets_the_resource(client: Client) -> None:
    """By an absolute link: it has no base to join a path to."""
    assert client.begin_take("a b-é").result(SECONDS) == {"snapshot": "a b-é"}


def test_failure(client: Client) -> None:
    poller = client.begin_take("broken")
    with pytest.raises(exceptions.HttpResponseError):
        poller.result(SECONDS)
    assert poller.status() == "failed"


def test_another_poller_goes_on_where_one_has_begun(
    client: Client, service: SleptSnapshots
) -> None:
    service.sleeps_needed = 2
    begun = client.begin_take("src")
    again = polling.LROPoller.from_continuation_token(
        polling_method=base_polling.LROBasePolling(),
        continuation_token=begun.continuation_token(),
        client=client.pipeline,
        deserialization_callback=lambda response: response.http_response.json(),
    )
    assert again.result(SECONDS) == begun.result(SECONDS) == {"snapshot": "src"}
