"""Values without a JSON form: shown by their bytes, and nobody is refused for them."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import grpc
import grpc.aio
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    message_factory,
    struct_pb2,
    timestamp_pb2,
)
from http_harness import PARENT, Gatewayed, Http, done, serving, start

import lro_grpc
from lro.example.v1 import fleet_service_pb2_grpc
from lro.v1 import operation_metadata_pb2
from lro_grpc._http.gateway import gateway
from lro_grpc._http.listening import listening

GLOBAL = "projects/p/locations/global"

NAN = struct_pb2.Struct(fields={"rate": struct_pb2.Value(number_value=float("nan"))})
BAD = [
    NAN,
    duration_pb2.Duration(seconds=10**12),
    timestamp_pb2.Timestamp(seconds=-(2**60)),
    any_pb2.Any(type_url="type.googleapis.com/no.Such", value=b"\xff\x00"),
]


def as_bytes(message: Any) -> dict[str, str]:
    if isinstance(message, any_pb2.Any):
        return {"@type": message.type_url, "value": base64.b64encode(message.value).decode()}
    return {
        "@type": f"type.googleapis.com/{message.DESCRIPTOR.full_name}",
        "value": base64.b64encode(message.SerializeToString()).decode(),
    }


class BadFleet(fleet_service_pb2_grpc.FleetServiceServicer):
    """A fleet whose operations have such values in their metadata, and at last in their error."""

    @lro_grpc.method
    def CreateInstance(self, request: Any, op: Any) -> Any:
        del op
        raise lro_grpc.LroError(f"no {request.instance_id}", code=9, reason="BAD", details=BAD)

    @CreateInstance.prepare
    def prepare_create_instance(self, request: Any, context: Any) -> Any:
        del context
        metadata = operation_metadata_pb2.OperationMetadata()
        failure = metadata.partial_failures.add(code=3, message="in part")
        for one in BAD:
            if isinstance(one, any_pb2.Any):
                failure.details.append(one)
            else:
                failure.details.add().Pack(one)
        return lro_grpc.Prepared(parent=request.parent, metadata=metadata)


@pytest.fixture
def served(where: str) -> Any:
    with serving(where, BadFleet()) as gatewayed:
        yield gatewayed


def assert_shown(operation: Any, *, ended: bool) -> None:
    (failure,) = operation["metadata"]["partialFailures"]
    assert (failure["code"], failure["message"]) == (3, "in part")
    assert failure["details"] == [as_bytes(one) for one in BAD]
    assert operation["metadata"]["verb"] == "create"
    if ended:
        assert operation["error"]["message"].startswith("no ")
        info, *details = operation["error"]["details"]
        assert info["reason"] == "BAD"
        assert details == [as_bytes(one) for one in BAD]


def test_the_start_is_answered_with_200(served: Gatewayed) -> None:
    path = f"/v1/{PARENT}/instances?instanceId=a"
    assert_shown(served.post(path, {"schemaSql": ""}).ok, ended=False)


def test_get_wait_and_watch_show_the_rest(served: Gatewayed) -> None:
    name = start(served)
    assert_shown(done(served, name), ended=True)
    assert_shown(served.get(f"/v1/{name}").ok, ended=True)
    (event,) = served.events(f"/v1/{name}:watch")
    assert_shown(json.loads(event["data"]), ended=True)


@pytest.mark.parametrize("path", [f"/v1/{PARENT}", "/v1/projects/-/locations/-"])
def test_a_list_shows_all_of_them(served: Gatewayed, path: str) -> None:
    names = [start(served, f"i{number}") for number in range(3)]
    for name in names:
        done(served, name)
    listed = served.get(f"{path}/operations").ok["operations"]
    assert [one["name"] for one in listed] == names[::-1]
    for one in listed:
        assert_shown(one, ended=True)


def test_deployment_manager_lists_them_too(served: Gatewayed) -> None:
    path = f"/v1/{GLOBAL}/instances?instanceId=a"
    done(served, served.post(path, {"schemaSql": ""}).ok["name"])
    (shown,) = served.get("/deploymentmanager/v2/projects/p/global/operations").ok["operations"]
    assert shown["status"] == "DONE"
    assert shown["error"]["errors"][0]["message"] == "no a"
    assert [one["message"] for one in shown["warnings"]] == ["in part"]


class Foreign(operations_pb2_grpc.OperationsServicer):
    """A server of another kind, one of whose operations says a number that no dialect has."""

    async def ListOperations(self, request: Any, context: Any) -> Any:
        del context
        progress = progress_class()
        page = operations_pb2.ListOperationsResponse()
        for name, percent in (("a", 50), ("b", 10**12), ("c", 70)):
            operation = page.operations.add(name=f"{request.name}/operations/{name}")
            operation.metadata.Pack(progress(progress_percent=percent))
        return page


def progress_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="test_http_progress.proto", syntax="proto3")
    message = file.message_type.add(name="TestHttpProgress")
    message.field.add(name="progress_percent", number=1, type=3, label=1)
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
    found = descriptor_pool.Default().FindMessageTypeByName("TestHttpProgress")
    return message_factory.GetMessageClass(found)


async def answer_of(servicer: Any, path: str) -> Any:
    """Returns the JSON that a gateway answers with, which has this server behind a channel."""
    server = grpc.aio.server()
    operations_pb2_grpc.add_OperationsServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        listening(gateway(channel=channel, starts={}), "127.0.0.1:0") as http,
    ):
        answer = await asyncio.to_thread(Http(http).get, path)
    await server.stop(0)
    return answer.ok


def test_an_operation_that_a_dialect_cannot_express_spoils_no_list(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = asyncio.run(answer_of(Foreign(), "/deploymentmanager/v2/projects/p/global/operations"))
    assert [one["name"] for one in answer["operations"]] == ["a", "c"]
    assert f"{GLOBAL}/operations/b is left out of a list" in caplog.text


class FailedWithoutACode(operations_pb2_grpc.OperationsServicer):
    """A server of operations that have an error, and no code in it."""

    async def GetOperation(self, request: Any, context: Any) -> Any:
        del context
        return operations_pb2.Operation(name=request.name, done=True, error={"message": "m"})


def test_an_error_without_a_code_is_a_failure_in_the_vendors_words_too() -> None:
    def get(path: str) -> Any:
        return asyncio.run(answer_of(FailedWithoutACode(), path))

    assert get("/v1/operations/x")["error"] == {"message": "m"}
    deployment = get("/deploymentmanager/v2/projects/p/global/operations/x")
    assert (deployment["status"], deployment["httpErrorStatusCode"]) == ("DONE", 500)
    assert deployment["error"]["errors"] == [{"code": "UNKNOWN", "message": "m"}]
