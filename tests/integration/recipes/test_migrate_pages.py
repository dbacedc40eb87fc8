"""The pages on how to move: what was before runs, and what is after goes on with it."""

from __future__ import annotations

import importlib.util
import math
import re
import struct
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pytest
from google.api_core import operation, operations_v1
from google.longrunning import operations_pb2
from google.protobuf import any_pb2
from old_operations import old_operations
from pages import Page
from programs import SECONDS, Folder, first_service, with_pages_of
from server_harness import PARENT, Instance, fleet, serving
from temporalio.testing import ActivityEnvironment

import lro_grpc
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc
from lro.v1 import operation_metadata_pb2
from lro_grpc import testing

IMPORT = Page("migrate/import.md")
CELERY = Page("migrate/celery.md")
API_CORE = Page("migrate/api-core.md")
TEMPORAL = Page("migrate/temporal.md")
RELEASES = Page("migrate/releases.md")

pytestmark = pytest.mark.codegen

api_core: Any = operation
vendor: Any = operations_v1

CALL = """
import sys
import grpc
import reports_lro
from reports_pb2 import BuildReportRequest

with grpc.insecure_channel("127.0.0.1:50051") as channel:
    reports = reports_lro.ReportServiceClient(channel, wait_for_ready=True)
    future = reports.BuildReport(BuildReportRequest(page_count=int(sys.argv[1])))
    print(future.name, flush=True)
    for update in future.updates():
        print(update.progress_percent, flush=True)
    print(*future.result().pages, sep="\\n")
"""


def module_of(path: Path) -> ModuleType:
    """Returns a module of a file."""
    spec = importlib.util.spec_from_file_location(f"documented_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def with_caller(folder: Folder) -> Folder:
    (folder.path / "call.py").write_text(folder.as_here(CALL))
    return folder


# migrate/import.md


def test_the_program_imports_what_a_server_lists(tmp_path: Path) -> None:
    folder = Folder(tmp_path, IMPORT)
    (command,) = [line for line in IMPORT.texts("sh") if line.startswith("python import_fleet.py")]
    assert PARENT in command

    def fill(operations: Any) -> None:
        operations.import_operations_sync(old_operations(250))

    with serving("sync", configure=fill, store=f"sqlite:///{tmp_path}/old.db") as old:
        names = old.names()
        here = command.replace("127.0.0.1:50050", old.target)
        assert folder.run(here) == "Imported(stored=250, skipped=0, left_out=0)\n"
        assert folder.run(here) == "Imported(stored=0, skipped=250, left_out=0)\n"
        listed, dry, real = next(
            one for one in IMPORT.texts("sh") if "lro list" in one
        ).splitlines()
        folder.run(listed.replace("127.0.0.1:50050", old.target))
        assert folder.run(dry).endswith(": 0 operations would be imported, 250 there already\n")
        assert folder.run(real).endswith(": 0 operations imported, 250 there already\n")
    with serving("sync", store=f"sqlite:///{tmp_path}/fleet.db") as new:
        assert new.names() == names


def test_the_file_of_base64_keeps_what_json_cannot(tmp_path: Path) -> None:
    folder = Folder(tmp_path, IMPORT)
    (command,) = [line for line in IMPORT.texts("sh") if line.startswith("python dump_fleet.py")]
    google = "type.googleapis.com/google.protobuf."
    olds = list(old_operations(6))[:5]
    for unlike in (  # a field that is not the type's; no text; a NaN
        any_pb2.Any(type_url=f"{google}Duration", value=b"\x08\x01\x50\x07"),
        any_pb2.Any(type_url=f"{google}StringValue", value=b"\xff"),
        any_pb2.Any(type_url=f"{google}Value", value=b"\x11" + struct.pack("<d", math.nan)),
    ):
        name = f"{PARENT}/operations/unlike-{len(olds)}"
        olds.append(operations_pb2.Operation(name=name, done=True, response=unlike))

    def fill(operations: Any) -> None:
        operations.import_operations_sync(olds)

    with serving("sync", configure=fill, store=f"sqlite:///{tmp_path}/old.db") as old:
        folder.run(command.replace("127.0.0.1:50050", old.target))
    said = folder.run("lro db import old.jsonl fleet.db")
    assert said == "fleet.db: 8 operations imported, 0 there already\n"
    with (
        serving("sync", store=f"sqlite:///{tmp_path}/fleet.db") as new,
        grpc.insecure_channel(new.target) as channel,
    ):
        listed = lro_grpc.OperationsClient(channel).list(PARENT)
        found = [one.SerializeToString() for one in listed]
    assert found == [one.SerializeToString() for one in reversed(olds)]


def test_the_lines_that_the_page_shows_are_read(tmp_path: Path) -> None:
    (shown,) = [text for text in IMPORT.texts("text") if text.startswith("{")]
    lines = shown.replace(",\n ", ", ").replace("fleet.v1.Instance", "lro.example.v1.Instance")
    (tmp_path / "old.jsonl").write_text(lines)
    command = "lro db import old.jsonl --types lro.example.v1.fleet_service_pb2"
    said = Folder(tmp_path).run(command)
    assert said == "operations.db: 2 operations imported, 0 there already\n"


# migrate/celery.md


@pytest.mark.filterwarnings("ignore")
def test_the_task_and_the_method_build_the_same_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = pytest.importorskip("celery.contrib.testing.worker")
    folder = with_caller(first_service(tmp_path, CELERY))
    tasks = module_of(tmp_path / "tasks.py")
    lots = iter([0.5, 0.5, 0.0])  # the archive is away once, at page 3
    monkeypatch.setattr(tasks.random, "random", lambda: next(lots, 0.5))
    tasks.app.conf.update(
        broker_url="memory://", result_backend="cache+memory://", worker_hijack_root_logger=False
    )
    with worker.start_worker(tasks.app, perform_ping_check=False):
        before = tasks.build_report.delay(3).get(timeout=SECONDS)
    server = tmp_path / "server.py"
    server.write_text(  # the same
        server.read_text()
        .replace("random.random() < 0.1", "number == 3 and not away.append(1) and len(away) == 1")
        .replace("def write", "away: list[int] = []\n\n\ndef write")
    )
    with folder.started("python server.py"):
        after = folder.run("python call.py 3").splitlines()
        described = folder.run(f"lro get {after[0]}")
    assert before == after[-3:] == ["page 1", "page 2", "page 3"]
    assert re.search(r"attempt +2", described)


# migrate/api-core.md


def test_both_clients_get_the_report(tmp_path: Path) -> None:
    folder = first_service(tmp_path, API_CORE)
    (shell,) = API_CORE.texts("sh")
    install, generate = shell.splitlines()
    assert install == "pip install google-api-core"
    folder.run(generate)
    with folder.started("python server.py"):
        folder.run("lro list operations")
        before = folder.run("python before.py")
        after = folder.run("python after.py")
    assert before == "3 pages\n"
    assert after.splitlines()[-1] == "3 pages"
    assert len(after.splitlines()) > 3


def test_a_future_of_a_generated_client_is_one_of_ours() -> None:
    (block,) = [one for one in API_CORE.blocks("python") if not one.file]

    class Client:
        """A client as Google's generator makes it."""

        def __init__(self, channel: grpc.Channel) -> None:
            self._stub: Any = fleet_service_pb2_grpc.FleetServiceStub(channel)
            self._operations = vendor.OperationsClient(channel)

        def create_instance(self, *, request: Any) -> Any:
            return api_core.from_gapic(
                self._stub.CreateInstance(request),
                self._operations,
                Instance,
                metadata_type=operation_metadata_pb2.OperationMetadata,
            )

    async def run(self: Any, request: Any, op: Any) -> Any:
        return Instance(name=request.instance_id)

    add = fleet_service_pb2_grpc.add_FleetServiceServicer_to_server
    request = fleet_service_pb2.CreateInstanceRequest(parent=PARENT, instance_id="a")
    with testing.serve(fleet("CreateInstance", run), add) as served:
        names = block.run(client=Client(served.channel), request=request)
    assert isinstance(names["future"], lro_grpc.OperationFuture)
    assert names["instance"] == Instance(name="a")


# migrate/temporal.md


async def test_the_activity_goes_on_from_its_heartbeat(tmp_path: Path) -> None:
    Folder(tmp_path, TEMPORAL)
    activities = module_of(tmp_path / "activities.py")
    environment = ActivityEnvironment()
    beats: list[Any] = []
    environment.on_heartbeat = lambda *details: beats.append(details)
    assert await environment.run(activities.build_report, 2) == ["page 1", "page 2"]
    assert beats == [("page 1",), ("page 1", "page 2")]


def test_the_method_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    folder = with_caller(first_service(tmp_path, TEMPORAL))
    pages, attempt = killed_in_between(folder, folder)
    assert pages == [f"page {n}" for n in range(1, 9)]
    assert attempt == 2


# migrate/releases.md


def test_the_next_release_goes_on_with_the_work_of_the_last_one(tmp_path: Path) -> None:
    old = with_caller(first_service(tmp_path))
    last, check = (one for one in RELEASES.texts("sh")[1].splitlines())
    old.run(last)
    (tmp_path / "stubs").mkdir()
    generated = {path.name: path.read_bytes() for path in tmp_path.glob("reports_*")}
    for name, content in generated.items():  # the client goes on with its own
        (tmp_path / "stubs" / name).write_bytes(content)
    (tmp_path / "stubs" / "call.py").write_bytes((tmp_path / "call.py").read_bytes())

    def release() -> Folder:
        new = first_service(tmp_path, RELEASES, ports_of=old)
        new.run(check)
        return new

    pages, attempt = killed_in_between(old, release, call="stubs/call.py")
    assert [page.rpartition(",")[0].removeprefix("Report, ") for page in pages] == [
        f"page {n}" for n in range(1, 9)
    ]
    assert pages[0].endswith("attempt 1")
    assert pages[-1] == "Report, page 8, written by attempt 2"
    assert attempt == 2


def killed_in_between(old: Folder, new: Any, call: str = "call.py") -> tuple[list[str], int]:
    """Ends a server in the middle of a report, and starts another: returns the report."""
    with_pages_of(old, 2)
    with old.started("python server.py") as first, old.started(f"python {call} 8") as caller:
        name = caller.line()
        while int(caller.line()) < 25:
            pass
        first.process.terminate()
        first.process.wait(SECONDS)
        folder = new() if callable(new) else new
        with_pages_of(folder, 0.1)
        with folder.started("python server.py"):
            lines: list[str] = []
            while line := caller.line():
                lines.append(line)
            described = folder.run(f"lro get {name}")
    attempt = re.search(r"attempt +(\d+)", described)
    assert attempt is not None
    return lines[-8:], int(attempt[1])
