"""The option by which ``lro serve`` and ``lro work`` tell Prometheus their metrics."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from lro_grpc._cli.metrics_server import serving_metrics
from lro_grpc._cli.server import MOST_PORT, check_address
from lro_grpc._cli.shared_port import reserved
from lro_grpc._errors import ConfigurationError

if TYPE_CHECKING:
    from lro_grpc.otel import OpenTelemetry

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
    if not port or port + workers > MOST_PORT:
        raise ConfigurationError(
            f"--metrics {address}: {workers} workers have the ports after that, so it has to be"
            f" between 1 and {MOST_PORT - workers}"
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
    with serving_metrics(address, render, shares_port=shares_port) as port:
        yield Measured(telemetry, f"{host}:{port}")


def _parse(address: str) -> tuple[str, int]:
    """Returns the host and the port; neither has a default, for numbers are not for everyone."""
    check_address("--metrics", address, "127.0.0.1:9464")
    host, _, port = address.rpartition(":")
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
