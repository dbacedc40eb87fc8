"""Get, start, claim, finish and List by how many operations are stored, and by how many run.

``growth.py`` measures all, on SQLite and on Postgres, and writes ``growth.json`` and a plot of each
beside the page that shows them; ``growth.py --plots`` draws what is written.

A process of its own serves each size, in turn for some rounds, and calls itself one call at a time:
so a figure is the latency of a call where nothing else is under way, at the service's edge, but for
the claim. That one is the store's: in a service it is part of the commit of a start.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks import database, filled
from benchmarks.figure import percentile

FOLDER = Path(__file__).parents[1] / "docs" / "design" / "benchmarks"
DATA = FOLDER / "growth.json"

CALLS = ("Get", "start", "claim", "finish", "List")
STORED = (1_000, 10_000, 100_000, 1_000_000)
RUNNING = (1, 100, 10_000)
STORED_WHILE_RUNNING = 100_000

ROUNDS = 4
CALLS_OF_A_ROUND = 150

Values = dict[str, dict[str, dict[str, dict[str, list[float]]]]]
"""Microseconds of calls, by the store, the axis, the call and the size."""


def measure(rounds: int = ROUNDS) -> dict[str, Any]:
    """Fills stores of all sizes, and returns what is written down."""
    begin = time.monotonic()
    found: Values = {
        store: {axis: {call: collections.defaultdict(list) for call in CALLS} for axis in AXES}
        for store in ("SQLite", "Postgres")
    }
    with contextlib.ExitStack() as stack:
        postgres = stack.enter_context(database.running())
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stores = {}
        for number in STORED:
            url, file = stack.enter_context(postgres.schema()), Path(folder, f"{number}.db")
            stores[number] = filled.fill(file, url, number, held=0, labels=False)
            _say(f"{number:,} are stored", begin)
        for done in range(rounds):
            for axis, sizes in AXES.items():
                for size in sizes:
                    stored = size if axis == "stored" else STORED_WHILE_RUNNING
                    running = 1 if axis == "stored" else size
                    for store, taken in _calls(stores[stored], running):
                        for call, times in taken.items():
                            found[store][axis][call][str(size)] += times
            _say(f"round {done + 1} of {rounds} is measured", begin)
    return {
        "date": str(datetime.now(timezone.utc).date()),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()},"
        f" load average {os.getloadavg()[0]:.1f}",
        "minutes": round((time.monotonic() - begin) / 60, 1),
        "microseconds": _medians(found),
    }


AXES: Mapping[str, tuple[int, ...]] = {"stored": STORED, "running": RUNNING}


def _calls(stored: filled.Filled, running: int) -> Iterator[tuple[str, dict[str, list[float]]]]:
    """Serves a store on SQLite and on Postgres, and leaves both as they were."""
    for store, url in (("SQLite", f"sqlite:///{stored.file}"), ("Postgres", stored.url)):
        command = [sys.executable, "-m", "benchmarks.growth_process", url]
        numbers = map(str, (stored.number, running, CALLS_OF_A_ROUND))
        output = subprocess.run([*command, *numbers], check=True, stdout=subprocess.PIPE)
        yield store, json.loads(output.stdout)
    # The rows that are new; the first were two that were copied, and the copies.
    new = f"sequence > {stored.number + 2}"
    with contextlib.closing(sqlite3.connect(stored.file)) as connection, connection:
        connection.execute(f"DELETE FROM operations WHERE {new}")
    asyncio.run(database.execute(stored.url, f"DELETE FROM lro_operations WHERE {new}"))
    asyncio.run(database.execute(stored.url, "VACUUM lro_operations"))


def _medians(found: Values) -> dict[str, Any]:
    """Returns the median of the calls of each size, and their quartiles."""
    return {
        store: {
            axis: {
                call: {
                    size: [
                        round(one, 1)
                        for one in (
                            statistics.median(times),
                            percentile(times, 25),
                            percentile(times, 75),
                        )
                    ]
                    for size, times in sizes.items()
                }
                for call, sizes in calls.items()
            }
            for axis, calls in axes.items()
        }
        for store, axes in found.items()
    }


def _say(what: str, begin: float) -> None:
    print(f"{time.monotonic() - begin:5.0f} s: {what}", flush=True)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plots", action="store_true", help="measure nothing, and draw")
    if not parser.parse_args().plots:
        DATA.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
    from benchmarks import growth_plots  # it needs the group `bench`

    growth_plots.draw(DATA, FOLDER)


if __name__ == "__main__":
    main()
