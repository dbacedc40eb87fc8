from __future__ import annotations

import contextlib
import functools
import re
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from lro_grpc._filtering.parser import parse
from lro_grpc._operation.events import Cancel, Claim, Delete, Release, Report, RetryLater
from lro_grpc._operation.record import Record
from lro_grpc._stores.sqlite import counts
from lro_grpc.conformance import StoreConformance
from lro_grpc.stores import Claimed, Order, Query, SqliteStore

LEASE = 15_000_000
METHOD = StoreConformance.METHOD
PARENT = StoreConformance.PARENT
START = StoreConformance.START

NAME = f"{PARENT}/operations/op-1"
KEYED = f"{PARENT}/operations/op-keyed"
TARGET = f"{PARENT}/instances/i"

BY_NAME = "operations_names"
READY = {"operations_ready", "operations_ranked"}
SEARCH = re.compile(r"SEARCH (?:TABLE )?operations USING (?:COVERING )?INDEX (\w+) ")


class Explaining(sqlite3.Connection):
    """A connection that notes the plan of each statement that looks for rows, before it runs."""

    steps: list[str]

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        self._explain(sql, parameters)
        return super().execute(sql, parameters)

    def executemany(self, sql: str, rows: Any) -> sqlite3.Cursor:
        rows = list(rows)
        if rows:
            self._explain(sql, rows[0])
        return super().executemany(sql, rows)

    def _explain(self, sql: str, parameters: Sequence[Any]) -> None:
        if sql.startswith(("SELECT", "WITH", "UPDATE", "DELETE")):
            plan = super().execute(f"EXPLAIN QUERY PLAN {sql}", parameters)
            self.steps += [step for *_, step in plan]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "operations.db"


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What connections opened from now on do for their statements, step by step."""
    steps: list[str] = []
    monkeypatch.setattr(Explaining, "steps", steps, raising=False)
    explaining = functools.partial(sqlite3.connect, factory=Explaining)
    monkeypatch.setattr(sqlite3, "connect", explaining)
    return steps


def make(path: Path) -> SqliteStore:
    return SqliteStore(path, lambda: START)


def exclusive(operation_id: str, *, request_id: str) -> Record:
    return StoreConformance().record(
        operation_id, request_id=request_id, target=TARGET, exclusive=True
    )


async def fill(path: Path, *, keyed: bool = False) -> None:
    """Stores an operation, which a store that opens the file later has not at hand."""
    store = make(path)
    await store.open()
    await store.create(exclusive("op-1", request_id="request 1"))
    if keyed:
        await store.create(StoreConformance().record("op-keyed", concurrency_key="a"))
    await store.close()


def indexes(steps: Sequence[str]) -> set[str]:
    """Returns the indexes of a plan that searches in indexes and does nothing else."""
    found = [SEARCH.match(step) for step in steps]
    assert steps
    assert all(found), steps
    return {match[1] for match in found if match}


async def second_page(store: SqliteStore) -> object:
    return await store.page(Query(PARENT), position=(2).to_bytes(8, "big"), size=50)


async def filtered_page(store: SqliteStore) -> object:
    """By what other indexes know, too: the order is worth more than they are."""
    asked = parse(f"name = {NAME} AND expire_time > 2026-01-01T00:00:00Z AND state = QUEUED")
    return await store.page(Query(PARENT, asked), position=b"", size=50)


QUERIES: dict[str, tuple[Callable[[SqliteStore], Awaitable[object]], set[str]]] = {
    "read": (lambda store: store.read(NAME), {BY_NAME}),
    "operation": (lambda store: store.operation(NAME), {BY_NAME}),
    "find_request": (
        lambda store: store.find_request(METHOD, "request 1", ""),
        {"operations_requests"},
    ),
    "find_id": (lambda store: store.find_id("op-1"), {"operations_ids"}),
    "latest_rerun": (lambda store: store.latest_rerun(NAME), {"operations_reruns"}),
    "first page": (
        lambda store: store.page(Query(PARENT), position=b"", size=50),
        {"operations_listed"},
    ),
    "filtered page": (filtered_page, {"operations_listed"}),
    "next page": (second_page, {"operations_listed"}),
    "page by name": (
        lambda store: store.page(
            Query(PARENT, parse("state = QUEUED"), Order.BY_NAME), position=b"", size=50
        ),
        {BY_NAME},
    ),
    "next page by name of any parent": (
        lambda store: store.page(
            Query("projects/-/locations/-", order=Order.BY_NAME), position=b"p", size=50
        ),
        {BY_NAME},
    ),
    "exclusive_holder": (lambda store: store.exclusive_holder(TARGET), {"operations_exclusive"}),
    "held_of_key": (lambda store: store.held_of_key(METHOD, KEYED, 50), {"operations_held_by_key"}),
    "claimable": (lambda store: store.claimable({METHOD: 50}), {*READY, "operations_by_key"}),
    "claim": (
        lambda store: store.claim({METHOD: 50}, Claim(LEASE), left_out={NAME}),
        READY,
    ),
    "claim of what has been ready for a while": (
        lambda store: store.claim({METHOD: 50}, Claim(LEASE), ready_before=START),
        READY,
    ),
    "leased": (lambda store: store.leased(), {"operations_leased"}),
    "leased until": (lambda store: store.leased(until=START), {"operations_leased"}),
    "expired": (
        lambda store: store.expired(50),
        {"operations_expiring", "operations_overdue", "operations_delayed"},
    ),
}


@pytest.mark.parametrize("query", QUERIES)
async def test_a_read_searches_in_its_index_and_sorts_nothing(
    path: Path, steps: list[str], query: str
) -> None:
    ask, expected = QUERIES[query]
    await fill(path, keyed=True)
    store = make(path)
    await store.open()
    steps.clear()
    await ask(store)
    await store.close()
    assert indexes(steps) == expected


@pytest.mark.parametrize("is_analyzed", [False, True])
@pytest.mark.parametrize(
    ("per_key", "expected"),
    [(2, {"operations_by_key", "operations_held_by_key"}), (0, {"operations_by_key"})],
)
async def test_a_claim_by_key_searches_in_its_indexes_and_sorts_nothing(
    path: Path, steps: list[str], per_key: int, expected: set[str], *, is_analyzed: bool
) -> None:
    await fill(path, keyed=True)
    if is_analyzed:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("ANALYZE")
    store = make(path)
    await store.open()
    steps.clear()
    claims = await store.claim_by_key(
        METHOD, 50, per_key, Claim(LEASE), after="b", left_out={KEYED}, ready_before=START + 1
    )
    await store.close()
    assert (list(claims.claimed), claims.last_key) == ([], "a")
    assert not [step for step in steps if "B-TREE" in step], steps
    looks = [step for step in steps if "operations" in step]
    assert expected <= indexes(looks) <= {"operations_by_key", "operations_held_by_key"}


SHARES = {
    "env": "CASE WHEN i % 10 = 0 THEN 'dev' ELSE 'prod' END",
    "tenant": "'t' || (i % 1000)",
    "run": "CASE WHEN i = 1234 THEN 'only' ELSE 'r' END",
}
"""The values of labels, by the number of an operation."""


@pytest.mark.parametrize("is_analyzed", [False, True])
async def test_a_page_of_a_label_looks_at_what_has_it_whatever_its_share(
    path: Path, steps: list[str], *, is_analyzed: bool
) -> None:
    await fill(path)
    values = {"name": "name || '-' || i", "request_id": "'r' || i", "exclusive_target": "''"}
    columns = ", ".join(Record._fields)
    of_row = ", ".join(values.get(name, name) for name in Record._fields)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            f"INSERT INTO operations ({columns})"
            " WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
            f" SELECT {of_row} FROM operations, n"
        )
        for key, value in SHARES.items():
            connection.execute(
                f"INSERT INTO labels SELECT '{key}', {value}, i"
                " FROM (SELECT sequence AS i FROM operations)"
            )
        if is_analyzed:
            connection.execute("ANALYZE")
    store = make(path)
    await store.open()
    for asked in (
        "labels.env = prod",
        "labels.env = dev",
        "labels.tenant = t7",
        "labels.run = only",
        "labels.none = none",
        "labels.env = prod AND labels.tenant = t7 AND state = QUEUED",
        'labels.env = prod AND matches(name, "x")',
    ):
        for parent in (PARENT, "projects/-/locations/-", "-"):
            steps.clear()
            await store.page(Query(parent, parse(asked)), position=b"", size=50)
            assert not [step for step in steps if "B-TREE" in step], steps  # nothing is sorted
            looks = (step.replace("TABLE ", "").partition(" (")[0] for step in steps)
            assert {step for step in looks if "labels" in step or "operations" in step} == {
                "SEARCH labels USING PRIMARY KEY",
                "SEARCH operations USING INTEGER PRIMARY KEY",
            }, steps
    await store.close()


async def test_a_claim_does_not_walk_through_delayed_operations(path: Path) -> None:
    """It takes as many steps behind 100,000 of them as behind one."""
    store = make(path)
    await store.open()
    await store.create(StoreConformance().record("op-0"))
    await store.apply(f"{PARENT}/operations/op-0", Claim(LEASE))
    retry = RetryLater(Report(1), b"", 3_600_000_000)
    await store.apply(f"{PARENT}/operations/op-0", retry)
    await store.create(StoreConformance().record("op-ready"))
    await store.close()
    steps_behind_one = await claim_one(path)
    columns = ", ".join(name for name in Record._fields if name != "name")
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            f"INSERT INTO operations (sequence, name, {columns})"
            " WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
            f" SELECT -i, name || i, {columns} FROM operations, n WHERE scheduled_time <> 0"
        )
    assert await claim_one(path) <= 2 * steps_behind_one


async def test_a_claim_does_not_walk_through_those_of_a_lower_priority(path: Path) -> None:
    """Whatever they are among: 100,000 were started before the one whose turn it is."""
    store = make(path)
    await store.open()
    await store.create(StoreConformance().record("op-low", priority=-1))
    await store.create(StoreConformance().record("op-ready"))
    await store.close()
    steps_before_one = await claim_one(path)
    columns = ", ".join(name for name in Record._fields if name != "name")
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            f"INSERT INTO operations (sequence, name, {columns})"
            " WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
            f" SELECT -i, name || i, {columns} FROM operations, n WHERE priority < 0"
        )
    assert await claim_one(path) <= 2 * steps_before_one


@pytest.mark.parametrize("is_analyzed", [False, True])
async def test_neither_claims_nor_counts_walk_through_those_of_a_full_key(
    path: Path, monkeypatch: pytest.MonkeyPatch, *, is_analyzed: bool
) -> None:
    """Nor a claim of those without a key, nor one behind 100,000 that are delayed."""
    monkeypatch.setattr(counts, "FIRST_ROUND", 1)
    store = make(path)
    await store.open()
    record = StoreConformance().record
    for number in range(2):
        await store.create(record(f"op-a{number}", concurrency_key="a"))
    await store.apply(f"{PARENT}/operations/op-a0", Claim(LEASE))
    later = START + 3_600_000_000
    await store.create(record("op-late", concurrency_key="b", schedule_time=later))
    await store.create(record("op-ready", concurrency_key="b"))
    await store.create(record("op-plain", priority=-1))
    await store.close()
    among_few = [*await steps_of_claims(path), await steps_of_counts(path)]
    columns = ", ".join(name for name in Record._fields if name != "name")
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            f"INSERT INTO operations (sequence, name, {columns})"
            " WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
            f" SELECT -2 * i - (scheduled_time <> 0), name || i, {columns} FROM operations, n"
            " WHERE name LIKE '%op-a1' OR scheduled_time <> 0"
        )
        if is_analyzed:
            connection.execute("ANALYZE")
    among_many = [*await steps_of_claims(path), await steps_of_counts(path)]
    assert [many <= 2 * few for few, many in zip(among_few, among_many, strict=True)] == [True] * 3


async def steps_of_counts(path: Path) -> int:
    """Counts up to one, and returns the steps of SQLite's machine."""
    store = make(path)
    await store.open()
    taken = 0

    def count() -> int:
        nonlocal taken
        taken += 1
        return 0

    store._counting._connection.set_progress_handler(count, 1)
    told = await store.counts(Query("-"), most=1, examined=1)
    store._counting._connection.set_progress_handler(None, 0)
    assert METHOD in told.oldest_ready
    await store.close()
    return taken


async def steps_of_claims(path: Path) -> Sequence[int]:
    """Claims what is ready by key, then what has none; returns the steps of SQLite's machine."""
    store = make(path)
    await store.open()
    taken: list[int] = []

    def count() -> int:
        taken[-1] += 1
        return 0

    async def of_key() -> Sequence[Claimed]:
        return (await store.claim_by_key(METHOD, 1, 1, Claim(LEASE))).claimed

    for claim, name in (
        (of_key, "op-ready"),
        (lambda: store.claim({METHOD: 1}, Claim(LEASE)), "op-plain"),
    ):
        taken.append(0)
        store._write_connection.set_progress_handler(count, 1)
        ((before, claimed),) = await claim()
        store._write_connection.set_progress_handler(None, 0)
        assert before.name == f"{PARENT}/operations/{name}"
        assert isinstance(claimed, Record)
        await store.apply(before.name, Release(Report(claimed.attempt)))
    await store.close()
    return taken


async def claim_one(path: Path) -> int:
    """Claims the one that is ready, gives it back, and returns the steps of SQLite's machine."""
    store = make(path)
    await store.open()
    taken = 0

    def count() -> int:
        nonlocal taken
        taken += 1
        return 0

    store._write_connection.set_progress_handler(count, 1)
    ((before, claimed),) = await store.claim({METHOD: 1}, Claim(LEASE))
    store._write_connection.set_progress_handler(None, 0)
    assert before.name == f"{PARENT}/operations/op-ready"
    assert isinstance(claimed, Record)
    await store.apply(before.name, Release(Report(claimed.attempt)))
    await store.close()
    return taken


async def test_what_waits_is_counted_in_an_index(path: Path, steps: list[str]) -> None:
    store = make(path)
    await store.open()
    steps.clear()
    await store.waiting(METHOD, 100)
    await store.close()
    looks = [step for step in steps if "operations" in step]
    assert [one for one in looks if "INDEX" not in one] == []
    assert [one for one in looks if "operations_ready" in one] == [
        "SEARCH operations USING INDEX operations_ready (method=?)"
    ]


async def test_delayed_starts_are_counted_without_their_rows(path: Path, steps: list[str]) -> None:
    """There may be a hundred thousand of them, and they are counted on the event loop."""
    store = make(path)
    await store.open()
    steps.clear()
    await store.waiting(METHOD, 100, delayed=True)
    await store.close()
    looks = [step for step in steps if "operations" in step]
    assert len(looks) == 1
    assert "USING COVERING INDEX operations_delayed" in looks[0]


@pytest.mark.parametrize("parent", [PARENT, "-", "projects/-/locations/-"])
async def test_what_is_not_done_is_counted_without_its_rows(
    path: Path, steps: list[str], parent: str
) -> None:
    """Only what an attempt holds is looked at, and of what is ready the next few."""
    store = make(path)
    await store.open()
    await store.create(StoreConformance().record())
    steps.clear()
    await store.counts(Query(parent))
    await store.close()
    looks = [step for step in steps if re.search(r"\b(operations|o)\b", step)]
    by_rows = [step for step in looks if "COVERING INDEX" not in step]
    listed = "INDEX operations_listed (parent=? AND sequence<?)"
    assert {step.partition("USING ")[2] for step in by_rows} == {
        "INDEX operations_leased",
        "INTEGER PRIMARY KEY (rowid=?)",
        listed if parent == PARENT else "INTEGER PRIMARY KEY (rowid<?)",
    }
    used = {match[1] for step in looks if (match := re.search(r"COVERING INDEX (\w+)", step))}
    assert used == {*READY, "operations_by_key", "operations_delayed", "operations_paused"}


async def test_a_start_looks_for_its_request_its_name_and_its_target_in_indexes(
    path: Path, steps: list[str]
) -> None:
    store = make(path)
    await store.open()
    steps.clear()
    await store.create(exclusive("op-2", request_id="request 2"))
    await store.close()
    assert indexes(steps) == {"operations_requests", BY_NAME, "operations_exclusive"}


async def test_a_change_finds_its_row_by_name(path: Path, steps: list[str]) -> None:
    await fill(path)
    store = make(path)
    await store.open()
    steps.clear()
    await store.apply(NAME, Cancel())
    await store.apply(NAME, Delete())  # it is gone
    running = await store.create(StoreConformance().record("op-2"))
    await store.apply(running.name, Claim(LEASE))
    await store.apply(running.name, Delete())  # it is hidden
    await store.close()
    assert indexes(steps) == {BY_NAME}
