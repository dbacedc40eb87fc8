"""azure-cognitiveservices-vision-face, unmodified, against our gateway."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from snapshots import RULES, Snapshots

import lro_grpc
from lro_grpc import testing
from lro_grpc._http.gateway import gateway
from lro_grpc.http import listening_in_thread

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

face = pytest.importorskip("azure.cognitiveservices.vision.face")
models = pytest.importorskip("azure.cognitiveservices.vision.face.models")
authentication = pytest.importorskip("msrest.authentication")

pytestmark = pytest.mark.vendors

SCOPE = ["00000000-0000-0000-0000-000000000001"]
KEY = "ocp-apim-subscription-key"


class FaceLists(Snapshots):
    """Snapshots of lists alone, as the client asks for them."""

    def take(self, request: Any, op: lro_grpc.OperationContext[Any]) -> Any:
        assert dict(request)["type"] == "FaceList"
        return super().take(request, op)


@contextlib.contextmanager
def over_http(served: testing.Served, loop: asyncio.AbstractEventLoop) -> Iterator[Any]:
    del loop
    with listening_in_thread(gateway(served.operations, rules=RULES), "127.0.0.1:0") as port:
        yield lambda key: face.FaceClient(
            f"http://127.0.0.1:{port}", authentication.CognitiveServicesCredentials(key)
        ).snapshot


SDKS = {"azure-cognitiveservices-vision-face": over_http}


@pytest.fixture
def service() -> Snapshots:
    return FaceLists()


@pytest.fixture
def served(service: Snapshots) -> Iterator[testing.Served]:
    def identify(context: Any) -> str:
        return dict(context.invocation_metadata())[KEY]

    def authorize(access: lro_grpc.Access) -> bool:
        return access.caller != "nobody"

    with testing.serve(configure=service.add_to, identify=identify, authorize=authorize) as served:
        yield served
        service.may_end.set()


@pytest.fixture
def snapshot(client: Any) -> Any:
    return client("key")


def taken(snapshot: Any, object_id: str) -> str:
    """Begins to take a snapshot, and returns the id of the operation."""
    reply = snapshot.take("FaceList", object_id, SCOPE, raw=True)
    operation_id: str = reply.headers["Operation-Location"].rpartition("/")[2]
    return operation_id


def until(snapshot: Any, operation_id: str, status: str) -> Any:
    while True:
        found = snapshot.get_operation_status(operation_id)
        assert isinstance(found, models.OperationStatus)
        assert not found.additional_properties
        if found.status == status:
            return found


@pytest.mark.case("success")
def test_success(snapshot: Any, service: Snapshots) -> None:
    operation_id = taken(snapshot, "src")
    running = until(snapshot, operation_id, "running")
    assert running.resource_location is None
    service.may_end.set()
    done = until(snapshot, operation_id, "succeeded")
    assert done.created_time == running.created_time
    assert done.last_action_time >= running.last_action_time >= running.created_time
    assert done.resource_location == "/snapshots/src"
    assert done.message is None


@pytest.mark.case("failure")
def test_failure(snapshot: Any, service: Snapshots) -> None:
    service.may_end.set()
    done = until(snapshot, taken(snapshot, "broken"), "failed")
    assert done.message == "no such list"
    assert done.resource_location is None


@pytest.mark.case("cancel")
def test_what_others_cancel_has_failed(snapshot: Any, served: testing.Served) -> None:
    """Azure Face has no word for it, and no call."""
    operation_id = taken(snapshot, "src")
    client = lro_grpc.OperationsClient(served.channel, call_metadata=[(KEY, "key")])
    client.cancel(f"operations/{operation_id}")
    assert until(snapshot, operation_id, "failed").message


@pytest.mark.case("missing")
def test_an_id_that_nobody_has(snapshot: Any) -> None:
    with pytest.raises(models.APIErrorException) as raised:
        snapshot.get_operation_status("none")
    assert raised.value.response.status_code == 404
    assert raised.value.error.error.code == "NOT_FOUND"
    assert "not found" in raised.value.error.error.message


@pytest.mark.case("denied")
def test_a_caller_who_may_not(client: Any, snapshot: Any) -> None:
    operation_id = taken(snapshot, "src")
    nobody = client("nobody")
    for call in (
        lambda: nobody.get_operation_status(operation_id),
        lambda: nobody.get_operation_status("none"),
        lambda: nobody.take("FaceList", "src", SCOPE),
    ):
        with pytest.raises(models.APIErrorException) as raised:
            call()
        assert raised.value.response.status_code == 403
        assert raised.value.error.error.code == "PERMISSION_DENIED"
