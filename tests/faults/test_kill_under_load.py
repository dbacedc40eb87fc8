"""Faults at random moments under load, and a history of the answers that the callers got.

``LRO_FAULT_SEED`` repeats a choice of moments and calls (not their exact timing).
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest
from lives import FAULTS, one_that_is_drained, one_that_is_killed, one_with_faults
from load import Board
from settling import settled

if TYPE_CHECKING:
    from killable import Site

SEED = int(os.environ.get("LRO_FAULT_SEED", "0")) or random.SystemRandom().getrandbits(32)
KILLS = 50
LIVES_WITH_FAULTS = 3


@pytest.fixture
def board(capsys: pytest.CaptureFixture[str]) -> Board:
    print(f"LRO_FAULT_SEED={SEED}")
    return Board()


@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_or_doubled_by_kills(site: Site, board: Board) -> None:
    choose = random.Random(SEED)
    for number in range(KILLS):
        one_that_is_killed(site, board, choose)
        if number % 10 == 9:
            one_that_is_drained(site, board, choose)

    verdict = settled(site, board)

    assert verdict.problems == []
    assert len(board.history.killed) == KILLS < len(board.names)
    assert verdict.most_attempts > 1, "no kill has met an operation that was running"
    assert board.unanswered, "no kill has met a start"


@pytest.mark.parametrize("stack", ["aio", "sync"])
@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_or_doubled_by_a_network_that_fails_or_a_server_that_freezes(
    site: Site, board: Board, stack: str
) -> None:
    choose = random.Random(SEED)
    for _ in range(LIVES_WITH_FAULTS):
        one_with_faults(site, board, choose, stack, choose.sample(FAULTS, len(FAULTS)))

    verdict = settled(site, board)

    assert verdict.problems == []
    assert board.unanswered, "no fault has met a start"
