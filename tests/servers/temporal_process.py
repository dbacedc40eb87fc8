"""Runs a Temporal server, with a database in a file: see ``server_process.py``.

``temporal_process.py PROGRAM PLACE``; its words are ``start`` and ``kill``.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from server_process import HOST, PATIENCE_SECONDS, free_port, run


class Server:
    """A server, its folder, and its port.

    Args:
        program: The program ``temporal``.
        place: Where to make the server's folder.
    """

    def __init__(self, program: str, place: str) -> None:
        self._program = program
        self._folder = Path(tempfile.mkdtemp(prefix="lro-temporal-", dir=place))
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    def start(self) -> None:
        """Starts the server, and returns when it takes connections."""
        command = [self._program, "server", "start-dev", "--headless", "--log-level", "error"]
        where = ["--ip", HOST, "--port", str(self.port), "--db-filename", self._folder / "db"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *where],
                cwd=self._folder,
                env={"HOME": str(self._folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + PATIENCE_SECONDS
        while not self._takes_connections():
            if self._process.poll() is not None or time.monotonic() > end:
                raise TimeoutError("Temporal does not start")
            time.sleep(0.05)

    def _takes_connections(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=1):
            return True
        return False

    def kill(self) -> None:
        """Ends the server by SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE_SECONDS)
            self._process = None

    def remove(self) -> None:
        """Ends the server, and removes what there is of it."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def log(self) -> str:
        """Returns what the server has said."""
        log = self._folder / "log"
        return log.read_text(errors="replace") if log.exists() else ""


def main(program: str, place: str) -> None:
    server = Server(program, place)
    run(server, {"start": server.start, "kill": server.kill})


if __name__ == "__main__":
    main(*sys.argv[1:])
