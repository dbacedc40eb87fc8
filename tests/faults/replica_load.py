"""Callers that keep all replicas busy at once: each call goes to the next one."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING

from load import Caller
from settling import ask_for_everything, judged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checker import Verdict
    from load import Board
    from replicas import Replicas

CALLERS = 4
PATIENCE_SECONDS = 2.0
"""For how long a caller waits for an answer that a fault may have swallowed."""


@contextlib.contextmanager
def load_on(
    replicas: Replicas, board: Board, choose: random.Random, *, starts: int
) -> Iterator[None]:
    """Calls replicas until the context ends.

    Args:
        replicas: The replicas.
        board: What the callers share.
        choose: Chooses the calls.
        starts: How many operations each caller starts at most.
    """
    with contextlib.ExitStack() as callers:
        for _ in range(CALLERS):
            client = replicas.client(PATIENCE_SECONDS)
            own = random.Random(choose.getrandbits(32))
            callers.callback(Caller(board, client, own, slow=True, starts=starts).end)
        yield


def ended(replicas: Replicas, board: Board) -> Verdict:
    """Ends everything that was started, and the replicas; returns what has come of it."""
    ask_for_everything(board, replicas.client())
    replicas.drain()
    return judged(replicas.site, board, overlapping=True)
