"""The fleet without a server: real files, real databases."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from fleet_harness import PARENT, TABLE, Instance, Work, on_disk

from lro_grpc import AttemptStopped, Code, LroError
from lro_grpc._example import database, names
from lro_grpc._example.fleet import Fleet

if TYPE_CHECKING:
    from pathlib import Path

    from lro_grpc._example.names import Name

ORDERS = names.new_name(PARENT, "instances", "orders", "instance_id")
COPY = names.new_name(PARENT, "snapshots", "monday", "snapshot_id")
FOREVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def wanted(sql: str = TABLE, rows: int = 0) -> Instance:
    return Instance(schema_sql=sql, seed_rows=rows)


def rows_of(data: Path, name: Name, sql: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(name.under(data) / "data.db")) as connection:
        return connection.execute(sql).fetchall()


def dump(data: Path, name: Name) -> list[str]:
    with contextlib.closing(sqlite3.connect(name.under(data) / "data.db")) as connection:
        return list(connection.iterdump())


# Names


@pytest.mark.parametrize("good", ["a", "a1", "orders-2", "a" * 63])
def test_an_id_that_is_one(good: str) -> None:
    name = names.new_name(PARENT, "instances", good, "instance_id")
    assert names.instance_name(str(name)) == name


@pytest.mark.parametrize(
    "bad", ["", "1a", "-a", "a-", "A", "a" * 64, "a b", "..", "a/b", "a.b", "ä", "a\n", "a\0"]
)
def test_an_id_that_is_none(bad: str) -> None:
    with pytest.raises(LroError) as caught:
        names.new_name(PARENT, "instances", bad, "instance_id")
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.metadata == {"field": "instance_id", "value": bad}


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "orders",
        PARENT,
        f"{PARENT}/instances/",
        f"{PARENT}/snapshots/orders",
        f"{PARENT}/instances/../../x",
        f"/{PARENT}/instances/orders",
        f"{PARENT}/instances/orders/",
        "projects/../locations/l/instances/orders",
        "projects/p/locations/l/../instances/orders",
    ],
)
def test_a_name_that_is_none(bad: str) -> None:
    with pytest.raises(LroError, match="expected projects/"):
        names.instance_name(bad)


@pytest.mark.parametrize("bad", ["", "projects/p", "projects/p/locations/..", f"{PARENT}/"])
def test_a_parent_that_is_none(bad: str) -> None:
    with pytest.raises(LroError, match="expected projects/"):
        names.check_parent(bad)


# Building


def test_a_new_instance_is_a_database(fleet: Fleet, data: Path) -> None:
    work = Work()
    made = fleet.create(ORDERS, wanted(rows=25_000), work)
    file = ORDERS.under(data) / "data.db"
    assert made == Instance(
        name=str(ORDERS),
        schema_sql=TABLE,
        seed_rows=25_000,
        size_bytes=file.stat().st_size,
        create_time=made.create_time,
        state=Instance.READY,
    )
    assert made.create_time.seconds > 1_700_000_000
    assert made == fleet.get(ORDERS)
    assert rows_of(data, ORDERS, "SELECT count(*), min(id), max(id) FROM goods") == [
        (25_000, 1, 25_000)
    ]
    assert rows_of(data, ORDERS, "SELECT title FROM goods WHERE id = 7") == [("title 7",)]
    assert rows_of(data, ORDERS, "PRAGMA integrity_check") == [("ok",)]
    assert work.reports == [
        (0, "running the schema"),
        (40, "inserted 10,000 of 25,000 rows"),
        (80, "inserted 20,000 of 25,000 rows"),
        (100, "inserted 25,000 of 25,000 rows"),
    ]
    assert on_disk(data) == [
        f"{ORDERS}",
        f"{ORDERS}/data.db",
        f"{ORDERS}/resource.json",
    ]


def test_an_empty_schema_makes_an_empty_database(fleet: Fleet, data: Path) -> None:
    assert fleet.create(ORDERS, wanted(""), Work()).state == Instance.READY
    assert rows_of(data, ORDERS, "SELECT * FROM sqlite_master") == []


def test_a_transaction_that_the_schema_leaves_open_is_committed(fleet: Fleet, data: Path) -> None:
    fleet.create(ORDERS, wanted("BEGIN; CREATE TABLE t (x); INSERT INTO t VALUES (7)"), Work())
    assert rows_of(data, ORDERS, "SELECT x FROM t") == [(7,)]


def test_values_are_of_the_columns_types(fleet: Fleet, data: Path) -> None:
    columns = """
        i BIGINT UNIQUE, t VARCHAR(9) NOT NULL UNIQUE, c CLOB, r DOUBLE PRECISION, n DECIMAL(9, 2),
        b BLOB NOT NULL UNIQUE, "a ""quoted"" name" TEXT, untyped, d DATE,
        g INTEGER GENERATED ALWAYS AS (i * 2), s INTEGER AS (i * 3) STORED
    """
    fleet.create(ORDERS, wanted(f'CREATE TABLE "my ""table""" ({columns})', 3), Work())
    assert rows_of(data, ORDERS, 'SELECT * FROM "my ""table""" WHERE i = 2') == [
        (
            2,
            "t 2",
            "c 2",
            2.5,
            2,
            b"\0\0\0\0\0\0\0\2",
            'a "quoted" name 2',
            b"\0\0\0\0\0\0\0\2",
            2,
            4,
            6,
        )
    ]


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE t (i INTEGER PRIMARY KEY AUTOINCREMENT, x TEXT) STRICT",
        "CREATE TABLE t (i INT, r REAL, x ANY, b BLOB, PRIMARY KEY (i, x)) STRICT",
        "CREATE TABLE t (k TEXT PRIMARY KEY) WITHOUT ROWID",
        "CREATE TABLE t (i INTEGER PRIMARY KEY); INSERT INTO t VALUES (1), (2), (3)",
        "BEGIN; CREATE TABLE t (i INTEGER PRIMARY KEY)",
        "CREATE VIRTUAL TABLE t USING fts5(x)",
        "PRAGMA foreign_keys = ON; PRAGMA user_version = 7; CREATE TABLE t (x)",
        "CREATE VIEW v AS SELECT 1; CREATE TABLE t (x); CREATE TABLE a (x CHECK (x = 0))",
    ],
)
def test_ordinary_tables_take_rows(fleet: Fleet, data: Path, sql: str) -> None:
    fleet.create(ORDERS, wanted(sql, 20), Work())
    inserted = 20 + (3 if "(1), (2), (3)" in sql else 0)
    assert rows_of(data, ORDERS, "SELECT count(*) FROM t") == [(inserted,)]


@pytest.mark.parametrize(
    ("sql", "code", "reason", "said"),
    [
        ("CREATE TABLE t (", Code.INVALID_ARGUMENT, "INVALID_SCHEMA", "incomplete input"),
        (
            "CREATE TABLE t (x); CREATE TABLE t (x)",
            Code.INVALID_ARGUMENT,
            "INVALID_SCHEMA",
            "table t already exists",
        ),
        ("nonsense", Code.INVALID_ARGUMENT, "INVALID_SCHEMA", 'near "nonsense": syntax error'),
        (
            "CREATE TABLE t (x); INSERT INTO u VALUES (1)",
            Code.INVALID_ARGUMENT,
            "INVALID_SCHEMA",
            "no such table: u",
        ),
        (
            "CREATE TABLE t (x CHECK (x = 'red'))",
            Code.FAILED_PRECONDITION,
            "ROWS_REFUSED",
            "CHECK constraint failed: x = 'red'",
        ),
        (
            "CREATE TABLE t (x); CREATE TRIGGER r BEFORE INSERT ON t"
            " BEGIN SELECT RAISE(ABORT, 'no more'); END",
            Code.FAILED_PRECONDITION,
            "ROWS_REFUSED",
            "no more",
        ),
    ],
)
def test_sql_that_sqlite_refuses(
    fleet: Fleet, data: Path, sql: str, code: Code, reason: str, said: str
) -> None:
    with pytest.raises(LroError) as caught:
        fleet.create(ORDERS, wanted(sql, 5), Work())
    assert (caught.value.code, caught.value.reason) == (code, reason)
    assert caught.value.metadata == {"instance": str(ORDERS), "sqlite": said}
    assert on_disk(data) == []


@pytest.mark.parametrize("sql", ["", "-- nothing", "CREATE VIEW v AS SELECT 1"])
def test_rows_need_a_table(fleet: Fleet, data: Path, sql: str) -> None:
    with pytest.raises(LroError) as caught:
        fleet.create(ORDERS, wanted(sql, 1), Work())
    assert (caught.value.code, caught.value.reason) == (Code.INVALID_ARGUMENT, "NO_TABLE")
    assert on_disk(data) == []


def test_a_null_character_is_no_sql(fleet: Fleet, data: Path) -> None:
    with pytest.raises(LroError) as caught:
        fleet.create(ORDERS, wanted("CREATE TABLE t (x);\0"), Work())
    assert caught.value.reason == "INVALID_SCHEMA"
    assert caught.value.metadata["sqlite"] == "schema_sql has a null character"
    assert on_disk(data) == []


# A stranger's SQL


@pytest.mark.parametrize(
    "sql",
    [
        "ATTACH '{file}' AS other; CREATE TABLE other.t (x)",
        "CREATE TABLE t (x); VACUUM INTO '{file}'",
        "VACUUM",
        "SELECT load_extension('{file}')",
        "CREATE TABLE t (x DEFAULT (load_extension('{file}'))); INSERT INTO t DEFAULT VALUES",
        "PRAGMA journal_mode = WAL",
        "PRAGMA temp_store_directory = '{folder}'",
        "PRAGMA writable_schema(ON)",
        "PRAGMA max_page_count = 1000000",
        "SELECT * FROM pragma_journal_mode('wal')",
    ],
)
def test_sql_stays_in_its_own_file(fleet: Fleet, data: Path, tmp_path: Path, sql: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    with pytest.raises(LroError) as caught:
        fleet.create(ORDERS, wanted(sql.format(file=elsewhere, folder=tmp_path)), Work())
    assert (caught.value.code, caught.value.reason) == (Code.INVALID_ARGUMENT, "INVALID_SCHEMA")
    assert not elsewhere.exists()
    assert on_disk(data) == []


@pytest.mark.parametrize(
    "sql",
    [
        FOREVER,
        f"CREATE TABLE t (x); CREATE TRIGGER r AFTER INSERT ON t BEGIN {FOREVER}; END",
    ],
)
def test_a_stop_ends_endless_sql(fleet: Fleet, data: Path, sql: str) -> None:
    work = Work()
    work.checks_left = 100
    with pytest.raises(AttemptStopped):
        fleet.create(ORDERS, wanted(sql, 1), work)
    assert on_disk(data) == []


def test_a_stop_is_seen_between_steps(fleet: Fleet, data: Path) -> None:
    def stop(detail: str) -> None:
        work.stopped = detail.startswith("inserted 20,000 ")

    work = Work(on_progress=stop)
    with pytest.raises(AttemptStopped):
        fleet.create(ORDERS, wanted(rows=10**12), work)
    assert work.reports[-1][1] == f"inserted 20,000 of {10**12:,} rows"
    assert on_disk(data) == []


# The quota


def test_a_build_is_kept_within_the_quota(data: Path) -> None:
    fleet = Fleet(data, quota=200_000)
    with pytest.raises(LroError) as caught:
        fleet.create(ORDERS, wanted(rows=10**6), Work())
    assert (caught.value.code, caught.value.reason) == (Code.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
    assert on_disk(data) == []
    fleet.create(ORDERS, wanted(rows=100), Work())
    with pytest.raises(LroError) as caught:
        Fleet(data, quota=8192).check_new(names.new_name(PARENT, "instances", "b", "instance_id"))
    assert [type(one).__name__ for one in caught.value.details] == ["QuotaFailure"]
    with pytest.raises(LroError, match="no room for"):
        Fleet(data, quota=16384).check_new_snapshot(ORDERS, COPY)


# Later attempts


def test_a_second_attempt_finds_the_instance_that_the_first_has_finished(
    fleet: Fleet, data: Path
) -> None:
    made = fleet.create(ORDERS, wanted(rows=3), Work())
    again = Work(attempt=2)
    assert fleet.create(ORDERS, wanted(rows=3), again) == made
    assert again.reports == []
    with pytest.raises(LroError) as caught:
        fleet.create(ORDERS, wanted(rows=3), Work("op-2"))
    assert caught.value.code is Code.ALREADY_EXISTS
    assert fleet.get(ORDERS) == made
    assert len(on_disk(data)) == 3


def killed(data: Path, body: str) -> None:
    """Runs Python in a process that kills itself with SIGKILL."""
    script = f"""
        import os, shutil, signal, sys
        from pathlib import Path
        sys.path.insert(0, {str(__file__.rpartition("/")[0])!r})
        from fleet_harness import Instance, Work, TABLE
        from lro_grpc._example import names
        from lro_grpc._example.fleet import Fleet
        def die(*_):
            os.kill(os.getpid(), signal.SIGKILL)
        fleet = Fleet(Path({str(data)!r}))
        orders = names.instance_name({str(ORDERS)!r})
    """
    program = textwrap.dedent(script) + body
    ended = subprocess.run([sys.executable, "-c", program], timeout=30, check=False)
    assert ended.returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_after_kill_9_of_a_build(fleet: Fleet, data: Path) -> None:
    killed(
        data,
        "fleet.create(orders, Instance(schema_sql=TABLE, seed_rows=20_000),"
        " Work('op-1', on_progress=lambda d: d.startswith('inserted') and die()))",
    )
    halfway = fleet.get(ORDERS)
    assert (halfway.state, halfway.schema_sql, halfway.size_bytes) == (Instance.CREATING, TABLE, 0)
    assert halfway.HasField("create_time")
    assert fleet.page(PARENT, after="", size=9) == ([halfway], "")
    with pytest.raises(LroError, match="already"):
        fleet.check_new(ORDERS)

    made = fleet.create(ORDERS, wanted(rows=20_000), Work("op-1", attempt=2))
    assert made.state == Instance.READY
    assert rows_of(data, ORDERS, "SELECT count(*) FROM goods") == [(20_000,)]
    assert len(on_disk(data)) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_after_kill_9_of_a_delete(fleet: Fleet, data: Path) -> None:
    fleet.create(ORDERS, wanted(), Work())
    killed(data, "shutil.rmtree = die; fleet.delete(orders)")
    halfway = fleet.get(ORDERS)
    assert (halfway.state, halfway.schema_sql) == (Instance.DELETING, TABLE)
    assert fleet.page(PARENT, after="", size=9) == ([halfway], "")
    with pytest.raises(LroError, match="DELETING"):
        fleet.check_new_snapshot(ORDERS, COPY)

    fleet.delete(ORDERS)
    fleet.delete(ORDERS)
    assert fleet.find(ORDERS) is None
    assert on_disk(data) == []


def test_an_earlier_attempt_that_is_still_alive_does_no_harm(fleet: Fleet, data: Path) -> None:
    def overtake(detail: str) -> None:
        if detail.startswith("inserted"):
            made.append(fleet.create(ORDERS, wanted(rows=5), Work(attempt=2)))

    made: list[Instance] = []
    assert fleet.create(ORDERS, wanted(rows=5), Work(on_progress=overtake)) == made[0]
    assert len(on_disk(data)) == 3


def leave_behind(data: Path, directory: str) -> None:
    """Makes what a dead process may have left of an instance."""
    path = ORDERS.under(data).with_name(directory)
    path.mkdir(parents=True)
    (path / "data.db").write_bytes(b"half")


def test_a_later_attempt_removes_the_leftovers_of_earlier_ones(fleet: Fleet, data: Path) -> None:
    leave_behind(data, ".op-1-1.orders.partial")
    leave_behind(data, ".op-1-2.orders.partial")
    with pytest.raises(LroError, match="syntax error"):
        fleet.create(ORDERS, wanted("nonsense"), Work(attempt=3))
    assert on_disk(data) == []


def test_a_finished_build_removes_the_leftovers_of_dead_operations(
    fleet: Fleet, data: Path
) -> None:
    leave_behind(data, ".op-9-1.orders.partial")
    leave_behind(data, ".0123.orders.deleting")
    leave_behind(data, ".op-9-1.orders-2.partial")
    assert fleet.get(ORDERS).state == Instance.CREATING
    fleet.create(ORDERS, wanted(), Work())
    assert fleet.get(ORDERS).state == Instance.READY
    others = f"{ORDERS.parent}/instances/.op-9-1.orders-2.partial"
    assert [one for one in on_disk(data) if not one.startswith(str(ORDERS))] == [
        others,
        f"{others}/data.db",
    ]


def test_the_name_is_taken_by_another_operation_meanwhile(fleet: Fleet, data: Path) -> None:
    def take(detail: str) -> None:
        if detail.startswith("inserted"):
            taken.append(fleet.create(ORDERS, wanted(rows=1), Work("op-2")))

    taken: list[Instance] = []
    with pytest.raises(LroError) as caught:
        fleet.create(ORDERS, wanted(rows=5), Work(on_progress=take))
    assert caught.value.code is Code.ALREADY_EXISTS
    assert fleet.get(ORDERS) == taken[0]
    assert len(on_disk(data)) == 3


def test_an_instance_can_be_deleted_while_it_is_built(fleet: Fleet, data: Path) -> None:
    def delete(detail: str) -> None:
        if detail.startswith("inserted 10,000 "):
            assert fleet.get(ORDERS).state == Instance.CREATING
            fleet.delete(ORDERS)

    with pytest.raises(LroError) as caught:
        fleet.create(ORDERS, wanted(rows=25_000), Work(on_progress=delete))
    assert (caught.value.code, caught.value.reason) == (Code.ABORTED, "DELETED_MEANWHILE")
    assert on_disk(data) == []


def test_undo_removes_the_instance_of_its_own_work_only(fleet: Fleet, data: Path) -> None:
    fleet.undo(ORDERS, Work())  # nothing there yet
    fleet.create(ORDERS, wanted(), Work())
    fleet.undo(ORDERS, Work("op-2"))
    assert fleet.get(ORDERS).state == Instance.READY
    partial = ORDERS.under(data).with_name(".op-1-1.orders.partial")
    shutil.copytree(ORDERS.under(data), partial)
    leave_behind(data, ".op-2-1.orders.partial")
    fleet.undo(ORDERS, Work(attempt=2))
    others = f"{ORDERS.parent}/instances/.op-2-1.orders.partial"
    assert on_disk(data) == [others, f"{others}/data.db"]


# Snapshots


def test_a_snapshot_is_a_copy(fleet: Fleet, data: Path) -> None:
    fleet.create(ORDERS, wanted(rows=20_000), Work())
    work = Work()
    snapshot = fleet.snapshot(ORDERS, COPY, work)
    size = (COPY.under(data) / "data.db").stat().st_size
    assert (snapshot.name, snapshot.instance) == (str(COPY), str(ORDERS))
    assert snapshot.size_bytes == size == fleet.get(ORDERS).size_bytes
    assert dump(data, COPY) == dump(data, ORDERS)
    pages = size // 4096
    assert work.reports[0] == (100 * 64 / pages, f"copied 64 of {pages} pages")
    assert work.reports[-1] == (100, f"copied {pages} of {pages} pages")
    assert fleet.snapshot(ORDERS, COPY, Work(attempt=2)) == snapshot
    fleet.delete(ORDERS)
    assert fleet.snapshot(ORDERS, COPY, Work(attempt=3)) == snapshot
    with pytest.raises(LroError, match="already"):
        fleet.snapshot(ORDERS, COPY, Work("op-2"))
    assert len(on_disk(data)) == 3


def test_a_snapshot_of_an_empty_database(fleet: Fleet, data: Path) -> None:
    fleet.create(ORDERS, wanted(""), Work())
    fleet.snapshot(ORDERS, COPY, Work())
    assert rows_of(data, COPY, "PRAGMA integrity_check") == [("ok",)]


def test_a_snapshot_of_an_instance_in_use_is_of_one_moment(fleet: Fleet, data: Path) -> None:
    fleet.create(ORDERS, wanted(rows=20_000), Work())

    def write(detail: str) -> None:
        if detail.startswith("copied 64 ") and not written:
            written.append(detail)
            user.execute("UPDATE goods SET title = 'sold'")
            user.commit()

    written: list[str] = []
    with contextlib.closing(sqlite3.connect(ORDERS.under(data) / "data.db")) as user:
        fleet.snapshot(ORDERS, COPY, Work(on_progress=write))
    assert written
    assert rows_of(data, COPY, "PRAGMA integrity_check") == [("ok",)]
    assert rows_of(data, COPY, "SELECT DISTINCT title FROM goods") == [("sold",)]


def test_a_stopped_snapshot_leaves_nothing(fleet: Fleet, data: Path) -> None:
    fleet.create(ORDERS, wanted(rows=20_000), Work())
    before = on_disk(data)

    def stop(detail: str) -> None:
        work.stopped = detail.startswith("copied 64 ")

    work = Work(on_progress=stop)
    with pytest.raises(AttemptStopped):
        fleet.snapshot(ORDERS, COPY, work)
    assert len(work.reports) == 1
    assert on_disk(data) == before


def test_a_snapshot_of_a_deleted_instance(fleet: Fleet, data: Path) -> None:
    with pytest.raises(LroError) as caught:
        fleet.snapshot(ORDERS, COPY, Work())
    assert caught.value.code is Code.NOT_FOUND
    assert on_disk(data) == []


def test_a_copy_of_a_missing_database_does_not_make_it(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        database.copy(tmp_path / "gone.db", tmp_path / "copy.db", Work())
    assert not (tmp_path / "gone.db").exists()


def test_two_snapshots_of_one_name_leave_the_faster(fleet: Fleet, data: Path) -> None:
    fleet.create(ORDERS, wanted(rows=20_000), Work())

    def overtake(detail: str) -> None:
        if detail.startswith("copied 64 "):
            fleet.snapshot(ORDERS, COPY, Work("op-2"))

    with pytest.raises(LroError) as caught:
        fleet.snapshot(ORDERS, COPY, Work(on_progress=overtake))
    assert caught.value.code is Code.ALREADY_EXISTS
    assert dump(data, COPY) == dump(data, ORDERS)
    assert len(on_disk(data)) == 6


# Pages


def test_pages_are_in_order_and_name_the_next(fleet: Fleet) -> None:
    for one in ("c", "a", "d", "b"):
        name = names.new_name(PARENT, "instances", one, "instance_id")
        fleet.create(name, wanted(), Work())

    def page(after: str, size: int) -> tuple[list[str], str]:
        found, last = fleet.page(PARENT, after=after, size=size)
        return [one.name.rpartition("/")[2] for one in found], last

    assert page("", 3) == (["a", "b", "c"], "c")
    assert page("c", 3) == (["d"], "")
    assert page("", 4) == (["a", "b", "c", "d"], "")
    assert fleet.page("projects/p/locations/elsewhere", after="", size=4) == ([], "")
