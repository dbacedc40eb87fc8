"""Server processes of a drill that share a store, each to be killed and begun anew at its port."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import IO, TYPE_CHECKING

from forked import ForkServer
from killable import PATIENCE_SECONDS, Client
from server_process import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from forked import ForkedProcess

_FORKS = ForkServer(
    f"{Path(__file__).with_name('drill_server.py')}:main",
    # What it would import when it is first used.
    "lro_grpc._engine.inprocess",
    "lro_grpc._server.operations",
    "lro_grpc._stores.postgres.store",
)


class Replica:
    """One server process after another, at one port.

    Args:
        arguments: Those of the server, but for its port.
        log: The file for its errors.
    """

    def __init__(self, store: str, arguments: Sequence[str], log: IO[bytes]) -> None:
        self.port = str(free_port())
        self._arguments = [store, self.port, *arguments]
        self._log = log
        self._process = self._begin()

    def _begin(self) -> ForkedProcess:
        files = (None, subprocess.PIPE, self._log)
        return _FORKS.start(self._arguments, os.environ, Path.cwd(), files)

    def until_serving(self) -> None:
        """Returns when it answers calls."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line == "serving\n", f"the server at {self.port} has ended; see its log"

    def restart(self) -> None:
        """Kills the process as ``kill -9`` does, and begins another one."""
        self.kill()
        self._process = self._begin()
        self.until_serving()

    def kill(self) -> None:
        """Kills the process as ``kill -9`` does."""
        self._end(signal.SIGKILL)

    def drain(self) -> None:
        """Asks the process to end, and returns when it has."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        self._process.send_signal(number)
        self._process.wait(PATIENCE_SECONDS)
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextlib.contextmanager
def replicas(
    number: int, store: str, arguments: Sequence[str], log: Path
) -> Iterator[tuple[Sequence[Replica], Client]]:
    """Has so many replicas answer calls while the context lasts; gives a client of them in turn."""
    with contextlib.ExitStack() as ending:
        file = ending.enter_context(log.open("ab"))
        all_of_them = []
        for _ in range(number):
            all_of_them.append(Replica(store, arguments, file))
            ending.callback(all_of_them[-1].kill)
        for one in all_of_them:
            one.until_serving()
        port, *others = (one.port for one in all_of_them)
        client = Client(port, others=others)
        ending.callback(client.hang_up)
        yield all_of_them, client
