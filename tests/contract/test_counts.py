"""Counts that take long, or meet what is damaged, in each of the databases."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from lro_grpc._operation.events import Claim, Delete, Report, Succeed
from lro_grpc._operation.states import QUEUED, SUCCEEDED
from lro_grpc._stores import tally
from lro_grpc._stores.postgres import counts as postgres_counts
from lro_grpc._stores.sqlite import counts as sqlite_counts
from lro_grpc.conformance import StoreConformance
from lro_grpc.stores import Count, Query, SqliteStore, Store, open_url

METHOD, PARENT, START = StoreConformance.METHOD, StoreConformance.PARENT, StoreConformance.START
LEASE = 60_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "operations.db"


@pytest.fixture(params=["sqlite", "postgres"])
def make(request: pytest.FixtureRequest, path: Path) -> Callable[[], Store]:
    """Makes stores of one place."""
    url = f"sqlite:///{path}" if request.param == "sqlite" else request.getfixturevalue("postgres")
    return lambda: open_url(url, lambda: START)


async def fill(store: Store, number: int, *, done: bool = False, **values: Any) -> None:
    """Stores so many operations, the first one of another parent."""
    for one in range(number):
        parent = PARENT if one else "projects/q/locations/l"
        record = StoreConformance().record(f"op-{done}-{one}", parent=parent, **values)
        made = await store.create(record)
        if done:
            changes: Any = [(made.name, Claim(LEASE)), (made.name, Succeed(Report(1), b""))]
            await store.apply_all(changes)


@pytest.mark.parametrize(
    ("parent", "values"),
    [
        (PARENT, {}),
        ("-", {}),
        ("projects/-/locations/l", {}),
        (PARENT, {"priority": 1}),
        ("-", {"concurrency_key": "a"}),
        ("projects/-/locations/l", {"schedule_time": START + LEASE}),
    ],
)
async def test_what_was_counted_in_time_is_told_as_a_bound(
    make: Callable[[], Store],
    monkeypatch: pytest.MonkeyPatch,
    parent: str,
    values: Mapping[str, Any],
) -> None:
    """Here no time is left after the first round, of two entries and two rows."""
    store = make()
    await store.open()
    await fill(store, 4, done=True)
    await fill(store, 5, **values)
    for module in (sqlite_counts, postgres_counts):
        monkeypatch.setattr(module, "FIRST_ROUND", 2)
    monkeypatch.setattr(tally, "_ROUNDS_SECONDS", 600.0)
    others = int(parent == PARENT)
    counts = await store.counts(Query(parent))
    assert [*counts.counts] == [
        Count(METHOD, QUEUED, 5 - others, False),
        Count(METHOD, SUCCEEDED, 4 - others, False),
    ]
    monkeypatch.setattr(tally, "Rounds", OneRound)
    for module in (sqlite_counts, postgres_counts):
        monkeypatch.setattr(module, "Rounds", OneRound)
    counts = await store.counts(Query(parent))
    assert [*counts.counts] == [Count(METHOD, QUEUED, 2 - others, True)]
    assert (counts.examined, counts.earliest_examined) == (2, START)
    await store.close()


async def test_a_method_of_which_few_wait_by_key_is_counted_beside_one_of_many(
    make: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make()
    await store.open()
    await fill(store, 5, concurrency_key="a")
    record = StoreConformance().record("op-few", method=f"{METHOD}Few", concurrency_key="a")
    few = await store.create(record)
    for module in (sqlite_counts, postgres_counts):
        monkeypatch.setattr(module, "FIRST_ROUND", 2)
        monkeypatch.setattr(module, "Rounds", OneRound)
    counts = await store.counts(Query("-"))
    assert [*counts.counts] == [
        Count(METHOD, QUEUED, 2, True),
        Count(few.method, QUEUED, 1, False),
    ]
    assert counts.oldest_ready[few.method].name == few.name
    await store.close()


class OneRound:
    """Time for the first round alone."""

    def __init__(self, clock: object) -> None:
        del clock
        self._rounds = [True]

    def may_go_on(self) -> bool:
        return self._rounds.pop() if self._rounds else False


def test_a_round_begins_if_it_can_end_in_time() -> None:
    """It takes twice as long as the one before."""
    times = iter([0.0, 0.0, 0.05, 0.06, 0.08, 0.12])
    rounds = tally.Rounds(lambda: next(times))
    assert [rounds.may_go_on() for _ in range(5)] == [True, True, True, False, False]


async def test_damaged_rows_are_not_counted_and_stop_nothing(path: Path) -> None:
    store = SqliteStore(path, lambda: START)
    await store.open()
    await fill(store, 6)
    await fill(store, 6, done=True)
    held = await store.create(StoreConformance().record("held"))
    await store.apply_all([(held.name, Claim(LEASE)), (held.name, Delete())])
    await store.close()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        damage = ("method = x'00'", "state = 'x'", "state = 99", "create_time = 'x'")
        for change in damage:
            connection.execute(
                f"UPDATE operations SET {change} WHERE sequence ="
                " (SELECT sequence FROM operations WHERE parent = ? AND end_time <> 0"
                " AND typeof(method) = 'text' AND state = 4 AND typeof(create_time) = 'integer'"
                " LIMIT 1)",
                (PARENT,),
            )
        connection.execute(
            "UPDATE operations SET update_time = 'x', name = x'00' WHERE sequence ="
            " (SELECT min(sequence) FROM operations WHERE end_time = 0)"
        )
        connection.execute("UPDATE operations SET attempt_start_time = 'x' WHERE deleted")
    store = SqliteStore(path, lambda: START)
    await store.open()
    for parent in (PARENT, "-"):
        counts = await store.counts(Query(parent))
        assert {one.state for one in counts.counts} <= {1, 3, 4}
        assert {one.method for one in counts.counts} == {METHOD}
        assert counts.oldest_attempt is None
    await store.close()
