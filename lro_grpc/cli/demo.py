"""``lro demo``: real work on the example fleet, from the caller's side."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc
from lro.v1 import batch_create_instances_pb2, operation_metadata_pb2
from lro_grpc.cli.serve import PARENT, assemble
from lro_grpc.client import OperationFuture, OperationsClient
from lro_grpc.engine.loop_thread import LoopThread
from lro_grpc.errors import LroError, OperationFailedError, OperationTimeoutError
from lro_grpc.example import FleetService
from lro_grpc.server import Operations

Metadata = operation_metadata_pb2.OperationMetadata
_State = batch_create_instances_pb2.BatchCreateInstanceStatus.State

_ROWS = 500_000
_LOOK = timedelta(milliseconds=50)
"""How often the shown state is brought up to date."""

_GOOD_SCHEMA = "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT NOT NULL, total REAL);"
_BAD_SCHEMA = "CREATE TABLE orders (id INTEGER PRIMARY KEY, total REAL CHECK (total >));"


def run(target: str) -> None:
    """Runs the demo against a server, or against one of its own; exits with 1 if it fails."""
    console = Console()
    try:
        with contextlib.ExitStack() as stack:
            address = target or stack.enter_context(_own_server(console))
            channel = stack.enter_context(grpc.insecure_channel(address))
            _Demo(channel, console).run()
    except (LroError, grpc.RpcError) as error:
        print(f"lro: the demo cannot go on: {error}", file=sys.stderr)
        sys.exit(1)


class _Demo:
    """A caller of the fleet service."""

    def __init__(self, channel: grpc.Channel, console: Console) -> None:
        self._fleet = fleet_service_pb2_grpc.FleetServiceStub(channel)
        self._client = OperationsClient(channel)
        self._console = console
        self._run = uuid.uuid4().hex[:6]

    def run(self) -> None:
        """Makes a batch that fails, then an instance, then its snapshot."""
        self._failing_batch()
        self._snapshot(self._instance())

    def _failing_batch(self) -> None:
        self._console.print("\n[bold]A batch of four databases; the third has a broken schema[/]")
        schemas = [_GOOD_SCHEMA, _GOOD_SCHEMA, _BAD_SCHEMA, _GOOD_SCHEMA]
        requests = [
            fleet_service_pb2.CreateInstanceRequest(
                parent=PARENT,
                instance_id=f"shop-{self._run}-{number}",
                instance=fleet_service_pb2.Instance(schema_sql=schema, seed_rows=_ROWS),
            )
            for number, schema in enumerate(schemas, start=1)
        ]
        operation = self._fleet.BatchCreateInstances(
            fleet_service_pb2.BatchCreateInstancesRequest(parent=PARENT, requests=requests)
        )
        future = self._client.future(
            operation,
            response=fleet_service_pb2.BatchCreateInstancesResponse,
            metadata=Metadata,
        )
        with Live(console=self._console, refresh_per_second=20, transient=True) as live:
            for metadata in _states(future):
                live.update(_table(metadata))
        self._console.print(_table(metadata))
        try:
            future.result()
        except OperationFailedError as error:
            self._say(f"the operation failed, as it should: [red]{error.message}[/]")

    def _instance(self) -> str:
        self._console.print("\n[bold]One database that succeeds[/]")
        operation = self._fleet.CreateInstance(
            fleet_service_pb2.CreateInstanceRequest(
                parent=PARENT,
                instance_id=f"ledger-{self._run}",
                instance=fleet_service_pb2.Instance(schema_sql=_GOOD_SCHEMA, seed_rows=2 * _ROWS),
                request_id=str(uuid.uuid4()),
            )
        )
        future = self._client.future(
            operation, response=fleet_service_pb2.Instance, metadata=Metadata
        )
        self._bar(future)
        instance = future.result()
        self._say(f"{instance.name}: {instance.size_bytes:,} bytes")
        return instance.name

    def _snapshot(self, instance: str) -> None:
        self._console.print("\n[bold]A snapshot of it[/]")
        operation = self._fleet.TakeSnapshot(
            fleet_service_pb2.TakeSnapshotRequest(name=instance, snapshot_id=f"ledger-{self._run}")
        )
        future = self._client.future(
            operation, response=fleet_service_pb2.TakeSnapshotResponse, metadata=Metadata
        )
        self._bar(future)
        snapshot = future.result().snapshot
        self._say(f"{snapshot.name}: {snapshot.size_bytes:,} bytes\n")

    def _say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, highlight=False)

    def _bar(self, future: OperationFuture[Any, Metadata]) -> None:
        columns = (BarColumn(), TextColumn("{task.percentage:>3.0f}%  {task.description}"))
        with Progress(*columns, console=self._console) as progress:
            bar = progress.add_task("", total=100)
            for metadata in _states(future):
                percent = metadata.progress_percent
                progress.update(bar, completed=percent, description=metadata.status_detail)


def _states(future: OperationFuture[Any, Metadata]) -> Iterator[Metadata]:
    """Yields the metadata again and again, the last time when the operation is done."""
    done = False
    while not done:
        try:
            future.exception(_LOOK)
            done = True
        except OperationTimeoutError:
            done = False
        yield future.metadata or Metadata()


def _table(metadata: Metadata) -> Table:
    batch = metadata.batch_create_instances_metadata
    table = Table("instance", "state", "why", box=None, padding=(0, 2, 0, 0))
    for name in batch.instance_targets:
        status = batch.instance_statuses[name]
        table.add_row(name.rpartition("/")[2], _State.Name(status.state), status.error.message)
    return table


@contextlib.contextmanager
def _own_server(console: Console) -> Iterator[str]:
    """Runs a fleet on a SQLite file of its own while the context lasts; gives its address."""
    with tempfile.TemporaryDirectory(prefix="lro-demo-") as folder:
        store = f"sqlite:///{folder}/operations.db"
        thread = LoopThread()
        operations = Operations(store, grace=timedelta(seconds=2))
        fleet = FleetService(Path(folder))
        server, port, _ = thread.run(
            assemble(
                operations,
                lambda it: fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(fleet, it),
                "127.0.0.1:0",
            )
        )
        thread.run(operations.start())
        thread.run(server.start())
        console.print(f"a fleet on 127.0.0.1:{port}, its operations in {store}", soft_wrap=True)
        try:
            yield f"127.0.0.1:{port}"
        finally:
            thread.run(operations.stop(lambda: server.stop(1)))
            thread.close()
