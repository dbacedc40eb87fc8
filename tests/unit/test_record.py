from __future__ import annotations

import itertools

import pytest
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from lro.v1 import batch_create_instances_pb2, operation_metadata_pb2
from lro_grpc import _anys
from lro_grpc._errors import (
    Code,
    IllegalTransitionError,
    LroError,
    OperationNotFoundError,
    StaleAttemptError,
    from_status,
    to_status,
)
from lro_grpc._operation import publication
from lro_grpc._operation.events import (
    Cancel,
    Checkpoint,
    Claim,
    Delete,
    Event,
    Expire,
    Fail,
    Heartbeat,
    LeaseLost,
    Pause,
    Release,
    Report,
    Resume,
    RetryLater,
    SaveBatch,
    SetUpdating,
    Succeed,
    Terminate,
    TimePassed,
)
from lro_grpc._operation.record import Record
from lro_grpc._operation.states import (
    CANCELLED,
    CANCELLING,
    EXPIRED,
    FAILED,
    JOB,
    PARTIALLY_SUCCEEDED,
    PAUSED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    UPDATING,
)

NOW = 1_800_000_000_000_000
LEASE = 15_000_000
RESPONSE = _anys.packed_bytes(empty_pb2.Empty())
STATE = _anys.packed_bytes(empty_pb2.Empty())
"""What a handler keeps in a checkpoint."""
SECOND = 1_000_000
_InstanceStatus = batch_create_instances_pb2.BatchCreateInstanceStatus
BATCH = batch_create_instances_pb2.BatchCreateInstancesMetadata(
    instance_targets=["a"],
    instance_statuses={"a": _InstanceStatus(state=_InstanceStatus.CREATING)},
).SerializeToString()


def error(code: int = Code.DATA_LOSS) -> bytes:
    return to_status(LroError("it broke", code=code, domain="d.example")).SerializeToString()


def create(**values: object) -> Record:
    chosen = {
        "parent": "projects/p",
        "operation_id": "op-1",
        "method": "/a.B/C",
        "request": b"request",
        "metadata_type": "lro.v1.OperationMetadata",
        "now": NOW,
    }
    return publication.create(**{**chosen, **values})


def after(*events: Event, start: Record | None = None, now: int = NOW + 1) -> Record:
    one = start or create()
    for event in events:
        one = event.apply(one, now)
    return one


def held(*events: Event) -> Record:
    return after(Claim(LEASE), *events)


def served(one: Record) -> operations_pb2.Operation:
    return operations_pb2.Operation.FromString(one.operation)


def shown(one: Record) -> operation_metadata_pb2.OperationMetadata:
    message = operation_metadata_pb2.OperationMetadata()
    assert served(one).metadata.Unpack(message)
    return message


# A new one.


def test_a_new_operation_is_queued_and_shows_what_it_was_made_with():
    one = create(
        target="projects/p/things/t",
        verb="create",
        api_version="v1",
        request_id="r",
        max_attempts=3,
    )
    assert one.name == "projects/p/operations/op-1"
    assert (one.state, one.attempt, one.lease_expire_time, one.done) == (QUEUED, 0, 0, False)
    assert one.claimable
    assert served(one).name == one.name
    assert not served(one).done
    assert shown(one) == operation_metadata_pb2.OperationMetadata(
        create_time=_time(NOW),
        update_time=_time(NOW),
        target="projects/p/things/t",
        verb="create",
        api_version="v1",
        state=QUEUED,
    )


def test_metadata_may_be_of_any_type():
    """P4: the method's own, whose conventional fields are filled."""
    one = held(*[])._replace(metadata_type="google.protobuf.Empty")
    assert served(Report(1, 5).apply(one, NOW)).metadata.Is(empty_pb2.Empty.DESCRIPTOR)


def _time(micros: int):
    message = operation_metadata_pb2.OperationMetadata()
    message.create_time.FromMicroseconds(micros)
    return message.create_time


# Claim, heartbeat, release, lose.


def test_a_claim_runs_a_queued_operation_under_a_new_number():
    one = held()
    assert (one.state, one.attempt, one.lease_expire_time) == (RUNNING, 1, NOW + 1 + LEASE)
    assert one.start_time == one.update_time == NOW + 1
    assert not one.claimable
    assert (shown(one).attempt, shown(one).start_time) == (1, _time(NOW + 1))


def test_a_claim_of_a_held_or_a_done_operation_is_refused():
    for one in (held(), held(Succeed(Report(1), RESPONSE)), after(Cancel())):
        with pytest.raises(StaleAttemptError):
            Claim(LEASE).apply(one, NOW)


def test_a_heartbeat_prolongs_the_lease_and_shows_nowhere():
    one = held()
    renewed = Heartbeat(1, LEASE).apply(one, NOW + 500)
    assert renewed.lease_expire_time == NOW + 500 + LEASE
    assert renewed == one._replace(lease_expire_time=renewed.lease_expire_time)


def test_a_release_queues_the_operation_again_and_counts_no_loss():
    one = held(Report(1, 30, "half"), Release(Report(1, 40)))
    assert (one.state, one.lease_expire_time, one.failed_attempts) == (QUEUED, 0, 0)
    assert (one.progress_percent, one.status_detail) == (40, "half")
    again = Claim(LEASE).apply(one, NOW + 900)
    assert (again.attempt, again.start_time) == (2, NOW + 1)


def test_a_lease_that_is_not_over_is_lost_only_with_proof():
    one = held()
    assert LeaseLost(1).apply(one, one.lease_expire_time - 1) is one
    assert LeaseLost(1).apply(one, one.lease_expire_time).state == QUEUED
    lost = LeaseLost(1, proven=True).apply(one, NOW + 2)
    assert (lost.state, lost.failed_attempts, lost.lease_expire_time) == (QUEUED, 1, 0)


def test_the_last_loss_fails_with_aborted():
    """R3: max_attempts counts lost workers."""
    one = create(max_attempts=2)
    for attempt in (1, 2):
        assert one.state == QUEUED
        one = after(Claim(LEASE), LeaseLost(attempt, proven=True), start=one)
    assert (one.state, one.lease_expire_time) == (FAILED, 0)
    assert served(one).error.code == Code.ABORTED
    info = error_details_pb2.ErrorInfo()
    served(one).error.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("WORKER_LOST", "lro-grpc")


# Reports.


def test_a_report_replaces_what_it_has_and_leaves_the_rest():
    one = held(Report(1, 10, "first", b""), Report(1, None, "second"), Report(1, 20))
    assert (one.progress_percent, one.status_detail) == (20, "second")
    assert (shown(one).progress_percent, shown(one).status_detail) == (20, "second")


@pytest.mark.parametrize(
    ("reported", "shown_percent"), [(9, 10), (-5, 10), (11, 11), (100, 100), (1000, 100)]
)
def test_progress_is_at_most_100_and_never_goes_back(reported, shown_percent):
    assert held(Report(1, 10), Report(1, reported)).progress_percent == shown_percent


def test_a_report_that_says_nothing_new_changes_nothing():
    one = held(Report(1, 10, "x"))
    assert Report(1, 10, "x").apply(one, NOW + 99) is one
    assert Report(1).apply(one, NOW + 99) is one
    assert Report(1, 5).apply(one, NOW + 99) is one


def test_the_handlers_own_metadata_is_shown_with_the_librarys():
    handler_metadata = operation_metadata_pb2.OperationMetadata(target="mine")
    handler_metadata.partial_failures.add(code=5)
    one = after(
        Claim(LEASE),
        Report(1, handler_metadata=handler_metadata.SerializeToString()),
        start=create(target="theirs"),
    )
    assert shown(one).target == "theirs"
    assert [failure.code for failure in shown(one).partial_failures] == [5]


def test_a_batch_is_shown_and_kept():
    one = held(SaveBatch(Report(1, 10), BATCH, error()))
    assert (one.batch, one.batch_error, one.progress_percent) == (BATCH, error(), 10)
    assert list(shown(one).batch_create_instances_metadata.instance_targets) == ["a"]


# Ends.


def test_success_ends_with_the_response_and_100_percent():
    one = held(Report(1, 10), Succeed(Report(1, 20, "all done"), RESPONSE))
    assert (one.state, one.lease_expire_time, one.progress_percent) == (SUCCEEDED, 0, 100)
    assert one.end_time == one.update_time == NOW + 1
    assert served(one).done
    assert served(one).response.Is(empty_pb2.Empty.DESCRIPTOR)
    assert (shown(one).state, shown(one).status_detail) == (SUCCEEDED, "all done")
    assert shown(one).end_time == _time(NOW + 1)


def test_partial_success_is_a_state_of_its_own_unless_it_was_cancelled():
    """CANCELLING -> SUCCEEDED: Vertex AI has no other way."""
    assert held(Succeed(Report(1), RESPONSE, partial=True)).state == PARTIALLY_SUCCEEDED
    one = held(Cancel(), Succeed(Report(1), RESPONSE, partial=True))
    assert (one.state, one.cancel_requested) == (SUCCEEDED, True)


def test_failure_ends_with_the_error_and_the_progress_there_was():
    one = held(Report(1, 10), Fail(Report(1, 20), error()))
    assert (one.state, one.progress_percent, one.lease_expire_time) == (FAILED, 20, 0)
    assert served(one).error == status_pb2.Status.FromString(error())


@pytest.mark.parametrize("asked", [False, True])
def test_an_error_of_code_1_is_a_cancellation_whoever_asked(asked):
    """P8; error.code 1 => cancel_requested."""
    one = held(*[Cancel()] * asked, Fail(Report(1), error(Code.CANCELLED)))
    assert (one.state, one.cancel_requested) == (CANCELLED, True)
    assert shown(one).cancel_requested
    assert served(one).error.message == "it broke"


def test_an_error_of_code_1_on_the_last_attempt_is_a_cancellation():
    """P8: nothing but a cancelled operation has this code."""
    one = after(
        Claim(LEASE), RetryLater(Report(1), error(Code.CANCELLED), 0), start=create(max_attempts=1)
    )
    assert (one.state, one.cancel_requested, one.failed_attempts) == (CANCELLED, True, 1)
    assert served(one).error.code == Code.CANCELLED


# Cancel (P8, R7).


def test_a_cancel_of_a_held_operation_asks_its_worker():
    one = held(Cancel())
    assert (one.state, one.attempt, one.cancel_requested) == (CANCELLING, 1, True)
    assert one.lease_expire_time
    assert shown(one).cancel_requested
    assert Cancel().apply(one, NOW + 9) is one


def test_a_cancel_before_the_first_claim_ends_at_once():
    one = after(Cancel())
    assert (one.state, one.attempt, served(one).error.code) == (CANCELLED, 0, 1)
    assert not one.claimable


@pytest.mark.parametrize("end", [Succeed(Report(1), RESPONSE), Fail(Report(1), error())])
def test_a_cancel_of_a_done_operation_changes_nothing(end):
    one = held(end)
    assert Cancel().apply(one, NOW + 9) is one


def test_a_cancelled_operation_is_undone_by_one_more_attempt_if_there_is_a_batch():
    released = held(SaveBatch(Report(1), BATCH, b""), Release(Report(1)), Cancel())
    assert (released.state, released.lease_expire_time, released.claimable) == (CANCELLING, 0, True)
    undoing = after(Claim(LEASE), start=released)
    assert (undoing.state, undoing.attempt) == (CANCELLING, 2)
    assert after(Fail(Report(2), error(1)), start=undoing).state == CANCELLED


@pytest.mark.parametrize("gone", [Release(Report(1)), LeaseLost(1, proven=True)])
def test_a_worker_that_goes_while_cancelling_leaves_it_cancelled_or_to_be_undone(gone):
    plain = held(Cancel(), gone)
    assert (plain.state, served(plain).error.code) == (CANCELLED, 1)
    batch = held(SaveBatch(Report(1), BATCH, b""), Cancel(), gone)
    assert (batch.state, batch.claimable) == (CANCELLING, True)


# Delete (P7).


def test_a_deleted_operation_is_hidden_runs_on_and_keeps_its_request_id():
    one = after(Claim(LEASE), Delete(), start=create(request_id="r"))
    assert (one.deleted, one.request_id, one.state) == (True, "r", RUNNING)
    for event in (Delete(), Cancel()):
        with pytest.raises(OperationNotFoundError):
            event.apply(one, NOW)
    assert after(Report(1, 5), Succeed(Report(1), RESPONSE), start=one).state == SUCCEEDED


# Checkpoints and updating.


def checkpoint(attempt: int = 1) -> Checkpoint:
    return Checkpoint(Report(attempt), STATE)


def test_a_checkpoint_keeps_its_state_and_what_was_reported_with_it():
    one = held(Checkpoint(Report(1, 10, "half"), STATE))
    assert (one.checkpoint, one.state, one.progress_percent) == (STATE, RUNNING, 10)
    assert STATE not in one.operation  # it is the handler's affair
    for gone in (Release(Report(1)), LeaseLost(1, proven=True), RetryLater(Report(1), error(), 0)):
        assert after(gone, start=one).checkpoint == STATE


def test_updating_shows_and_ends():
    one = held(SetUpdating(Report(1, None, "switching"), updating=True))
    assert (one.state, shown(one).state, shown(one).status_detail) == (
        UPDATING,
        UPDATING,
        "switching",
    )
    assert after(SetUpdating(Report(1), updating=False), start=one).state == RUNNING
    assert after(SetUpdating(Report(1), updating=True), start=one).state == UPDATING


def test_updating_does_not_show_while_it_is_cancelled():
    for updating in (True, False):
        assert held(Cancel(), SetUpdating(Report(1), updating)).state == CANCELLING


@pytest.mark.parametrize(
    ("event", "state"),
    [
        (Succeed(Report(1), RESPONSE), SUCCEEDED),
        (Succeed(Report(1), RESPONSE, partial=True), PARTIALLY_SUCCEEDED),
        (Fail(Report(1), error()), FAILED),
        (Fail(Report(1), error(Code.CANCELLED)), CANCELLED),
        (RetryLater(Report(1), error(), 0), QUEUED),
        (Expire(Report(1)), EXPIRED),
        (Release(Report(1)), QUEUED),
        (LeaseLost(1, proven=True), QUEUED),
        (LeaseLost(1, stuck=True), QUEUED),
        (Cancel(), CANCELLING),
    ],
)
def test_what_comes_while_it_is_updating_comes_in_one_commit(event, state):
    """Two transitions: back to RUNNING, and what follows from there."""
    one = held(SetUpdating(Report(1), updating=True))
    assert after(event, start=one).state == state
    paused = after(Pause(), start=held_pausable(SetUpdating(Report(1), updating=True)))
    assert (paused.state, paused.pause_requested) == (UPDATING, True)


# Pause and resume (S28).


def pausable(**values: object) -> Record:
    return create(pausable=True, **values)


def held_pausable(*events: Event, **values: object) -> Record:
    return after(Claim(LEASE), *events, start=pausable(**values))


def test_a_pause_of_what_waits_is_there_at_once():
    one = after(Pause(), start=pausable())
    assert (one.state, one.claimable, one.pause_requested) == (PAUSED, False, False)
    assert shown(one).state == PAUSED
    assert after(Resume(), start=one).state == QUEUED


def test_a_pause_of_what_is_held_is_asked_for():
    one = held_pausable(Pause())
    assert (one.state, one.pause_requested, shown(one).pause_requested) == (RUNNING, True, True)
    assert one.lease_expire_time
    back = after(Resume(), start=one)
    assert (back.state, back.pause_requested, shown(back).pause_requested) == (
        RUNNING,
        False,
        False,
    )


@pytest.mark.parametrize(
    "gone",
    [Release(Report(1)), LeaseLost(1, proven=True), RetryLater(Report(1), error(), 5 * SECOND)],
)
def test_a_pause_that_is_asked_for_comes_about_when_the_worker_goes(gone):
    one = held_pausable(Pause(), gone)
    assert (one.state, one.lease_expire_time, one.pause_requested, one.scheduled_time) == (
        PAUSED,
        0,
        False,
        0,
    )
    assert after(Resume(), Claim(LEASE), start=one).attempt == 2


def test_pause_and_resume_may_be_repeated():
    asked = held_pausable(Pause())
    assert Pause().apply(asked, NOW + 9) is asked
    paused = after(Pause(), start=pausable())
    assert Pause().apply(paused, NOW + 9) is paused


def test_resume_needs_something_to_resume():
    for one in (pausable(), held_pausable(), held_pausable(Pause(), Resume())):
        with pytest.raises(IllegalTransitionError) as caught:
            after(Resume(), start=one)
        assert (caught.value.code, caught.value.reason) == (
            Code.FAILED_PRECONDITION,
            "ILLEGAL_TRANSITION",
        )
        assert caught.value.metadata["operation"] == one.name


def test_what_does_not_say_that_it_can_pause_cannot():
    for one in (create(), held(), held(SetUpdating(Report(1), updating=True))):
        with pytest.raises(IllegalTransitionError, match="pausable=True"):
            after(Pause(), start=one)


@pytest.mark.parametrize(
    "ends",
    [
        [Succeed(Report(1), RESPONSE)],
        [Fail(Report(1), error())],
        [Cancel()],
        [Expire(Report(1))],
        [checkpoint(), Release(Report(1)), Cancel()],
    ],
)
def test_what_is_done_or_cancelled_is_neither_paused_nor_resumed(ends):
    one = held_pausable(*ends)
    for event in (Pause(), Resume()):
        with pytest.raises(IllegalTransitionError, match=r"cannot be (paused|resumed)"):
            event.apply(one, NOW + 9)


def test_a_pause_that_was_asked_for_does_not_outlive_the_end():
    for end in (Succeed(Report(1), RESPONSE), Fail(Report(1), error()), Expire(Report(1))):
        one = held_pausable(Pause(), end)
        assert not one.pause_requested
        assert not shown(one).pause_requested


def test_a_deleted_operation_is_neither_paused_nor_resumed():
    one = held_pausable(Delete())
    for event in (Pause(), Resume()):
        with pytest.raises(OperationNotFoundError):
            event.apply(one, NOW)


@pytest.mark.parametrize("order", [*itertools.permutations(["pause", "resume", "cancel"])])
@pytest.mark.parametrize("start", ["waits", "held", "waits with a state", "held with a state"])
def test_a_cancel_wins_against_pause_and_resume_in_every_order(order, start):
    one = pausable()
    if start != "waits":
        one = after(Claim(LEASE), start=one)
    if "state" in start:
        one = after(checkpoint(), start=one)
    if start == "waits with a state":
        one = after(Release(Report(1)), start=one)
    events = {"pause": Pause(), "resume": Resume(), "cancel": Cancel()}
    is_cancelled = False
    for name in order:
        refused = (name == "resume" and not _is_paused(one)) or (name == "pause" and is_cancelled)
        if refused:
            with pytest.raises(IllegalTransitionError):
                after(events[name], start=one)
        else:
            one = after(events[name], start=one)
        is_cancelled = is_cancelled or name == "cancel"
    assert one.cancel_requested
    assert not one.pause_requested
    assert one.state == (CANCELLED if start == "waits" else CANCELLING)
    assert one.claimable == (start == "waits with a state")


def _is_paused(one: Record) -> bool:
    return one.state == PAUSED or one.pause_requested


def test_a_cancel_of_what_is_paused_undoes_a_state_or_ends_it():
    with_state = held_pausable(checkpoint(), Pause(), Release(Report(1)), Cancel())
    assert (with_state.state, with_state.claimable) == (CANCELLING, True)
    undoing = after(Claim(LEASE), start=with_state)
    assert (undoing.state, undoing.attempt, undoing.cancel_requested) == (CANCELLING, 2, True)
    without = held_pausable(Pause(), Release(Report(1)), Cancel())
    assert (without.state, served(without).error.code) == (CANCELLED, 1)


# Retries.


def test_an_error_to_retry_puts_it_back_into_the_queue_until_it_is_ready():
    one = held(RetryLater(Report(1, 30, "busy"), error(), 5 * SECOND))
    assert (one.state, one.lease_expire_time, one.failed_attempts) == (QUEUED, 0, 1)
    assert one.scheduled_time == NOW + 1 + 5 * SECOND
    assert (one.progress_percent, one.status_detail) == (30, "busy")
    with pytest.raises(StaleAttemptError):
        Claim(LEASE).apply(one, one.scheduled_time - 1)
    again = Claim(LEASE).apply(one, one.scheduled_time)
    assert (again.attempt, again.scheduled_time, again.start_time) == (2, 0, NOW + 1)


def test_a_delayed_start_waits_for_its_time_also_once_it_is_resumed():
    """Its time limit counts from then on; and a time that has come delays nothing."""
    time = NOW + 5 * SECOND
    made = create(schedule_time=time, timeout=SECOND, pausable=True)
    assert (made.state, made.scheduled_time, made.deadline_time) == (QUEUED, time, time + SECOND)
    assert made.is_delayed_start
    assert TimePassed().apply(made, time - 1) is made
    with pytest.raises(StaleAttemptError):
        Claim(LEASE).apply(made, time - 1)
    paused = Pause().apply(made, NOW + 1)
    assert (paused.state, paused.scheduled_time) == (PAUSED, 0)
    assert Resume().apply(paused, NOW + 2).scheduled_time == time
    assert Delete().apply(paused, NOW + 2).scheduled_time == time
    assert Resume().apply(paused, time).is_ready
    claimed = Claim(LEASE).apply(made, time)
    assert (claimed.attempt, claimed.start_time, claimed.is_delayed_start) == (1, time, False)
    late = TimePassed().apply(made, time + SECOND)
    assert late.state == EXPIRED
    assert "within 1 s" in served(late).error.message
    assert create(schedule_time=NOW).scheduled_time == 0


def test_a_delayed_operation_is_ready_once_time_says_so():
    """Since its time has come, and no earlier: nobody could have begun it before."""
    waits = held(RetryLater(Report(1), error(), 5 * SECOND))
    assert TimePassed().apply(waits, waits.scheduled_time - 1) is waits
    assert not waits.is_ready
    ready = TimePassed().apply(waits, waits.scheduled_time + 60 * SECOND)
    assert ready.is_ready
    assert (ready.state, ready.attempt, ready.scheduled_time) == (QUEUED, 1, 0)
    assert ready.update_time == waits.scheduled_time
    assert shown(ready).update_time == _time(waits.scheduled_time)
    assert TimePassed().apply(ready, waits.scheduled_time + 60 * SECOND) is ready
    assert Claim(LEASE).apply(ready, waits.scheduled_time + 60 * SECOND).attempt == 2


def test_what_has_rested_and_is_overdue_expires():
    waits = after(Claim(LEASE), RetryLater(Report(1), error(), 5 * SECOND), start=limited())
    assert TimePassed().apply(waits, END).state == EXPIRED
    undo = after(
        Claim(LEASE),
        checkpoint(),
        Cancel(),
        RetryLater(Report(1), error(), 5 * SECOND),
        start=limited(),
    )
    assert TimePassed().apply(undo, END).is_ready


@pytest.mark.parametrize("delay", [0, -1, -(2**70), 2**70])
def test_a_delay_may_be_any_number(delay):
    """Less than none is none; and more than 64 bits hold never comes."""
    one = held(RetryLater(Report(1), error(), delay))
    assert 0 <= one.scheduled_time < 2**63
    assert one.is_ready == (delay <= 0)


def test_the_last_attempt_fails_with_its_own_error():
    one = create(max_attempts=2)
    one = after(Claim(LEASE), RetryLater(Report(1), error(), 0), start=one)
    one = after(Claim(LEASE), RetryLater(Report(2, 50), error(), 0), start=one)
    assert (one.state, one.progress_percent) == (FAILED, 50)
    assert served(one).error == status_pb2.Status.FromString(error())


def test_attempts_that_fail_are_lost_or_stuck_count_and_others_do_not():
    one = pausable(max_attempts=4)
    harmless = [Release(Report(0)), "pause", "updating"]
    counted = [RetryLater, LeaseLost, "stuck"]
    for what in (*harmless, *counted, *harmless):
        one = after(Claim(LEASE), start=one)
        number = one.attempt
        if what == "pause":
            one = after(Pause(), Release(Report(number)), Resume(), start=one)
        elif what == "updating":
            one = after(
                SetUpdating(Report(number), updating=True), Release(Report(number)), start=one
            )
        elif what is RetryLater:
            one = after(RetryLater(Report(number), error(), 0), start=one)
        elif what is LeaseLost:
            one = after(LeaseLost(number, proven=True), start=one)
        elif what == "stuck":
            one = after(LeaseLost(number, stuck=True), start=one)
        else:
            one = after(Release(Report(number)), start=one)
    assert (one.state, one.attempt, one.failed_attempts) == (QUEUED, 9, 3)
    one = after(Claim(LEASE), LeaseLost(10, proven=True), start=one)
    assert (one.state, one.failed_attempts) == (FAILED, 4)


def test_a_stuck_attempt_is_lost_though_its_lease_is_not_over():
    one = LeaseLost(1, stuck=True).apply(held(), NOW + 2)
    assert (one.state, one.failed_attempts) == (QUEUED, 1)
    last = after(Claim(LEASE), LeaseLost(1, stuck=True), start=create(max_attempts=1))
    info = error_details_pb2.ErrorInfo()
    served(last).error.details[0].Unpack(info)
    assert (served(last).error.code, info.reason) == (Code.ABORTED, "NO_PROGRESS")


def test_an_error_to_retry_while_cancelling_is_retried_only_to_undo():
    assert held(Cancel(), RetryLater(Report(1), error(), 5)).state == CANCELLED
    undoing = held(checkpoint(), Cancel(), RetryLater(Report(1), error(), 5 * SECOND))
    assert (undoing.state, undoing.claimable) == (CANCELLING, True)
    assert undoing.scheduled_time == NOW + 1 + 5 * SECOND


def test_a_cancel_or_a_pause_takes_the_wait_for_a_retry_away():
    waits = held_pausable(checkpoint(), RetryLater(Report(1), error(), 5 * SECOND))
    assert after(Cancel(), start=waits).is_ready
    assert after(Pause(), Resume(), start=waits).is_ready


# Time limits and retention.


def limited(**values: object) -> Record:
    return create(timeout=10 * SECOND, **values)


END = NOW + 10 * SECOND


def test_what_nobody_has_expires_at_its_end_and_not_before():
    paused = after(Pause(), start=limited(pausable=True))
    retried = after(Claim(LEASE), RetryLater(Report(1), error(), 3600 * SECOND), start=limited())
    for one in (limited(), paused, retried):
        assert TimePassed().apply(one, END - 1) is one
        expired = TimePassed().apply(one, END)
        assert (expired.state, expired.end_time) == (EXPIRED, END)
        assert served(expired).error.code == Code.DEADLINE_EXCEEDED
        assert "10 s" in served(expired).error.message


def test_what_is_overdue_expires_when_it_is_claimed():
    assert Claim(LEASE).apply(limited(), END - 1).attempt == 1
    late = Claim(LEASE).apply(limited(), END)
    assert (late.state, late.attempt, late.lease_expire_time) == (EXPIRED, 0, 0)


def test_what_is_held_expires_by_its_worker_alone():
    one = after(Claim(LEASE), start=limited())
    assert TimePassed().apply(one, END + 1) is one
    expired = Expire(Report(1, 70)).apply(one, END)
    assert (expired.state, expired.lease_expire_time, expired.progress_percent) == (EXPIRED, 0, 70)


def test_in_cancelling_a_time_limit_ends_failed_with_code_4():
    """Vertex AI has no way from CANCELLING to EXPIRED."""
    one = after(Claim(LEASE), Cancel(), Expire(Report(1)), start=limited())
    assert (one.state, served(one).error.code) == (FAILED, Code.DEADLINE_EXCEEDED)
    assert shown(one).cancel_requested


def test_a_batch_is_undone_before_its_operation_expires():
    one = after(Claim(LEASE), SaveBatch(Report(1), BATCH, b""), Release(Report(1)), start=limited())
    assert TimePassed().apply(one, END) is one
    undoing = Claim(LEASE).apply(one, END)
    assert undoing.state == RUNNING
    ended = Expire(Report(2)).apply(undoing, END + SECOND)
    assert ended.state == EXPIRED
    states = shown(ended).batch_create_instances_metadata.instance_statuses
    assert states["a"].state == _InstanceStatus.FAILED  # nobody has undone it


def test_a_paused_operation_with_a_batch_goes_back_to_the_queue_to_be_undone():
    one = after(
        Claim(LEASE),
        SaveBatch(Report(1), BATCH, b""),
        Pause(),
        Release(Report(1)),
        start=limited(pausable=True),
    )
    assert one.state == PAUSED
    queued = TimePassed().apply(one, END)
    assert (queued.state, queued.done) == (QUEUED, False)
    assert TimePassed().apply(queued, END) is queued
    assert queued.is_ready


def test_a_checkpoint_alone_does_not_keep_an_operation_from_expiring():
    one = after(Claim(LEASE), checkpoint(), Release(Report(1)), start=limited())
    assert TimePassed().apply(one, END).state == EXPIRED
    cancelled = Cancel().apply(one, NOW + 2)
    assert TimePassed().apply(cancelled, END) is cancelled
    assert cancelled.is_ready


def test_a_retry_waits_no_longer_than_the_time_limit():
    one = after(Claim(LEASE), RetryLater(Report(1), error(), 3600 * SECOND), start=limited())
    assert one.scheduled_time == END


@pytest.mark.parametrize(
    "end", [Succeed(Report(1), RESPONSE), Fail(Report(1), error()), Expire(Report(1))]
)
def test_a_done_operation_is_kept_for_its_retention(end):
    one = after(Claim(LEASE), end, start=create(retention=5 * SECOND, request_id="r"))
    assert one.expire_time == one.end_time + 5 * SECOND
    assert shown(one).expire_time == _time(one.expire_time)
    assert TimePassed().apply(one, one.expire_time - 1) is one
    gone = TimePassed().apply(one, one.expire_time)
    assert (gone.deleted, gone.done) == (True, True)
    assert TimePassed().apply(gone, one.expire_time + 1) is gone


@pytest.mark.parametrize("long", [2**63 - 1, 2**63, 86400 * 999_999_999 * SECOND])
def test_a_time_that_no_timestamp_shows_is_the_last_one_that_does(long):
    """So that it is stored in 64 bits, and its JSON is read by everyone."""
    one = after(Claim(LEASE), Cancel(), start=create(retention=long, timeout=long))
    one = after(Fail(Report(1), error()), start=one)
    assert max(one.retention, one.deadline_time, one.expire_time) < 2**63
    assert shown(one).expire_time.ToJsonString().startswith("9999-12-31T23:59:59")


def test_retention_counts_from_an_end_that_a_clock_set_back_has_not_moved():
    one = after(Claim(LEASE), start=create(retention=5 * SECOND))
    ended = Succeed(Report(1), RESPONSE).apply(one, NOW - 3600 * SECOND)
    assert ended.expire_time == NOW + 1 + 5 * SECOND


# Exclusive targets (S6).


def test_an_exclusive_target_is_kept_until_the_end_and_no_longer():
    one = create(target="projects/p/things/t", exclusive=True, pausable=True)
    assert one.exclusive_target == "projects/p/things/t"
    for unended in (
        after(Pause(), start=one),
        after(Claim(LEASE), start=one),
        after(Claim(LEASE), Delete(), start=one),
        after(Claim(LEASE), Cancel(), start=one),
        after(Claim(LEASE), RetryLater(Report(1), error(), 5), start=one),
    ):
        assert unended.exclusive_target == one.target
    for ended in (
        after(Cancel(), start=one),
        after(Claim(LEASE), Succeed(Report(1), RESPONSE), start=one),
        after(Claim(LEASE), Fail(Report(1), error()), start=one),
        after(Claim(LEASE), Expire(Report(1)), start=one),
    ):
        assert (ended.exclusive_target, ended.target) == ("", one.target)


def test_what_is_not_exclusive_has_no_target_for_itself():
    assert create(target="projects/p/things/t").exclusive_target == ""


# Expiry (S7, S29).


@pytest.mark.parametrize(
    ("chosen", "retention"), [({}, 30 * 24 * 3600 * 1_000_000), ({"retention": 5}, 5)]
)
def test_a_done_operation_is_kept_for_its_retention_and_not_a_moment_less(chosen, retention):
    ended = after(Claim(LEASE), Succeed(Report(1), RESPONSE), start=create(**chosen))
    assert ended.expire_time == ended.end_time + retention
    assert shown(ended).expire_time == _time(ended.expire_time)
    assert TimePassed().apply(ended, ended.expire_time - 1) == ended
    assert TimePassed().apply(ended, ended.expire_time).deleted


def test_an_operation_that_is_not_done_is_kept_for_ever():
    one = create(retention=5)
    assert not shown(one).HasField("expire_time")
    assert TimePassed().apply(one, NOW * 2) == one


# Terminate.


@pytest.mark.parametrize(
    "one",
    [
        create(),
        held(),
        held(SetUpdating(Report(1), updating=True)),
        held(Cancel()),
        held_pausable(Pause()),
        held(RetryLater(Report(1), error(), 60_000_000)),
        after(Pause(), start=pausable()),
    ],
    ids=lambda one: JOB.name_of(one.state),
)
def test_whatever_is_not_done_is_terminated(one):
    ended = Terminate("the handler hangs, says ada").apply(one, NOW + 5)
    failure = served(ended).error
    assert (ended.state, failure.code) == (FAILED, Code.ABORTED)
    assert "the handler hangs, says ada" in failure.message
    assert "nothing of it undone" in failure.message
    info = from_status(failure)
    assert (info.reason, info.domain) == ("OPERATION_TERMINATED", "lro-grpc")
    assert (ended.lease_expire_time, ended.scheduled_time, ended.pause_requested) == (0, 0, False)
    for event in (Heartbeat(1, LEASE), Report(1, 50), Succeed(Report(1), RESPONSE)):
        with pytest.raises(StaleAttemptError):
            event.apply(ended, NOW + 6)


def test_the_operator_is_kept_and_one_who_is_unknown_takes_nobodys_place():
    one = create(source_operation="operations/op-0", operator="ada")
    assert (one.source_operation, one.operator) == ("operations/op-0", "ada")
    for operator, kept in (("bob", "bob"), ("", "ada")):
        ended = Terminate("stuck", operator).apply(one, NOW)
        assert (ended.source_operation, ended.operator) == ("operations/op-0", kept)


def test_what_was_terminated_stays_so_whoever_terminates_it_again():
    ended = Terminate("first").apply(held(), NOW)
    assert Terminate("second").apply(ended, NOW + 1) is ended


@pytest.mark.parametrize(
    "outcome",
    ["succeeded", "partially succeeded", "failed", "cancelled", "expired", "its own reason"],
)
def test_what_is_done_otherwise_is_not_terminated(outcome):
    own = LroError("no", code=Code.ABORTED, reason="OPERATION_TERMINATED", domain="fleet")
    event = {
        "succeeded": Succeed(Report(1), RESPONSE),
        "partially succeeded": Succeed(Report(1), RESPONSE, partial=True),
        "failed": Fail(Report(1), error(Code.ABORTED)),
        "cancelled": Fail(Report(1), error(Code.CANCELLED)),
        "expired": Expire(Report(1)),
        "its own reason": Fail(Report(1), to_status(own).SerializeToString()),
    }[outcome]
    with pytest.raises(IllegalTransitionError, match="cannot be terminated"):
        Terminate("late").apply(held(event), NOW)


def test_the_targets_of_a_terminated_batch_fail_with_it_and_none_is_undone():
    states = ["PENDING_CREATE", "CREATING", "READY", "DELETING", "ROLLED_BACK"]
    batch = batch_create_instances_pb2.BatchCreateInstancesMetadata(
        instance_targets=states,
        instance_statuses={
            state: _InstanceStatus(state=_InstanceStatus.State.Value(state)) for state in states
        },
    ).SerializeToString()
    one = held(SaveBatch(Report(1), batch, b""))
    statuses = shown(Terminate("stuck").apply(one, NOW)).batch_create_instances_metadata
    ended = {target: statuses.instance_statuses[target] for target in states}
    assert ended.pop("ROLLED_BACK").state == _InstanceStatus.ROLLED_BACK
    assert {status.state for status in ended.values()} == {_InstanceStatus.FAILED}
    assert {from_status(status.error).reason for status in ended.values()} == {
        "OPERATION_TERMINATED"
    }


def test_a_terminated_operation_has_its_exclusive_target_no_more():
    one = after(Claim(LEASE), start=create(target="projects/p/things/t", exclusive=True))
    assert one.exclusive_target
    assert not Terminate("stuck").apply(one, NOW).exclusive_target


def test_what_is_deleted_is_not_found_to_be_terminated():
    with pytest.raises(OperationNotFoundError):
        Terminate("gone").apply(held(Delete()), NOW)


# Fencing (R5).


@pytest.mark.parametrize("attempt", [0, 1, 3])
def test_a_write_of_another_attempt_is_refused(attempt):
    one = held(Release(Report(1)), Claim(LEASE))
    report = Report(attempt, 99)
    for event in (
        Heartbeat(attempt, LEASE),
        report,
        SaveBatch(report, BATCH, b""),
        Checkpoint(report, STATE),
        SetUpdating(report, updating=True),
        Succeed(report, RESPONSE),
        Fail(report, error()),
        RetryLater(report, error(), 0),
        Expire(report),
        Release(report),
        LeaseLost(attempt, proven=True),
        LeaseLost(attempt, stuck=True),
    ):
        with pytest.raises(StaleAttemptError) as caught:
            event.apply(one, NOW)
        assert caught.value.metadata == {"operation": one.name, "attempt": str(attempt)}


# Whatever happens: the invariants of google.longrunning and Vertex AI.

ATTEMPT = st.sampled_from([0, 0, 0, 0, 0, 0, -1, 1])  # mostly the present one
PERCENT = st.none() | st.integers(-5, 120)


@st.composite
def reports(draw, number: int):
    detail = draw(st.none() | st.sampled_from(["", "a", "b"]))
    return Report(number, draw(PERCENT), detail)


@st.composite
def events(draw, one: Record):
    number = one.attempt + draw(ATTEMPT)
    report = draw(reports(number))
    kinds = {
        "claim": Claim(LEASE, waited_for=draw(st.sampled_from([0, one.scheduled_time]))),
        "heartbeat": Heartbeat(number, LEASE),
        "report": report,
        "batch": SaveBatch(report, BATCH, b""),
        "succeed": Succeed(report, RESPONSE, draw(st.booleans())),
        "fail": Fail(report, error(draw(st.integers(1, 16)))),
        "retry": RetryLater(report, error(), draw(st.sampled_from([0, 1_000_000]))),
        "expire": Expire(report),
        "checkpoint": Checkpoint(report, STATE),
        "update": SetUpdating(report, draw(st.booleans())),
        "release": Release(report),
        "lose": LeaseLost(number, draw(st.booleans()), draw(st.booleans())),
        "cancel": Cancel(),
        "pause": Pause(),
        "resume": Resume(),
        "terminate": Terminate("stuck"),
        "elapse": TimePassed(),
        "delete": Delete(),
    }
    rare = {"succeed", "fail", "expire", "terminate", "delete"}
    names = [name for name in kinds for _ in range(1 if name in rare else 3)]
    return kinds[draw(st.sampled_from(names))]


def check_invariants(one: Record) -> None:
    """reference/dialects.md 8.3, items 1, 2 and 4."""
    operation, published = served(one), shown(one)
    outcome = operation.WhichOneof("result")
    assert operation.done == one.done == (outcome is not None)
    assert operation.done == published.HasField("end_time") == bool(one.end_time)
    assert operation.name == one.name
    assert published.create_time.ToMicroseconds() == NOW
    assert published.state == one.state
    assert published.attempt == one.attempt
    if outcome == "error":
        assert operation.error.code != 0
        assert not operation.HasField("response")
    cancelled = outcome == "error" and operation.error.code == Code.CANCELLED
    assert cancelled == (one.state == CANCELLED)
    if cancelled or one.state == CANCELLING:
        assert published.cancel_requested
    assert 0 <= published.progress_percent <= 100
    if outcome == "response":
        assert published.progress_percent == 100
    assert one.create_time <= one.update_time
    assert not one.done or one.create_time <= one.end_time == one.update_time
    assert bool(one.lease_expire_time) <= (one.state in (RUNNING, UPDATING, CANCELLING))
    assert (one.state in (RUNNING, UPDATING)) <= bool(one.lease_expire_time)
    assert published.pause_requested == one.pause_requested
    assert one.pause_requested <= (one.state in (RUNNING, UPDATING))
    assert bool(one.scheduled_time) <= one.claimable
    assert bool(one.exclusive_target) != one.done
    assert bool(one.expire_time) == one.done == published.HasField("expire_time")
    assert bool(one.attempt) == bool(one.start_time)
    assert not (one.claimable and one.done)
    assert one.failed_attempts <= one.max_attempts


def check_step(before: Record, following: Record) -> None:
    assert _is_a_walk(before.state, following.state)
    assert following.attempt - before.attempt in (0, 1)
    assert following.start_time == (before.start_time or following.start_time)
    assert following.progress_percent >= before.progress_percent
    assert following.update_time >= before.update_time
    assert following.cancel_requested >= before.cancel_requested
    assert following.deleted >= before.deleted
    for constant in ("name", "parent", "method", "request", "target", "verb", "create_time"):
        assert getattr(following, constant) == getattr(before, constant)
    if before.done:
        assert following == before._replace(deleted=following.deleted)
    if following.operation != before.operation:
        assert following != before


def _is_a_walk(start: int, end: int) -> bool:
    """Whether the lifecycle has a way, which one event may go in several steps."""
    seen = {start}
    for _ in range(3 if start == UPDATING else 2):
        seen |= {following for one in seen for following in JOB.states[one].next}
    return end in seen


@settings(max_examples=100)
@given(st.data())
def test_whatever_happens_the_invariants_hold(data):
    """R4: above all, that nothing follows the outcome."""
    now = NOW
    one = create(
        max_attempts=data.draw(st.integers(1, 3)),
        pausable=data.draw(st.booleans()),
        target="projects/p/things/t",
        exclusive=True,
        timeout=data.draw(st.sampled_from([0, 1_000_000, 3_600_000_000])),
    )
    check_invariants(one)
    for _ in range(data.draw(st.integers(5, 25))):
        now += data.draw(st.sampled_from([0, 1, 1_000_000, LEASE, -LEASE, -3_600_000_000]))
        event = data.draw(events(one))
        try:
            following = event.apply(one, now)
        except LroError:
            continue
        check_invariants(following)
        check_step(one, following)
        one = following


@settings(max_examples=60)
@given(st.data())
def test_an_event_is_a_function_of_record_and_time(data):
    """It keeps nothing and changes nothing: a store may apply it again (R11)."""
    one = create()
    for _ in range(6):
        event = data.draw(events(one))
        before = one._replace()
        try:
            following = event.apply(one, NOW + 1)
        except LroError:
            assert one == before
            continue
        again = event.apply(one, NOW + 1)
        assert (following, one) == (again, before)
        one = following


def test_a_clock_that_is_set_back_shows_in_no_time():
    """R8: create <= start <= update <= end, whatever the clock (dialects.md 8.3)."""
    one = after(Claim(LEASE), start=create(), now=NOW - 3_600_000_000)
    assert one.start_time >= one.create_time
    ended = Succeed(Report(1), RESPONSE).apply(one, NOW - 7_200_000_000)
    assert NOW == ended.create_time <= ended.start_time <= ended.update_time <= ended.end_time
