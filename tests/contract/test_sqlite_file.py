"""Whose the file is, and that it still is the one that its store has open (R1)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import gc
import logging
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from lro_grpc._errors import ConfigurationError, UnavailableError
from lro_grpc._operation.events import Cancel, Claim, Delete
from lro_grpc.conformance import StoreConformance
from lro_grpc.stores import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

LEASE = 15_000_000
START = StoreConformance.START
TIMEOUT = 20


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


def new(operation_id: str = "op-1"):
    return StoreConformance().record(operation_id)


# One owner at a time.

OWNER = """
import asyncio, sys
from lro_grpc.conformance import StoreConformance
from lro_grpc.stores import SqliteStore

async def main():
    store = SqliteStore(sys.argv[1], lambda: 0)
    await store.open()
    print("open", flush=True)
    while number := await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
        await store.create(StoreConformance().record(f"op-{number.strip()}"))
        print("created", number.strip(), flush=True)
    await store.close()

try:
    asyncio.run(main())
except Exception as error:
    print(type(error).__name__, error.reason, error)
    raise SystemExit(3)
"""


class Owner:
    """A process that opens a file and keeps it until its stdin is closed."""

    def __init__(self, path: str | Path) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(path)], stdin=pipe, stdout=pipe, text=True
        )

    def line(self) -> str:
        return self.process.stdout.readline()

    def create(self, number: int) -> None:
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        assert self.line() == f"created {number}\n"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(TIMEOUT)

    def said(self) -> str:
        """What it has said by its end, which comes by itself or because its stdin is closed."""
        return self.process.communicate(timeout=TIMEOUT)[0]


@pytest.fixture
def own() -> Iterator[Callable[[str | Path], Owner]]:
    owners: list[Owner] = []

    def start(path: str | Path) -> Owner:
        owners.append(Owner(path))
        return owners[-1]

    yield start
    for owner in owners:
        owner.process.kill()
        owner.process.communicate()


def assert_in_use(owner: Owner, path: str | Path) -> None:
    said = owner.said()
    assert owner.process.returncode == 3
    assert said.startswith(
        f"ConfigurationError STORE_IN_USE {path} is in use by another process; a SQLite store"
        " serves one server: stop the other one, or give this one another file"
    )


def test_a_second_process_on_the_same_file_is_refused_by_name(path, own):
    assert own(path).line() == "open\n"
    assert_in_use(own(path), path)


def test_the_file_is_free_once_its_owner_was_killed(path, own):
    owner = own(path)
    assert owner.line() == "open\n"
    owner.kill()
    assert own(path).line() == "open\n"


def test_the_file_is_free_once_its_owner_has_closed_it(path, own):
    owner = own(path)
    assert owner.line() == "open\n"
    owner.said()
    assert owner.process.returncode == 0
    assert own(path).line() == "open\n"


async def test_a_second_store_in_the_same_process_is_refused_and_harms_nothing(path, own):
    async with opened(path) as store:
        for number in range(2):
            with pytest.raises(ConfigurationError, match="in use"):
                await make(path).open()
            await store.create(new(f"op-{number}"))
            # Above all the locks of SQLite, which a process loses when it closes any descriptor.
            assert_in_use(own(path), path)
            with contextlib.closing(sqlite3.connect(path)) as guest:
                guest.execute("SELECT * FROM operations").fetchall()
            assert path.with_name("operations.db-wal").stat().st_size


@pytest.mark.parametrize("link", ["symbolic link", "relative path", "hard link"])
async def test_a_file_under_another_name_is_the_same_file(path, link, monkeypatch):
    async with opened(path):
        other = path.with_name("link.db")
        if link == "symbolic link":
            other.symlink_to(path)
        elif link == "hard link":
            other.hardlink_to(path)
        else:
            monkeypatch.chdir(path.parent)
            other = path.relative_to(path.parent)
        with pytest.raises(ConfigurationError, match="in use"):
            await make(other).open()


def hard_link(path: Path) -> Path:
    folder = path.with_name("elsewhere")
    folder.mkdir()
    os.link(path, folder / "other.db")
    return folder / "other.db"


def renamed(path: Path) -> Path:
    return path.rename(path.with_name("renamed.db"))


def symbolic_link_to_a_symbolic_link(path: Path) -> Path:
    first, second = path.with_name("first.db"), path.with_name("second.db")
    first.symlink_to(path)
    second.symlink_to(first)
    return second


def folder_renamed(path: Path) -> Path:
    return path.parent.rename(path.parent.with_name("moved")) / path.name


def strangers_removed(path: Path) -> Path:
    """All that is beside the file, but for what is SQLite's own."""
    for other in path.parent.iterdir():
        if other.name not in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            other.unlink()
    return path


def log_removed(path: Path) -> Path:
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink()
    return path


WAYS = [
    hard_link,
    renamed,
    folder_renamed,
    symbolic_link_to_a_symbolic_link,
    strangers_removed,
    log_removed,
]


@pytest.mark.parametrize("way", WAYS)
def test_no_name_evades_the_owner_of_a_file(tmp_path, own, way):
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "operations.db"
    owner = own(path)
    assert owner.line() == "open\n"
    for number in range(3):
        owner.create(number)
    other = way(path)
    assert_in_use(own(other), other)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_a_descriptor_as_a_name_is_the_same_file(path, own):
    owner = own(path)
    assert owner.line() == "open\n"
    with path.open("rb") as file:
        other = f"/proc/{os.getpid()}/fd/{file.fileno()}"
        assert_in_use(own(other), other)


def test_a_file_with_two_names_is_refused_for_each_has_a_log_of_its_own(path, own):
    owner = own(path)
    assert owner.line() == "open\n"
    for number in range(3):
        owner.create(number)
    other = hard_link(path)
    owner.kill()
    for name in (path, other):
        with pytest.raises(ConfigurationError, match="2 names") as caught:
            asyncio.run(make(name).open())
        assert caught.value.reason == "STORE_LINKED"
        assert caught.value.metadata["path"] == str(name)
    other.unlink()
    assert asyncio.run(ids(path)) == {"op-0", "op-1", "op-2"}


async def ids(path: Path) -> set[str]:
    """The operations in a file, as the next server sees them."""
    async with opened(path) as store:
        rows = store._read_connection.execute("SELECT name FROM operations").fetchall()
    return {name.rpartition("/")[2] for (name,) in rows}


# A file that is lost.


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def another(path: Path) -> Path:
    """A database like it, of another store."""
    other = path.with_name("another.db")
    asyncio.run(created(other, "op-of-another"))
    return other


async def created(path: Path, *names: str) -> None:
    async with opened(path) as store:
        for name in names:
            await store.create(new(name))


def removed(suffix: str = "") -> Callable[[Path], object]:
    return lambda path: beside(path, suffix).unlink()


def moved(suffix: str = "") -> Callable[[Path], object]:
    return lambda path: beside(path, suffix).rename(path.with_name("moved"))


def replaced(suffix: str = "") -> Callable[[Path], object]:
    """Each by a file of the same content, so that nothing but the file is another one."""

    def replace(path: Path) -> None:
        shutil.copy(beside(path, suffix), path.with_name("copy"))
        path.with_name("copy").replace(beside(path, suffix))

    return replace


def replaced_by_another(path: Path) -> None:
    another(path).replace(path)


def truncated(size: int = 0, suffix: str = "") -> Callable[[Path], object]:
    return lambda path: os.truncate(beside(path, suffix), size)


LOSSES = {
    "removed": removed(),
    "moved": moved(),
    "replaced": replaced(),
    "replaced by another": replaced_by_another,
    "log removed": removed("-wal"),
    "log moved": moved("-wal"),
    "log replaced": replaced("-wal"),
    "index removed": removed("-shm"),
    "index replaced": replaced("-shm"),
    "folder removed": lambda path: shutil.rmtree(path.parent),
    "folder moved": lambda path: path.parent.rename(path.parent.with_name("moved")),
}
LOSSES_OF_CONTENT = {
    "truncated to nothing": truncated(),
    "truncated within its header": truncated(50),
    "log truncated": truncated(0, "-wal"),
}


@pytest.fixture
def own_folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder" / "operations.db"


@pytest.mark.parametrize(
    "loss", [*LOSSES.values(), *LOSSES_OF_CONTENT.values()], ids=[*LOSSES, *LOSSES_OF_CONTENT]
)
async def test_nothing_is_acknowledged_once_a_file_is_lost(own_folder, loss, caplog):
    async with opened(own_folder) as store:
        made = await store.create(new("op-1"))
        assert not store.is_lost
        await asyncio.to_thread(loss, own_folder)
        for number in range(2, 5):
            with pytest.raises(UnavailableError, match="started again") as caught:
                await store.create(new(f"op-{number}"))
            assert caught.value.reason == "STORE_UNAVAILABLE"
            assert str(own_folder) not in caught.value.message
            assert store.is_lost
        with pytest.raises(UnavailableError):
            await store.apply(made.name, Claim(LEASE))
        if loss in LOSSES.values():
            assert await store.read(made.name) == made
    (line,) = (one for one in caplog.records if one.levelno >= logging.ERROR)
    assert str(own_folder) in line.getMessage()


async def test_concurrent_calls_are_all_refused_with_one_line_in_the_log(own_folder, caplog):
    async with opened(own_folder) as store:
        own_folder.unlink()
        calls = [store.create(new(f"op-{number}")) for number in range(2000)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(one) for one in answers} == {UnavailableError}
    assert len([one for one in caplog.records if one.levelno >= logging.ERROR]) == 1


async def test_a_file_that_comes_back_is_not_trusted_before_the_next_start(own_folder):
    away = own_folder.with_name("away.db")
    async with opened(own_folder) as store:
        own_folder.rename(away)
        with pytest.raises(UnavailableError):
            await store.create(new("op-1"))
        away.rename(own_folder)
        with pytest.raises(UnavailableError):
            await store.create(new("op-2"))
    await store.open()
    assert not store.is_lost
    await store.close()
    async with opened(own_folder) as store:
        await store.create(new("op-3"))


@pytest.mark.parametrize("loss", ["moved", "log removed", "log moved", "index removed"])
async def test_what_was_acknowledged_before_is_in_the_file_wherever_it_is(own_folder, own, loss):
    """Though the owner is killed, and its log is nowhere to be found."""
    owner = own(own_folder)
    assert owner.line() == "open\n"
    for number in range(3):
        owner.create(number)
    LOSSES[loss](own_folder)
    owner.process.stdin.write("3\n")
    owner.process.stdin.flush()
    assert owner.line().startswith("UnavailableError STORE_UNAVAILABLE")
    owner.kill()
    file = own_folder.with_name("moved") if loss == "moved" else own_folder
    assert {"op-0", "op-1", "op-2"} <= await ids(file)


async def test_the_database_that_was_put_in_its_place_is_not_touched(own_folder):
    """Neither by the log that the lost one has left there, nor by its end."""
    async with opened(own_folder) as store:
        await store.create(new("op-lost"))
        await asyncio.to_thread(replaced_by_another, own_folder)
        with pytest.raises(UnavailableError):
            await store.create(new("op-2"))
        # Not before the lost one has ended, for its log is still there.
        with pytest.raises(ConfigurationError, match="in use"):
            await make(own_folder).open()
    async with opened(own_folder) as store:
        await store.create(new("op-3"))
    assert await ids(own_folder) == {"op-of-another", "op-3"}


async def test_a_store_that_has_not_noticed_its_loss_harms_nothing_when_it_is_closed(own_folder):
    async with opened(own_folder) as store:
        await store.create(new("op-lost"))
        await asyncio.to_thread(replaced_by_another, own_folder)
    assert await ids(own_folder) == {"op-of-another"}


async def test_a_log_that_was_put_beside_an_idle_store_is_not_removed(own_folder):
    async with opened(own_folder) as store:
        await store.create(new("op-lost"))
        for suffix in ("", "-wal", "-shm"):
            beside(own_folder, suffix).unlink()
        beside(own_folder, "-wal").write_bytes(b"another's")
    assert beside(own_folder, "-wal").read_bytes() == b"another's"


async def test_a_database_in_the_place_of_one_that_is_open_is_in_use(own_folder, own):
    """Its owner may not have noticed yet; the log that is there is not of this database."""
    owner = own(own_folder)
    assert owner.line() == "open\n"
    owner.create(0)
    await asyncio.to_thread(replaced_by_another, own_folder)
    assert_in_use(own(own_folder), own_folder)


async def test_a_lost_log_is_not_missed_by_the_end_of_a_commit(own_folder):
    """The check comes after the commit: a loss before the commit is found by that very commit."""
    async with opened(own_folder) as store:
        commits = []

        def lose(statement: str) -> None:
            if statement == "COMMIT":
                commits.append(statement)
                beside(own_folder, "-wal").unlink()

        store._write_connection.set_trace_callback(lose)
        with pytest.raises(UnavailableError):
            await store.create(new())
        assert commits == ["COMMIT"]


async def test_a_log_that_cannot_be_read_is_lost(path, monkeypatch, caplog):
    """As on a disk that fails. Whoever waits is answered, and so are all later ones."""

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    async with opened(path) as store:
        monkeypatch.setattr(os, "pread", fail)
        for name in ("op-1", "op-2"):
            with pytest.raises(UnavailableError, match="has lost its file"):
                await store.create(new(name))
    assert "-wal cannot be read: Input/output error" in caplog.text


async def test_a_vacuum_by_another_program_is_no_loss(path, monkeypatch):
    async with opened(path) as store:
        made = await asyncio.gather(*(store.create(new(f"op-{n}")) for n in range(3000)))
        await store.apply_all([(one.name, Cancel()) for one in made])
        await store.apply_all([(one.name, Delete()) for one in made])
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            before = path.stat().st_size
            other.execute("VACUUM")
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert path.stat().st_size < before / 2
        await store.create(new("op-new"))
        await store.create(new("op-newer"))


async def test_a_vacuum_beside_a_damaged_row_is_no_loss(path):
    """SQLite's own check finds the row, and no page is missing for that."""
    async with opened(path) as store:
        made = await asyncio.gather(*(store.create(new(f"op-{n}")) for n in range(3000)))
        await store.apply_all([(one.name, Cancel()) for one in made[:-1]])
        await store.apply_all([(one.name, Delete()) for one in made[:-1]])
    with contextlib.closing(sqlite3.connect(path)) as other, other:
        other.execute("PRAGMA writable_schema = ON")
        declared = other.execute("SELECT sql FROM sqlite_schema WHERE name = 'operations'")
        (strict,) = declared.fetchone()
        change = "UPDATE sqlite_schema SET sql = ? WHERE name = 'operations'"
        other.execute(change, (strict.replace("verb TEXT NOT NULL", "verb TEXT"),))
    with contextlib.closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE operations SET verb = NULL")
        other.execute("PRAGMA writable_schema = ON")
        other.execute(change, (strict,))
    async with opened(path) as store:
        await store.create(new("op-new"))
        with contextlib.closing(sqlite3.connect(path)) as other:
            assert other.execute("PRAGMA quick_check").fetchall() != [("ok",)]
            before = path.stat().st_size
            other.execute("VACUUM")
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert path.stat().st_size < before / 2
        await store.create(new("op-newer"))


async def test_a_file_that_was_cut_off_in_the_middle_is_lost(path):
    async with opened(path) as store:
        await asyncio.gather(*(store.create(new(f"op-{n}")) for n in range(3000)))
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        await store.create(new("op-last"))
        os.truncate(path, path.stat().st_size // 2)
        with pytest.raises(UnavailableError, match="started again"):
            await store.create(new("op-new"))


# Child processes.


async def test_a_forked_child_has_neither_the_lock_nor_the_connections(path, own):
    store = make(path)
    await store.open()
    await store.create(new("op-1"))
    to_child, from_parent = os.pipe()
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            os.close(from_parent)
            store.__dict__.clear()
            gc.collect()
            os.read(to_child, 1)
        os._exit(0)
    os.close(to_child)
    try:
        assert_in_use(own(path), path)  # the parent still has it
        await store.create(new("op-2"))
        await store.close()
        assert own(path).line() == "open\n"  # though the child lives
    finally:
        os.close(from_parent)
        await asyncio.to_thread(os.waitpid, child, 0)


# Modes.


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    former = os.umask(request.param)
    yield
    os.umask(former)


def modes(folder: Path) -> dict[str, str]:
    return {file.name: f"{file.stat().st_mode & 0o777:o}" for file in folder.iterdir()}


@pytest.mark.usefixtures("umask")
async def test_all_files_are_their_owners_alone_whatever_the_umask(own_folder):
    async with opened(own_folder) as store:
        await store.create(new())
        assert modes(own_folder.parent) == {
            "operations.db": "600",
            "operations.db-wal": "600",
            "operations.db-shm": "600",
        }
    assert modes(own_folder.parent) == {"operations.db": "600"}


async def test_a_mode_that_lets_a_group_in_is_kept_by_all_files(own_folder, caplog):
    async with opened(own_folder):
        pass
    own_folder.chmod(0o640)
    async with opened(own_folder) as store:
        await store.create(new())
        assert set(modes(own_folder.parent).values()) == {"640"}
    assert not caplog.records


async def test_a_file_that_is_open_to_everyone_is_kept_with_a_warning(own_folder, caplog):
    async with opened(own_folder):
        pass
    own_folder.chmod(0o644)
    async with opened(own_folder):
        assert modes(own_folder.parent)["operations.db"] == "644"
    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    assert f"{own_folder} has mode 0644" in line.getMessage()


async def test_a_log_that_a_kill_has_left_gets_the_mode_that_its_database_has_now(own_folder, own):
    owner = own(own_folder)
    assert owner.line() == "open\n"
    owner.create(0)
    owner.kill()
    for file in own_folder.parent.iterdir():
        file.chmod(0o644)
    own_folder.chmod(0o600)
    async with opened(own_folder):
        assert set(modes(own_folder.parent).values()) == {"600"}


# A system without locks of open files.


async def test_a_process_that_may_open_no_more_files_says_so_whichever_was_the_last(path):
    """It leaves nothing locked: the next try may have more luck."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    refused = set()
    try:
        for limit in range(1000):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            store = SqliteStore(path, lambda: 0)
            try:
                await store.open()
            except ConfigurationError as error:
                refused.add(type(error.__cause__))
            else:
                await store.close()
                break
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert refused == {OSError, sqlite3.OperationalError}


async def test_a_sandbox_without_such_locks_has_those_of_flock(path, monkeypatch):
    def refuse(descriptor: int, *request: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    async with opened(path) as store:
        await store.create(new())
        with path.open("rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    async with opened(path):
        pass
