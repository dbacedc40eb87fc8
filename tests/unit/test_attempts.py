"""The history of attempts: what events tell of each, and what is kept."""

from __future__ import annotations

from typing import Any

import pytest
from google.rpc import error_details_pb2, status_pb2

from lro.v1.operation_description_pb2 import OperationAttempt
from lro_grpc._errors import Code, LroError, to_status
from lro_grpc._operation import attempts, publication
from lro_grpc._operation.attempts import MOST_ERROR_BYTES, AttemptRecord, attempts_of, superseded
from lro_grpc._operation.events import (
    Cancel,
    Claim,
    Event,
    Expire,
    Fail,
    LeaseLost,
    Pause,
    Release,
    Report,
    RetryLater,
    Succeed,
    Terminate,
    TimePassed,
)
from lro_grpc._operation.record import Record

NOW = 1_800_000_000_000_000
LEASE = 15_000_000
REPORT = Report(1)


def error(code: Code = Code.UNAVAILABLE, message: str = "not now", **info: str) -> bytes:
    status = to_status(LroError(message, code=code, reason="NOT_NOW", domain="d", metadata=info))
    return status.SerializeToString()


def record(**more: Any) -> Record:
    return publication.create(
        parent="p",
        operation_id="x",
        method="/a.B/C",
        request=b"",
        metadata_type="lro.v1.OperationMetadata",
        now=NOW,
        pausable=True,
        **more,
    )


def after(made: Record, *events: Event) -> Record:
    for number, event in enumerate(events, 1):
        made = event.apply(made, NOW + number)
    return made


@pytest.mark.parametrize(
    ("events", "outcome", "has_error"),
    [
        ([], OperationAttempt.OUTCOME_UNSPECIFIED, False),
        ([REPORT, Cancel()], OperationAttempt.OUTCOME_UNSPECIFIED, False),
        ([Succeed(REPORT, b"")], OperationAttempt.SUCCEEDED, False),
        ([Fail(REPORT, error())], OperationAttempt.FAILED, True),
        ([RetryLater(REPORT, error(), 5)], OperationAttempt.RETRIED, True),
        ([LeaseLost(1, proven=True)], OperationAttempt.LOST, False),
        ([LeaseLost(1, stuck=True)], OperationAttempt.STUCK, False),
        ([Release(REPORT)], OperationAttempt.RELEASED, False),
        ([Pause(), Release(REPORT, OperationAttempt.PAUSED)], OperationAttempt.PAUSED, False),
        ([Cancel(), Fail(REPORT, error(Code.CANCELLED))], OperationAttempt.CANCELLED, True),
        ([Release(REPORT, OperationAttempt.CANCELLED)], OperationAttempt.CANCELLED, False),
        ([Cancel(), LeaseLost(1, proven=True)], OperationAttempt.LOST, False),
        ([Expire(REPORT)], OperationAttempt.EXPIRED, False),
        ([Terminate("it must end")], OperationAttempt.TERMINATED, False),
    ],
)
def test_each_end_of_an_attempt_has_its_outcome(events, outcome, has_error):
    ended = after(record(), Claim(LEASE, worker="w"), *events)
    (told,) = attempts_of(ended, [])
    assert (told.number, told.worker, told.start_time) == (1, "w", NOW + 1)
    assert (told.outcome, bool(told.error)) == (outcome, has_error)
    assert bool(told.end_time) == bool(outcome)
    assert bool(ended.lease_expire_time) == (not outcome)


def test_the_last_attempt_that_may_fail_has_failed():
    only = record(max_attempts=1)
    for event, outcome in (
        (RetryLater(REPORT, error(), 5), OperationAttempt.FAILED),
        (LeaseLost(1, proven=True), OperationAttempt.LOST),
    ):
        ended = after(only, Claim(LEASE), event)
        assert (ended.done, ended.attempt_outcome) == (True, outcome)


def test_what_ends_between_attempts_ends_none():
    for event in (Cancel(), Terminate("it must end"), Pause()):
        waiting = after(record(), Claim(LEASE), Release(REPORT))
        ended = event.apply(waiting, NOW + 9)
        assert attempts_of(ended, []) == attempts_of(waiting, [])
    overdue = TimePassed().apply(after(record(timeout=9), Claim(LEASE), Release(REPORT)), NOW + 99)
    assert overdue.done
    assert overdue.attempt_outcome == OperationAttempt.RELEASED


def test_nothing_is_superseded_but_by_a_later_attempt():
    former = record()
    rows = []
    for event in (Claim(LEASE, worker="a"), REPORT, Release(REPORT), Claim(LEASE, worker="b")):
        made = event.apply(former, NOW)
        rows.append(superseded(former, made))
        former = made
    assert rows == [
        None,
        None,
        None,
        AttemptRecord(1, "a", NOW, NOW, OperationAttempt.RELEASED),
    ]


def test_rows_that_are_ahead_of_the_record_are_left_out():
    """A store may have written them a moment after the record was read."""
    of_now = after(record(), Claim(LEASE, worker="a"), Release(REPORT), Claim(LEASE, worker="b"))
    ahead = [AttemptRecord(1, "a"), AttemptRecord(2, "ended"), AttemptRecord(3, "next")]
    first, second = attempts_of(of_now, ahead)
    assert (first.worker, second.worker, second.end_time) == ("a", "b", 0)


def test_of_an_error_its_code_message_and_error_info_are_kept():
    status = status_pb2.Status.FromString(error())
    status.details.add().Pack(error_details_pb2.DebugInfo(detail="a line of code"))
    kept = status_pb2.Status.FromString(attempts.cut_error(status.SerializeToString()))
    assert (kept.code, kept.message) == (status.code, status.message)
    assert [one.TypeName() for one in kept.details] == ["google.rpc.ErrorInfo"]


@pytest.mark.parametrize(
    "made",
    [error(message="\N{SNOWMAN}" * 9000), error(message="x" * 9000), error(big="y" * 9000)],
)
def test_an_error_is_cut(made):
    cut = attempts.cut_error(made)
    assert len(cut) <= MOST_ERROR_BYTES
    kept = status_pb2.Status.FromString(cut)
    assert kept.code == Code.UNAVAILABLE
    assert kept.message


@pytest.mark.parametrize(
    "values",
    [
        (b"1", "w", 1, 1, 1, b""),
        (1, b"w", 1, 1, 1, b""),
        (1, "w", -1, 1, 1, b""),
        (1, "w", 1, None, 1, b""),
        (1, "w", 1, 1, 1, ""),
        (1, "w", 1, 1, 1, b"\x08"),
    ],
)
def test_a_damaged_row_is_found(values):
    assert attempts.is_sound((1, "w", 1, 1, 1, error()))
    assert not attempts.is_sound(values)
