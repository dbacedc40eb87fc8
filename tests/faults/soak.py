"""Kills servers under load for a long time, and counts what comes of it.

It stops when it has made its kills, or when its time is over. Each round has a site of its own; a
round in which a promise was broken is the last one, and its site's folder is kept.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path

from checker import KINDS
from killable import Site
from lives import FAULTS, one_that_is_drained, one_that_is_killed, one_with_faults
from load import Board
from settling import settled

KILLS_IN_A_ROUND = 50
"""So many that one server can settle, within its life, what they leave."""


@dataclass
class Figures:
    """What came of a part of it."""

    counts: Counter[str] = field(default_factory=Counter)
    most_attempts: int = 0
    integrity: Counter[str] = field(default_factory=Counter)
    """What ``PRAGMA integrity_check`` has said, and how often."""
    problems: list[str] = field(default_factory=list)

    def add(self, other: Figures) -> None:
        self.counts += other.counts
        self.most_attempts = max(self.most_attempts, other.most_attempts)
        self.integrity += other.integrity
        self.problems += other.problems

    def __str__(self) -> str:
        count = self.counts
        faults = ", ".join(f"{count[name]} {name}" for name in ("kills", "drains", *FAULTS))
        judged = ", ".join(f"{count[kind]} {kind}" for kind in KINDS)
        integrity = ", ".join(f"{text!r} {times} times" for text, times in self.integrity.items())
        return (
            f"{faults}\n{count['started']} operations started, {count['acknowledged']} acknowledged"
            f" ({count['unanswered']} starts had no answer), {count['cancels']} cancels,"
            f" {count['deletes']} deletes, {count['calls']} calls\n{judged};"
            f" at most {self.most_attempts} attempts\nintegrity_check: {integrity}"
        )


def _rounds(name: str, seed: int, kills: int, seconds: float) -> Figures:
    """Round after round, until these kills are made, the time is over, or a promise is broken."""
    choose = random.Random(seed)
    end = time.monotonic() + seconds
    figures = Figures()
    shown = figures.counts
    while shown["kills"] < kills and time.monotonic() < end and not figures.problems:
        figures.add(_round(choose, min(kills - shown["kills"], KILLS_IN_A_ROUND), end))
        print(
            f"{name}: {shown['kills']} kills, {shown['acknowledged']} operations,"
            f" {len(figures.problems)} problems",
            flush=True,
        )
    return figures


def _round(choose: random.Random, kills: int, end: float) -> Figures:
    site, board, figures = Site(Path(tempfile.mkdtemp(prefix="soak-"))), Board(), Figures()
    try:
        _lead_lives(site, board, choose, figures.counts, kills, end)
        verdict = settled(site, board)
        figures.integrity[site.integrity()] += 1
        figures.most_attempts = verdict.most_attempts
        figures.counts += Counter({kind: len(getattr(verdict, kind)) for kind in KINDS})
        figures.problems += [f"{site.folder}: {problem}" for problem in verdict.problems]
        site.check_log()
    except Exception as error:  # noqa: BLE001 - it is a problem like the others
        figures.problems.append(f"{site.folder}: {error!r}")
    finally:
        site.close()
    calls = Counter(call.what for call in board.history.calls)
    figures.counts += Counter(
        kills=len(board.history.killed),
        started=len(board.history.requests),
        acknowledged=len(board.names),
        unanswered=board.unanswered,
        cancels=calls["cancel"],
        deletes=calls["delete"],
        calls=calls.total(),
    )
    if not figures.problems:
        shutil.rmtree(site.folder)
    return figures


def _lead_lives(
    site: Site, board: Board, choose: random.Random, counts: Counter[str], kills: int, end: float
) -> None:
    parent = multiprocessing.parent_process()
    for number in range(1, kills + 1):
        if time.monotonic() > end:
            return
        if parent is not None and not parent.is_alive():
            os._exit(1)  # nobody waits for it any more; its server notices, and ends too
        one_that_is_killed(site, board, choose)
        if number % 10 == 0:
            one_that_is_drained(site, board, choose)
            counts["drains"] += 1
        if number % 25 == 0:
            faults = choose.sample(FAULTS, len(FAULTS))
            one_with_faults(site, board, choose, choose.choice(["aio", "sync"]), faults)
            counts.update(faults)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=16)
    parser.add_argument("--sites", type=int, default=2, help="how many at a time")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    options = parser.parse_args()
    print(f"seed {options.seed}: {options.kills} kills, or {options.minutes} minutes", flush=True)
    began, figures = time.monotonic(), Figures()
    with futures.ProcessPoolExecutor(
        options.sites, multiprocessing.get_context("spawn")
    ) as processes:
        parts = [
            processes.submit(
                _rounds,
                f"site {number}",
                options.seed + number,
                -(-options.kills // options.sites),
                options.minutes * 60,
            )
            for number in range(options.sites)
        ]
        for part in parts:
            figures.add(part.result())
    print(*figures.problems, figures, sep="\n")
    print(f"{time.monotonic() - began:.0f} s")
    return 1 if figures.problems else 0


if __name__ == "__main__":
    sys.exit(main())
