"""The server that Prometheus asks for ``/metrics``.

It has threads of its own, so that it answers while handlers hold up the event loop. A scraper that
is slow, or many of them, cost eight threads and one rendering of the numbers in a second.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from lro_grpc._runtime.listener import listener_on
from lro_grpc._runtime.repeated_lines import PROCESS
from lro_grpc._runtime.threads import start_thread

_MOST_CONNECTIONS = 8
_SILENT_SECONDS = 5.0
"""The longest silence of a scraper, and the longest time that it may take to read the answer."""
_PLACE_SECONDS = 1.0
"""The wait for the place of a connection that is ended for another one."""
_FRESH_SECONDS = 1.0
"""The time for which all are told the same numbers."""
_POLL_SECONDS = 0.2
"""The longest time that the server takes to see that it has to end."""


@contextlib.contextmanager
def serving_metrics(
    address: str, render: Callable[[], bytes], *, shares_port: bool
) -> Iterator[int]:
    """Answers scrapers while the context lasts, and gives the port that is listened on.

    Args:
        address: ``HOST:PORT``; port 0 for any.
        render: Returns the metrics, as Prometheus reads them.
        shares_port: Whether a supervisor keeps the port.

    Raises:
        ConfigurationError: If the address cannot be listened on.
    """
    with (
        listener_on(address, shares_port=shares_port, backlog=_MOST_CONNECTIONS) as listener,
        _Server(listener, _Fresh(render)) as server,
    ):
        start_thread("lro-metrics", server.serve_forever, _POLL_SECONDS)
        try:
            yield listener.getsockname()[1]
        finally:
            server.shutdown()


class _Fresh:
    """A text that is made anew at most once in a second, by one thread at a time."""

    def __init__(
        self, render: Callable[[], bytes], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._render = render
        self._now = now
        self._lock = threading.Lock()
        self._text = b""
        self._until = -1.0

    def __call__(self) -> bytes:
        with self._lock:
            if self._now() >= self._until:
                self._text = self._render()
                self._until = self._now() + _FRESH_SECONDS
            return self._text


class _Server(HTTPServer):
    """Answers each connection in a thread; one too many takes the place of the oldest.

    Args:
        listener: The socket that listens.
        text: Makes the answer.
    """

    def __init__(self, listener: socket.socket, text: Callable[[], bytes]) -> None:
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.text = text
        self._places = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        self._open: dict[socket.socket, None] = {}
        """The connections that there are, the oldest first."""

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begins to answer a connection."""
        if not self._places.acquire(blocking=False):
            self._end_oldest()
            if not self._places.acquire(timeout=_PLACE_SECONDS):
                self.shutdown_request(request)
                return
        self._open[request] = None
        try:
            start_thread("lro-metrics", self._answer, request, client_address)
        except RuntimeError:  # for want of a thread
            self._end(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Logs what has failed; the library would print it."""
        PROCESS.say(logging.ERROR, "the metrics cannot be told", error=sys.exc_info()[1])

    def _answer(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError:  # it is slow, or gone
            pass
        except Exception:  # noqa: BLE001 - whatever renders the numbers
            self.handle_error(request, client_address)
        finally:
            self._end(request)

    def _end_oldest(self) -> None:
        oldest = next(iter(list(self._open)), None)
        if oldest is not None:
            with contextlib.suppress(OSError):
                oldest.shutdown(socket.SHUT_RDWR)

    def _end(self, request: socket.socket) -> None:
        self._open.pop(request, None)
        self.shutdown_request(request)
        self._places.release()


class _Handler(BaseHTTPRequestHandler):
    timeout = _SILENT_SECONDS
    server: _Server

    def do_GET(self) -> None:
        """Answers with the metrics."""
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(HTTPStatus.NOT_FOUND, "Metrics are at /metrics")
            return
        text = self.server.text()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_HEAD = do_GET  # noqa: N815 - the name that the library looks for

    def version_string(self) -> str:
        """Returns the name of the server, without any version."""
        return "lro"

    def log_message(self, *_: object) -> None:
        """Logs no access."""
