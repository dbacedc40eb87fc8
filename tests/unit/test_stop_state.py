"""Why an attempt has to stop, by the whole table; and whether its operation is to end."""

from __future__ import annotations

import pytest

from lro_grpc._engine.stop_state import Ending, StopState
from lro_grpc._errors import StopReason
from lro_grpc._operation import publication, states
from lro_grpc._operation.record import Record

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


# Ending: (cancel requested, deadline over) -> the reason to end the operation.
ENDS = {
    (False, False): None,
    (True, False): CANCEL,
    (False, True): TIMEOUT,
    (True, True): CANCEL,
}


@pytest.mark.parametrize(("asked", "reason"), ENDS.items())
def test_why_an_operation_is_to_end(asked: tuple[bool, bool], reason: StopReason | None) -> None:
    cancel_requested, is_timed_out = asked
    ending = Ending(cancel_requested=cancel_requested, is_timed_out=is_timed_out)
    assert ending.reason is reason


def running(**fields: object) -> Record:
    made = publication.create(
        parent="p",
        operation_id="o",
        method="/test.v1.Tests/Run",
        request=b"",
        metadata_type="lro.v1.OperationMetadata",
        now=1_000_000,
        timeout=1_000_000,
    )
    return made._replace(state=states.RUNNING, attempt=1, **fields)


def test_a_cancel_is_new_once() -> None:
    ending = Ending()
    cancelled = running(cancel_requested=True)
    assert [ending.see(running()), ending.see(cancelled), ending.see(cancelled)] == [
        *(False, True, False)
    ]
    ending.see(running())
    assert ending.cancel_requested


def test_a_cancel_of_a_done_operation_is_none() -> None:
    ending = Ending()
    done = running(cancel_requested=True)._replace(state=states.SUCCEEDED)
    assert not ending.see(done)
    assert ending.reason is None


def test_a_pause_can_be_taken_back() -> None:
    ending = Ending()
    ending.see(running(pause_requested=True))
    assert ending.pause_requested
    ending.see(running())
    assert not ending.pause_requested


@pytest.mark.parametrize(
    ("fields", "to_undo"),
    [({}, False), ({"cancel_requested": True}, True), ({"pause_requested": True}, False)],
    ids=["nothing", "cancelled", "paused"],
)
def test_an_attempt_at_a_cancelled_operation_is_there_to_undo(
    fields: dict[str, bool], to_undo: bool
) -> None:
    ending = Ending.at_claim(running(**fields), 1_500_000)
    assert ending.claimed_to_undo == to_undo
    assert ending.cancel_requested == fields.get("cancel_requested", False)
    assert ending.pause_requested == fields.get("pause_requested", False)
