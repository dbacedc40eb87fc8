"""google-api-python-client's Deployment Manager v2, unmodified, against our gateway."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest
from google.api import http_pb2
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.protobuf import struct_pb2

import lro_grpc
from lro_grpc import testing
from lro_grpc._http.gateway import gateway
from lro_grpc.http import listening_in_thread

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

discovery = pytest.importorskip("googleapiclient.discovery")
errors = pytest.importorskip("googleapiclient.errors")

pytestmark = pytest.mark.vendors

PROJECT = "example-project"
INSERT = "/deploymentmanager.v2.Deployments/Insert"
RULES = {
    INSERT: http_pb2.HttpRule(
        post=f"/deploymentmanager/v2/projects/{PROJECT}/global/deployments", body="*"
    )
}


class Deployments:
    """The service: what becomes of a deployment is in its name."""

    def __init__(self) -> None:
        self.may_end = threading.Event()

    def add_to(self, operations: lro_grpc.Operations) -> None:
        parent = f"projects/{PROJECT}/locations/global"
        operations.add_method(
            INSERT,
            self.insert,
            request=struct_pb2.Struct,
            response=struct_pb2.Struct,
            prepare=lambda request, context: lro_grpc.Prepared(
                parent=parent, target=f"{parent}/deployments/{request['name']}"
            ),
        )

    def insert(self, request: Any, op: lro_grpc.OperationContext[Any]) -> Any:
        op.progress(40)
        while not self.may_end.wait(0.01):
            op.raise_if_stopped()
        if request["name"] == "broken":
            raise lro_grpc.LroError("no such template", code=lro_grpc.Code.NOT_FOUND)
        return request


@contextlib.contextmanager
def over_http(served: testing.Served, loop: asyncio.AbstractEventLoop) -> Iterator[Any]:
    del loop
    app = gateway(served.operations, rules=RULES)
    with (
        listening_in_thread(app, "127.0.0.1:0") as port,
        discovery.build(
            "deploymentmanager",
            "v2",
            credentials=AnonymousCredentials(),
            client_options=ClientOptions(api_endpoint=f"http://127.0.0.1:{port}"),
            static_discovery=True,
        ) as client,
    ):
        yield client


SDKS = {"google-api-python-client deploymentmanager v2": over_http}


@pytest.fixture
def service() -> Deployments:
    return Deployments()


@pytest.fixture
def served(service: Deployments) -> Iterator[testing.Served]:
    def identify(context: Any) -> str:
        return dict(context.invocation_metadata()).get("x-user", "someone")

    def authorize(access: lro_grpc.Access) -> bool:
        return access.caller != "nobody"

    with testing.serve(configure=service.add_to, identify=identify, authorize=authorize) as served:
        yield served
        service.may_end.set()


def inserted(client: Any, name: str) -> Any:
    return client.deployments().insert(project=PROJECT, body={"name": name}).execute()


def until(client: Any, operation: Any, status: str) -> Any:
    get = client.operations().get(project=PROJECT, operation=operation["name"])
    while True:
        found = get.execute()
        if found["status"] == status:
            return found


@pytest.mark.case("success")
def test_success(client: Any, service: Deployments) -> None:
    operation = inserted(client, "d")
    assert operation["kind"] == "deploymentmanager#operation"
    assert operation["operationType"] == "insert"
    running = until(client, operation, "RUNNING")
    assert running["user"] == "someone"
    service.may_end.set()
    done = until(client, operation, "DONE")
    assert done["progress"] == 100
    assert "error" not in done
    assert done["insertTime"] == operation["insertTime"] <= done["startTime"] <= done["endTime"]
    assert int(done["id"]) == int(operation["id"])


@pytest.mark.case("failure")
def test_failure(client: Any, service: Deployments) -> None:
    service.may_end.set()
    done = until(client, inserted(client, "broken"), "DONE")
    (error,) = done["error"]["errors"]
    assert (error["code"], error["message"]) == ("NOT_FOUND", "no such template")
    assert (done["httpErrorStatusCode"], done["httpErrorMessage"]) == (404, "NOT FOUND")


@pytest.mark.case("cancel")
def test_what_others_cancel_has_failed(client: Any, served: testing.Served) -> None:
    """The API has no call for it."""
    operation = inserted(client, "d")
    served.client.cancel(f"projects/{PROJECT}/locations/global/operations/{operation['name']}")
    done = until(client, operation, "DONE")
    assert done["error"]["errors"][0]["code"] == "CANCELLED"
    assert done["httpErrorStatusCode"] == 499


@pytest.mark.case("list")
def test_list_by_pages(client: Any, service: Deployments) -> None:
    names = [inserted(client, f"d{number}")["name"] for number in range(5)][::-1]
    calls = client.operations()
    request = calls.list(project=PROJECT, maxResults=2, orderBy="creationTimestamp desc")
    pages = []
    while request is not None:
        page = request.execute()
        pages.append([one["name"] for one in page["operations"]])
        request = calls.list_next(request, page)
    assert pages == [names[:2], names[2:4], names[4:]]
    service.may_end.set()
    for name in names:
        until(client, {"name": name}, "DONE")
    filters = {
        "status = DONE": sorted(names),
        "status != DONE": [],
        f"name eq {names[0]}": names[:1],
    }
    for text, expected in filters.items():
        found = calls.list(project=PROJECT, filter=text).execute()
        assert [one["name"] for one in found["operations"]] == expected


@pytest.mark.case("missing")
def test_a_name_that_nobody_has(client: Any) -> None:
    with pytest.raises(errors.HttpError) as raised:
        client.operations().get(project=PROJECT, operation="none").execute()
    assert raised.value.status_code == 404
    assert "not found" in raised.value.reason
    assert raised.value.error_details


@pytest.mark.case("denied")
def test_a_caller_who_may_not(client: Any) -> None:
    operation = inserted(client, "d")
    for request in (
        client.operations().get(project=PROJECT, operation=operation["name"]),
        client.operations().get(project=PROJECT, operation="none"),
        client.operations().list(project=PROJECT),
        client.deployments().insert(project=PROJECT, body={"name": "d"}),
    ):
        request.headers["x-user"] = "nobody"
        with pytest.raises(errors.HttpError) as raised:
            request.execute()
        assert raised.value.status_code == 403
        assert "Permission" in raised.value.reason
