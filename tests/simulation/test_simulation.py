from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kept import REGRESSIONS
from simulation import simulate

if TYPE_CHECKING:
    from conftest import Seed
    from totals import Totals

SHOWN = 3
"""Problems of one seed at most."""

TRACE = """
import logging, sys, pathlib, simulation
logging.disable()
print(simulation.simulate(sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])).trace)
"""


def keep(kind: str, seed: int) -> None:
    """Lets a seed that has failed be run each time from now on."""
    kept = REGRESSIONS.read_text()
    if f"{kind}:{seed}" not in kept.splitlines():
        REGRESSIONS.write_text(f"{kept}{kind}:{seed}\n")


def test_the_promises_hold_whatever_fails(
    seeds: list[Seed], folder: Path, totals: Totals, end: float
) -> None:
    failed = []
    for kind, seed in itertools.takewhile(lambda _: time.monotonic() < end, seeds):
        place = folder / f"{kind}-{seed}"
        place.mkdir()
        verdict = simulate(kind, seed, place)
        totals.add(verdict.totals)
        if verdict.problems:
            problems = "\n".join(verdict.problems[:SHOWN])
            failed.append(
                f"{kind}:{seed} has {len(verdict.problems)} problems:\n{problems}\n"
                f"again: LRO_SIM_SEED={kind}:{seed} .venv/bin/python -m pytest tests/simulation"
            )
            keep(kind, seed)
    if failed:
        pytest.fail("\n\n".join(failed), pytrace=False)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("seed", range(3))
def test_the_same_seed_is_the_same_run(kind: str, seed: int, folder: Path) -> None:
    """In another process, too, where nothing has the same address or hash."""
    here = simulate(kind, seed, folder)
    there = folder / "there"
    there.mkdir()
    process = subprocess.run(
        [sys.executable, "-c", TRACE, kind, str(seed), str(there)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert process.stdout.strip() == here.trace
