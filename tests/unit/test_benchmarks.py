"""The benchmarks, which no other test runs, can be loaded; and what they show is explained."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from google.longrunning import operations_pb2
from tables import growth

from lro_grpc._operation.events import Claim
from lro_grpc._stores.store import Query, Store

ROOT = Path(__file__).parents[2]
MODULES = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if path.stem[0] != "_")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)


@pytest.mark.parametrize("module", MODULES)
def test_a_benchmark_can_be_loaded(module: str) -> None:
    assert importlib.import_module(f"benchmarks.{module}").__doc__ is not None


def test_the_page_says_of_every_part_what_it_means() -> None:
    parts = importlib.import_module("benchmarks.parts").PARTS
    page = (ROOT / "docs/design/benchmarks/index.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE) == list(parts)


def test_a_part_that_lacks_something_says_what_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main = importlib.import_module("benchmarks.__main__")
    figure = importlib.import_module("benchmarks.figure")
    needed = importlib.import_module("benchmarks.needed")

    def lacks(common: object) -> list[object]:
        raise needed.NeededError("a camera")

    def has(common: object) -> list[object]:
        return [figure.Figure("pictures", [3.0, 5.0, 4.0], 2.0, "a day", "(shown)", figure.shown)]

    monkeypatch.setattr(main, "PARTS", {"first": lacks, "second": has})
    monkeypatch.setattr(sys, "argv", ["benchmarks", "first", "second"])
    main.main()
    printed = capsys.readouterr().out
    assert "not measured, for it needs a camera" in printed
    assert "| pictures | 4 a day (3–5) | 2 a day | 2.00 |  | (shown) |" in printed


def test_a_goal_that_is_missed_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    main = importlib.import_module("benchmarks.__main__")
    figure = importlib.import_module("benchmarks.figure")
    slow = figure.Figure("calls", 1.0, 2.0, "/s", "≥ 1 ×", lambda _, ratio: ratio >= 1)
    monkeypatch.setattr(main, "PARTS", {"calls": lambda common: [slow]})
    monkeypatch.setattr(sys, "argv", ["benchmarks", "calls"])
    with pytest.raises(SystemExit, match="a goal is missed"):
        main.main()


def test_a_figure_shows_how_far_its_rounds_or_its_calls_lie_apart() -> None:
    figure = importlib.import_module("benchmarks.figure")

    def row(values: list[float], cpu: dict[str, tuple[list[float], float]]) -> str:
        return figure.Figure("calls", values, 2000.0, "/s", "", figure.shown, cpu).row()

    rounds = row([1000.0, 3000.0, 2000.0], {"server": ([7.0, 9.0, 8.0], 4.0)})
    assert rounds == "| calls | 2,000 /s (1,000–3,000) | 2,000 /s | 1.00 | server 8, 4 |  |"
    calls = row([float(number) for number in range(101)], {})
    assert calls == "| calls | 50 /s (25–75) | 2,000 /s | 0.03 |  |  |"


def test_what_held_up_a_notice_is_the_time_that_they_share() -> None:
    overlap = importlib.import_module("benchmarks.moments").overlap
    assert overlap([(0, 10), (20, 30), (40, 90)], 5, 50) == 5 + 10 + 10
    assert overlap([(60, 70)], 5, 50) == 0


def test_a_store_is_filled_with_sound_operations(tmp_path: Path, postgres: str) -> None:
    filled = importlib.import_module("benchmarks.filled")
    number = 1_000
    many = filled.fill(tmp_path / "many.db", postgres, number)
    many = filled.add_backlog(many)

    async def look(store: Store) -> object:
        await store.open()
        for each in (1, 99, number - 1):
            record = await store.read(filled.name_of(each))
            operation = operations_pb2.Operation.FromString(record.operation)
            assert operation.name == record.name
        counts = (await store.counts(Query("-"))).counts
        claimed = await store.claim_by_key(filled.KEYED, 16, 1, Claim(filled.LEASE))
        assert [one.before.concurrency_key for one in claimed.claimed] == [filled.OTHER_KEY]
        await store.close()
        return {(one.method, one.state): one.number for one in counts}

    in_sqlite = asyncio.run(look(many.sqlite()))
    assert in_sqlite == asyncio.run(look(many.postgres()))
    assert sum(in_sqlite.values()) == pytest.approx(many.in_all, abs=10)  # what was copied
    taken = calls_of_growth(f"sqlite:///{many.file}", number)
    assert {call: len(times) for call, times in taken.items()} == dict.fromkeys(taken, 3)


def calls_of_growth(url: str, stored: int) -> dict[str, list[float]]:
    """Has a process serve a store while two operations run, and make each call three times."""
    command = [sys.executable, "-m", "benchmarks.growth_process", url, str(stored), "2", "3"]
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}  # what is beside the tests, too
    output = subprocess.run(command, check=True, capture_output=True, env={**os.environ, **path})
    return json.loads(output.stdout)


def test_what_processes_in_postgres_start_is_an_operation() -> None:
    record = importlib.import_module("benchmarks.shared_claims").new_record()
    assert operations_pb2.Operation.FromString(record.operation).name == record.name


def test_jobs_are_taken_from_start_to_done() -> None:
    measured = importlib.import_module("benchmarks.start_to_done").measure(rounds=1, number=20)
    assert [figure.ratio > 0 for figure in measured] == [True]


def test_an_exponent_is_the_power_with_which_a_time_grows() -> None:
    sizes = (1_000, 100_000, 1_000_000)
    assert growth.exponent({str(size): [7.0] for size in sizes}) == pytest.approx(0)
    assert growth.exponent({str(size): [3 * size**0.5] for size in sizes}) == pytest.approx(0.5)
    deeper = {"1000": [100.0], "1000000": [200.0]}  # twice as long for a thousand times as many
    assert growth.exponent(deeper) == pytest.approx(0.1, abs=0.001)


def test_the_plots_of_growth_are_of_the_figures_beside_them() -> None:
    figures = hashlib.sha256(growth.DATA.read_bytes()).hexdigest()
    plots = sorted(growth.DATA.parent.glob("growth-*.svg"))
    assert [plot.stem for plot in plots] == [
        f"growth-{call}" for call in ("claim", "finish", "get", "list", "start")
    ]
    assert all(figures in plot.read_text(encoding="utf-8") for plot in plots)
