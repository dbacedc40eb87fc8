"""The invariants find what is wrong: each of these changes is one that must not be."""

from __future__ import annotations

from typing import Any

import pytest
from google.longrunning import operations_pb2

from lro_grpc import _anys
from lro_grpc._errors import Code, LroError, to_status
from lro_grpc._operation import metadata, publication, states
from lro_grpc._operation.events import (
    Cancel,
    Claim,
    Delete,
    Fail,
    LeaseLost,
    Pause,
    Release,
    Report,
    Succeed,
)
from lro_grpc._operation.record import Record
from lro_grpc._testing.invariants import Invariants, violations

NOW = 1_800_000_000_000_000
LEASE = 15_000_000
RESPONSE = _anys.packed_bytes(metadata.DEFAULT_TYPE())
ERROR = to_status(LroError("it broke", code=Code.DATA_LOSS)).SerializeToString()


def made(operation_id: str = "op-1", **values: Any) -> Record:
    return publication.create(
        parent="projects/p",
        operation_id=operation_id,
        method="/test.v1.Tests/Run",
        request=b"",
        metadata_type=metadata.DEFAULT_TYPE.DESCRIPTOR.full_name,
        now=NOW,
        pausable=True,
        **values,
    )


QUEUED = made()
RUNNING = Claim(LEASE).apply(QUEUED, NOW + 1)
PAUSING = Pause().apply(RUNNING, NOW + 2)
PAUSED = Release(Report(1)).apply(PAUSING, NOW + 3)
CANCELLING = Cancel().apply(RUNNING, NOW + 2)
LOST = LeaseLost(1, proven=True).apply(RUNNING, NOW + 2)
DONE = Succeed(Report(1), RESPONSE).apply(RUNNING, NOW + 2)
FAILED = Fail(Report(1), ERROR).apply(RUNNING, NOW + 2)
CANCELLED = Cancel().apply(QUEUED, NOW + 1)
SOUND = [QUEUED, RUNNING, PAUSING, PAUSED, CANCELLING, LOST, DONE, FAILED, CANCELLED]


def served(one: Record, **values: Any) -> Record:
    """Returns a record that is served with other values than it has."""
    operation = operations_pb2.Operation.FromString(one.operation)
    for name, value in values.items():
        setattr(operation, name, value)
    return one._replace(operation=operation.SerializeToString())


def shown(one: Record, **values: Any) -> Record:
    """Returns a record that is served with other metadata than it has."""
    operation = operations_pb2.Operation.FromString(one.operation)
    message = metadata.DEFAULT_TYPE.FromString(operation.metadata.value)
    for name, value in values.items():
        setattr(message, name, value)
    operation.metadata.value = message.SerializeToString()
    return one._replace(operation=operation.SerializeToString())


@pytest.mark.parametrize("after", SOUND, ids=lambda one: str(one.state))
def test_sound_records_are_sound(after: Record) -> None:
    assert violations(None, after) == []
    assert violations(after, after) == []


WRONG = {
    "running without a lease": RUNNING._replace(lease_expire_time=0),
    "queued with a lease": QUEUED._replace(lease_expire_time=1, attempt=1),
    "paused with a lease": PAUSED._replace(lease_expire_time=1),
    "done with a lease": DONE._replace(lease_expire_time=1),
    "done without an end": DONE._replace(end_time=0),
    "an end without being done": RUNNING._replace(end_time=NOW + 1),
    "kept for ever": DONE._replace(expire_time=0),
    "held and waiting to be ready": RUNNING._replace(scheduled_time=NOW),
    "to pause and not held": QUEUED._replace(pause_requested=True),
    "cancelling without a cancel": CANCELLING._replace(cancel_requested=False),
    "cancelled and still running": RUNNING._replace(cancel_requested=True),
    "done with its target": DONE._replace(exclusive_target="t"),
    "never claimed and begun": QUEUED._replace(start_time=NOW),
    "too far": RUNNING._replace(progress_percent=101),
    "more failures than attempts": RUNNING._replace(failed_attempts=2),
    "no attempts left": LOST._replace(max_attempts=1),
    "ended before it began": DONE._replace(start_time=NOW + 9),
    "served under another name": served(QUEUED, name="operations/op-2"),
    "served as done": served(QUEUED, done=True),
    "served as not done": served(DONE, done=False),
    "served in another state": shown(RUNNING, state=states.QUEUED),
    "served with another progress": shown(RUNNING, progress_percent=50),
    "served with another error": FAILED._replace(error_code=Code.ABORTED),
    "failed with the code of a cancel": shown(
        CANCELLED._replace(state=states.FAILED), state=states.FAILED
    ),
    "served with another response": DONE._replace(response_type="x.Y"),
}


@pytest.mark.parametrize("after", WRONG.values(), ids=WRONG)
def test_a_record_that_must_not_be_is_found(after: Record) -> None:
    assert violations(None, after) != []


AGAIN = Claim(LEASE).apply(LOST, NOW + 3)
CHANGES = {
    "another request": (QUEUED, RUNNING._replace(request=b"x")),
    "a new start": (RUNNING, RUNNING._replace(start_time=NOW + 2, update_time=NOW + 2)),
    "time goes back": (RUNNING, RUNNING._replace(update_time=NOW)),
    "an attempt goes back": (AGAIN, AGAIN._replace(attempt=1)),
    "progress goes back": (RUNNING._replace(progress_percent=9), RUNNING),
    "a cancel is taken back": (CANCELLING, RUNNING),
    "a delete is taken back": (RUNNING._replace(deleted=True), RUNNING),
    "a request_id goes": (made(request_id="r"), QUEUED),
    "a checkpoint goes": (RUNNING._replace(checkpoint=b"c"), RUNNING),
    "done, and changed": (DONE, DONE._replace(status_detail="x")),
    "done, and done again": (DONE, FAILED),
    "no such step": (DONE, AGAIN),
    "an attempt is left out": (LOST, AGAIN._replace(attempt=3)),
    "an attempt beside another": (RUNNING, AGAIN._replace(failed_attempts=0)),
    "let go, and held again": (LOST, RUNNING._replace(failed_attempts=1)),
    "an attempt before its time": (LOST._replace(scheduled_time=NOW + 9), AGAIN),
    "two failures at once": (RUNNING, LOST._replace(failed_attempts=2)),
    "an attempt after a cancel": (
        CANCELLING._replace(lease_expire_time=0),
        CANCELLING._replace(attempt=2),
    ),
}


@pytest.mark.parametrize(("before", "after"), CHANGES.values(), ids=CHANGES)
def test_a_change_that_must_not_be_is_found(before: Record, after: Record) -> None:
    assert violations(before, after) != []


def test_changes_that_were_not_announced_may_lie_between() -> None:
    assert violations(QUEUED, AGAIN) != []
    assert violations(QUEUED, AGAIN, missed=True) == []


def test_a_change_that_was_not_announced_is_found() -> None:
    invariants = Invariants()
    first = made()
    claimed = Claim(LEASE).apply(first, NOW)
    invariants.check(None, first)
    invariants.check(claimed, Report(1, 50).apply(claimed, NOW))
    with pytest.raises(AssertionError, match="does not begin where"):
        invariants.verify()


def test_what_was_not_announced_may_be_caught_up_with() -> None:
    invariants = Invariants()
    invariants.check(None, QUEUED)
    invariants.catch_up(AGAIN)
    invariants.check(AGAIN, Report(AGAIN.attempt, 50).apply(AGAIN, NOW))
    invariants.verify()


@pytest.mark.parametrize("values", [{"request_id": "r"}, {"target": "t", "exclusive": True}])
def test_what_one_operation_may_have_is_not_anothers(values: dict[str, Any]) -> None:
    invariants = Invariants()
    invariants.check(None, made("op-1", **values))
    invariants.verify()
    invariants.check(None, made("op-2", **values))
    with pytest.raises(AssertionError, match="op-1"):
        invariants.verify()


def test_what_is_done_or_deleted_leaves_room() -> None:
    invariants = Invariants()
    first = made("op-1", request_id="r", target="t", exclusive=True)
    cancelled = Cancel().apply(first, NOW)
    invariants.check(None, first)
    invariants.check(first, cancelled)
    invariants.check(cancelled, Delete().apply(cancelled, NOW))
    assert invariants.records == {}
    invariants.check(None, made("op-2", request_id="r", target="t", exclusive=True))
    invariants.forget(made("op-2").name)
    invariants.check(None, made("op-3", request_id="r", target="t", exclusive=True))
    invariants.verify()
