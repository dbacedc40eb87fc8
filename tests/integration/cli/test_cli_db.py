"""``lro db``, beside servers under load and on files that nobody serves."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from lro_process import Lro
from test_serve import PARENT, create, serving

from lro_grpc import OperationsClient
from lro_grpc._operation.events import Cancel, Delete
from lro_grpc.conformance import StoreConformance
from lro_grpc.stores import SqliteStore

LOADS = 4
"""Callers at a time."""


class Load:
    """Callers that start operations as fast as they are answered."""

    def __init__(self, target: str) -> None:
        self._target = target
        self.names: list[str] = []
        self.refusals: list[Any] = []
        self._ended = threading.Event()
        self._answered = threading.Condition()
        self._threads = [threading.Thread(target=self._run, args=[n]) for n in range(LOADS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        self.go_on(20)
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def go_on(self, number: int) -> None:
        """Returns when so many more operations were started."""
        goal = len(self.names) + number
        with self._answered:
            assert self._answered.wait_for(
                lambda: self.refusals or len(self.names) >= goal, timeout=60
            )

    def _run(self, caller: int) -> None:
        with grpc.insecure_channel(self._target) as channel:
            for number in range(100_000):
                if self._ended.is_set():
                    return
                try:
                    name = create(channel, f"c{caller}-n{number}").name
                except grpc.RpcError as error:
                    self.refusals.append(error)
                    return
                finally:
                    with self._answered:
                        self._answered.notify_all()
                self.names.append(name)


def lro(folder: Path) -> Any:
    """The command, in a folder."""
    run = Lro("127.0.0.1:1")
    return lambda *arguments: run(*arguments, cwd=folder)


def served_by(target: str) -> set[str]:
    with grpc.insecure_channel(target) as channel:
        return {one.name for one in OperationsClient(channel).list(PARENT)}


def test_a_backup_has_all_that_was_acknowledged_before_it_began(tmp_path: Path) -> None:
    with serving(cwd=tmp_path) as served, Load(served.target) as load:
        before = set(load.names)
        done = lro(tmp_path)("db", "backup", "operations.db", "sqlite:///copy.db")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("copy.db: ")
        load.go_on(20)  # the server has not minded
    assert not load.refusals
    assert lro(tmp_path)("db", "check", "copy.db").returncode == 0
    with serving("--store", "sqlite:///copy.db", cwd=tmp_path) as served:
        assert served_by(served.target) >= before


def test_a_server_goes_on_beside_a_check_and_a_vacuum(tmp_path: Path) -> None:
    with serving(cwd=tmp_path) as served, Load(served.target) as load:
        for command in ("check", "vacuum", "check", "vacuum"):
            done = lro(tmp_path)("db", command, "operations.db")
            assert (done.returncode, done.stderr) == (0, "")
            load.go_on(20)
        acknowledged = set(load.names)
        served.process.kill()
    with serving(cwd=tmp_path) as served:
        assert served_by(served.target) >= acknowledged


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A file of 300 operations, that nobody serves; 290 more were removed."""
    path = tmp_path / "operations.db"
    asyncio.run(_fill(path))
    return path


async def _fill(path: Path) -> None:
    store = SqliteStore(path, lambda: StoreConformance.START)
    await store.open()
    records = [StoreConformance().record(f"op-{n}", request=bytes(2000)) for n in range(590)]
    for record in records:
        await store.create(record)
    for event in (Cancel(), Delete()):
        await store.apply_all([(record.name, event) for record in records[300:]])
    await store.close()


@contextlib.contextmanager
def changing(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        yield connection


def test_a_vacuum_gives_the_space_of_removed_operations_back(store: Path) -> None:
    before = store.stat().st_size
    done = lro(store.parent)("db", "vacuum")
    after = store.stat().st_size
    assert done.stdout == f"operations.db: {before:,} bytes before, {after:,} bytes now\n"
    assert after < before * 2 / 3
    assert done.returncode == 0


def test_a_copy_is_its_owners_alone_and_replaces_nothing(store: Path) -> None:
    copy = store.parent / "copy.db"
    assert lro(store.parent)("db", "backup", "operations.db", "copy.db").returncode == 0
    assert copy.stat().st_mode & 0o777 == 0o600
    content = copy.read_bytes()
    again = lro(store.parent)("db", "backup", "operations.db", "copy.db")
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr == "lro: copy.db is there already; give a new name\n"
    assert copy.read_bytes() == content
    assert {file.name for file in store.parent.iterdir()} == {"operations.db", "copy.db"}


def test_a_backup_into_a_folder_that_is_not_there_leaves_nothing(store: Path) -> None:
    done = lro(store.parent)("db", "backup", "operations.db", "missing/copy.db")
    assert done.returncode == 1
    assert "missing" in done.stderr
    assert [file.name for file in store.parent.iterdir()] == ["operations.db"]


def test_a_file_in_good_order_is_said_to_be(store: Path) -> None:
    done = lro(store.parent)("db", "check", f"sqlite:///{store}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{store} is in good order\n"


def overwrite_page(path: Path) -> str:
    """Overwrites a page of an index."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'operations_ids'"
        ).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    return "table operations, or an index of it"


def cut_off(path: Path) -> str:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    return "malformed"


def overwrite_header(path: Path) -> str:
    with path.open("r+b") as file:
        file.write(b"\xff" * 100)
    return "not a database"


def set_column(column: str, value: str) -> Any:
    def change(path: Path) -> str:
        with changing(path) as connection:
            connection.execute(f"UPDATE operations SET {column} = {value} WHERE name LIKE '%/op-7'")
        return "operations/op-7'"

    return change


def add_attempt(operation: str, error: str, named: str) -> Any:
    def change(path: Path) -> str:
        with changing(path) as connection:
            connection.execute(
                f"INSERT INTO attempts SELECT {operation}, 3, 'w', 1, 1, 1, {error}"
                " FROM operations WHERE name LIKE '%/op-7'"
            )
        return named

    return change


def add_label(operation: str, named: str) -> Any:
    def change(path: Path) -> str:
        with changing(path) as connection:
            connection.execute(
                f"INSERT INTO labels SELECT 'env', 'prod', {operation}"
                " FROM operations WHERE name LIKE '%/op-7'"
            )
        return named

    return change


DAMAGES = {
    "page": overwrite_page,
    "cut off": cut_off,
    "header": overwrite_header,
    "operation": set_column("operation", "x'ff'"),
    "another operation": set_column("operation", "x''"),
    "state": set_column("state", "99"),
    "type": set_column("attempt", "'many'"),
    "text": set_column("status_detail", "CAST(x'ff' AS TEXT)"),
    "negative time": set_column("update_time", "-1"),
    "batch": set_column("batch", "x'0a'"),
    "handler's metadata": set_column("handler_metadata", "x'ffffff'"),
    "attempt": add_attempt(
        "sequence", "x'08'", "operations/op-7': the row of its attempt 3 is none"
    ),
    "labels": set_column("labels", "'env=prod'"),
    "key": set_column("concurrency_key", "'a' || char(10)"),
    "key without an order": set_column("concurrency_key", "'a'"),
    "label that no list has": set_column("labels", "',env=prod,'"),
    "label of another": add_label(
        "sequence", "label ('env', 'prod'): operation 8 does not have it"
    ),
    "label of none": add_label("'x'", "label ('env', 'prod'): operation 'x' does not have it"),
    "attempt of none": add_attempt("'x'", "x''", "attempt 3: its operation is 'x', which is none"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_check_names_what_is_damaged(store: Path, damage: Any) -> None:
    named = damage(store)
    done = lro(store.parent)("db", "check", "operations.db")
    assert done.returncode == 1
    assert named in done.stdout
    remedy = "restore a backup, or delete the operations named here"
    assert done.stderr == f"lro: operations.db is damaged; {remedy}\n"


@pytest.mark.parametrize("command", [["check"], ["vacuum"], ["backup"]], ids=str)
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "there is no file"),
        (lambda path: path.touch(), "is empty"),
        (lambda path: path.mkdir(), "there is no file"),
        (lambda path: foreign(path), "has not made"),
        (lambda path: hard_linked(path), "2 names"),
    ],
    ids=["missing", "empty", "folder", "foreign", "hard-linked"],
)
def test_what_is_no_store_is_refused_and_left_alone(
    tmp_path: Path, command: list[str], make: Any, said: str
) -> None:
    make(tmp_path / "x.db")
    before = sorted(file.name for file in tmp_path.iterdir())
    more = ["copy.db"] if command == ["backup"] else []
    done = lro(tmp_path)("db", *command, "x.db", *more)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == before


def foreign(path: Path) -> None:
    with changing(path) as connection:
        connection.execute("CREATE TABLE diary (day TEXT)")


def hard_linked(path: Path) -> None:
    asyncio.run(_fill(path))
    path.with_name("y.db").hardlink_to(path)


@pytest.mark.parametrize("name", ["memory:", "http://x/y.db", "sqlite:///"])
def test_what_is_no_file_is_wrong_usage(tmp_path: Path, name: str) -> None:
    done = lro(tmp_path)("db", "check", name)
    assert done.returncode == 2
    assert "is no file" in done.stderr
