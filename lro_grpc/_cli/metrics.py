"""Metrics for Prometheus: the option, and the server that ``/metrics`` is asked of.

It has threads of its own, so that it answers while handlers hold up the event loop. A scraper that
is slow, or many of them, cost eight threads and one rendering of the numbers in a second.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lro_grpc._cli.shared_port import reserved
from lro_grpc._errors import ConfigurationError
from lro_grpc._runtime.listener import listener_on
from lro_grpc._runtime.repeated_lines import PROCESS
from lro_grpc._runtime.threads import start_thread

if TYPE_CHECKING:
    from lro_grpc.otel import OpenTelemetry

_MOST_PORT = 65_535
_MOST_CONNECTIONS = 8
_SILENT_SECONDS = 5.0
"""The longest silence of a scraper, and the longest time that it may take to read the answer."""
_PLACE_SECONDS = 1.0
"""The wait for the place of a connection that is ended for another one."""
_FRESH_SECONDS = 1.0
"""The time for which all are told the same numbers."""
_POLL_SECONDS = 0.2
"""The longest time that the server takes to see that it has to end."""

Metrics = Annotated[
    str,
    typer.Option(
        "--metrics",
        metavar="HOST:PORT",
        help=(
            "Where Prometheus finds metrics, at /metrics; nowhere without it. Each of several"
            " workers has the port plus its number."
        ),
    ),
]


@dataclasses.dataclass(frozen=True)
class Measured:
    """The measuring of a process, and the address at which it is told.

    Attributes:
        telemetry: What the operations report to.
        address: ``HOST:PORT``, with the port that is listened on.
    """

    telemetry: OpenTelemetry | None = None
    address: str = ""


def metrics_of_worker(address: str, number: int) -> dict[str, str]:
    """Returns the option of a worker, of which the port is that of the command plus its number."""
    if not address:
        return {}
    host, port = _parse(address)
    return {"--metrics": f"{host}:{port + number}"}


@contextlib.contextmanager
def reserved_for_workers(address: str, workers: int) -> Iterator[str]:
    """Reserves the port of each worker, and gives the first and the last; nothing for no metrics.

    Raises:
        ConfigurationError: If a port cannot be had.
    """
    if not address:
        yield ""
        return
    host, port = _parse(address)
    if not port or port + workers > _MOST_PORT:
        raise ConfigurationError(
            f"--metrics {address}: {workers} workers have the ports after that, so it has to be"
            f" between 1 and {_MOST_PORT - workers}"
        )
    with contextlib.ExitStack() as stack:
        for number in range(1, workers + 1):
            stack.enter_context(reserved(f"{host}:{port + number}"))
        yield f"{host}:{port + 1} to {port + workers}"


@contextlib.contextmanager
def telling_metrics(address: str, *, shares_port: bool) -> Iterator[Measured]:
    """Tells metrics over HTTP while the context lasts, and gives what to measure with.

    Args:
        address: ``HOST:PORT``; port 0 for any; empty for no metrics.
        shares_port: Whether a supervisor keeps the port.

    Raises:
        ConfigurationError: If the address cannot be listened on, or an extra is missing.
    """
    if not address:
        yield Measured()
        return
    host, _ = _parse(address)
    telemetry, render = _measure()
    with (
        listener_on(address, shares_port=shares_port, backlog=_MOST_CONNECTIONS) as listener,
        _Server(listener, _Fresh(render)) as server,
    ):
        start_thread("lro-metrics", server.serve_forever, _POLL_SECONDS)
        try:
            yield Measured(telemetry, f"{host}:{listener.getsockname()[1]}")
        finally:
            server.shutdown()


def _parse(address: str) -> tuple[str, int]:
    """Returns the host and the port; neither has a default, for numbers are not for everyone."""
    host, _, port = address.rpartition(":")
    if not host or re.fullmatch("[0-9]{1,5}", port) is None or int(port) > _MOST_PORT:
        raise ConfigurationError(f"--metrics {address!r} is no HOST:PORT, such as 127.0.0.1:9464")
    return host, int(port)


def _measure() -> tuple[OpenTelemetry, Callable[[], bytes]]:
    """Returns what operations report to, and what renders it for Prometheus."""
    try:
        from opentelemetry.exporter.prometheus import PrometheusMetricReader
        from opentelemetry.sdk.metrics import MeterProvider
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import generate_latest
    except ModuleNotFoundError as cause:
        raise ConfigurationError(
            f"--metrics needs {cause.name}: pip install 'lro-grpc[metrics]'"
        ) from cause
    from lro_grpc.otel import OpenTelemetry

    registry = CollectorRegistry()
    reader = PrometheusMetricReader(
        disable_target_info=True, scope_info_enabled=False, registry=registry
    )
    provider = MeterProvider([reader], shutdown_on_exit=False)
    return OpenTelemetry(meter_provider=provider), lambda: generate_latest(registry)


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
