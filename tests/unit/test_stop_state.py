"""Which reason to stop holds: the whole table, and every way to come to a row of it."""

from __future__ import annotations

import pytest

from lro_grpc._engine.stop_state import StopState
from lro_grpc._errors import StopReason

CANCEL, PAUSE, TIMEOUT = StopReason.CANCEL, StopReason.PAUSE, StopReason.TIMEOUT
SHUTDOWN, LEASE_LOST = StopReason.SHUTDOWN, StopReason.LEASE_LOST
STUCK = "stuck"

#              CANCEL PAUSE TIMEOUT STUCK SHUTDOWN LEASE_LOST
TABLE = {
    "runs":       "yes   yes   yes     yes   yes      yes",
    "undoes":     "no    no    no      yes   yes      yes",
    CANCEL:       "no    no    no      yes   yes      yes",
    PAUSE:        "no    no    no      yes   yes      yes",
    TIMEOUT:      "no    no    no      no    yes      yes",
    STUCK:        "no    no    no      no    yes      yes",
    SHUTDOWN:     "no    no    no      no    no       yes",
    LEASE_LOST:   "no    no    no      no    no       no",
}  # fmt: skip
REASONS = (CANCEL, PAUSE, TIMEOUT, STUCK, SHUTDOWN, LEASE_LOST)


def give(state: StopState, reason: object) -> bool:
    if reason == STUCK:
        state.is_stuck = True
        return state.give(TIMEOUT)
    assert isinstance(reason, StopReason)
    return state.give(reason)


def in_state(row: object) -> StopState:
    state = StopState()
    if row == "undoes":
        state.begin_undo()
    elif row != "runs":
        assert give(state, row)
    return state


@pytest.mark.parametrize(
    ("row", "reason", "accepted"),
    [
        (row, *cell)
        for row, cells in TABLE.items()
        for cell in zip(REASONS, cells.split(), strict=True)
    ],
)
def test_reason_times_state(row: object, reason: object, accepted: str) -> None:
    assert give(in_state(row), reason) == (accepted == "yes")


@pytest.mark.parametrize("row", [CANCEL, TIMEOUT])
def test_what_has_led_to_the_undoing_does_not_stop_it(row: StopReason) -> None:
    state = in_state(row)
    state.begin_undo()
    assert state.reason is None
