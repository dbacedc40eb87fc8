"""Chooses the seeds to run, and sums up their totals.

``LRO_SIM_SEEDS`` says how many (1000 unless set), and ``LRO_SIM_BASE`` from which number (0 unless
set, so that a run says something of the code alone; ``random`` for another one each time);
``LRO_SIM_SECONDS`` after which no further ones are begun; ``LRO_SIM_SEED=memory:7`` runs that one
again. Those in ``regressions.txt``, where each that
fails is added, are always run.
"""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kept import REGRESSIONS
from totals import Totals

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY_SHARE = 0.7
"""Of the seeds; the others run on SQLite."""

CHUNK = 25
"""Seeds in one test."""

_TOTALS = pytest.StashKey[Totals]()
_BASE = pytest.StashKey[int]()
_END = pytest.StashKey[float]()

Seed = tuple[str, int]
"""The store's kind and the number."""


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_END] = time.monotonic() + float(os.environ.get("LRO_SIM_SECONDS", "inf"))
    config.stash[_TOTALS] = Totals()
    base = os.environ.get("LRO_SIM_BASE", "0")
    config.stash[_BASE] = secrets.randbelow(10**9) if base == "random" else int(base)


def pytest_report_header(config: pytest.Config) -> str:
    return f"simulation: seeds from {config.stash[_BASE]}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Hands out the seeds: one of ``LRO_SIM_SEED``, or as many as ``LRO_SIM_SEEDS`` says."""
    if "seeds" not in metafunc.fixturenames:
        return
    chosen = os.environ.get("LRO_SIM_SEED")
    if chosen:
        metafunc.parametrize("seeds", [[_parsed(chosen)]], ids=[chosen])
        return
    number = int(os.environ.get("LRO_SIM_SEEDS", "1000"))
    base = metafunc.config.stash[_BASE]
    memory = round(number * MEMORY_SHARE)
    chunks = [
        [(kind, base + n) for n in range(first, min(first + CHUNK, count))]
        for kind, count in (("memory", memory), ("sqlite", number - memory))
        for first in range(0, count, CHUNK)
    ]
    ids = [f"{chunk[0][0]}-{chunk[0][1] - base}" for chunk in chunks]
    lines = REGRESSIONS.read_text().splitlines()
    kept = [line.split("#")[0].strip() for line in lines]
    chunks += [[_parsed(line)] for line in kept if line]
    ids += [line for line in kept if line]
    metafunc.parametrize("seeds", chunks, ids=ids)


def _parsed(seed: str) -> Seed:
    kind, _, number = seed.partition(":")
    return kind, int(number)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    totals = config.stash[_TOTALS]
    if totals.seeds:
        terminalreporter.write_line(f"simulation: {totals} (seeds from {config.stash[_BASE]})")


@pytest.fixture
def end(pytestconfig: pytest.Config) -> float:
    """When no further seed is begun, by ``time.monotonic``."""
    return pytestconfig.stash[_END]


@pytest.fixture
def totals(pytestconfig: pytest.Config) -> Totals:
    return pytestconfig.stash[_TOTALS]


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Keeps the log out of it, which has a line for each fault."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)
