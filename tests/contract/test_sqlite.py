from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import tracemalloc
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2

from lro_grpc import _anys
from lro_grpc._errors import (
    ConfigurationError,
    OperationNotFoundError,
    UnavailableError,
    UnexpectedError,
)
from lro_grpc._filtering.expression import PartialFailures
from lro_grpc._filtering.parser import parse
from lro_grpc._operation.attempts import AttemptRecord
from lro_grpc._operation.events import (
    Cancel,
    Checkpoint,
    Claim,
    Delete,
    Pause,
    Release,
    Report,
    RetryLater,
)
from lro_grpc._operation.labels import packed
from lro_grpc._operation.record import Record
from lro_grpc._stores.sqlite.connection import LOG_BYTES
from lro_grpc._stores.sqlite.pages import Pages
from lro_grpc.conformance import StoreConformance
from lro_grpc.stores import Query, SqliteStore, open_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from lro_grpc.stores import Now
from lro_grpc._operation import states

LEASE = 15_000_000
METHOD = StoreConformance.METHOD
PARENT = StoreConformance.PARENT
START = StoreConformance.START

TIMEOUT = 20
RESPONSE = _anys.packed_bytes(empty_pb2.Empty())


class TestSqliteStore(StoreConformance):
    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.path = tmp_path / "operations.db"

    def make_store(self, now: Now) -> SqliteStore:
        return SqliteStore(self.path, now)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "operations.db"


def make(path: Path) -> SqliteStore:
    return SqliteStore(path, lambda: START)


@contextlib.asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteStore]:
    store = make(path)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def new(operation_id: str = "op-1", **values: object) -> Record:
    return StoreConformance().record(operation_id, **values)


def descriptors(path: Path) -> list[str]:
    """The files of the store that this process has open."""
    links = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
    return [target for link in links if str(path) in (target := _target(link))]


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


# Files that cannot be used.


def refused(path: Path) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        asyncio.run(make(path).open())
    assert str(path) in caught.value.message
    assert caught.value.metadata["path"] == str(path)
    return caught.value


def test_a_file_of_a_later_release_is_refused_and_left_alone(path):
    asyncio.run(_create_one(path))
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    error = refused(path)
    assert error.reason == "STORE_TOO_NEW"
    assert "99" in error.message
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (99,)
        assert connection.execute("SELECT count(*) FROM operations").fetchone() == (1,)


def test_a_file_that_is_no_database_is_refused_and_left_alone(path):
    path.write_bytes(b"my diary, not a database\n" * 100)
    assert refused(path).reason == "STORE_UNUSABLE"
    assert path.read_bytes() == b"my diary, not a database\n" * 100


def test_a_missing_folder_is_refused(tmp_path):
    assert refused(tmp_path / "missing" / "operations.db").reason == "STORE_UNUSABLE"


def test_a_folder_is_refused(tmp_path):
    assert refused(tmp_path).reason == "STORE_UNUSABLE"


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
@pytest.mark.parametrize("what", ["too new", "no database"])
def test_a_refused_file_is_let_go_of(path, what):
    if what == "too new":
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
    else:
        path.write_bytes(b"no database" * 100)
    store = make(path)
    with pytest.raises(ConfigurationError):
        asyncio.run(store.open())
    assert descriptors(path) == []


# Durability (R1): the settings of SQLite itself.


async def test_commits_are_synchronous_and_go_to_a_write_ahead_log(path):
    async with opened(path) as store:
        pragma = store._write_connection.execute
        assert pragma("PRAGMA journal_mode").fetchone() == ("wal",)
        assert pragma("PRAGMA synchronous").fetchone() == (2,)  # FULL


async def test_what_was_answered_survives_the_loss_of_the_process(path, tmp_path):
    async with opened(path) as store:
        made = await store.create(new())
        claimed = await store.apply(made.name, Claim(LEASE))
        copy = tmp_path / "copy"
        copy.mkdir()
        for file in (path, path.with_name(path.name + "-wal")):  # as a kill would leave them
            shutil.copy(file, copy)
    async with opened(copy / path.name) as after:
        assert await after.read(made.name) == claimed


async def test_concurrent_changes_share_commits_and_are_all_answered(path):
    async with opened(path) as store:
        commits = []
        store._write_connection.set_trace_callback(
            lambda sql: commits.append(sql) if sql == "COMMIT" else None
        )
        made = await asyncio.gather(*(store.create(new(f"op-{n}")) for n in range(2500)))
        claimed = await asyncio.gather(*(store.apply(one.name, Claim(LEASE)) for one in made))
        assert {one.attempt for one in claimed} == {1}
        assert len(await store.leased()) == 2500
        assert len(commits) < 100


class HeldCommit:
    """Commits that get into the file, and are not announced until the test lets them."""

    def __init__(self, store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self._writers = store._writer._thread
        self.in_file = asyncio.Event()
        self.may_be_announced = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._run_in_executor = loop.run_in_executor
        monkeypatch.setattr(loop, "run_in_executor", self._run)

    async def _run(self, executor, call, *arguments):
        answer = await self._run_in_executor(executor, call, *arguments)
        if executor is self._writers:
            self.in_file.set()
            await self.may_be_announced.wait()
        return answer


async def test_a_commit_shows_nowhere_before_it_is_announced(path, monkeypatch):
    """Or what one call has shown would go back in the next (R8)."""
    async with opened(path) as store:
        made = await store.create(new(request_id="r", fingerprint=b"f"))
        commit = HeldCommit(store, monkeypatch)
        claiming = asyncio.create_task(store.apply(made.name, Claim(LEASE)))
        await commit.in_file.wait()
        assert await store.read(made.name) == made
        assert await store.operation(made.name) == made.operation
        assert await store.find_request(METHOD, "r", "") == [made]
        page = await store.page(Query(PARENT), position=b"", size=1)
        assert page.operations == [made.operation]
        commit.may_be_announced.set()
        claimed = await claiming
        assert await store.find_request(METHOD, "r", "") == [claimed]


async def test_a_taken_name_is_refused_by_what_is_in_the_file(path):
    """Though nothing of it is at hand, and whatever else is in the same commit."""
    async with opened(path) as store:
        await store.create(new("op-1"))
    async with opened(path) as store:
        answers = await asyncio.gather(
            *(store.create(new(name)) for name in ("op-0", "op-1", "op-2")), return_exceptions=True
        )
    assert [getattr(one, "reason", "") for one in answers] == ["", "NAME_TAKEN", ""]


async def test_close_commits_what_was_asked_for_before(path):
    async with opened(path) as store:
        calls = [asyncio.ensure_future(store.create(new(f"op-{n}"))) for n in range(50)]
        await asyncio.sleep(0)
    made = await asyncio.gather(*calls)
    async with opened(path) as store:
        assert [await store.read(one.name) for one in made] == made


async def test_close_ends_all_threads(path):
    before = {*threading.enumerate()}
    async with opened(path) as store:
        await store.create(new())
        await store.page(Query(PARENT), position=b"", size=1)
        assert {*threading.enumerate()} - before
    assert not {*threading.enumerate()} - before


async def test_close_makes_all_commits_that_it_takes(path, monkeypatch):
    monkeypatch.setattr("lro_grpc._stores.sqlite.writer._MOST_CALLS", 10)
    async with opened(path) as store:
        calls = [asyncio.ensure_future(store.create(new(f"op-{n}"))) for n in range(50)]
        await asyncio.sleep(0)
    made = await asyncio.gather(*calls)
    async with opened(path) as store:
        assert [await store.read(one.name) for one in made] == made


LOOP_ENDS = """
import asyncio, sys
from lro_grpc.stores import SqliteStore
from lro_grpc.conformance import (StoreConformance)

async def write_late(store):
    try:
        await asyncio.sleep(60)
    finally:
        await store.create(StoreConformance().record())

async def main():
    store = SqliteStore(sys.argv[1], lambda: 0)
    await store.open()
    late = asyncio.create_task(write_late(store))
    await asyncio.sleep(0)
    raise SystemExit(7)

asyncio.run(main())
"""


def test_a_loop_that_ends_before_the_store_is_closed_waits_for_nothing(path):
    """A service that fails elsewhere ends, and does not hang on a write that nobody does."""
    command = [sys.executable, "-c", LOOP_ENDS, str(path)]
    ended = subprocess.run(command, timeout=60, check=False, stderr=subprocess.DEVNULL)
    assert ended.returncode == 7


LOOP_ENDS_DURING_A_COMMIT = """
import asyncio, sys, threading
from lro_grpc.conformance import StoreConformance
from lro_grpc._stores.sqlite.writer import Writer
from lro_grpc.stores import SqliteStore

began, is_waited_for = threading.Event(), threading.Event()
commit = Writer._commit_to_disk

def commit_late(writer):
    thread_shutdown = writer._thread.shutdown

    def shutdown():
        is_waited_for.set()
        thread_shutdown()

    writer._thread.shutdown = shutdown
    began.set()
    is_waited_for.wait(20)
    commit(writer)

async def main():
    store = SqliteStore(sys.argv[1], lambda: 0)
    await store.open()
    Writer._commit_to_disk = commit_late
    creating = asyncio.create_task(store.create(StoreConformance().record()))
    await asyncio.to_thread(began.wait)
    raise SystemExit(7)

asyncio.run(main())
"""


async def test_a_loop_that_ends_during_a_commit_waits_for_it(path):
    """Its connection is rolled back otherwise, while another thread commits."""
    command = [sys.executable, "-c", LOOP_ENDS_DURING_A_COMMIT, str(path)]
    ended = await asyncio.to_thread(
        subprocess.run, command, timeout=30, check=False, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr) == (7, "")
    async with opened(path) as store:
        name = StoreConformance().record().name
        assert (await store.read(name)).name == name


# Events and values that go wrong.


@dataclass(frozen=True)
class Poison:
    """An event that is a bug: it raises, or puts a value into the record that cannot be stored."""

    error: Exception | None = None
    value: object = None
    field: str = "status_detail"

    def apply(self, record: Record, now: int) -> Record:
        del now
        if self.error is not None:
            raise self.error
        return record._replace(**{self.field: self.value})


POISONS = {
    "raises": Poison(TypeError("a bug")),
    "raises StopIteration": Poison(StopIteration()),
    "no text": Poison(value=[]),
    "nothing": Poison(value=None),
    "lone surrogate": Poison(value="\ud800"),
    "too large a number": Poison(value=2**63),
    "a number for bytes": Poison(value=5, field="checkpoint"),
    "a text for bytes": Poison(value="text", field="checkpoint"),
    "nothing for a flag": Poison(value=None, field="pause_requested"),
}


@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
async def test_a_poisoned_event_fails_its_own_caller_only(path, poison):
    async with opened(path) as store:
        names = [(await store.create(new(f"op-{n}"))).name for n in range(3)]
        calls = [store.apply(names[0], Claim(LEASE)), store.apply(names[1], poison)]
        calls += [store.apply(names[2], Claim(LEASE)), store.create(new("op-last"))]
        answers = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 60)
        assert isinstance(answers[1], UnexpectedError)
        assert [one for one in (answers[0], *answers[2:]) if not isinstance(one, Record)] == []
        assert (await store.read(names[1])).status_detail == ""
        assert (await asyncio.wait_for(store.apply(names[1], Claim(LEASE)), 60)).attempt == 1


async def test_a_poisoned_event_does_not_touch_the_others_of_apply_all(path):
    async with opened(path) as store:
        names = [(await store.create(new(f"op-{n}"))).name for n in range(2)]
        changes = [
            (names[0], Claim(LEASE)),
            (names[0], POISONS["raises"]),
            (names[1], Claim(LEASE)),
        ]
        outcomes = await store.apply_all(changes)
        assert [isinstance(one, Record) for one in outcomes] == [True, False, True]
        assert len(await store.leased()) == 2


async def test_a_database_that_stays_locked_is_unavailable_and_recovers(path, monkeypatch):
    """R10."""
    monkeypatch.setattr("lro_grpc._stores.sqlite.writer._PATIENCE_SECONDS", 0.0)
    async with opened(path) as store:
        made = await store.create(new())
        with writing(path) as intruder:
            with pytest.raises(UnavailableError, match="another program holds its file"):
                await store.apply(made.name, Claim(LEASE))
            assert await store.read(made.name) == made
            intruder.execute("ROLLBACK")
        assert (await store.apply(made.name, Claim(LEASE))).attempt == 1


async def test_a_change_waits_for_another_program_that_writes(path):
    """Such as a VACUUM. Meanwhile the loop goes on, and so do reads."""
    async with opened(path) as store:
        made = await store.create(new())
        with writing(path) as intruder:
            claiming = asyncio.create_task(store.apply(made.name, Claim(LEASE)))
            for _ in range(100):
                await asyncio.sleep(0)
                assert await store.read(made.name) == made
            assert not claiming.done()
            intruder.execute("ROLLBACK")
            assert (await claiming).attempt == 1


@contextlib.contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program, in a transaction that writes."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection


async def test_a_log_that_a_long_reader_has_let_grow_is_cut_back(path):
    log = path.with_name(path.name + "-wal")
    async with opened(path) as store:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM operations").fetchall()
            for number in range(50):
                await store.create(new(f"long-{number}", request=bytes(LOG_BYTES // 20)))
            assert log.stat().st_size > 2 * LOG_BYTES
            reader.execute("ROLLBACK")
        for number in range(3):
            await store.create(new(f"short-{number}"))
        assert log.stat().st_size <= LOG_BYTES


async def test_what_nobody_waits_for_any_more_is_not_made(path):
    """As a start whose caller has gone while another program wrote, and makes it again."""
    async with opened(path) as store:
        with writing(path):
            calls = [asyncio.create_task(store.create(new(f"op-{n}"))) for n in range(4)]
            await asyncio.sleep(0)  # they have come
            for call in calls[::2]:
                call.cancel()
            await asyncio.wait(calls[::2])
        made = {record.name for record in await asyncio.gather(*calls[1::2])}
        page = await store.page(Query(PARENT), position=b"", size=9, records=True)
        assert {one.name for one in page.records} == made


async def test_a_cancelled_caller_does_not_disturb_the_others(path):
    async with opened(path) as store:
        calls = [asyncio.ensure_future(store.create(new(f"op-{n}"))) for n in range(10)]
        await asyncio.sleep(0)
        calls[3].cancel()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(one, Record) for one in answers) == 9


# Records that are no longer at hand.


async def test_changes_find_records_that_were_not_kept_at_hand(path, monkeypatch):
    monkeypatch.setattr("lro_grpc._stores.sqlite.recent.MOST_RECORDS", 3)
    async with opened(path) as store:
        made = [await store.create(new(f"op-{n}", request_id=f"r{n}")) for n in range(20)]
        for one in made:
            assert (await store.apply(one.name, Claim(LEASE))).attempt == 1
        assert len(store._recent) == 3
        assert (await store.create(new("op-x", request_id="r0"))).name == made[0].name
        await store.apply(made[1].name, Delete())
        with pytest.raises(OperationNotFoundError):
            await store.apply(made[1].name, Cancel())
        assert (await store.apply(made[0].name, Report(1, 5))).progress_percent == 5


async def test_a_commit_has_a_bound_in_bytes(path):
    """Between two of them the event loop goes on; small changes still share one."""
    statements = []
    async with opened(path) as store:
        store._write_connection.set_trace_callback(statements.append)
        large = [new(f"op-{number}", request=bytes(3_900_000)) for number in range(10)]
        assert await asyncio.gather(*map(store.create, large)) == large
        assert statements.count("COMMIT") >= 3
        statements.clear()
        claimed = await store.claim({StoreConformance.METHOD: 9}, Claim(LEASE))
        assert [one.before for one in claimed] == large[:9]
        assert statements.count("COMMIT") >= 3
        statements.clear()
        names = [one.name for one in large[:2]]
        reports = [(name, Report(1, percent)) for name in names for percent in range(50)]
        ended = await asyncio.gather(*(store.apply(*report) for report in reports))
        assert [one.progress_percent for one in ended] == [*range(50), *range(50)]
        assert statements.count("COMMIT") <= 3


async def test_large_records_at_hand_are_bounded_by_their_bytes(path):
    """Whatever of them is large, and however often it changes."""
    megabyte = 1024 * 1024
    tracemalloc.start()
    try:
        async with opened(path) as store:
            names = []
            for number in range(100):
                record = new(f"op-{number}", request=random.randbytes(megabyte))
                names.append((await store.create(record)).name)
                del record
                await store.apply(names[-1], Claim(LEASE))
                checkpoint = random.randbytes(megabyte // 2)
                await store.apply(names[-1], Checkpoint(Report(1), checkpoint))
            held, _ = tracemalloc.get_traced_memory()
            assert held < 80 * megabyte
            for name in names:
                assert len((await store.read(name)).request) == megabyte
                assert (await store.apply(name, Report(1, 5))).progress_percent == 5
            held, _ = tracemalloc.get_traced_memory()
            assert held < 80 * megabyte
    finally:
        tracemalloc.stop()


async def test_a_record_that_is_larger_than_all_that_is_kept_at_hand_is_read_from_the_file(
    path, monkeypatch
):
    monkeypatch.setattr("lro_grpc._stores.sqlite.recent.MOST_BYTES", 1000)
    async with opened(path) as store:
        large = await store.create(new("op-large", request=b"x" * 2000))
        small = await store.create(new("op-small"))
        assert len(store._recent) == 1
        claimed = await store.apply(large.name, Claim(LEASE))
        assert await store.read(large.name) == claimed
        assert await store.read(small.name) == small


# Indexes.


async def _create_one(path: Path) -> None:
    async with opened(path) as store:
        await store.create(new())


def plan_of(path: Path, call: Callable[[SqliteStore], object]) -> str:
    """The query plans of what a call asks."""
    statements: list[str] = []

    async def check() -> None:
        async with opened(path) as store:
            connections = store._connections
            for connection in connections:
                connection.set_trace_callback(statements.append)
            await call(store)

    asyncio.run(check())
    queries = [one for one in statements if one.startswith("SELECT")]
    with sqlite3.connect(path) as connection:
        plans = [connection.execute(f"EXPLAIN QUERY PLAN {one}").fetchall() for one in queries]
    connection.close()
    return "; ".join(row[3] for plan in plans for row in plan)


HOT = {
    "claimable": (lambda store: store.claimable({METHOD: 5}), "operations_ready (method=?)"),
    "leased": (lambda store: store.leased(until=START), "operations_leased (lease_expire_time<?)"),
    "all leased": (lambda store: store.leased(), "operations_leased (lease_expire_time<?)"),
    "first page": (
        lambda store: store.page(Query(PARENT), position=b"", size=5),
        "operations_listed (parent=? AND sequence>? AND sequence<?)",
    ),
    "later page": (
        lambda store: store.page(Query(PARENT), position=b"\x05", size=5),
        "operations_listed (parent=? AND sequence>? AND sequence<?)",
    ),
    "filtered page": (  # by what has other indexes, too
        lambda store: store.page(
            Query(PARENT, parse('name = "x" expire_time > 2026-01-01T00:00:00Z state = QUEUED')),
            position=b"",
            size=5,
        ),
        "operations_listed (parent=? AND sequence>? AND sequence<?)",
    ),
    "page of many parents": (
        lambda store: store.page(Query("-/p", parse('name = "x"')), position=b"", size=5),
        "INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
    ),
    "found request": (
        lambda store: store.find_request(METHOD, "r", ""),
        "operations_requests (method=? AND request_id=? AND caller=?)",
    ),
    "found id": (lambda store: store.find_id("op-1"), "operations_ids (<expr>=?)"),
    "latest rerun": (
        lambda store: store.latest_rerun(new().name),
        "operations_reruns (source_operation=?)",
    ),
    "created under a request": (
        lambda store: store.create(new("op-2", request_id="r")),
        "operations_requests (method=? AND request_id=? AND caller=? AND parent=?)",
    ),
    "read": (lambda store: store.read(new().name), "operations_names (name=?)"),
    "served": (lambda store: store.operation(new().name), "operations_names (name=?)"),
    "changed": (
        lambda store: store.apply(new().name, Cancel()),
        "operations_names (name=?)",
    ),
}


@pytest.mark.parametrize(("call", "index"), HOT.values(), ids=HOT)
def test_hot_queries_keep_their_index(path, call, index):
    asyncio.run(_create_one(path))
    plan = plan_of(path, call)
    assert index in plan
    assert "SCAN" not in plan
    assert "TEMP B-TREE" not in plan  # no sorting: the index has the order


# A commit that is not announced yet.


async def test_a_list_is_of_what_was_announced_though_the_file_is_ahead(path, monkeypatch):
    """As Get is; and a filter is asked of the same state that is served."""
    async with opened(path) as store:
        made = await store.create(new())
        commit = HeldCommit(store, monkeypatch)
        claiming = asyncio.create_task(store.apply(made.name, Claim(LEASE)))
        await commit.in_file.wait()
        for text, expected in (
            ("", [made]),
            ("state = QUEUED", [made]),
            ("-state = QUEUED", []),
            ('state = QUEUED matches(name, ".*")', [made]),
            ('-state = QUEUED matches(name, ".*")', []),
            ('-(state = RUNNING matches(name, ".*"))', [made]),
        ):
            page = await store.page(Query(PARENT, parse(text)), position=b"", size=5)
            assert [*page.operations] == [one.operation for one in expected]
        assert await store.operation(made.name) == made.operation
        commit.may_be_announced.set()
        await claiming
        page = await store.page(Query(PARENT, parse("state = RUNNING")), position=b"", size=5)
        assert len(page.operations) == 1


class HeldPage:
    """A filter that parses rows, in a thread that waits at its first row until it may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.threads: set[int] = set()
        self.began = threading.Event()
        self.may_go_on = threading.Event()
        monkeypatch.setattr(PartialFailures, "matches", self._matches)

    def _matches(self, record):
        self.threads.add(threading.get_ident())
        self.began.set()
        assert self.may_go_on.wait(TIMEOUT)
        return record.status_detail != "hidden"

    async def wait(self):
        assert await asyncio.to_thread(self.began.wait, TIMEOUT)


async def test_while_a_filter_looks_at_rows_the_event_loop_goes_on(path, monkeypatch):
    held = HeldPage(monkeypatch)
    async with opened(path) as store:
        made = [await store.create(new(f"op-{n}")) for n in range(20)]
        query = Query(PARENT, parse("partial_failures:*"))
        listing = asyncio.create_task(store.page(query, position=b"", size=100))
        await held.wait()
        assert await store.read(made[3].name) == made[3]
        await store.create(new("op-x"))
        assert not listing.done()
        held.may_go_on.set()
        assert [*(await listing).operations] == [one.operation for one in reversed(made)]
    assert threading.get_ident() not in held.threads


async def test_a_page_serves_what_changes_meanwhile_as_it_is_then(path, monkeypatch):
    held = HeldPage(monkeypatch)
    async with opened(path) as store:
        made = [await store.create(new(f"op-{n}")) for n in range(6)]
        for one in made:
            await store.apply(one.name, Claim(LEASE))
        query = Query(PARENT, parse("partial_failures:*"))
        listing = asyncio.create_task(store.page(query, position=b"", size=100))
        await held.wait()
        await store.apply(made[1].name, Report(1, 7))
        await store.apply(made[2].name, Report(1, status_detail="hidden"))
        await store.apply(made[3].name, Delete())
        held.may_go_on.set()
        page = await listing
        names = [operations_pb2.Operation.FromString(one).name for one in page.operations]
        assert names == [made[n].name for n in (5, 4, 1, 0)]
        assert page.operations[2] == (await store.read(made[1].name)).operation
    assert threading.get_ident() not in held.threads, "what has changed is not asked on the loop"


async def test_a_page_has_what_a_commit_under_way_takes_out_of_it(path, monkeypatch):
    """In its place, and on no other page."""
    async with opened(path) as store:
        made = [await store.create(new(f"op-{n}")) for n in range(6)]
        commit = HeldCommit(store, monkeypatch)
        claiming = asyncio.create_task(
            store.apply_all([(made[n].name, Claim(LEASE)) for n in (0, 2, 5)])
        )
        await commit.in_file.wait()
        query = Query(PARENT, parse("state = QUEUED"))
        found, position = [], b""
        while True:
            page = await store.page(query, position=position, size=2)
            assert len(page.operations) <= 2
            found += page.operations
            position = page.position
            if not position:
                break
        assert found == [one.operation for one in reversed(made)]
        commit.may_be_announced.set()
        await claiming
        page = await store.page(query, position=b"", size=10)
        assert [*page.operations] == [made[n].operation for n in (4, 3, 1)]


async def test_a_store_that_closes_waits_for_the_page_under_way(path, monkeypatch):
    held = HeldPage(monkeypatch)
    async with opened(path) as store:
        made = await store.create(new())
        query = Query(PARENT, parse("partial_failures:*"))
        listing = asyncio.create_task(store.page(query, position=b"", size=100))
        await held.wait()
        held.may_go_on.set()
    assert [*(await listing).operations] == [made.operation]


# URLs.


def test_a_url_names_a_relative_or_an_absolute_file():
    assert str(open_url("sqlite:///operations.db", lambda: 0).path) == "operations.db"
    assert str(open_url("sqlite:////var/lib/o.db", lambda: 0).path) == "/var/lib/o.db"


@pytest.mark.parametrize(
    "url",
    ["", "memory", "sqlite:", "sqlite:///", "sqlite://operations.db", "operations.db", "x:///y.db"],
)
def test_a_url_that_is_no_store_is_refused_with_the_forms_there_are(url):
    with pytest.raises(ConfigurationError, match=r"memory:.*sqlite:///file\.db"):
        open_url(url, lambda: 0)


def test_a_sqlite_store_in_memory_is_refused():
    with pytest.raises(ConfigurationError, match="memory:"):
        open_url("sqlite:///:memory:", lambda: 0)


def test_the_stored_operation_is_what_a_record_says(path):
    """What Get serves is a column of its own, written by the same commit."""
    asyncio.run(_create_one(path))
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT operation, state FROM operations").fetchall()
    connection.close()
    assert rows == [(new().operation, states.QUEUED)]


# Files of other versions.

DIGESTS = {
    6: "306b8c4c7ad3b6a077bf6c8f008988819ca182d1b5172257f72832bd51b329ad",
    7: "abf8c631402810f8f39b24e52219e7b634c898ecc53ccae55ed9181896510501",
    8: "32da500cebecca03f52714b24c512d47771facd9c502ace9debc1f39da9de804",
    9: "4a7952a44309dc8192809025c34b36ac311a11036f6ec52647cc2350ca3faae5",
    10: "ea419a4d1b84fcfd718fd20951ccd8b6dec6ac07ab7b8118fee2e3b94f7030db",
    11: "085a8f481e8b79b646a04fa4dd06532d58058b2350206ac99731c03b385588b0",
    12: "20b2d4d61db7b7fee2cc793696d977ed0aa06d1e70fcb8beef48227c391f1aef",
    13: "ad2d88abd3def2ad8076e057db5dbdae1635259b1ec391cef6a0bf1abd5848ad",
    14: "856eda6f762bf01f17dac6ac9e2184e03f1246d315689b85ce4e9aaab486e9f9",
}
"""Of the tables of each version's new files."""


async def test_the_tables_of_a_version_stay_as_they_are(path):
    """A column for each field of a record is among them."""
    async with opened(path):
        pass
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        tables = connection.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()
    digest = hashlib.sha256(repr(tables).encode()).hexdigest()
    assert DIGESTS.get(version) == digest, (
        f"files of version {version} have other tables: count _VERSION up, add to _UPGRADES what"
        " makes these of those of the version before, and the new digest to DIGESTS"
    )


TO_VERSION_13 = """
DROP INDEX operations_by_key;
DROP INDEX operations_held_by_key;
DROP INDEX operations_ranked;
ALTER TABLE operations DROP COLUMN concurrency_key;
CREATE INDEX operations_ranked ON operations
    (method, queue_order, sequence, parent, state, lease_expire_time, scheduled_time)
    WHERE lease_expire_time = 0 AND state IN (1, 6) AND scheduled_time = 0 AND queue_order <> 0;
PRAGMA user_version = 13;
"""
"""Makes the tables of version 13 of those of version 14."""

TO_VERSION_12 = f"""
{TO_VERSION_13}
DROP INDEX operations_ready;
DROP INDEX operations_ranked;
ALTER TABLE operations DROP COLUMN priority;
ALTER TABLE operations DROP COLUMN queue_order;
CREATE INDEX operations_ready ON operations
    (method, sequence, parent, state, lease_expire_time, scheduled_time)
    WHERE lease_expire_time = 0 AND state IN (1, 6) AND scheduled_time = 0;
PRAGMA user_version = 12;
"""
"""Makes the tables of version 12 of those of version 14."""

TO_VERSION_11 = f"""
{TO_VERSION_12}
DROP INDEX operations_delayed;
ALTER TABLE operations DROP COLUMN delayed_until;
CREATE INDEX operations_delayed ON operations (scheduled_time, method, parent, state)
    WHERE scheduled_time <> 0;
PRAGMA user_version = 11;
"""
"""Makes the tables of version 11 of those of version 14."""

TO_VERSION_10 = f"""
{TO_VERSION_11}
DROP TABLE labels;
ALTER TABLE operations DROP COLUMN labels;
PRAGMA user_version = 10;
"""
"""Makes the tables of version 10 of those of version 14."""

TO_VERSION_9 = f"""
{TO_VERSION_10}
DROP INDEX operations_paused;
DROP INDEX operations_ready;
DROP INDEX operations_delayed;
CREATE INDEX operations_ready ON operations (method, sequence)
    WHERE lease_expire_time = 0 AND state IN (1, 6) AND scheduled_time = 0;
CREATE INDEX operations_delayed ON operations (scheduled_time, method) WHERE scheduled_time <> 0;
PRAGMA user_version = 9;
"""
"""Makes the tables of version 9 of those of version 14."""

TO_VERSION_8 = f"""
{TO_VERSION_9}
DROP TABLE outbox;
ALTER TABLE operations DROP COLUMN notify;
PRAGMA user_version = 8;
"""
"""Makes the tables of version 8 of those of version 14."""

TO_VERSION_7 = f"""
{TO_VERSION_8}
DROP TABLE attempts;
DROP TRIGGER attempts_end;
ALTER TABLE operations DROP COLUMN worker;
ALTER TABLE operations DROP COLUMN attempt_number;
ALTER TABLE operations DROP COLUMN attempt_start_time;
ALTER TABLE operations DROP COLUMN attempt_end_time;
ALTER TABLE operations DROP COLUMN attempt_outcome;
ALTER TABLE operations DROP COLUMN attempt_error;
PRAGMA user_version = 7;
"""
"""Makes the tables of version 7 of those of version 14."""


async def test_a_file_whose_indexes_have_less_is_upgraded_in_its_place(path):
    """What is not done is counted in them."""
    async with opened(path) as store:
        paused, *_ = [await store.create(new(f"op-{number}", pausable=True)) for number in range(3)]
        await store.apply(paused.name, Pause())
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(TO_VERSION_9)
    async with opened(path) as store:
        counts = await store.counts(Query(paused.parent))
        assert {one.state: one.number for one in counts.counts} == {
            states.QUEUED: 2,
            states.PAUSED: 1,
        }


async def test_a_file_from_before_keys_is_upgraded_in_its_place(path):
    """What waits there has none, and its turn among the others that have none."""
    async with opened(path) as store:
        before = await store.create(StoreConformance().record("op-1", priority=-1))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(TO_VERSION_13)
    async with opened(path) as store:
        assert await store.read(before.name) == before
        keyed = await store.create(StoreConformance().record("op-2", concurrency_key="a"))
        claimed = await store.claim({METHOD: 9}, Claim(LEASE))
        assert [one.before for one in claimed] == [before]
        claims = await store.claim_by_key(METHOD, 9, 1, Claim(LEASE))
        assert [one.before for one in claims.claimed] == [keyed]


async def test_a_file_from_before_priorities_is_upgraded_in_its_place(path):
    """What waits there has its turn by its start."""
    async with opened(path) as store:
        before = await store.create(new())
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(TO_VERSION_12)
    async with opened(path) as store:
        assert await store.read(before.name) == before
        low, high = (StoreConformance().record(f"op-{one}", priority=one - 8) for one in (7, 9))
        for one in (low, high):
            await store.create(one)
        assert list(await store.claimable({METHOD: 9})) == [high.name, before.name, low.name]


async def test_a_file_from_before_delays_is_upgraded_in_its_place(path):
    """What rests between two attempts does so all the same."""
    async with opened(path) as store:
        before = await store.create(new())
        await store.apply(before.name, Claim(LEASE))
        before = await store.apply(before.name, RetryLater(Report(1), b"", LEASE))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(TO_VERSION_11)
    async with opened(path) as store:
        assert await store.read(before.name) == before
        later = StoreConformance().record("op-2", schedule_time=StoreConformance.START + LEASE)
        await store.create(later)
        assert dict(await store.waiting(METHOD, 9)) == {"": 1}
        assert dict(await store.waiting(METHOD, 9, delayed=True)) == {"": 1}


async def test_a_file_from_before_labels_is_upgraded_in_its_place(path):
    """Its operations have none, and those that follow are found by theirs."""
    async with opened(path) as store:
        before = await store.create(new())
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(TO_VERSION_10)
    async with opened(path) as store:
        assert await store.read(before.name) == before
        await store.create(StoreConformance().record("op-2", labels=",env=prod,"))
        for text, found in (("labels.env = prod", ["op-2"]), ("-labels:*", ["op-1"])):
            page = await store.page(Query(PARENT, parse(text)), position=b"", size=9, records=True)
            assert [one.name.rpartition("/")[2] for one in page.records] == found


async def test_nothing_is_left_of_the_labels_of_an_operation_that_is_gone(path):
    async with opened(path) as store:
        record = StoreConformance().record(labels=",env=prod,team=maps,")
        name = (await store.create(record)).name
        await store.apply_all([(name, Cancel()), (name, Delete())])
        again = await store.create(record._replace(labels=",env=dev,"))
        await store.apply_all([(again.name, Cancel()), (again.name, Delete())])
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM labels").fetchall() == []


async def test_nothing_is_left_of_the_labels_of_a_damaged_operation_that_is_deleted(path):
    async with opened(path) as store:
        name = (await store.create(StoreConformance().record(labels=",env=prod,"))).name
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE operations SET state = 99")
    async with opened(path) as store:
        await store.apply(name, Delete())
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM labels").fetchone() == (0,)


async def test_a_file_from_before_the_history_is_upgraded_in_its_place(path):
    """Nothing but their numbers is known of its attempts, and all of those that follow."""
    async with opened(path) as store:
        name = (await store.create(new())).name
        for attempt in (1, 2):
            await store.apply(name, Claim(LEASE, worker="of before"))
            await store.apply(name, Release(Report(attempt)))
        before = await store.read(name)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(TO_VERSION_7)
    async with opened(path) as store:
        record, attempts = await store.read_attempts(name)
        assert record.operation == before.operation
        assert [*attempts] == [AttemptRecord(1), AttemptRecord(2)]
        await store.apply_all(
            [(name, Claim(LEASE, worker="new")), (name, Release(Report(3))), (name, Claim(LEASE))]
        )
        _, attempts = await store.read_attempts(name)
        assert [one.worker for one in attempts] == ["", "", "new", ""]


async def test_a_file_from_before_the_outbox_is_upgraded_in_its_place(path):
    """What was started before that is told to nobody."""
    async with opened(path) as store:
        former = (await store.create(new("op-1"))).name
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(TO_VERSION_8)
    async with opened(path) as store:
        assert (await store.read(former)).notify is False
        name = (await store.create(new("op-2", notify=True))).name
        for one in (former, name):
            await store.apply(one, Cancel())
        (completion,) = await store.take_completions(9, LEASE)
        assert completion.name == name


async def test_nothing_is_left_of_the_attempts_of_an_operation_that_is_gone(path):
    async with opened(path) as store:
        name = (await store.create(new())).name
        for attempt in (1, 2):
            await store.apply_all([(name, Claim(LEASE)), (name, Release(Report(attempt)))])
        await store.apply_all([(name, Cancel()), (name, Delete())])
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM attempts").fetchone() == (0,)


async def test_a_damaged_attempt_is_an_unknown_one(path):
    """The operation, and its other attempts, are as they were."""
    async with opened(path) as store:
        name = (await store.create(new())).name
        for attempt in (1, 2, 3):
            claim = Claim(LEASE, worker=f"worker-{attempt}")
            await store.apply_all([(name, claim), (name, Release(Report(attempt)))])
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE attempts SET start_time = 'soon' WHERE number = 2")
    async with opened(path) as store:
        _, attempts = await store.read_attempts(name)
        assert [one.worker for one in attempts] == ["worker-1", "", "worker-3"]


async def test_operations_with_many_labels_are_written_a_few_at_a_time(path):
    """Each label is a row, which is written on the event loop; and removed."""
    labels = packed({f"key-{number}": "value" for number in range(64)})
    steps = [0]
    loop = asyncio.get_running_loop()

    def count(*_: object) -> None:
        if not steps[-1]:
            loop.call_soon(steps.append, 0)
        steps[-1] += 1

    async with opened(path) as store:
        store.subscribe(count)
        names = [f"op-{number}" for number in range(100)]
        some = await asyncio.gather(*(store.create(new(one, labels=labels)) for one in names))
        assert max(steps) == 32
        await asyncio.gather(*(store.apply(one.name, Cancel()) for one in some))
        assert max(steps) == 100
        steps[:] = [0]
        await asyncio.gather(*(store.apply(one.name, Delete()) for one in some))
        assert max(steps) == 32
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM labels").fetchone() == (0,)


async def test_damaged_completions_hold_up_no_other(path):
    """However many there are, whatever is wrong with them, and also once nothing else is left."""
    async with opened(path) as store:
        names = [(await store.create(new(f"op-{number}", notify=True))).name for number in range(5)]
        for name in names[:4]:
            await store.apply(name, Cancel())
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        damage = "UPDATE outbox SET {} WHERE name = ?"
        connection.execute(damage.format("next_time = 'soon'"), names[:1])
        connection.execute(damage.format("attempt_count = -1, next_time = 0"), names[1:2])
        connection.execute(damage.format("error = 'none', next_time = 0"), names[2:3])
    async with opened(path) as store:
        (completion,) = await store.take_completions(1, LEASE)
        assert completion.name == names[3]
        assert list(await store.take_completions(1, LEASE)) == []
        await store.apply(names[4], Cancel())
        (completion,) = await store.take_completions(1, LEASE)
        assert completion.name == names[4]
        await store.settle_completions([(completion, completion._replace(next_time=0))])
        (completion,) = await store.take_completions(1, LEASE)
        assert (completion.name, completion.attempt_count) == (names[4], 2)


async def test_a_file_of_the_version_before_is_upgraded_in_its_place(path):
    """Of one index there are two, and the rows are what they were."""
    async with opened(path) as store:
        names = [(await store.create(new(f"op-{number}"))).name for number in range(3)]
        await store.apply(names[0], Claim(LEASE))
        await store.apply(names[0], RetryLater(Report(1), b"", 5_000_000))
        before = [(await store.read(name)).operation for name in names]
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(TO_VERSION_7)
        connection.execute("DROP INDEX operations_ready")
        connection.execute("DROP INDEX operations_delayed")
        connection.execute(
            "CREATE INDEX operations_claimable ON operations (method, sequence)"
            " WHERE lease_expire_time = 0 AND state IN (1, 6)"
        )
        connection.execute("DROP INDEX operations_reruns")
        connection.execute("ALTER TABLE operations DROP COLUMN source_operation")
        connection.execute("ALTER TABLE operations DROP COLUMN operator")
        connection.execute("PRAGMA user_version = 5")
    for _ in range(2):
        async with opened(path) as store:
            assert [(await store.read(name)).operation for name in names] == before
            assert list(await store.claimable({METHOD: 9})) == names[1:]
            assert dict(await store.waiting(METHOD, 9)) == {"": 3}
        with contextlib.closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (14,)
            rows = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'index'")
            indexes = {name for (name,) in rows}
        assert {"operations_ready", "operations_delayed", "operations_reruns"} <= indexes
        assert "operations_claimable" not in indexes


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_a_file_from_before_the_first_release_is_refused_and_left_alone(path, version):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE operations (name TEXT, lease_time INTEGER)")
        connection.execute("INSERT INTO operations VALUES ('operations/op-1', 0)")
        connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    error = refused(path)
    assert error.reason == "STORE_TOO_OLD"
    assert f"{path} has schema version {version}, " in error.message
    assert "give another file" in error.message
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT * FROM operations").fetchall()
    connection.close()
    assert rows == [("operations/op-1", 0)]


def test_a_database_of_another_program_is_refused_and_left_alone(path):
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE operations (of TEXT)")
        connection.execute("INSERT INTO operations VALUES ('a hospital')")
    before = path.read_bytes()
    error = refused(path)
    assert error.reason == "STORE_FOREIGN"
    assert "give another file" in error.message
    assert path.read_bytes() == before
    assert not [one for one in path.parent.iterdir() if one.name.endswith(("-wal", "-shm"))]


# The end of a store, and calls that it cannot answer.


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.create(new("op-2")),
        lambda store: store.apply("operations/op-1", Cancel()),
        lambda store: store.apply_all([("operations/op-1", Cancel())]),
        lambda store: store.read("operations/op-1"),
        lambda store: store.operation("operations/op-1"),
        lambda store: store.leased(),
        lambda store: store.page(Query(PARENT), position=b"", size=5),
    ],
    ids=["create", "apply", "apply_all", "read", "operation", "leased", "page"],
)
async def test_a_call_on_a_closed_store_is_unavailable(path, call):
    """None waits for a commit that nobody makes any more."""
    async with opened(path) as store:
        await store.create(new())
    with pytest.raises(UnavailableError) as caught:
        await asyncio.wait_for(call(store), TIMEOUT)
    assert caught.value.reason == "STORE_UNAVAILABLE"


async def test_a_closed_store_keeps_no_file_open(path):
    async with opened(path) as store:
        await store.create(new())
        await store.page(Query(PARENT), position=b"", size=5)
        assert descriptors(path) != []
    assert descriptors(path) == []


async def test_what_sqlite_cannot_read_is_unavailable(path, caplog):
    """As what it cannot write is; with the words of SQLite, for whoever runs the server."""
    async with opened(path) as store:
        made = await store.create(new())
    async with opened(path) as store:  # nothing is at hand
        with contextlib.closing(sqlite3.connect(path)) as intruder, intruder:
            intruder.execute("ALTER TABLE operations RENAME TO elsewhere")
        for call in (
            store.read(made.name),
            store.operation(made.name),
            store.leased(),
            store.claimable({METHOD: 5}),
            store.page(Query(PARENT), position=b"", size=5),
        ):
            with pytest.raises(UnavailableError, match="its file cannot be read") as caught:
                await call
            assert caught.value.reason == "STORE_UNAVAILABLE"
        assert "no such table: operations" in caplog.text
        with contextlib.closing(sqlite3.connect(path)) as intruder, intruder:
            intruder.execute("ALTER TABLE elsewhere RENAME TO operations")
        assert await store.read(made.name) == made


async def test_a_list_goes_on_while_an_operation_is_new_in_the_file(path, monkeypatch):
    """It is not announced yet, so that there is no record of it at hand."""
    async with opened(path) as store:
        commit = HeldCommit(store, monkeypatch)
        creating = asyncio.create_task(store.create(new()))
        await commit.in_file.wait()
        page = await store.page(Query(PARENT), position=b"", size=5)
        commit.may_be_announced.set()
        assert list(page.operations) == [(await creating).operation]


async def test_a_page_that_takes_long_holds_up_nothing_else_while_the_store_closes(
    path, monkeypatch
):
    begun, go_on = threading.Event(), threading.Event()
    find = Pages._find

    def slow(*arguments, **options):
        begun.set()
        assert go_on.wait(60), "the loop stands still"
        return find(*arguments, **options)

    monkeypatch.setattr(Pages, "_find", slow)
    async with opened(path) as store:
        await store.create(new())
        page = asyncio.create_task(store.page(Query(PARENT), position=b"", size=5))
        await asyncio.to_thread(begun.wait, 5)
        close = Pages.close

        def closing(pages):
            asyncio.get_running_loop().call_soon(go_on.set)
            return close(pages)

        monkeypatch.setattr(Pages, "close", closing)
    assert len((await page).operations) == 1


async def test_a_change_that_raises_fails_its_own_caller(path):
    """In a commit with others: they are made, and the writer goes on."""
    async with opened(path) as store:
        bad = store._writer.write(lambda commit: 1 // 0)
        good = store.create(new())
        raised, made = await asyncio.wait_for(
            asyncio.gather(bad, good, return_exceptions=True), TIMEOUT
        )
        assert isinstance(raised, ZeroDivisionError)
        assert await store.read(made.name) == made


async def test_where_sqlite_fails_in_the_middle_no_call_of_the_commit_has_happened(path):
    """It may have rolled back what the others had done."""

    def fail(commit):
        raise sqlite3.OperationalError("disk I/O error")

    async with opened(path) as store:
        calls = [store.create(new("op-1")), store._writer.write(fail), store.create(new("op-2"))]
        raised = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), TIMEOUT)
        assert [type(one) for one in raised] == [UnavailableError] * 3
        page = await store.page(Query(PARENT), position=b"", size=5)
        assert list(page.operations) == []
        made = await store.create(new("op-1"))
        assert await store.read(made.name) == made
