"""A server for tests in a process of its own: what has it run, and what runs it.

The process makes a folder for the server, starts it, and prints its port. Then it obeys the words
on its input, one a line, and prints ``done`` after each. Its input ends when its parent closes it,
or dies in whatever way: then the server ends, and its folder goes.
"""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

HOST = "127.0.0.1"
PORTS = range(20_000, 30_000)
"""Below those that systems give to a socket that asks for any: a restart finds its own one free."""
PATIENCE_SECONDS = 60


class ServerProcess:
    """A server with a folder of its own, which ends with this process however that ends.

    Args:
        script: The program that runs it.
        programs: Where the programs of the server are.
        place: Where its folder is made; by default, where temporary files are.
    """

    def __init__(self, script: Path, programs: Path, place: Path | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, script, programs, place or tempfile.gettempdir()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for the tests, which need it until they have ended
        )
        self.pid = self._process.pid
        """The process that runs the server."""
        try:
            self.port = self._answer()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Starts it again, on the same port and with what it has stored; it takes connections."""
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
        assert answer, "the server failed; its log is in the error output"
        return answer


class Server(Protocol):
    """A server that such a process runs."""

    port: int

    def start(self) -> None:
        """Starts it, and returns when it takes connections."""

    def remove(self) -> None:
        """Ends it, and removes what there is of it."""

    def log(self) -> str:
        """Returns what it has said."""


def run(server: Server, steps: Mapping[str, Callable[[], None]]) -> None:
    """Runs a server until the input ends.

    Args:
        server: The server.
        steps: What is done at each word.
    """
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


def free_port() -> int:
    """Returns a port that nothing listens on."""
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind((HOST, port))
            return port
    raise OSError(f"no port of {PORTS} is free")
