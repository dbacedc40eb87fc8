"""The ends of an attempt before its handler is through: cancel, lost lease, shutdown, crash."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
import weakref
from datetime import timedelta

import pytest
from engine_world import (
    LEASE,
    METHOD,
    OTHER_METHOD,
    SWEEP,
    Signal,
    Text,
    handler,
    info_of,
    metadata_of,
    response_of,
)

from lro.v1 import state_pb2
from lro_grpc import _anys
from lro_grpc._errors import (
    AttemptStopped,
    Code,
    LroError,
    OperationNotFoundError,
    StaleAttemptError,
    StopReason,
    UnavailableError,
)
from lro_grpc._operation import integrity, states
from lro_grpc._operation.events import (
    Cancel,
    Claim,
    Delete,
    Heartbeat,
    LeaseLost,
    Release,
    Report,
    Succeed,
)

KEYWORDS = ["def", "async def"]


class Worker:
    """A handler that waits until it is let go, and keeps what it meets."""

    def __init__(self, keyword: str = "async def") -> None:
        self.run = self._run if keyword == "def" else self._run_async
        self.started = Signal()
        self.go_on = Signal()
        self.unwound = Signal()
        self.attempts: list[int] = []
        self.unwound_by: list[tuple[type[BaseException], StopReason | None]] = []

    def _run(self, request, op):
        self._begin(op)
        try:
            self.go_on.wait_or_stop(op)
        except BaseException as error:
            self.unwound_by.append((type(error), op.stop_reason))
            self.unwound.set()
            raise
        return Text(value=f"attempt {op.attempt}")

    async def _run_async(self, request, op):
        self._begin(op)
        try:
            await self.go_on
        except BaseException as error:
            self.unwound_by.append((type(error), op.stop_reason))
            self.unwound.set()
            raise
        return Text(value=f"attempt {op.attempt}")

    def _begin(self, op):
        self.attempts.append(op.attempt)
        self.started.set()

    @property
    def unwinding(self) -> type[BaseException]:
        """The exception that a stop raises in this handler."""
        return AttemptStopped if self.run == self._run else asyncio.CancelledError


@pytest.fixture(params=KEYWORDS)
def worker(request: pytest.FixtureRequest) -> Worker:
    return Worker(request.param)


# Cancel (R7, P8).


@pytest.mark.any_engine
async def test_a_cancel_unwinds_the_handler_and_ends_with_code_1(world, worker):
    await world.start(worker.run)
    name = await world.create()
    await worker.started
    await world.cancel(name)
    done = await world.done(name)
    assert done.error.code == Code.CANCELLED
    assert metadata_of(done).state == state_pb2.JOB_STATE_CANCELLED
    assert metadata_of(done).cancel_requested
    assert worker.unwound_by == [(worker.unwinding, StopReason.CANCEL)]


@pytest.mark.any_engine
async def test_a_cancel_before_the_claim_keeps_the_handler_from_starting(world, worker):
    name = await world.create()
    await world.cancel(name)
    await world.start(worker.run)
    other = await world.create()
    await worker.started
    worker.go_on.set()
    await world.done(other)
    done = await world.get(name)
    assert done.error.code == Code.CANCELLED
    assert metadata_of(done).attempt == 0
    assert worker.attempts == [1]


@pytest.mark.any_engine
async def test_a_handler_may_finish_in_spite_of_a_cancel(world):
    """The cancel has lost the race, and says so (P8)."""
    started, stopped = Signal(), Signal()

    async def work(request, op):
        started.set()
        try:
            await Signal()
        except asyncio.CancelledError:
            stopped.set()
        return Text(value="made it")

    await world.start(work)
    name = await world.create()
    await started
    await world.cancel(name)
    done = await world.done(name)
    assert stopped.is_set()
    assert response_of(done) == "made it"
    assert metadata_of(done).state == state_pb2.JOB_STATE_SUCCEEDED
    assert metadata_of(done).cancel_requested


@pytest.mark.any_engine
async def test_a_handler_may_fail_while_it_is_cancelled(world):
    """A real error is published, not covered by the cancel."""
    started = Signal()

    async def work(request, op):
        started.set()
        try:
            await Signal()
        except asyncio.CancelledError:
            raise UnavailableError("the disk is gone") from None

    await world.start(work)
    name = await world.create()
    await started
    await world.cancel(name)
    done = await world.done(name)
    assert done.error.code == Code.UNAVAILABLE
    assert metadata_of(done).state == state_pb2.JOB_STATE_FAILED


@pytest.mark.any_engine
@pytest.mark.parametrize("keyword", KEYWORDS)
async def test_a_handler_can_clean_up_while_it_is_cancelled(world, keyword):
    started, cleaned = Signal(), Signal()

    def work(request, op):
        started.set()
        try:
            Signal().wait_or_stop(op)
        finally:
            op.progress(detail="cleaned")
            cleaned.set()

    async def work_async(request, op):
        started.set()
        try:
            await Signal()
        finally:
            await asyncio.sleep(0)
            op.progress(detail="cleaned")
            cleaned.set()

    await world.start(work if keyword == "def" else work_async)
    name = await world.create()
    await started
    await world.cancel(name)
    done = await world.done(name)
    assert cleaned.is_set()
    assert done.error.code == Code.CANCELLED
    assert metadata_of(done).status_detail == "cleaned"


async def test_a_cancel_of_a_done_operation_changes_nothing(world, worker):
    await world.start(worker.run)
    worker.go_on.set()
    name = await world.create()
    done = await world.done(name)
    await world.cancel(name)
    assert await world.get(name) == done


async def test_a_handler_that_raises_cancelled_by_itself_cancels_the_operation(world):
    async def work(request, op):
        raise LroError("the user closed the account", code=Code.CANCELLED)

    await world.start(work)
    done = await world.done(await world.create())
    assert (done.error.code, done.error.message) == (1, "the user closed the account")
    assert metadata_of(done).state == state_pb2.JOB_STATE_CANCELLED
    assert metadata_of(done).cancel_requested


async def test_a_cancel_that_comes_with_the_claim_reaches_the_handler(world, worker):
    """Between the claim's commit and the attempt's beginning, nothing is overheard."""
    await world.start(worker.run)
    name = None

    async def cancel(events):
        if any(isinstance(event, Claim) for event in events):
            world.link.after = _nothing
            await world.cancel(name)

    world.link.after = cancel
    name = await world.create()
    done = await world.done(name)  # no heartbeat has helped: time stood still
    assert done.error.code == Code.CANCELLED


# Leases (R5, R6).


async def test_a_claim_that_is_answered_too_late_begins_nothing(shared_world):
    """By then another worker may have the operation (R10)."""
    attempts = []

    async def work(request, op):
        attempts.append(op.attempt)
        return Text(value="run")

    async def answer_late(events):
        if any(isinstance(event, Claim) for event in events):
            shared_world.link.after = _nothing
            shared_world.clock.advance(timedelta(seconds=LEASE))

    await shared_world.start(work)
    shared_world.link.after = answer_late
    name = await shared_world.create()
    await shared_world.pass_time(SWEEP + 1)
    assert response_of(await shared_world.done(name)) == "run"
    assert attempts == [2]


async def test_a_healthy_attempt_is_kept_for_ever(world, worker):
    """Its lease is renewed while it runs, for ten leases (R6)."""
    await world.start(worker.run)
    name = await world.create()
    await worker.started
    await world.pass_time(10 * LEASE)
    worker.go_on.set()
    assert response_of(await world.done(name)) == "attempt 1"
    assert worker.attempts == [1]


async def test_a_step_of_the_wall_clock_does_not_cost_a_healthy_attempt(world, worker):
    """As after a suspend of the machine: no time has passed for this process (R6)."""
    await world.start(worker.run)
    name = await world.create()
    await worker.started
    for minutes in (10, -20, 30):
        await world.pass_time(0.5 * LEASE)
        world.clock.offset += timedelta(minutes=minutes)
        await world.pass_time(2 * LEASE)
    worker.go_on.set()
    assert response_of(await world.done(name)) == "attempt 1"
    assert worker.attempts == [1]


async def test_a_write_of_an_attempt_that_has_lost_its_lease_is_refused(world):
    """The former attempt is stopped, its outcome dropped; the new one's stands (R5)."""
    started = [Signal(), Signal(), Signal()]
    go_on = [Signal(), Signal(), Signal()]
    ended, reasons = Signal(), []

    async def work(request, op):
        started[op.attempt].set()
        try:
            await go_on[op.attempt]
        except asyncio.CancelledError:
            reasons.append(op.stop_reason)
        if op.attempt == 1:
            ended.set()
        return Text(value=f"attempt {op.attempt}")

    await world.start(work)
    name = await world.create()
    await started[1]
    await world.apply(name, LeaseLost(1, proven=True))
    await started[2]
    go_on[1].set()
    await ended
    assert (await world.record(name)).state == states.RUNNING
    await world.pass_time(2 * LEASE)  # the end of the former does not stop the new one's heart
    go_on[2].set()
    assert response_of(await world.done(name)) == "attempt 2"


async def test_an_attempt_is_stopped_when_a_new_one_begins_in_its_own_process(world, worker):
    """Two attempts must not go on side by side (R5)."""
    await world.start(worker.run)
    name = await world.create()
    await worker.started
    await world.apply(name, LeaseLost(1, proven=True))
    await world.until(name, lambda one: one.attempt == 2)
    await world.pass_time(LEASE / 3 + 1)
    await worker.unwound
    assert worker.unwound_by == [(worker.unwinding, StopReason.LEASE_LOST)]
    worker.go_on.set()
    assert response_of(await world.done(name)) == "attempt 2"


async def test_an_attempt_stops_once_the_store_cannot_renew_its_lease(shared_world, worker):
    """By the monotonic clock, a little before the store gives it to another one (R10)."""
    await shared_world.start(worker.run)
    name = await shared_world.create()
    await worker.started

    async def fail(events):
        raise UnavailableError("the store is down")

    await shared_world.pass_time(2 * LEASE)  # its lease was renewed at the very end of this time
    shared_world.link.before = fail
    await shared_world.pass_time(LEASE * 0.8)
    assert worker.unwound_by == []
    await shared_world.pass_time(LEASE * 0.2)
    await worker.unwound
    assert worker.unwound_by == [(worker.unwinding, StopReason.LEASE_LOST)]
    shared_world.link.before = _nothing
    worker.go_on.set()
    await shared_world.pass_time(10)
    assert response_of(await shared_world.done(name)) == "attempt 2"


async def test_a_process_that_has_stood_still_beats_first_and_judges_then(shared_world, worker):
    """The clock says that its lease is over, and the store that the operation is its own."""
    await shared_world.start(worker.run)
    name = await shared_world.create()
    await worker.started
    shared_world.clock.advance(timedelta(seconds=10 * LEASE))
    await shared_world.pass_time(2 * SWEEP)
    assert worker.unwound_by == []
    worker.go_on.set()
    assert response_of(await shared_world.done(name)) == "attempt 1"
    assert worker.attempts == [1]


async def test_a_process_that_has_stood_still_and_hears_nothing_judges_by_the_clock(
    shared_world, worker
):
    await shared_world.start(worker.run)
    await shared_world.create()
    await worker.started

    async def fail(events):
        raise UnavailableError("the store is down")

    shared_world.link.before = fail
    shared_world.clock.advance(timedelta(seconds=10 * LEASE))
    await shared_world.pass_time(LEASE / 3)
    assert worker.unwound_by == []
    await shared_world.pass_time(1)
    await worker.unwound
    assert worker.unwound_by == [(worker.unwinding, StopReason.LEASE_LOST)]


@pytest.mark.parametrize("hours", [-5, 0, 24])
async def test_a_claim_whose_answer_is_lost_is_rescued_whatever_the_time_of_day(world, hours):
    """Nobody holds the operation then, though it has a lease (R6)."""

    async def work(request, op):
        return Text(value=f"attempt {op.attempt}")

    async def lose_the_answer(events):
        if any(isinstance(event, Claim) for event in events):
            world.link.after = _nothing
            world.clock.offset += timedelta(hours=hours)
            raise UnavailableError("the answer is lost")

    await world.start(work)
    world.link.after = lose_the_answer
    name = await world.create()
    await world.pass_time(SWEEP + 1)
    assert response_of(await world.done(name)) == "attempt 2"


async def test_a_claim_that_is_answered_late_is_no_lost_one(world, worker):
    """Nor does a sweep take it away in between, where the store has no other process."""

    async def sweep_first(events):
        if any(isinstance(event, Claim) for event in events):
            world.link.after = _nothing
            await world.pass_time(2 * LEASE)

    await world.start(worker.run)
    world.link.after = sweep_first
    name = await world.create()
    await worker.started
    worker.go_on.set()
    assert response_of(await world.done(name)) == "attempt 1"


async def test_an_outage_of_a_store_without_other_processes_stops_no_attempt(world, worker):
    """However long it is: nobody can have taken the operation away (R10)."""
    await world.start(worker.run)
    name = await world.create()
    await worker.started

    async def fail(events):
        raise UnavailableError("the disk is full")

    world.link.before = fail
    await world.pass_time(3 * LEASE)
    worker.go_on.set()
    await world.pass_time(3 * LEASE)
    world.link.before = _nothing
    await world.pass_time(1)
    assert response_of(await world.done(name)) == "attempt 1"
    assert worker.attempts == [1]


async def test_a_cancel_whose_notice_is_lost_is_found_by_a_sweep(memory_world, worker):
    """As where a commit is reported as failed, and has happened (R9)."""
    await memory_world.start(worker.run)
    name = await memory_world.create()
    await worker.started
    await memory_world.apply_unheard(name, Cancel())
    await memory_world.pass_time(SWEEP + 1)
    assert (await memory_world.done(name)).error.code == Code.CANCELLED
    assert worker.unwound_by == [(worker.unwinding, StopReason.CANCEL)]


@pytest.mark.parametrize(
    ("error", "levels"),
    [
        (integrity.damaged("op", "its state is 99"), set()),  # the store has logged it
        (UnavailableError("the disk is full"), {logging.WARNING}),
        (RuntimeError("a bug"), {logging.ERROR}),
    ],
    ids=["damaged", "unavailable", "bug"],
)
async def test_an_operation_that_cannot_be_read_keeps_no_sweep_from_the_others(
    memory_world, error, levels, caplog
):
    started = [Signal(), Signal()]

    async def work(request, op):
        started[int(request.value)].set()
        await Signal()

    await memory_world.start(work)
    unreadable, other = [await memory_world.create(str(number)) for number in range(2)]
    for one in started:
        await one
    read = memory_world.link.read

    async def read_all_but_one(name):
        if name == unreadable:
            raise error
        return await read(name)

    memory_world.link.read = read_all_but_one
    await memory_world.apply_unheard(other, Cancel())
    await memory_world.pass_time(SWEEP + 1)
    assert (await memory_world.done(other)).error.code == Code.CANCELLED
    assert {one.levelno for one in caplog.records if one.levelno >= logging.WARNING} == levels


async def test_an_operation_whose_worker_is_gone_is_taken_over_within_lease_and_sweep(shared_world):
    """Also one that a dead process on the same store has claimed (R6)."""
    started = Signal()

    async def work(request, op):
        started.set()
        return Text(value=f"attempt {op.attempt}")

    await shared_world.start(handler(work, method=OTHER_METHOD))
    name = await shared_world.create()
    await shared_world.apply(name, Claim(int(LEASE * 1e6)))
    await shared_world.pass_time(LEASE + 5)
    assert (await shared_world.record(name)).failed_attempts == 1
    assert (await shared_world.record(name)).state == states.QUEUED


async def test_a_thread_that_goes_on_without_its_lease_keeps_its_slot(shared_world):
    """It cannot be ended, and still uses what the slot stands for."""
    started, go_on = [Signal(), Signal()], Signal()

    def work(request, op):
        number = int(request.value)
        started[number].set()
        if number == 0:
            go_on.wait()
        return Text()

    await shared_world.start(handler(work, concurrency=1))
    stuck = await shared_world.create("0")
    await started[0]
    store = await shared_world.open()
    await store.apply_all([(stuck, LeaseLost(1, proven=True)), (stuck, Claim(10**9))])
    waiting = await shared_world.create("1")
    await shared_world.pass_time(LEASE)
    assert (await shared_world.record(waiting)).attempt == 0
    go_on.set()
    assert response_of(await shared_world.done(waiting)) == ""
    assert (await shared_world.record(stuck)).attempt == 2


async def test_an_operation_that_was_cancelled_and_deleted_before_its_turn_is_no_error(
    world, worker, caplog
):
    await world.start(handler(worker.run, concurrency=1))
    first = await world.create()
    await worker.started
    gone, last = await world.create(), await world.create()
    store = await world.open()
    await store.apply_all([(gone, Cancel()), (gone, Delete())])
    worker.go_on.set()
    for name in (first, last):
        assert response_of(await world.done(name)) == "attempt 1"
    assert [one.getMessage() for one in caplog.records if one.levelname == "ERROR"] == []


# Outages of the store (R10, R11).


async def test_an_outcome_is_stored_after_an_outage(world, worker):
    await world.start(worker.run)
    name = await world.create()
    await worker.started
    failed = Signal()

    async def fail(events):
        if any(isinstance(event, Succeed) for event in events):
            failed.set()
            raise UnavailableError("the store is down")

    world.link.before = fail
    worker.go_on.set()
    await failed
    world.link.before = _nothing
    await world.pass_time(1)
    assert response_of(await world.done(name)) == "attempt 1"


async def test_an_outcome_that_was_stored_unknown_to_its_worker_is_not_stored_twice(world, worker):
    """The commit went through, its answer did not (R11)."""
    await world.start(worker.run)
    name = await world.create()
    await worker.started

    async def fail(events):
        if any(isinstance(event, Succeed) for event in events):
            world.link.after = _nothing
            raise UnavailableError("the answer was lost")

    world.link.after = fail
    worker.go_on.set()
    done = await world.done(name)
    await world.pass_time(LEASE)
    assert await world.get(name) == done
    assert response_of(done) == "attempt 1"
    assert worker.attempts == [1]


async def test_in_an_outage_outcomes_wait_together(world, caplog):
    """However many attempts end, the store is asked once in a while, and a line logged."""
    go_on = [Signal() for _ in range(20)]
    tries = []

    async def run(request, op):
        await go_on[int(request.value)]
        return Text(value=request.value)

    async def fail(events):
        if any(isinstance(event, Succeed) for event in events):
            tries.append(len(events))
            raise UnavailableError("the disk is gone")

    await world.start(run)
    names = [await world.create(str(number)) for number in range(20)]
    for name in names:
        await world.until_in(name, state_pb2.JOB_STATE_RUNNING)
    world.link.before = fail
    for one in go_on:
        one.set()
        await world.pass_time(0.5)
    assert max(tries) > 10
    assert len(tries) <= 3 * len(names)
    assert caplog.text.count("the disk is gone; trying again") <= len(names) + 1
    world.link.before = _nothing
    await world.pass_time(1)
    assert [response_of(await world.get(name)) for name in names] == [
        str(number) for number in range(20)
    ]


@pytest.mark.parametrize(
    "error", [UnavailableError("the store is down"), RuntimeError("a bug of the store")]
)
async def test_progress_that_could_not_be_stored_is_stored_later(world, error):
    reported, go_on = Signal(), Signal()
    failed = Signal()

    async def work(request, op):
        op.progress(40, "copying")
        reported.set()
        await go_on
        return Text()

    async def fail(events):
        if any(isinstance(event, Report) for event in events):
            world.link.before = _nothing
            failed.set()
            raise error

    await world.start(work)
    world.link.before = fail
    name = await world.create()
    await failed
    await world.pass_time(1)
    await world.until(name, lambda one: b"copying" in one.operation)
    go_on.set()
    assert metadata_of(await world.done(name)).status_detail == "copying"


async def test_operations_that_came_before_an_outage_are_run_after_it(world, worker):
    """Nothing that waits is forgotten, whichever question the store could not answer (R9)."""
    names = [await world.create() for _ in range(3)]
    failed = Signal()

    def fail() -> None:
        if not failed.is_set():
            failed.set()
            raise UnavailableError("the store is down")

    worker.go_on.set()
    await world.start(handler(worker.run, concurrency=3), before_claim=fail)
    await failed
    await world.pass_time(2)
    for name in names:
        assert response_of(await world.done(name)) == "attempt 1"


async def test_operations_that_could_not_be_claimed_in_an_outage_are_claimed_after_it(
    world, worker
):
    worker.go_on.set()
    await world.start(worker.run)
    await world.done(await world.create())
    failed = Signal()

    async def fail(events):
        if any(isinstance(event, Claim) for event in events):
            world.link.before = _nothing
            failed.set()
            raise UnavailableError("the store is down")

    world.link.before = fail
    name = await world.create()
    await failed
    await world.pass_time(2)
    assert response_of(await world.done(name)) == "attempt 1"


# Shutdown.


@pytest.mark.any_engine
async def test_a_shutdown_gives_the_operation_back_and_the_next_process_goes_on(world, worker):
    await world.start(worker.run)
    name = await world.create()
    await worker.started
    await world.stop()
    assert worker.unwound_by == [(worker.unwinding, StopReason.SHUTDOWN)]
    await world.open()
    released = await world.record(name)
    assert (released.state, released.failed_attempts, released.lease_expire_time) == (
        states.QUEUED,
        0,
        0,
    )
    worker.go_on.set()
    await world.start(worker.run)
    assert world.recovered == 0
    assert response_of(await world.done(name)) == "attempt 2"


@pytest.mark.any_engine
async def test_a_shutdown_that_is_announced_is_seen_and_interrupts_nobody(world):
    worker, seen = Worker(), Signal()

    async def work(request, op):
        with op.on_stop(lambda reason: seen.set()):
            return await worker.run(request, op)

    engine = await world.start(work)
    name = await world.create()
    await worker.started
    engine.announce_shutdown()
    await seen
    assert worker.unwound_by == []
    worker.go_on.set()
    assert response_of(await world.done(name)) == "attempt 1"


async def test_what_is_given_back_for_a_shutdown_does_not_begin_here_again(world):
    """Its handler's child had the signal, too; a second attempt's would not, and could be lost."""
    began, go_on, tried = Signal(), Signal(), []

    async def work(request, op):
        tried.append(op.name)
        if request.value == "fails":
            began.set()
            await go_on
            raise RuntimeError("a signal has ended the child")
        return Text(value="made it")

    engine = await world.start(work)
    name = await world.create("fails", max_attempts=1)
    await began
    engine.announce_shutdown()
    go_on.set()
    given_back = await world.until(name, lambda one: not one.lease_expire_time)
    assert (given_back.state, given_back.failed_attempts) == (states.QUEUED, 0)
    other = await world.create()
    assert response_of(await world.done(other)) == "made it"
    assert tried == [name, other]
    await world.stop()
    await world.open()
    assert (await world.record(name)).attempt == 1


@pytest.mark.any_engine
async def test_a_shutdown_lets_a_handler_finish_within_the_grace(world):
    started = Signal()

    async def work(request, op):
        started.set()
        try:
            await Signal()
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
        return Text(value="made it")

    await world.start(work)
    name = await world.create()
    await started
    await world.stop()
    await world.open()
    assert response_of(await world.get(name)) == "made it"


async def test_a_shutdown_in_an_outage_takes_no_more_than_the_grace(memory_world, monkeypatch):
    """Not one grace for the handlers, and one more for their outcomes; a test has a minute."""
    started = Signal()
    loop = asyncio.get_running_loop()

    async def work(request, op):
        started.set()
        try:
            await Signal()
        finally:  # the grace is all but over
            time = loop.time
            monkeypatch.setattr(loop, "time", lambda: time() + 49.5)

    async def fail(events):
        raise UnavailableError("the store is down")

    engine = await memory_world.start(work)
    await memory_world.create()
    await started
    memory_world.link.before = fail
    await engine.stop(timedelta(seconds=50))


async def test_a_thread_that_does_not_stop_keeps_its_operation(world):
    """It may still do things, so nobody else may until its lease is over."""
    started, go_on = Signal(), Signal()

    def stuck(request, op):
        started.set()
        go_on.wait()
        return Text(value="too late")

    engine = await world.start(stuck)
    name = await world.create()
    await started
    await engine.stop(timedelta(seconds=0.05))
    held = await world.record(name)
    assert (held.state, held.attempt) == (states.RUNNING, 1)
    assert held.lease_expire_time > 0
    go_on.set()
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert await world.record(name) == held


@pytest.mark.parametrize("keyword", KEYWORDS)
async def test_no_sweep_of_a_process_that_stops_takes_an_operation_from_a_handler_that_goes_on(
    world, worker, keyword
):
    """What it has cost is for the next process to say, when this one is gone."""
    started, go_on = Signal(), Signal()

    def stuck(request, op):
        started.set()
        go_on.wait()
        return Text(value="too late")

    async def stuck_async(request, op):
        started.set()
        while not go_on.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go_on
        return Text(value="too late")

    async def refuse_outcomes(events):
        if any(isinstance(event, Release) for event in events):
            raise UnavailableError("the store is down")

    run = stuck if keyword == "def" else stuck_async
    engine = await world.start(run, handler(worker.run, method=OTHER_METHOD))
    name = await world.create()
    await world.create(method=OTHER_METHOD)
    await started
    await worker.started
    held = await world.record(name)
    world.link.before = refuse_outcomes  # so the process stops for as long as it may
    stopping = asyncio.create_task(engine.stop(timedelta(seconds=0.1)))
    await worker.unwound
    while not stopping.done():
        await world.pass_time(SWEEP)
    await stopping
    assert await world.record(name) == held
    go_on.set()


@pytest.mark.parametrize("error", [LroError("no\nroom", code=Code.ABORTED), RuntimeError("a bug")])
async def test_an_error_while_the_server_stops_has_a_traceback_in_the_log_if_it_is_unexpected(
    world, caplog, error
):
    started = Signal()

    async def work(request, op):
        started.set()
        try:
            await Signal()
        except asyncio.CancelledError:
            raise error from None

    await world.start(work)
    await world.create()
    await started
    await world.stop()
    (line,) = [one for one in caplog.records if "while the server stops" in one.getMessage()]
    assert line.getMessage().endswith("no room" if isinstance(error, LroError) else "a bug")
    assert bool(line.exc_info) == (not isinstance(error, LroError))


async def test_a_claim_in_flight_at_a_shutdown_is_given_back(world, worker):
    """It was no worker's loss; the operation is not one attempt poorer for it."""
    claimed, go_on = Signal(), Signal()

    async def hold(events):
        if any(isinstance(event, Claim) for event in events):
            claimed.set()
            await go_on

    engine = await world.start(worker.run)
    world.link.after = hold
    name = await world.create(max_attempts=1)
    await claimed
    stopping = asyncio.create_task(engine.stop(timedelta(seconds=1)))
    await asyncio.sleep(0.01)
    go_on.set()
    await stopping
    world.link.after = _nothing
    await world.stop()
    worker.go_on.set()
    await world.start(worker.run)
    assert (await world.done(name)).WhichOneof("result") == "response"
    assert (await world.record(name)).failed_attempts == 0


async def test_nothing_is_begun_once_the_engine_stops(world, worker):
    engine = await world.start(handler(worker.run, concurrency=1))
    first = await world.create()
    waiting = [await world.create() for _ in range(3)]
    await worker.started
    engine.stop_claiming()
    worker.go_on.set()
    await world.done(first)
    late = await world.create()
    await engine.stop(timedelta(seconds=1))
    for name in (*waiting, late):
        assert (await world.record(name)).attempt == 0


async def test_a_handler_claimed_while_the_engine_stops_is_not_started(world, worker):
    """There is no use in beginning what has to stop at once."""
    engine = await world.start(worker.run)

    async def stop(events):
        if any(isinstance(event, Claim) for event in events):
            engine.stop_claiming()

    world.link.after = stop
    name = await world.create()
    await world.until(name, lambda one: one.attempt == 1)
    await world.until(name, lambda one: one.state == states.QUEUED)
    assert worker.attempts == []


async def test_a_claim_that_is_under_way_as_the_engine_stops_is_the_last(world, worker):
    """Though operations of the method's own name wait as well."""
    former, own = await world.create(method=OTHER_METHOD), await world.create()
    engines = []

    async def stop(events):
        if any(isinstance(event, Claim) for event in events):
            engines[0].stop_claiming()

    engines.append(await world.start(handler(worker.run, former_names=(OTHER_METHOD,))))
    world.link.before = stop
    await world.until(former, lambda one: one.attempt == 1)
    await world.stop()
    assert [(await world.record(name)).attempt for name in (former, own)] == [1, 0]


async def test_a_stopped_engine_leaves_no_tasks_behind(memory_world, worker):
    world = memory_world
    before = len(asyncio.all_tasks())
    engine = await world.start(worker.run)
    await world.create()
    await worker.started
    await engine.stop(timedelta(seconds=1))
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == before


def test_a_loop_that_ends_leaves_its_operations_to_the_next_process(memory_world, worker):
    """A service that fails elsewhere has not failed its operations (R3)."""
    world = memory_world

    async def main():
        await world.start(worker.run)
        await world.create()
        await worker.started
        raise KeyError("another part of the service")

    with pytest.raises(KeyError):
        asyncio.run(main())
    worker.go_on.set()
    seen = asyncio.run(world.record("projects/p/locations/l/operations/op-1"))
    assert (seen.state, seen.attempt) == (states.RUNNING, 1)


# Crash and recovery (R1, R3).


async def test_a_crashed_process_is_taken_over_at_the_next_start(world, worker):
    """At once, for its file's lock is proof; a finished operation is what it was."""
    await world.start(worker.run)
    name = await world.create()
    await worker.started
    finished = await world.create(method=OTHER_METHOD)
    await world.apply(finished, Claim(int(LEASE * 1e6)))
    await world.apply(finished, Succeed(Report(1), _anys.packed_bytes(Text(value="before"))))
    before = (await world.record(finished)).operation
    first_start = (await world.record(name)).start_time
    await world.crash()

    worker.go_on.set()
    await world.pass_time(1)
    await world.start(worker.run)
    assert world.recovered == 1
    done = await world.done(name)
    assert response_of(done) == "attempt 2"
    shown = metadata_of(done)
    assert (shown.attempt, shown.start_time.ToMicroseconds()) == (2, first_start)
    assert (await world.record(finished)).operation == before


async def test_progress_survives_a_crash_and_does_not_go_back(world):
    reported = [Signal(), Signal()]

    async def work(request, op):
        op.metadata.details.Pack(Text(value=f"{op.metadata.details.value!r}"[:20] + "+"))
        op.progress(60 if op.attempt == 1 else 10, f"attempt {op.attempt}")
        reported[op.attempt - 1].set()
        await Signal()

    await world.start(work)
    name = await world.create()
    await reported[0]
    await world.until(name, lambda one: one.status_detail == "attempt 1")
    handler_metadata = (await world.record(name)).handler_metadata
    await world.crash()
    await world.start(work)
    await reported[1]
    second = await world.until(name, lambda one: one.status_detail == "attempt 2")
    assert second.progress_percent == 60
    assert (
        second.handler_metadata != handler_metadata
    )  # the handler has found what the first attempt left


async def test_with_one_attempt_a_lost_worker_fails_the_operation(world, worker):
    """At most once: it is not run again (R3)."""
    await world.start(worker.run)
    name = await world.create(max_attempts=1)
    await worker.started
    await world.crash()
    await world.start(worker.run)
    done = await world.done(name)
    assert done.error.code == Code.ABORTED
    info = info_of(done.error.details)
    assert (info.reason, info.domain) == ("WORKER_LOST", "lro-grpc")
    assert worker.attempts == [1]


async def test_a_cancel_in_a_crash_is_not_forgotten(world, worker):
    await world.start(worker.run)
    name = await world.create()
    await worker.started
    world.link.cut()
    await world.cancel(name)
    await world.crash()
    await world.start(worker.run)
    assert (await world.done(name)).error.code == Code.CANCELLED
    assert worker.attempts == [1]


async def test_a_crashed_engine_reaches_nothing_any_more(world, worker):
    """A zombie's writes are refused by its old number, whatever it does (R5)."""
    await world.start(worker.run)
    name = await world.create()
    await worker.started
    await world.crash()
    await world.start(worker.run)
    await world.until(name, lambda one: one.attempt == 2)
    for event in (
        Heartbeat(1, 10**9),
        Report(1, 99),
        Succeed(Report(1), _anys.packed_bytes(Text())),
    ):
        with pytest.raises(StaleAttemptError):
            await world.apply(name, event)
    worker.go_on.set()
    assert response_of(await world.done(name)) == "attempt 2"


async def test_a_deleted_operation_survives_a_crash_and_ends(world, worker):
    await world.start(worker.run)
    name = await world.create()
    await worker.started
    await world.apply(name, Delete())
    await world.crash()
    ended = Signal()
    (await world.open()).subscribe(lambda _, one: ended.set() if one.done else None)
    worker.go_on.set()
    await world.start(worker.run)
    assert world.recovered == 1
    await ended
    assert worker.attempts == [1, 2]
    with pytest.raises(OperationNotFoundError):
        await world.apply(name, Report(2, 1))


async def test_an_ended_attempt_is_let_go_of(memory_world):
    """Not one object of it stays, however many operations the process has run."""
    seen = []

    async def work(request, op):
        seen.append(weakref.ref(op))
        op.progress(1)
        return Text()

    await memory_world.start(work)
    await memory_world.done(await memory_world.create())
    await memory_world.done(await memory_world.create())
    await asyncio.sleep(0.3)
    gc.collect()
    assert [one for one in seen if one() is not None] == []
    assert [one for one in threading.enumerate() if METHOD in one.name] == []


async def _nothing(events):
    del events


async def test_a_stop_does_not_wait_beyond_its_grace_for_a_store_that_does_not_answer(world):
    async def work(request, op):
        return Text()

    engine = await world.start(work)
    claiming, answer = Signal(), Signal()

    async def hang(events):
        if any(isinstance(event, Claim) for event in events):
            claiming.set()
            await answer

    world.link.before = hang
    await world.create()
    await claiming
    await engine.stop(timedelta(seconds=0.1))
    answer.set()
