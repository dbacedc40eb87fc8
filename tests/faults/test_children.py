"""Child processes of handlers: what a server has, they do not keep when it is gone (R6)."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from killable import PATIENCE_SECONDS, Site, create, seen, snapshot

from lro_grpc._stores.sqlite.file_lock import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PARENT = "projects/p/locations/x1"


class Children:
    """The child processes that handlers have noted."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def noted(self) -> list[int]:
        runs = (run.what for runs in self._site.runs().values() for run in runs)
        return [int(what.removeprefix("child ")) for what in runs if what.startswith("child ")]

    def end(self, number: int = signal.SIGKILL) -> None:
        for child in self.noted():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)


@pytest.fixture
def children(site: Site) -> Iterator[Children]:
    """None outlives the test."""
    children = Children(site)
    yield children
    children.end()


@pytest.mark.parametrize("request_of", [create, snapshot], ids=["async", "def"])
@pytest.mark.parametrize("kind", ["fork", "exec"])
@pytest.mark.parametrize("stack", ["aio", "sync"])
def test_a_server_takes_over_at_once_though_children_of_the_killed_one_live(
    site: Site,
    children: Children,
    stack: str,
    kind: str,
    request_of: Callable[[str, str], object],
) -> None:
    server = site.serve(server=stack, hold=[f"creating/a-{kind}"])
    name = server.start(request_of(PARENT, f"a-{kind}"))
    server.reach(f"creating/a-{kind}")
    names = [server.start(create(PARENT, f"n{number}-noop")) for number in range(5)]
    (child,) = children.noted()
    server.kill()

    server = site.serve(server=stack)

    os.kill(child, 0)  # it is alive
    operation = server.wait(name)
    assert operation.HasField("response")
    assert seen(operation).attempt == 2
    for other in names:
        assert server.wait(other).HasField("response")
    children.end()
    server.drain()
    assert site.integrity() == "ok"


@pytest.mark.parametrize("kind", ["fork", "exec"])
def test_the_end_of_a_child_takes_nothing_from_its_server(
    site: Site, children: Children, kind: str
) -> None:
    server = site.serve()
    server.wait(server.start(create(PARENT, f"a-{kind}")))
    children.end()
    with pytest.raises(BlockingIOError):
        FileLock(site.store).acquire()
    server.wait(server.start(create(PARENT, "b-noop")))
    server.drain()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("request_of", [create, snapshot], ids=["async", "def"])
@pytest.mark.parametrize("stack", ["aio", "sync"])
def test_a_signal_to_a_forked_child_ends_the_child_and_not_its_server(
    site: Site,
    children: Children,
    stack: str,
    request_of: Callable[[str, str], object],
    number: int,
) -> None:
    server = site.serve(server=stack)
    server.wait(server.start(request_of(PARENT, "a-fork")))
    (child,) = children.noted()

    os.kill(child, number)

    until_ended(child)
    server.wait(server.start(create(PARENT, "b-noop")))
    assert "draining" not in site.log()
    server.drain()
    assert "SIGTERM received" in site.log()
    assert "draining" in site.log()


@pytest.mark.parametrize("request_of", [create, snapshot], ids=["async", "def"])
@pytest.mark.parametrize("stack", ["aio", "sync"])
def test_a_signal_in_the_first_moment_of_a_forked_child_ends_the_child_and_not_its_server(
    site: Site, children: Children, stack: str, request_of: Callable[[str, str], object]
) -> None:
    """Python itself forgets the signals that come before the child has begun."""
    server = site.serve(server=stack)

    server.wait(server.start(request_of(PARENT, "a-shot")))

    (child,) = children.noted()
    until_ended(child)
    server.wait(server.start(create(PARENT, "b-noop")))
    assert "draining" not in site.log()
    server.drain()


def until_ended(process: int) -> None:
    """Returns when a process has ended, whether or not anyone has asked for its exit code."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            stat = Path(f"/proc/{process}/stat").read_text()
        except FileNotFoundError:
            return
        if stat.rpartition(")")[2].split()[0] == "Z":
            return
        assert time.monotonic() < end, "it goes on"
