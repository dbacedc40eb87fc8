"""Lives of servers under load: what happens to one of them, and how it ends."""

from __future__ import annotations

import contextlib
import random
import threading
from typing import TYPE_CHECKING

from killable import PATIENCE_SECONDS, Client
from load import Caller
from partition import Cut, Network

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from killable import Site
    from load import Board

CALLERS = 3
LOAD_SECONDS = (0.03, 0.4)
OPENING_SECONDS = (0.0, 0.03)
"""Between the moment before a server opens its store and the moment it answers calls."""
OPENING_SHARE = 0.1
"""The share of the servers that are killed within that time."""
CALM_SECONDS = (0.05, 0.3)
FAULT_SECONDS = (0.1, 1.2)
SHORT_PATIENCE_SECONDS = 0.6
"""For how long a caller waits for an answer that a fault may have swallowed."""

FREEZE = "freeze"
FAULTS = (FREEZE, *(cut.value for cut in Cut))


def one_that_is_killed(site: Site, board: Board, choose: random.Random) -> None:
    """Kills it under load; or even while it opens its store."""
    server = site.begin(**_stacks(choose))
    board.history.killed.add(server.process)
    if choose.random() < OPENING_SHARE:
        _pass(choose, OPENING_SECONDS)
        server.kill()
    else:
        server.until_serving()
        with _callers(board, choose, [server] * CALLERS) as callers:
            _pass(choose, LOAD_SECONDS)
            assert not any(one.unanswered for one in callers), "it was gone before it was killed"
            server.kill()
    server.close()


def one_that_is_drained(site: Site, board: Board, choose: random.Random) -> None:
    """Asks it to go down while it is called."""
    server = site.serve(**_stacks(choose))
    with _callers(board, choose, [server] * CALLERS):
        _pass(choose, LOAD_SECONDS)
        server.drain(PATIENCE_SECONDS)
    server.close()


def one_with_faults(
    site: Site, board: Board, choose: random.Random, stack: str, faults: Iterable[str]
) -> None:
    """Cuts off some of its callers, or freezes it, again and again; then kills or drains it."""
    server = site.serve(**{**_stacks(choose), "server": stack})
    with contextlib.ExitStack() as life:
        networks = [Network(server.port) for _ in range(CALLERS - 1)]
        for network in networks:
            life.callback(network.close)
        ways = [
            Client(port, SHORT_PATIENCE_SECONDS)
            for port in (server.port, *(n.port for n in networks))
        ]
        for way in ways:
            life.callback(way.hang_up)
        life.enter_context(_callers(board, choose, ways, slow=True))
        mending = contextlib.ExitStack()
        for fault in faults:
            mending.close()
            _pass(choose, CALM_SECONDS)
            if fault == FREEZE:
                server.freeze()
                mending.callback(server.thaw)
            else:
                for network in choose.sample(networks, choose.randint(1, len(networks))):
                    network.cut(Cut(fault))
                    mending.callback(network.mend)
            _pass(choose, FAULT_SECONDS)
        if choose.random() < 0.5:
            board.history.killed.add(server.process)
            server.kill()  # in the middle of the last fault
        else:
            mending.close()
            server.drain(PATIENCE_SECONDS)
    server.close()


def _stacks(choose: random.Random) -> dict[str, str]:
    return {"server": choose.choice(["aio", "sync"]), "batch": choose.choice(["async", "def"])}


def _pass(choose: random.Random, seconds: tuple[float, float]) -> None:
    threading.Event().wait(choose.uniform(*seconds))


@contextlib.contextmanager
def _callers(
    board: Board, choose: random.Random, ways: Iterable[Client], *, slow: bool = False
) -> Iterator[list[Caller]]:
    """Calls in every one of these ways, until the context ends."""
    callers = [Caller(board, way, random.Random(choose.getrandbits(32)), slow=slow) for way in ways]
    try:
        yield callers
    finally:
        for caller in callers:
            caller.end()
