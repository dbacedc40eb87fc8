"""A process that has nothing to do with the others, and keeps a core or the disk busy.

``stranger.py core``, or ``stranger.py disk FOLDER``, until it is ended.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

WRITTEN = b"x" * (1 << 20)
MOST_WRITTEN = 64
"""MiB of the file, after which it begins anew."""


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """Keeps each core and the disk busy while the context lasts."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        for arguments in (*([("core",)] * (os.cpu_count() or 1)), ("disk", folder)):
            command = [sys.executable, "-m", "benchmarks.stranger", *arguments]
            process = stack.enter_context(subprocess.Popen(command))
            stack.callback(process.kill)
        yield


def _keep_core_busy() -> None:
    while True:
        pass


def _keep_disk_busy(folder: str) -> None:
    with Path(folder, "written").open("wb", buffering=0) as file:
        while True:
            file.write(WRITTEN)
            os.fsync(file.fileno())
            if file.tell() >= MOST_WRITTEN << 20:
                file.seek(0)


if __name__ == "__main__":
    if sys.argv[1] == "core":
        _keep_core_busy()
    else:
        _keep_disk_busy(sys.argv[2])
