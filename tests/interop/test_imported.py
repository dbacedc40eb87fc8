"""Operations that were imported, as google-api-core's own client has found them before."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from fleet import ADD, FleetService, Instance
from google.api_core import exceptions, operation, operations_v1
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.rpc import code_pb2, error_details_pb2

from lro.v1 import operation_metadata_pb2
from lro_grpc import testing

PARENT = "projects/p/locations/l"
REASON = error_details_pb2.ErrorInfo(reason="NO_ROOM", domain="fleet.example.com")


def old_operations() -> Iterator[operations_pb2.Operation]:
    metadata = operation_metadata_pb2.OperationMetadata(target="i", progress_percent=70)
    for name in ("made", "failed", "cancelled", "running"):
        one = operations_pb2.Operation(name=f"{PARENT}/operations/{name}", done=name != "running")
        one.metadata.Pack(metadata)
        if name == "made":
            one.response.Pack(Instance(name="i"))
        if name == "failed":
            one.error.code, one.error.message = code_pb2.RESOURCE_EXHAUSTED, "zone a is full"
            one.error.details.add().Pack(REASON)
        if name == "cancelled":
            one.error.code, one.error.message = code_pb2.CANCELLED, "by ada"
        yield one


class OldServer(operations_pb2_grpc.OperationsServicer):
    def GetOperation(self, request: Any, context: Any) -> Any:
        return next(one for one in old_operations() if one.name == request.name)


@pytest.fixture(params=["old", "imported"])
def channel(request: pytest.FixtureRequest) -> Iterator[grpc.Channel]:
    """A channel to a server of one's own, and to one that has imported its operations."""
    if request.param == "imported":
        with testing.serve(FleetService(), ADD) as served:
            assert served.operations.import_operations_sync(old_operations()).stored == 4
            yield served.channel
        return
    server = grpc.server(futures.ThreadPoolExecutor(2))
    operations_pb2_grpc.add_OperationsServicer_to_server(OldServer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    server.stop(None).wait()


def future(channel: grpc.Channel, name: str) -> operation.Operation:
    """Returns the future that a client has had since before the import."""
    client = operations_v1.OperationsClient(channel)
    found = client.get_operation(f"{PARENT}/operations/{name}")
    return operation.from_gapic(
        found, client, Instance, metadata_type=operation_metadata_pb2.OperationMetadata
    )


def test_it_finds_what_it_has_found_before(channel: grpc.Channel) -> None:
    made = future(channel, "made")
    assert made.result(timeout=10) == Instance(name="i")
    assert made.metadata.progress_percent == 70
    with pytest.raises(exceptions.ResourceExhausted) as failed:
        future(channel, "failed").result(timeout=10)
    assert failed.value.message == "zone a is full"
    info = error_details_pb2.ErrorInfo()
    assert failed.value.errors[0].details[0].Unpack(info)
    assert info == REASON
    assert future(channel, "cancelled").cancelled()


def test_what_nobody_goes_on_with_has_failed() -> None:
    with testing.serve(FleetService(), ADD) as served:
        served.operations.import_operations_sync(old_operations())
        with pytest.raises(exceptions.Aborted, match="nobody goes on with it"):
            future(served.channel, "running").result(timeout=10)
