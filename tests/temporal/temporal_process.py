"""Runs a Temporal server for the process that began this one, and never outlives that.

``temporal_process.py PROGRAM PLACE`` makes a folder in PLACE for the server's database, runs the
server on 127.0.0.1, and prints its port. Then it obeys the words on its input, one a line:
``start`` and ``kill``. It prints ``done`` after each. Its input ends when its parent closes it, or
dies in whatever way: then the server ends, and its folder goes.
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

HOST = "127.0.0.1"
PATIENCE_SECONDS = 60


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


def free_port() -> int:
    """Returns a port that nothing listens on."""
    with socket.socket() as one:
        one.bind((HOST, 0))
        port: int = one.getsockname()[1]
        return port


def main(program: str, place: str) -> None:
    server = Server(program, place)
    steps = {"start": server.start, "kill": server.kill}
    try:
        server.start()
        print(server.port, flush=True)
        for line in sys.stdin:
            steps[line.strip()]()
            print("done", flush=True)
    except BrokenPipeError:
        pass  # whoever began it is gone
    except BaseException:
        print(server.log()[-4000:], file=sys.stderr)
        raise
    finally:
        server.remove()


if __name__ == "__main__":
    main(*sys.argv[1:])
