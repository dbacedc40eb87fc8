"""A thousand futures on one channel, sync and async, beside those of google-api-core."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.figure import Figure
from benchmarks.futures_process import FUTURES, MEASURED


@dataclass(frozen=True)
class Cost:
    threads: float
    """Of the client's process, the main one included."""
    memory: float
    """Of the client, for each future, in KiB."""
    cpu: float
    """Of the client while nothing happens, in percent of one processor."""
    last: float
    """From the first end until the last was seen, in seconds."""


def measure() -> list[Figure]:
    return [figure for kind in ("sync", "async") for figure in _figures(kind)]


def _figures(kind: str) -> Iterator[Figure]:
    ours, theirs = _cost(kind), _cost(f"{kind}-baseline")
    what = f"{FUTURES:,} {kind} futures on one channel"
    yield Figure(
        what=f"{what}: threads",
        ours=ours.threads,
        baseline=theirs.threads,
        unit="threads",
        goal="≤ 5; the baseline is google-api-core",
        meets=lambda threads, _: threads <= 5,
    )
    yield Figure(
        what=f"{what}: memory of each",
        ours=ours.memory,
        baseline=theirs.memory,
        unit="KiB",
        goal="(shown)",
        meets=lambda *_: True,
    )
    yield Figure(
        what=f"{what}: CPU over {MEASURED:g} s while they wait",
        ours=ours.cpu,
        baseline=theirs.cpu,
        unit="%",
        goal="≤ 1 × google-api-core",
        meets=lambda _, ratio: ratio <= 1,
    )
    yield Figure(
        what=f"{what}: from the ends to the last that is seen",
        ours=ours.last,
        baseline=theirs.last,
        unit="s",
        goal="≤ 0.5 × google-api-core",
        meets=lambda _, ratio: ratio <= 0.5,
    )


def _cost(kind: str) -> Cost:
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.waiters_server", "ours"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            print("port", file=server.stdin, flush=True)
            target = f"127.0.0.1:{json.loads(server.stdout.readline())}"
            command = [sys.executable, "-m", "benchmarks.futures_process", kind, target]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
                assert client.stdout is not None
                cost = json.loads(client.stdout.readline())["cost"]
                print("finish", file=server.stdin, flush=True)
                first_end = json.loads(server.stdout.readline())["first_end"]
                seen = json.loads(client.stdout.readline())["last"]
            return Cost(**cost, last=(seen - first_end) / 1e9)
        finally:
            server.terminate()
