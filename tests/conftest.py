"""Settings of all tests: temporary files, signals, no time limit of an example."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import settings

if TYPE_CHECKING:
    import pytest

# An example may be slow on a busy machine; time is measured by the benchmarks, not by tests.
settings.register_profile("lro-grpc", deadline=None)
settings.load_profile("lro-grpc")

MEMORY = Path("/dev/shm")
LEAST_BYTES = 1 << 30
"""The room that must be in memory, or the files are on the disk."""


def pytest_configure(config: pytest.Config) -> None:
    """Called by pytest before any test is read."""
    _heed_interrupts()
    if "TMPDIR" not in os.environ and not config.getoption("basetemp") and _has_room(MEMORY):
        _keep_files_in(MEMORY)


def _heed_interrupts() -> None:
    """Has Ctrl-C end what a test begins, though a shell's background job ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _keep_files_in(memory: Path) -> None:
    """Has temporary files in memory, in a folder of this process.

    A commit waits for a disk much longer than for anything that most tests are about.
    """
    folder = tempfile.mkdtemp(prefix="lro-tests-", dir=memory)
    os.environ["TMPDIR"] = folder  # for the processes that a test begins, too
    tempfile.tempdir = None
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # after pytest's own tidying up


def _has_room(folder: Path) -> bool:
    is_writable = folder.is_dir() and os.access(folder, os.W_OK)
    return is_writable and shutil.disk_usage(folder).free >= LEAST_BYTES
