"""Runs every benchmark, prints the table and keeps it in ``benchmarks/results/``."""

from __future__ import annotations

import platform
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

from benchmarks import (
    counts,
    database,
    fair,
    futures,
    get_operation,
    http_get,
    incumbent,
    labels,
    million,
    notice,
    progress,
    shared_claims,
    shared_many,
    shared_notice,
    shared_takeover,
    start_to_done,
    start_to_done_shared,
    start_to_done_temporal,
    waiters,
    workers,
)
from benchmarks.figure import Figure
from benchmarks.server import serving

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    figures: list[Figure] = []
    with serving() as server:
        figures += get_operation.measure(server)
        figures += notice.measure(server)
    figures += http_get.measure()
    figures += start_to_done.measure()
    figures += waiters.measure()
    figures += progress.measure()
    figures += incumbent.measure()
    figures += futures.measure()
    figures += million.measure()
    with database.running() as postgres:
        figures += start_to_done_shared.measure(postgres)
        figures += shared_claims.measure(postgres)
        figures += shared_notice.measure(postgres)
        figures += shared_many.measure(postgres)
        figures += shared_takeover.measure(postgres)
        figures += counts.measure(postgres)
        figures += labels.measure(postgres)
        figures += fair.measure(postgres)
        figures += workers.measure(postgres)
        figures += start_to_done_temporal.measure(postgres)
    table = "\n".join(_rows(figures))
    print(table)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latest.md").write_text(f"# Benchmarks\n\n{_heading()}\n\n{table}\n")
    if not all(figure.is_met for figure in figures):
        sys.exit("a goal is missed")


def _rows(figures: list[Figure]) -> list[str]:
    head = ["| what | lro-grpc | baseline | ratio | goal |", "|---|---|---|---|---|"]
    return head + [figure.row() for figure in figures]


def _heading() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("grpcio", "protobuf"))
    today = datetime.now(timezone.utc).date()
    return f"{today}, Python {platform.python_version()}, {packages}, {platform.machine()}"


if __name__ == "__main__":
    main()
