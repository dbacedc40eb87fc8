"""The lifeline of a worker: tells the supervisor that it serves, drains it when that is gone."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import socket
import sys
import threading
import time

_log = logging.getLogger("lro_grpc")


class Lifeline:
    """The worker's end of a pair of sockets; the supervisor has the other one.

    A thread of its own waits for the end of the supervisor: it must not depend on a loop that
    handlers may have brought to a stand.

    Args:
        descriptor: Its file descriptor.
        stop_seconds: The time that the process is given to drain once the supervisor is gone.
    """

    def __init__(self, descriptor: int, stop_seconds: float) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._stop_seconds = stop_seconds
        # It is a pipe, of which each line is to come at once.
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True)
        threading.Thread(target=self._end_with_supervisor, name="lro-lifeline", daemon=True).start()

    def ready(self) -> None:
        """Says that this process serves."""
        with contextlib.suppress(OSError):  # the supervisor is gone, as the thread is about to see
            self._socket.sendall(b"\n")

    def _end_with_supervisor(self) -> None:
        with contextlib.suppress(OSError):
            while self._socket.recv(1):
                pass
        _log.warning("the supervisor of this worker is gone; it drains")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(self._stop_seconds)
        os.kill(os.getpid(), signal.SIGKILL)
