"""docs/migrate/hand-written.md: its diff is the one between two servers, and moves one over."""

from __future__ import annotations

import contextlib
import difflib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.rpc import code_pb2
from pages import Page
from programs import Folder
from server_harness import PARENT, SECONDS, Instance

from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc

PAGES = Path(__file__).parents[3] / "docs" / "migrate"
EXAMPLE = Path(__file__).parents[3] / "examples" / "moved_over"
BEFORE = EXAMPLE / "by_hand.py"
AFTER = EXAMPLE / "moved_over.py"


def test_the_page_shows_the_diff_between_the_two() -> None:
    (shown,) = Page("migrate/hand-written.md").texts("diff")
    before, after = (path.read_text(encoding="utf-8").splitlines() for path in (BEFORE, AFTER))
    names = ("before/fleet.py", "after/fleet.py")
    assert shown.splitlines() == [*difflib.unified_diff(before, after, *names, n=1, lineterm="")]


@contextlib.contextmanager
def running(script: Path, *addresses: str, cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a server, and kills it at the end, which it does not expect."""
    with subprocess.Popen([sys.executable, str(script), *addresses], cwd=cwd) as process:
        try:
            yield process
        finally:
            process.kill()


class Caller:
    """A client as the service has always had it, with gRPC's own stubs."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._fleet = fleet_service_pb2_grpc.FleetServiceStub(channel)
        self._operations = operations_pb2_grpc.OperationsStub(channel)

    def create(self, path: Path) -> str:
        request = fleet_service_pb2.CreateInstanceRequest(parent=PARENT, instance_id=str(path))
        call: Any = self._fleet.CreateInstance
        name: str = call(request, timeout=SECONDS, wait_for_ready=True).name
        return name

    def get(self, name: str) -> operations_pb2.Operation:
        request = operations_pb2.GetOperationRequest(name=name)
        return self._operations.GetOperation(request, timeout=SECONDS, wait_for_ready=True)

    def cancel(self, name: str) -> None:
        request = operations_pb2.CancelOperationRequest(name=name)
        self._operations.CancelOperation(request, timeout=SECONDS)

    def names(self, filtered: str = "") -> set[str]:
        request = operations_pb2.ListOperationsRequest(name=PARENT, filter=filtered)
        listed = self._operations.ListOperations(request, timeout=SECONDS)
        return {operation.name for operation in listed.operations}

    def result(self, name: str) -> str:
        """Polls until the operation is done, and returns the name of its instance."""
        while not (operation := self.get(name)).done:
            pass
        instance = Instance()
        assert operation.response.Unpack(instance), operation
        return instance.name


@contextlib.contextmanager
def calling(address: str) -> Iterator[Caller]:
    with grpc.insecure_channel(address) as channel:
        yield Caller(channel)


def test_a_service_moves_over_as_the_page_describes(tmp_path: Path) -> None:
    old_address, address = (f"unix:{tmp_path / name}" for name in ("old", "new"))
    databases = {name: tmp_path / f"{name}.db" for name in ("ended", "running", "cancelled", "new")}
    with running(BEFORE, old_address, cwd=tmp_path) as old:
        with calling(old_address) as caller:
            databases["ended"].touch()
            begun = {
                name: caller.create(databases[name]) for name in ("ended", "running", "cancelled")
            }
            assert caller.result(begun["ended"]) == str(databases["ended"])
        with running(AFTER, address, old_address, cwd=tmp_path), calling(address) as caller:
            new = caller.create(databases["new"])
            assert caller.names() == {new, *begun.values()}
            assert caller.names("done = false") == {new}
            assert caller.result(begun["ended"]) == str(databases["ended"])
            caller.cancel(begun["cancelled"])
            assert caller.get(begun["cancelled"]).error.code == code_pb2.CANCELLED
            assert not caller.get(begun["running"]).done
            (shell,) = Page("migrate/hand-written.md").texts("sh")
            listed = shell.replace("127.0.0.1:50050", old_address)
            assert "RUNNING" in Folder(tmp_path).run(listed)
            databases["running"].touch()
            assert caller.result(begun["running"]) == str(databases["running"])
            assert not caller.get(new).done
            assert "RUNNING" not in Folder(tmp_path).run(listed)
        old.kill()
    databases["new"].touch()
    with running(AFTER, address, old_address, cwd=tmp_path), calling(address) as caller:
        assert caller.result(new) == str(databases["new"])
