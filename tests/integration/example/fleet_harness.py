"""Work without an operation, for the fleet alone; and a sync or async server for the service."""

from __future__ import annotations

import contextlib
from concurrent import futures
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2

import lro_grpc
from lro.example.v1 import fleet_service_lro, fleet_service_pb2, fleet_service_pb2_grpc
from lro.v1 import operation_metadata_pb2
from lro_grpc._runtime.loop_thread import LoopThread
from lro_grpc.example import FleetService

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECONDS = 15
"""A test fails if it waits longer than this."""

PARENT = "projects/p/locations/l"
TABLE = "CREATE TABLE goods (id INTEGER PRIMARY KEY, title TEXT NOT NULL);"

Instance = fleet_service_pb2.Instance


class Work:
    """Work without an operation; keeps the progress that it reports.

    Args:
        operation: Its id.
        attempt: Which attempt it is.
        on_progress: Is called with each detail.
    """

    def __init__(
        self,
        operation: str = "op-1",
        attempt: int = 1,
        on_progress: Callable[[str], object] = lambda detail: None,
    ) -> None:
        self.id = operation
        self.attempt = attempt
        self.reports: list[tuple[float | None, str | None]] = []
        self.stopped = False
        self.checks_left: int | None = None
        self._on_progress = on_progress

    @property
    def stop_reason(self) -> lro_grpc.StopReason | None:
        if self.checks_left is not None:
            self.checks_left -= 1
            self.stopped = self.stopped or self.checks_left < 0
        return lro_grpc.StopReason.CANCEL if self.stopped else None

    def raise_if_stopped(self) -> None:
        if self.stopped:
            raise lro_grpc.AttemptStopped(lro_grpc.StopReason.CANCEL)

    def progress(self, percent: float | None = None, detail: str | None = None) -> None:
        self.reports.append((percent, detail))
        self._on_progress(detail or "")


def on_disk(data: Path) -> list[str]:
    """Returns the files of a fleet, and its directories of resources in any state."""
    return sorted(
        path.relative_to(data).as_posix()
        for path in data.rglob("*")
        if path.is_file() or path.parent.name in ("instances", "snapshots")
    )


class Server:
    """A running server, its stubs, and shorthands for the calls of the tests."""

    def __init__(self, data: Path, port: int) -> None:
        self.data = data
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.fleet = fleet_service_pb2_grpc.FleetServiceStub(self.channel)
        self.operations = operations_pb2_grpc.OperationsStub(self.channel)

    def create(self, instance_id: str, sql: str = TABLE, **fields: Any) -> operations_pb2.Operation:
        return self.fleet.CreateInstance(request(instance_id, sql, **fields), timeout=SECONDS)

    def get(self, instance_id: str) -> Instance:
        name = f"{PARENT}/instances/{instance_id}"
        return self.fleet.GetInstance(
            fleet_service_pb2.GetInstanceRequest(name=name), timeout=SECONDS
        )

    def list(self, **fields: Any) -> fleet_service_pb2.ListInstancesResponse:
        return self.fleet.ListInstances(
            fleet_service_pb2.ListInstancesRequest(parent=PARENT, **fields), timeout=SECONDS
        )

    def snapshot(self, instance_id: str, snapshot_id: str) -> operations_pb2.Operation:
        name = f"{PARENT}/instances/{instance_id}"
        return self.fleet.TakeSnapshot(
            fleet_service_pb2.TakeSnapshotRequest(name=name, snapshot_id=snapshot_id),
            timeout=SECONDS,
        )

    def delete(self, instance_id: str) -> operations_pb2.Operation:
        name = f"{PARENT}/instances/{instance_id}"
        return self.fleet.DeleteInstance(
            fleet_service_pb2.DeleteInstanceRequest(name=name), timeout=SECONDS
        )

    def batch(self, *requests: Any, **fields: Any) -> operations_pb2.Operation:
        return self.fleet.BatchCreateInstances(
            fleet_service_pb2.BatchCreateInstancesRequest(
                parent=PARENT, requests=requests, **fields
            ),
            timeout=SECONDS,
        )

    def cancel(self, operation: operations_pb2.Operation) -> None:
        self.operations.CancelOperation(
            operations_pb2.CancelOperationRequest(name=operation.name), timeout=SECONDS
        )

    def wait(
        self, operation: operations_pb2.Operation, seconds: float = SECONDS
    ) -> operations_pb2.Operation:
        timeout = duration_pb2.Duration()
        timeout.FromMicroseconds(int(seconds * 1_000_000))
        return self.operations.WaitOperation(
            operations_pb2.WaitOperationRequest(name=operation.name, timeout=timeout),
            timeout=SECONDS,
        )

    def done(self, operation: operations_pb2.Operation) -> operations_pb2.Operation:
        ended = self.wait(operation)
        assert ended.done, f"not done: {ended}"
        return ended

    def until(
        self,
        operation: operations_pb2.Operation,
        predicate: Callable[[operation_metadata_pb2.OperationMetadata], object],
    ) -> None:
        """Waits until the metadata satisfies a predicate; at most 200 Waits of 50 ms."""
        for _ in range(200):
            seen = self.wait(operation, 0.05)
            if predicate(metadata_of(seen)):
                return
            assert not seen.done, f"it ended before: {seen}"
        pytest.fail(f"it never held: {seen}")


@contextlib.contextmanager
def serving(kind: str, data: Path, store: str = "memory:") -> Iterator[Server]:
    """Serves a fleet on ``grpc.server`` ("sync") or ``grpc.aio.server`` ("aio")."""
    operations = lro_grpc.Operations(store, grace=timedelta(seconds=5))

    def attach(server: Any) -> int:
        registrar = operations.attach(server)
        fleet_service_lro.add_FleetServiceServicer_to_server(FleetService(data), registrar)
        port: int = server.add_insecure_port("127.0.0.1:0")
        return port

    with _sync(operations, attach) if kind == "sync" else _aio(operations, attach) as port:
        server = Server(data, port)
        with server.channel:
            yield server


@contextlib.contextmanager
def _sync(operations: lro_grpc.Operations, attach: Callable[[Any], int]) -> Iterator[int]:
    server = grpc.server(futures.ThreadPoolExecutor(16))
    port = attach(server)
    operations.start_sync()
    server.start()
    try:
        yield port
    finally:
        operations.stop_sync(lambda: server.stop(1).wait())


@contextlib.contextmanager
def _aio(operations: lro_grpc.Operations, attach: Callable[[Any], int]) -> Iterator[int]:
    async def begin() -> tuple[grpc.aio.Server, int]:
        server = grpc.aio.server()
        port = attach(server)
        await operations.start()
        await server.start()
        return server, port

    loop = LoopThread()
    server, port = loop.run(begin())
    try:
        yield port
    finally:
        loop.run(operations.stop(lambda: server.stop(1)))
        loop.close()


def request(instance_id: str, sql: str = TABLE, rows: int = 0, **fields: Any) -> Any:
    return fleet_service_pb2.CreateInstanceRequest(
        **{
            "parent": PARENT,
            "instance_id": instance_id,
            "instance": Instance(schema_sql=sql, seed_rows=rows),
            **fields,
        }
    )


def response_of(operation: operations_pb2.Operation, message: Any) -> Any:
    assert operation.WhichOneof("result") == "response", operation
    assert operation.response.Unpack(message), operation.response.type_url
    return message


def metadata_of(operation: operations_pb2.Operation) -> operation_metadata_pb2.OperationMetadata:
    metadata = operation_metadata_pb2.OperationMetadata()
    assert operation.metadata.Unpack(metadata), operation.metadata.type_url
    return metadata


def detail(status: status_pb2.Status, message: Any) -> Any:
    """Returns the one detail of a Status that has the message's type."""
    found = [one for one in status.details if one.Unpack(message)]
    assert len(found) == 1, status
    return message


def info_of(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    info: error_details_pb2.ErrorInfo = detail(status, error_details_pb2.ErrorInfo())
    return info


def refused(call: Callable[[], object]) -> status_pb2.Status:
    """Makes a call that must fail, and returns the Status in its trailers."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    error: Any = raised.value
    trailers = dict(error.trailing_metadata())
    assert "grpc-status-details-bin" in trailers, error
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert (status.code, status.message) == (error.code().value[0], error.details())
    return status
