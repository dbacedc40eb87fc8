"""``lro console``, and ``lro serve --console``: pages in a browser, until a signal comes."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import lro_process
import pytest
from lro_process import Lro

from lro.example.v1 import fleet_service_pb2_grpc
from lro_grpc import testing

SECONDS = 30


@pytest.fixture
def target() -> Iterator[str]:
    add = fleet_service_pb2_grpc.add_FleetServiceServicer_to_server
    with testing.serve(fleet_service_pb2_grpc.FleetServiceServicer(), add) as served:
        yield served.target


def address_in(process: Any) -> str:
    """Returns the address that a command prints for browsers."""
    for line in process.stdout:
        if found := re.match(r"console on\s+(http://\S+)", line):
            return found[1]
    raise AssertionError(process.stderr.read())


def test_pages_until_sigterm(target: str) -> None:
    with Lro(target).started("console", "--listen", "127.0.0.1:0") as process:
        address = address_in(process)
        page = httpx.get(address, timeout=SECONDS)
        assert page.status_code == 200
        assert target in page.text
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
        assert process.stderr.read() == ""


def test_its_options(target: str) -> None:
    options = (
        *("--listen", "127.0.0.1:0", "--prefix", "/ops", "--read-only", "--host", "ops.example"),
        *("--parent", "projects/p/locations/l", "--parent", "projects/q/locations/l"),
        *("--metadata", "x-user=ada", "--forward", "x-group"),
    )
    with Lro(target).started("console", *options) as process:
        address = address_in(process)
        assert address.endswith("/ops/")
        headers = {"host": "ops.example", "x-group": "oncall"}
        page = httpx.get(address, headers=headers, timeout=SECONDS)
        assert page.status_code == 200
        assert 'value="projects/p/locations/l"' in page.text
        assert "projects/q/locations/l" in page.text
        assert "Read only" in page.text
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0


def test_it_is_not_open_to_other_machines_by_mistake(target: str, tmp_path: Path) -> None:
    run = Lro(target)("console", "--listen", "0.0.0.0:0", cwd=tmp_path)
    assert run.returncode == 2
    assert "--sign-in" in run.stderr
    for option in (["--read-only"], ["--sign-in", "authorization"], ["--forward", "x-user"]):
        with Lro(target).started("console", "--listen", "0.0.0.0:0", *option) as process:
            assert address_in(process)


@pytest.mark.parametrize(
    "options",
    [
        ["--listen", "nowhere"],
        ["--prefix", "ops/"],
        ["--forward", "cookie"],
        ["--host", "a b"],
        ["--sign-in", "x y"],
    ],
)
def test_options_that_cannot_be(target: str, tmp_path: Path, options: list[str]) -> None:
    run = Lro(target)("console", *options, cwd=tmp_path)
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert run.stdout == ""


def test_without_the_extra() -> None:
    script = (
        "import sys; sys.modules['jinja2'] = None; sys.argv = ['lro', 'console'];"
        "from lro_grpc._cli.__main__ import main; main()"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=SECONDS
    )
    assert run.returncode == 2
    assert run.stderr == "lro: lro console needs jinja2: pip install 'lro-grpc[cli,console]'\n"


def test_beside_the_server_itself(tmp_path: Path) -> None:
    options = ("--store", "memory:", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
    with Lro("").started("serve", *options, "--console") as process:
        address = address_in(process)
        assert address.endswith("/console/")
        page = httpx.get(address, timeout=SECONDS)
        assert page.status_code == 200
        assert "Read only" not in page.text
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0


def test_beside_the_server_itself_to_read_only() -> None:
    options = ("--store", "memory:", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
    with Lro("").started("serve", *options, "--console-read-only") as process:
        address = address_in(process)
        assert "Read only" in httpx.get(address, timeout=SECONDS).text
        assert httpx.post(f"{address}act", timeout=SECONDS).status_code == 403


@pytest.mark.parametrize(
    ("options", "why"),
    [(["--console"], "--http"), (["--console", "--http", "0.0.0.0:0"], "--console-read-only")],
)
def test_a_server_without_what_its_console_needs(
    tmp_path: Path, options: list[str], why: str
) -> None:
    run = lro_process.run(["serve", "--store", "memory:", *options], {}, tmp_path)
    assert run.returncode == 2
    assert why in run.stderr
