"""``lro demo``: creates a batch that fails, an instance and a snapshot, on the example fleet."""

from __future__ import annotations

import contextlib
import json
import tempfile
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import grpc
import typer
from google.longrunning import operations_pb2
from rich.text import Text

import lro_grpc
from lro.example.v1 import fleet_service_pb2
from lro_grpc._cli.commands.watch import show_updates
from lro_grpc._cli.exit_codes import Exit
from lro_grpc._cli.output import print_message
from lro_grpc._cli.server import DEMO_PARENT, make_server
from lro_grpc._cli.servicers import example_fleet
from lro_grpc._cli.style import Terminal
from lro_grpc._cli.terminal_text import printable_summary
from lro_grpc._client.future import OperationFuture
from lro_grpc._dialects.registry import DIALECTS, to_json
from lro_grpc._errors import LroError, OperationFailedError
from lro_grpc._inspection.message_types import MessageTypes
from lro_grpc._inspection.reflection import Reflection
from lro_grpc._runtime.loop_thread import LoopThread

_ROWS = 500_000

_GOOD_SCHEMA = "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT NOT NULL, total REAL);"
_BAD_SCHEMA = "CREATE TABLE orders (id INTEGER PRIMARY KEY, total REAL CHECK (total >));"


def demo(
    target: Annotated[
        str,
        typer.Option(
            envvar="LRO_TARGET",
            help="A server started with `lro serve`; the demo starts its own without it.",
            metavar="HOST:PORT",
        ),
    ] = "",
) -> None:
    """Runs the demo against a server, or against one of its own; exits with 1 if it fails."""
    terminal = Terminal()
    try:
        with contextlib.ExitStack() as stack:
            address = target or stack.enter_context(_own_server(terminal))
            channel = stack.enter_context(grpc.insecure_channel(address))
            _Demo(channel, terminal).run()
    except (LroError, grpc.RpcError) as error:
        print_message(f"the demo cannot go on: {error}")
        raise typer.Exit(Exit.FAILED) from error


class _Demo:
    """A caller of the fleet service."""

    def __init__(self, channel: grpc.Channel, terminal: Terminal) -> None:
        # Not at the top: the stubs load the whole server, for which no other command has to wait.
        from lro.example.v1 import fleet_service_lro

        self._fleet = fleet_service_lro.FleetServiceClient(channel)
        self._types = MessageTypes(Reflection(channel), note=print_message)
        self._terminal = terminal
        self._run = uuid.uuid4().hex[:6]

    def run(self) -> None:
        """Makes a batch that fails, an instance and its snapshot; ends with the five dialects."""
        batch = self._failing_batch()
        self._snapshot(self._instance())
        for dialect in DIALECTS:
            self._head(f"The batch again, as `lro get --as {dialect}` shows it")
            self._terminal.line(json.dumps(to_json(batch, dialect), indent=2))

    def _failing_batch(self) -> operations_pb2.Operation:
        self._head("A batch of four databases; the third has a broken schema")
        schemas = [_GOOD_SCHEMA, _GOOD_SCHEMA, _BAD_SCHEMA, _GOOD_SCHEMA]
        requests = [
            fleet_service_pb2.CreateInstanceRequest(
                parent=DEMO_PARENT,
                instance_id=f"shop-{self._run}-{number}",
                instance=fleet_service_pb2.Instance(schema_sql=schema, seed_rows=_ROWS),
            )
            for number, schema in enumerate(schemas, start=1)
        ]
        future = self._fleet.BatchCreateInstances(
            fleet_service_pb2.BatchCreateInstancesRequest(parent=DEMO_PARENT, requests=requests)
        )
        self._show(future)
        try:
            future.result()
        except OperationFailedError as error:
            self._terminal.line(f"failed, as it should, with {error.code.name}, {error.reason}")
        return future.operation

    def _instance(self) -> str:
        self._head("One database that succeeds")
        future = self._fleet.CreateInstance(
            fleet_service_pb2.CreateInstanceRequest(
                parent=DEMO_PARENT,
                instance_id=f"ledger-{self._run}",
                instance=fleet_service_pb2.Instance(schema_sql=_GOOD_SCHEMA, seed_rows=2 * _ROWS),
            )
        )
        self._show(future)
        instance = future.result()
        self._terminal.line(f"{instance.name}: {instance.size_bytes:,} bytes")
        return instance.name

    def _snapshot(self, instance: str) -> None:
        self._head("A snapshot of it")
        future = self._fleet.TakeSnapshot(
            fleet_service_pb2.TakeSnapshotRequest(name=instance, snapshot_id=f"ledger-{self._run}")
        )
        self._show(future)
        snapshot = future.result().snapshot
        self._terminal.line(f"{snapshot.name}: {snapshot.size_bytes:,} bytes")

    def _head(self, text: str) -> None:
        self._terminal.line("")
        self._terminal.line(Text(text, style="bold"))

    def _show(self, future: OperationFuture[Any, Any]) -> None:
        updates = (future.operation for _ in future.updates())
        show_updates(self._terminal, (printable_summary(one, self._types) for one in updates))


@contextlib.contextmanager
def _own_server(terminal: Terminal) -> Iterator[str]:
    """Runs a fleet on a SQLite file of its own while the context lasts; gives its address."""
    with tempfile.TemporaryDirectory(prefix="lro-demo-") as folder:
        store = f"sqlite:///{folder}/operations.db"
        thread = LoopThread()
        operations = lro_grpc.Operations(store, grace=timedelta(seconds=2))
        server, port, _ = thread.run(
            make_server(operations, example_fleet(Path(folder)), "127.0.0.1:0")
        )
        thread.run(operations.start())
        thread.run(server.start())
        terminal.line(f"a fleet on 127.0.0.1:{port}, its operations in {store}")
        try:
            yield f"127.0.0.1:{port}"
        finally:
            thread.run(operations.stop(lambda: server.stop(1)))
            thread.close()
