"""The README's sections 2 to 5, from the built wheel, in an environment that has nothing else."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import textwrap
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

ROOT = Path(__file__).parents[3]

pytestmark = [pytest.mark.codegen, pytest.mark.timeout(300)]


def section(number: int) -> str:
    text = (ROOT / "README.md").read_text()
    return text.split(f"\n## {number}. ")[1].split("\n## ")[0]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def check(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, env=EMPTY, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


EMPTY = {"PATH": "/usr/bin:/bin"}
"""An environment in which no leftover can help."""


PAUSING = """
import asyncio
import threading

import grpc
import lro_grpc
import lro_grpc.testing
import reports_pb2
import reports_pb2_grpc
from lro.v1 import operation_control_service_pb2 as control
from lro.v1 import operation_control_service_pb2_grpc as control_grpc
from lro.v1.state_pb2 import JobState

comes_to_page_1, goes_on = threading.Event(), threading.Event()


async def render(page):
    if page == 1:
        comes_to_page_1.set()
        await asyncio.to_thread(goes_on.wait)
    return str(page)


class ReportService(reports_pb2_grpc.ReportServiceServicer):
{run}

{guards}

with lro_grpc.testing.serve(
    ReportService(),
    reports_pb2_grpc.add_ReportServiceServicer_to_server,
    identify=identify,
    authorize=authorize,
) as served:
    client = lro_grpc.OperationsClient(served.channel, call_metadata=[("x-user", "ada")])
    stub = reports_pb2_grpc.ReportServiceStub(served.channel)
    controls = control_grpc.OperationControlServiceStub(served.channel)
    as_ada = dict(metadata=[("x-user", "ada")])
    started = stub.BuildReport(reports_pb2.BuildReportRequest(pages=5), **as_ada)
    future = client.future(started, response=reports_pb2.BuildReportResponse)
    comes_to_page_1.wait()
    controls.PauseOperation(control.PauseOperationRequest(name=future.name), **as_ada)
    goes_on.set()
    while not future.done() and future.metadata.state != JobState.JOB_STATE_PAUSED:
        pass
    state = JobState.Name(future.metadata.state).removeprefix("JOB_STATE_")
    try:
        controls.ResumeOperation(
            control.ResumeOperationRequest(name=future.name), metadata=[("x-user", "eve")]
        )
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED, error
    controls.ResumeOperation(control.ResumeOperationRequest(name=future.name), **as_ada)
    print(f"{{state}} at 01, denied to eve, {{future.result().text}}")
"""


TYPED = """
import asyncio

import grpc.aio

{service}

async def main():
    server = grpc.aio.server()
    operations = lro_grpc.Operations(store="memory:")
    add_services(operations, server)
    server.add_insecure_port("127.0.0.1:50051")
    await operations.run(server)


asyncio.run(main())
"""


def test_your_own_service_works_as_the_readme_has_it(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    bin_ = tmp_path / "env" / "bin"
    check(bin_ / "pip", "install", "--quiet", f"{wheel}[codegen]", cwd=tmp_path)

    work = tmp_path / "work"
    work.mkdir()
    port = str(free_port())
    (proto,) = blocks(section(2), "proto")
    server, client = (code.replace("50051", port) for code in blocks(section(2), "python"))
    generate, _ = blocks(section(2), "sh")
    prepare, pausable, guards = blocks(section(3), "python")
    futures = "\n".join(blocks(section(4), "python"))
    (work / "reports.proto").write_text(proto)
    end_of_class = "\n\nasync def main"
    prepared = f"\n{textwrap.indent(prepare, '    ')}{end_of_class}"
    (work / "server.py").write_text(server.replace(end_of_class, prepared, 1))
    (work / "client.py").write_text(client)
    *connected, _ = client.splitlines(keepends=True)
    (work / "futures.py").write_text(
        "import datetime\n" + "".join(connected) + textwrap.indent(futures, "    ")
    )
    (work / "pausing.py").write_text(
        PAUSING.format(run=textwrap.indent(pausable, "    "), guards=guards)
    )
    generate_typed = "".join(blocks(section(5), "sh"))
    typed_client, typed_service = (
        code.replace("50051", port) for code in blocks(section(5), "python")
    )
    (work / "typed_server.py").write_text(
        TYPED.format(service=typed_service).replace("50051", port)
    )
    (work / "typed_client.py").write_text(typed_client)
    check(bin_ / "lro", *generate.split()[1:], cwd=work)
    check(bin_ / "lro", *generate_typed.split()[1:], cwd=work)
    assert check(bin_ / "python", "pausing.py", cwd=work) == "PAUSED at 01, denied to eve, 01234\n"

    early = subprocess.Popen(  # it waits for the server, as the README lets one believe
        [bin_ / "python", "client.py"], cwd=work, stdout=subprocess.PIPE, text=True
    )
    with serving(bin_ / "python", "server.py", cwd=work, port=port):
        assert early.communicate(timeout=60)[0] == "5 pages\n"
        assert check(bin_ / "python", "client.py", cwd=work) == "5 pages\n"
        said = check(bin_ / "python", "futures.py", cwd=work)
        assert re.search(r"^JOB_STATE_SUCCEEDED 100 page 5$", said, re.MULTILINE)
        assert re.search(r"^True 100 False$", said, re.MULTILINE)
        assert said.endswith("1 pages\n9 pages\n")
    assert (work / "reports.db").exists()
    with serving(bin_ / "python", "typed_server.py", cwd=work, port=port):
        for client_of_either_kind in ("typed_client.py", "client.py"):
            assert check(bin_ / "python", client_of_either_kind, cwd=work) == "5 pages\n"


@contextlib.contextmanager
def serving(*command: str | Path, cwd: Path, port: str) -> Iterator[None]:
    """Runs a server while the context lasts; it has to end well."""
    with subprocess.Popen(command, cwd=cwd, env=EMPTY) as process:
        try:
            wait_until_listening(int(port))
            yield
        finally:
            process.terminate()
    assert process.returncode == 0


def wait_until_listening(port: int) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        grpc.channel_ready_future(channel).result(timeout=30)


def test_the_wheel_ships_protos_stubs_and_type_marks(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "lro/py.typed",
        "lro/v1/state.proto",
        "lro/v1/state_pb2.py",
        "lro/v1/state_pb2.pyi",
        "lro/example/v1/fleet_service.proto",
        "lro_grpc/py.typed",
        "lro/example/v1/fleet_service_lro.py",
        "lro_grpc/_example/service.py",
    } <= names
    assert not [
        name for name in names if name.startswith(("google/", "tests/", "protos/", "examples/"))
    ]
