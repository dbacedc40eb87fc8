"""A hand on the files of a running server: what was acknowledged before must not be lost (R1)."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc import status_pb2
from killable import PATIENCE_SECONDS, Server, Site, create, reason

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PARENT = "projects/p/locations/x1"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Without a look at the log for errors, for there has to be one."""
    site = Site(tmp_path)
    yield site
    site.close()


def start(server: Server, first: int, count: int) -> tuple[set[str], list[str]]:
    """Starts operations; returns the names of those acknowledged, and why others were not."""
    names, refusals = set(), []
    for number in range(first, first + count):
        try:
            names.add(server.start(create(PARENT, f"n{number}-noop")))
        except grpc.RpcError as error:
            refusals.append(_reason(error))
    return names, refusals


def _reason(error: Any) -> str:
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    return reason(status_pb2.Status.FromString(details))


def remove(file: Path) -> None:
    file.unlink()


def put_back(file: Path) -> None:
    """As a restore of a copy does."""
    shutil.copy(file, file.with_name("copy"))
    file.with_name("copy").replace(file)


def move_away(file: Path) -> None:
    file.rename(file.with_name("away"))


@pytest.mark.parametrize("stack", ["aio", "sync"])
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
@pytest.mark.parametrize("tamper", [remove, put_back, move_away])
def test_no_start_is_acknowledged_that_a_kill_could_lose(
    site: Site, stack: str, suffix: str, tamper: Callable[[Path], None]
) -> None:
    server = site.serve(server=stack)
    before, refusals = start(server, 0, 10)
    assert not refusals
    for name in before:
        server.wait(name)
    tamper(site.store.with_name(site.store.name + suffix))

    after, refusals = start(server, 10, 20)

    assert not after
    assert set(refusals) == {"STORE_UNAVAILABLE"}
    assert {one.name for one in server.walk(PARENT)} >= before
    assert len(site.errors()) == 1
    server.kill()
    if not (suffix == "" and tamper in (remove, put_back)):
        if suffix == "" and tamper is move_away:
            site.store.with_name("away").rename(site.store)
        server = site.serve(server=stack)
        for name in before:
            assert server.wait(name).HasField("response")
        server.drain()
        assert site.integrity() == "ok"


def test_a_server_that_has_lost_its_file_still_ends_in_good_order(site: Site) -> None:
    server = site.serve(hold=["creating/held-noop"])
    server.start(create(PARENT, "held-noop"))
    server.reach("creating/held-noop")
    site.store.unlink()
    assert start(server, 0, 1) == (set(), ["STORE_UNAVAILABLE"])
    server.release()
    server.drain(PATIENCE_SECONDS)
    assert start(site.serve(), 0, 1)[1] == []


@pytest.mark.parametrize("how", ["hard link", "lock file removed", "renamed"])
def test_no_second_server_runs_the_same_operations(site: Site, how: str) -> None:
    server = site.serve()
    before, _ = start(server, 0, 10)
    folder = site.folder / "other"
    folder.mkdir()
    other = Site(folder)
    if how == "hard link":
        os.link(site.store, other.store)
    elif how == "renamed":
        site.store.rename(other.store)
    else:
        for file in site.folder.glob("operations.db*lock*"):
            file.unlink()
        other.store.symlink_to(site.store)
    other.begin().until_gone()
    assert "is in use by another process" in other.log()
    other.close()
    if how == "hard link":
        other.store.unlink()
    if how == "renamed":
        other.store.rename(site.store)
    server.kill()
    server = site.serve()
    for name in before:
        assert server.wait(name).HasField("response")
    server.drain()
