"""``lro work``: runs long-running methods, and serves nothing, until a signal comes."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

import lro_grpc
from lro_grpc._cli import log_lines, temporal
from lro_grpc._cli.command import reporting_errors
from lro_grpc._cli.event_loop import Loop, LoopName, runner
from lro_grpc._cli.lifeline import Lifeline
from lro_grpc._cli.metrics import (
    Measured,
    Metrics,
    metrics_of_worker,
    reserved_for_workers,
    telling_metrics,
)
from lro_grpc._cli.parameters import DEFAULT_LEASE, Lease, WorkerOf
from lro_grpc._cli.servicers import load_servicers
from lro_grpc._cli.shared_store import check_shared
from lro_grpc._cli.workers import MOST_WORKERS, run_workers
from lro_grpc._errors import ConfigurationError, LroError
from lro_grpc._runtime import garbage
from lro_grpc._stores.open_url import without_password

_GRACE = timedelta(seconds=10)

_STOP_SECONDS = 20.0
"""The grace, and what a worker may take for its drain beyond it, as that of ``lro serve``."""


def work(
    service: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:ATTRIBUTE",
            help="A callable (server) -> None that adds servicers, as of `lro serve`.",
        ),
    ],
    store: Annotated[
        str,
        typer.Option(help="Where the servers keep the operations: postgresql://…", metavar="URL"),
    ],
    lease: Lease = None,
    loop: Loop = LoopName.AUTO,
    metrics: Metrics = "",
    log_format: log_lines.Format = None,
    log_level: log_lines.Level = None,
    temporal_address: temporal.Address = "",
    temporal_namespace: temporal.Namespace = None,
    temporal_queue: temporal.Queue = None,
    temporal_tls: temporal.Tls = False,
    temporal_rate: temporal.Rate = None,
    temporal_standalone: temporal.Standalone = None,
    workers: Annotated[int, typer.Option(min=1, max=MOST_WORKERS, help="How many processes.")] = 1,
    worker_of: WorkerOf = None,
) -> None:
    """Works until a signal stops it.

    Exits with 0 after the drain; with 2 and the reason if it cannot start; with 1 as `lro serve`.
    """

    def print_banner(metrics_at: str, label: str, value: object) -> None:
        if metrics_at:
            print(f"metrics on     {metrics_at}")
        print(f"operations in  {without_password(store)}")
        if temporal_address:
            print(f"delivered by   Temporal at {temporal_address}")
        print(f"{label:13}  {value}", flush=True)

    def run(measured: Measured) -> None:
        lifeline = None if worker_of is None else Lifeline(worker_of, _STOP_SECONDS)
        operations = lro_grpc.Operations(
            store,
            lease=lease or DEFAULT_LEASE,
            grace=_GRACE,
            engine=engine,
            telemetry=measured.telemetry,
        )
        load_servicers(service)(operations.registrar())
        methods = list(operations.requests)
        if not methods:
            raise ConfigurationError(f"{service} adds no long-running method, so there is no work")

        def ready() -> None:
            garbage.search_less()
            if lifeline is None:
                print_banner(measured.address, "works on", ", ".join(methods))
            else:
                lifeline.ready()

        with reporting_errors(LroError, OSError):
            run_on_loop(operations.work(ready=ready))

    with reporting_errors():
        log_lines.configure(log_format, log_level)
        run_on_loop = runner(loop)
        check_shared(store, "lro work")
        engine = temporal.engine_of(
            temporal_address,
            temporal_namespace,
            temporal_queue,
            temporal_rate,
            tls=temporal_tls,
            standalone=temporal_standalone,
        )
        if workers == 1:
            with telling_metrics(metrics, shares_port=worker_of is not None) as measured:
                run(measured)
            return
        with reserved_for_workers(metrics, workers) as metrics_at, reporting_errors(OSError):
            run_workers(
                workers,
                lambda number: metrics_of_worker(metrics, number),
                ready=lambda: print_banner(metrics_at, "workers", workers),
                stop_seconds=_STOP_SECONDS,
            )
