"""Two releases on one store: side by side, one after the other, and back (R12)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import release_packages
from killable import AT_ONCE_SECONDS, Site, create, delete, expected, outcome, seen

from lro.v1 import state_pb2
from lro_grpc._runtime.clock import SystemClock
from lro_grpc.stores import open_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from killable import Server
    from release_packages import Release

PARENT = "projects/p/locations/x1"
HELD = "creating/held-5steps"
"""Where an operation stands still that has kept a checkpoint."""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def release_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Release]:
    makers = {
        "former": release_packages.former,
        "this": release_packages.this,
        "next": release_packages.following,
    }

    @functools.cache
    def make(name: str) -> Release:
        release = makers[name](tmp_path_factory.mktemp(name))
        release.check()
        return release

    return make


class Pair:
    """Servers of two releases in one folder."""

    def __init__(self, older: Release, newer: Release, folder: Path) -> None:
        self.older, self.newer = older.site(folder), newer.site(folder)
        self.older_knows_attempts = (older.folder / "lro_grpc/_operation/attempts.py").exists()
        self.apart = folder / "apart"
        self.apart.mkdir()
        self.older_apart = older.site(self.apart)
        """Those of the older one in a folder of their own."""

    def close(self) -> None:
        for site in (self.older, self.newer, self.older_apart):
            site.close()


@pytest.fixture(params=["former to this", "this to next"])
def pair(
    request: pytest.FixtureRequest, release_of: Callable[[str], Release], tmp_path: Path
) -> Iterator[Pair]:
    older, newer = map(release_of, request.param.split(" to "))
    with contextlib.closing(Pair(older, newer, tmp_path)) as pair:
        yield pair
    pair.older.check_log()  # it is that of the newer one, too


def finish(server: Server, name: str, own_id: str) -> None:
    """Has a server go on with what a former one has left; it goes on from its checkpoint."""
    done = server.wait_for(name, AT_ONCE_SECONDS)
    assert outcome(done) == expected(create(PARENT, own_id))
    assert seen(done).attempt == 2


def cross(one: Server, other: Server, number: int) -> None:
    """Has each read, cancel and delete what is the other's."""
    done = one.start(delete(PARENT, f"done{number}-noop"))
    one.wait(done)
    stopped = one.start(create(PARENT, f"stopped{number}-stop"))
    one.get_when(stopped, lambda now: seen(now).state == state_pb2.JOB_STATE_RUNNING)
    assert other.get_bytes(done) == one.get_bytes(done)
    assert [now.name for now in other.walk(PARENT)] == [now.name for now in one.walk(PARENT)]
    other.cancel(stopped)
    assert seen(one.wait_for(stopped, AT_ONCE_SECONDS)).state == state_pb2.JOB_STATE_CANCELLED
    assert other.get_bytes(stopped) == one.get_bytes(stopped)
    other.delete(done)
    assert done not in [now.name for now in one.walk(PARENT)]


def test_servers_of_two_releases_share_a_database_while_one_takes_the_others_place(
    pair: Pair, postgres: str
) -> None:
    """And the other way: the older one works with the tables as the newer one has made them."""
    older = pair.older.serve(store=postgres, pause=[HELD])
    held = older.start(create(PARENT, "held-5steps"))
    older.reach(HELD)
    newer = pair.newer.serve(store=postgres, pause=[HELD.replace("held", "back")])
    cross(older, newer, 1)
    cross(newer, older, 2)
    older.drain()
    finish(newer, held, "held-5steps")

    back = newer.start(create(PARENT, "back-5steps"))
    newer.reach(HELD.replace("held", "back"))
    older = pair.older.serve(store=postgres)
    cross(older, newer, 3)
    cross(newer, older, 4)
    newer.drain()
    finish(older, back, "back-5steps")
    newer = pair.newer.serve(store=postgres)
    assert newer.get_bytes(back) == older.get_bytes(back)
    workers = asyncio.run(workers_of(postgres, held, back))
    knows = pair.older_knows_attempts
    assert [[bool(worker) for worker in some] for some in workers] == [[knows, True], [True, knows]]


async def workers_of(url: str, *names: str) -> list[list[str]]:
    """Returns the workers of the attempts of operations, as this release knows them."""
    store = open_url(url, SystemClock().now)
    await store.open()
    histories = [await store.read_attempts(name) for name in names]
    await store.close()
    return [[one.worker for one in attempts] for _, attempts in histories]


def version_of(site: Site) -> int:
    with sqlite3.connect(site.store) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_a_file_is_handed_from_a_release_to_the_next_one_and_back(pair: Pair) -> None:
    """Back only if the next one has not changed its tables: it says so otherwise."""
    server = pair.older.serve(pause=[HELD])
    done = server.start(delete(PARENT, "done-noop"))
    before = server.wait(done)
    held = server.start(create(PARENT, "held-5steps"))
    server.reach(HELD)
    server.drain()
    version = version_of(pair.older)

    server = pair.newer.serve(pause=[HELD.replace("held", "back")])
    assert server.get(done) == before
    finish(server, held, "held-5steps")
    back = server.start(create(PARENT, "back-5steps"))
    server.reach(HELD.replace("held", "back"))
    server.drain()

    if version_of(pair.newer) == version:
        server = pair.older.serve()
        finish(server, back, "back-5steps")
    else:
        for file in pair.newer.folder.glob("operations.db*"):  # with its log
            shutil.copy(file, pair.apart)
        refused = pair.older_apart.begin()
        refused.said("open it with the release that wrote it, or a newer one")
