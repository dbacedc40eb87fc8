"""A method's time limit, and the longest time without progress of an attempt."""

from __future__ import annotations

import asyncio
import functools
import logging
from datetime import timedelta
from typing import Any

import pytest
from engine_world import (
    LEASE,
    METHOD,
    SWEEP,
    Signal,
    Text,
    handler,
    info_of,
    metadata_of,
    response_of,
    states_of,
    statuses_of,
)

from lro_grpc._errors import (
    AttemptStopped,
    Code,
    OperationNotFoundError,
    RetryableError,
    StopReason,
)
from lro_grpc._operation import states
from lro_grpc._operation.batch_states import UNBEGUN, BatchStates
from lro_grpc._operation.events import Delete, Expire

KEYWORDS = ["def", "async def"]
SECOND = 1_000_000


@pytest.fixture(params=KEYWORDS)
def keyword(request: pytest.FixtureRequest) -> str:
    return request.param


class Waiter:
    """A handler that waits until it is let go, and keeps what stops it; deaf, it never looks."""

    def __init__(self, keyword: str, *, deaf: bool = False) -> None:
        self.run = self._run if keyword == "def" else self._run_async
        self._deaf = deaf
        self.started = Signal()
        self.go_on = Signal()
        self.attempts: list[int] = []
        self.stopped_by: list[tuple[type[BaseException], StopReason | None]] = []

    def _run(self, request: Any, op: Any) -> Any:
        self._begin(op)
        if self._deaf:
            self.go_on.wait()
        try:
            self.go_on.wait_or_stop(op)
        except BaseException as error:
            self.stopped_by.append((type(error), op.stop_reason))
            raise
        return Text(value=f"attempt {op.attempt}")

    async def _run_async(self, request: Any, op: Any) -> Any:
        self._begin(op)
        while True:
            try:
                await self.go_on
            except asyncio.CancelledError as error:
                self.stopped_by.append((type(error), op.stop_reason))
                if self._deaf:
                    continue
                raise
            return Text(value=f"attempt {op.attempt}")

    def _begin(self, op: Any) -> None:
        self.attempts.append(op.attempt)
        self.started.set()


@pytest.fixture
def waiter(keyword: str) -> Waiter:
    return Waiter(keyword)


def is_expired(operation: Any) -> bool:
    """Whether an operation has ended for its time limit, as all of them do."""
    assert operation.done
    assert operation.error.code == Code.DEADLINE_EXCEEDED
    info = info_of(operation.error.details)
    assert info.reason == "OPERATION_EXPIRED"
    assert info.metadata == {"operation": operation.name, "method": METHOD}
    return metadata_of(operation).state == states.EXPIRED


# The method's time limit.


@pytest.mark.any_engine
async def test_an_operation_that_was_never_claimed_expires(world, waiter):
    """At the latest one sweep after its time; and its handler never begins."""
    await world.start(handler(waiter.run, concurrency=1))
    await world.create()
    await waiter.started
    name = await world.create(timeout=6 * SECOND)
    await world.pass_time(5.5)
    assert not (await world.get(name)).done
    await world.pass_time(0.5 + SWEEP)
    assert is_expired(await world.get(name))
    assert metadata_of(await world.get(name)).attempt == 0
    assert waiter.attempts == [1]


@pytest.mark.any_engine
async def test_an_operation_that_runs_is_stopped_and_expires(world, keyword):
    waiter = Waiter(keyword)
    await world.start(waiter.run)
    name = await world.create(timeout=6 * SECOND)
    await waiter.started
    await world.pass_time(5.5)
    assert waiter.stopped_by == []
    await world.pass_time(0.5)
    done = await world.done(name)
    assert is_expired(done)
    assert "6 s" in done.error.message
    kind = AttemptStopped if keyword == "def" else asyncio.CancelledError
    assert waiter.stopped_by == [(kind, StopReason.TIMEOUT)]


async def test_a_time_limit_may_be_shorter_than_a_sweep(world, waiter):
    await world.start(waiter.run)
    name = await world.create(timeout=SECOND // 2)
    await waiter.started
    await world.pass_time(0.5)
    assert is_expired(await world.done(name))


@pytest.mark.any_engine
async def test_a_handler_that_ends_in_time_is_not_touched(world, waiter):
    await world.start(waiter.run)
    name = await world.create(timeout=6 * SECOND)
    await waiter.started
    await world.pass_time(5.5)
    waiter.go_on.set()
    assert response_of(await world.done(name)) == "attempt 1"
    await world.pass_time(6)
    assert response_of(await world.get(name)) == "attempt 1"


async def test_a_handler_may_finish_although_its_time_is_over(world):
    """Its result all the same is published, as with a cancel."""
    started = Signal()

    async def work(request, op):
        started.set()
        try:
            await Signal()
        except asyncio.CancelledError:
            return Text(value="made it")

    await world.start(work)
    name = await world.create(timeout=2 * SECOND)
    await started
    await world.pass_time(2)
    assert response_of(await world.done(name)) == "made it"


async def test_a_handler_that_does_not_stop_is_given_up_and_keeps_its_slot(world, keyword):
    """A thread cannot be killed: nothing that it still does counts (R5)."""
    waiter = Waiter(keyword, deaf=True)
    await world.start(handler(waiter.run, concurrency=1))
    name = await world.create(timeout=2 * SECOND)
    await waiter.started
    other = await world.create()
    await world.pass_time(2 + LEASE - 0.5)
    assert not (await world.get(name)).done
    await world.pass_time(1)
    expired = await world.done(name)
    assert is_expired(expired)
    assert waiter.attempts == [1]
    waiter.go_on.set()
    assert response_of(await world.done(other)) == "attempt 1"
    assert await world.get(name) == expired


async def test_a_handler_is_given_up_though_the_store_fails_then(world, keyword):
    waiter = Waiter(keyword, deaf=True)
    failed = Signal()

    async def fail(events):
        if any(isinstance(event, Expire) for event in events):
            world.link.before = go_on
            failed.set()
            raise RuntimeError("a bug of the store")

    async def go_on(events):
        pass

    await world.start(handler(waiter.run, concurrency=1))
    world.link.before = fail
    name = await world.create(timeout=2 * SECOND)
    await waiter.started
    await world.pass_time(2 + LEASE + 0.5)
    await failed
    await world.pass_time(LEASE + 2 * SWEEP)
    assert is_expired(await world.get(name))
    waiter.go_on.set()


@pytest.mark.any_engine
async def test_the_time_goes_on_while_it_is_paused(world, waiter):
    name = await world.create(timeout=6 * SECOND, pausable=True)
    await world.pause(name)
    await world.start(waiter.run)
    await world.pass_time(5.5)
    assert (await world.record(name)).state == states.PAUSED
    await world.pass_time(0.5 + SWEEP)
    assert is_expired(await world.get(name))
    assert waiter.attempts == []


async def test_the_time_goes_on_while_nobody_serves(world, waiter):
    name = await world.create(timeout=6 * SECOND)
    await world.stop()
    world.clock.advance(timedelta(hours=1))
    await world.start(waiter.run)
    await world.pass_time(SWEEP + 0.5)
    assert is_expired(await world.get(name))
    assert waiter.attempts == []


async def test_overdue_operations_do_not_keep_others_from_their_turn(memory_world):
    """Nor does the engine try to claim them over and over, until the sweep ends them."""
    names = [await memory_world.create(timeout=SECOND) for _ in range(5)]
    memory_world.clock.advance(timedelta(seconds=2))
    asked = []

    async def work(request, op):
        return Text(value="done")

    await memory_world.start(handler(work, concurrency=2), before_claim=lambda: asked.append(None))
    other = await memory_world.create()
    assert response_of(await memory_world.done(other)) == "done"
    assert len(asked) < 5
    await memory_world.pass_time(SWEEP)
    assert [is_expired(await memory_world.get(name)) for name in names] == [True] * 5


async def test_an_attempt_that_is_claimed_just_before_the_end_is_stopped_at_it(world, waiter):
    name = await world.create(timeout=2 * SECOND)
    world.clock.advance(timedelta(microseconds=2 * SECOND - 1))
    await world.start(waiter.run)
    await waiter.started
    await world.pass_time(0.5)
    assert is_expired(await world.done(name))


@pytest.mark.any_engine
async def test_a_cancelled_operation_whose_time_is_over_has_failed(world, keyword):
    """Its handler was asked to stop, and has not: FAILED with code 4, as Vertex AI has it."""
    waiter = Waiter(keyword, deaf=True)
    await world.start(waiter.run)
    name = await world.create(timeout=2 * SECOND)
    await waiter.started
    await world.cancel(name)
    await world.pass_time(2 + LEASE + 0.5)
    done = await world.done(name)
    assert done.error.code == Code.DEADLINE_EXCEEDED
    assert metadata_of(done).state == states.FAILED
    assert metadata_of(done).cancel_requested
    waiter.go_on.set()


async def test_a_handler_that_is_stopped_in_time_by_a_cancel_is_cancelled(world, waiter):
    await world.start(waiter.run)
    name = await world.create(timeout=2 * SECOND)
    await waiter.started
    await world.cancel(name)
    await world.pass_time(2)
    assert (await world.done(name)).error.code == Code.CANCELLED


async def test_a_restart_does_not_prolong_the_time(world, waiter):
    await world.start(waiter.run)
    name = await world.create(timeout=6 * SECOND)
    await waiter.started
    await world.pass_time(3)
    await world.crash()
    await world.start(waiter.run)
    await world.until(name, lambda one: one.attempt == 2)
    await world.pass_time(3)
    assert is_expired(await world.done(name))


async def test_a_clock_that_is_set_back_never_cuts_the_time_short(world, waiter):
    await world.start(waiter.run)
    name = await world.create(timeout=6 * SECOND)
    await waiter.started
    world.clock.offset = timedelta(seconds=-10)
    await world.pass_time(15.5)
    assert not (await world.get(name)).done
    await world.pass_time(0.5)
    assert is_expired(await world.done(name))


@pytest.mark.any_engine
async def test_a_retry_does_not_begin_after_the_time_is_over(world):
    attempts = []

    async def work(request, op):
        attempts.append(op.attempt)
        raise RetryableError("busy", retry_after=timedelta(hours=1))

    await world.start(work)
    name = await world.create(timeout=6 * SECOND)
    await world.until(name, lambda one: one.failed_attempts)
    await world.pass_time(6 + SWEEP)
    assert is_expired(await world.done(name))
    assert attempts == [1]


async def test_a_deleted_operation_expires_too(world, waiter):
    await world.start(waiter.run)
    name = await world.create(timeout=2 * SECOND, target="t", exclusive=True)
    await waiter.started
    await world.apply(name, Delete())
    ended = Signal()
    store = await world.open()
    store.subscribe(lambda _, one: ended.set() if one.done else None)
    await world.pass_time(2)
    await ended
    assert await store.exclusive_holder("t") == ""


# Time limits of operations with a batch: it is rolled back.


class Batcher:
    """Creates a batch, waiting in the middle and after it; notes what it creates and deletes."""

    def __init__(self, keyword: str, *, wait_in: str = "") -> None:
        self.run = self._run if keyword == "def" else self._run_async
        self.wait_in = wait_in
        self.reached = Signal()
        self.go_on = Signal()
        self.deleting = Signal()
        self.delete_on = Signal()
        self.created: list[str] = []
        self.deleted: list[str] = []
        self.delete_on.set()

    def _run(self, request: Any, op: Any) -> Any:
        def create(target: str) -> None:
            if target == self.wait_in:
                self.reached.set()
                self.go_on.wait_or_stop(op)
            self.created.append(target)

        def delete(target: str) -> None:
            self.deleting.set()
            self.delete_on.wait()
            self.deleted.append(target)

        op.batch(["a", "b", "c"], create=create, delete=delete)
        self.reached.set()
        self.go_on.wait_or_stop(op)
        return Text(value=f"attempt {op.attempt}")

    async def _run_async(self, request: Any, op: Any) -> Any:
        async def create(target: str) -> None:
            if target == self.wait_in:
                self.reached.set()
                await self.go_on
            self.created.append(target)

        async def delete(target: str) -> None:
            self.deleting.set()
            await self.delete_on
            self.deleted.append(target)

        await op.batch(["a", "b", "c"], create=create, delete=delete)
        self.reached.set()
        await self.go_on
        return Text(value=f"attempt {op.attempt}")


@pytest.mark.any_engine
async def test_a_batch_that_was_created_is_rolled_back(world, keyword):
    batcher = Batcher(keyword)
    await world.start(batcher.run)
    name = await world.create(timeout=2 * SECOND)
    await batcher.reached
    await world.pass_time(2)
    done = await world.done(name)
    assert is_expired(done)
    assert batcher.deleted == ["c", "b", "a"]
    assert states_of(done) == ["ROLLED_BACK"] * 3


async def test_a_batch_that_is_half_created_is_rolled_back(world, keyword):
    batcher = Batcher(keyword, wait_in="b")
    await world.start(batcher.run)
    name = await world.create(timeout=2 * SECOND)
    await batcher.reached
    await world.pass_time(2)
    done = await world.done(name)
    assert is_expired(done)
    assert batcher.deleted == ["a"]
    assert states_of(done) == ["ROLLED_BACK", "FAILED", "FAILED"]
    codes = [one.error.code for one in statuses_of(done)]
    assert codes == [0, Code.DEADLINE_EXCEEDED, Code.ABORTED]


async def test_a_batch_whose_creation_does_not_stop_is_rolled_back_by_another_attempt(world):
    reached, go_on = Signal(), Signal()
    created: list[str] = []
    deleted: list[str] = []

    def run(request: Any, op: Any) -> Any:
        def create(target: str) -> None:
            created.append(target)
            if target == "b":
                reached.set()
                go_on.wait()  # and never looks whether it has to stop

        op.batch(["a", "b", "c"], create=create, delete=deleted.append)

    await world.start(run)
    name = await world.create(timeout=2 * SECOND)
    await reached
    await world.pass_time(2 + LEASE + 1)
    done = await world.done(name)
    go_on.set()
    assert is_expired(done)
    assert metadata_of(done).attempt == 2
    assert (created, deleted) == (["a", "b"], ["b", "a"])
    assert states_of(done) == ["ROLLED_BACK", "ROLLED_BACK", "FAILED"]


async def test_a_rollback_is_not_cut_short(world, keyword):
    """However long it takes; and what was created does not stay for ever."""
    batcher = Batcher(keyword)
    batcher.delete_on = Signal()
    await world.start(batcher.run)
    name = await world.create(timeout=2 * SECOND)
    await batcher.reached
    await world.pass_time(2)
    await batcher.deleting
    await world.pass_time(3 * LEASE)
    assert not (await world.get(name)).done
    batcher.delete_on.set()
    done = await world.done(name)
    assert is_expired(done)
    assert states_of(done) == ["ROLLED_BACK"] * 3


async def test_a_rollback_for_a_cancel_is_not_cut_short_by_the_time_limit(world, keyword):
    batcher = Batcher(keyword)
    batcher.delete_on = Signal()
    await world.start(batcher.run)
    name = await world.create(timeout=2 * SECOND)
    await batcher.reached
    await world.cancel(name)
    await batcher.deleting
    await world.pass_time(2 + 2 * LEASE)
    batcher.delete_on.set()
    done = await world.done(name)
    assert done.error.code == Code.CANCELLED
    assert states_of(done) == ["ROLLED_BACK"] * 3


@pytest.mark.parametrize("wait_in", ["", "b"])
async def test_a_batch_of_an_operation_that_nobody_holds_is_rolled_back(world, keyword, wait_in):
    """One more attempt is begun for that, though the time is over."""
    batcher = Batcher(keyword, wait_in=wait_in)
    await world.start(batcher.run)
    name = await world.create(timeout=6 * SECOND)
    await batcher.reached
    await world.crash()
    world.clock.advance(timedelta(hours=1))
    await world.start(batcher.run)
    done = await world.done(name)
    assert is_expired(done)
    assert metadata_of(done).attempt == 2
    assert sorted(batcher.deleted) == (["a", "b", "c"] if not wait_in else ["a", "b"])
    assert batcher.created == (["a", "b", "c"] if not wait_in else ["a"])


async def test_a_batch_of_a_paused_operation_is_rolled_back(world):
    made, asked = Signal(), Signal()
    deleted = []

    async def create(target):
        pass

    async def delete(target):
        deleted.append(target)

    async def work(request, op):
        await op.batch(["a"], create=create, delete=delete)
        made.set()
        await asked
        await op.checkpoint(b"made")
        return Text(value="too early")

    await world.start(work)
    name = await world.create(timeout=6 * SECOND, pausable=True)
    await made
    await world.pause(name)
    asked.set()
    await world.until(name, lambda one: one.state == states.PAUSED)
    assert deleted == []
    await world.pass_time(6 + SWEEP)
    assert is_expired(await world.done(name))
    assert deleted == ["a"]


async def test_an_attempt_that_comes_late_to_its_batch_leaves_it_to_the_next_one(world):
    """It has begun before the batch's operation was overdue, and is stopped before its batch."""
    waiting, first = Signal(), Signal()
    deleted = []

    async def create(target):
        pass

    async def delete(target):
        deleted.append(target)

    async def work(request, op):
        if op.attempt == 2:
            waiting.set()
            await Signal()
        await op.batch(["a"], create=create, delete=delete)
        first.set()
        await Signal()

    await world.start(work)
    name = await world.create(timeout=6 * SECOND)
    await first
    await world.crash()
    await world.start(work)
    await waiting
    await world.pass_time(6)
    done = await world.done(name)
    assert is_expired(done)
    assert deleted == ["a"]
    assert metadata_of(done).attempt == 3


async def test_an_attempt_to_undo_a_checkpoint_is_not_cut_short(world):
    """The handler undoes by itself, for the operation was cancelled; its time being over or not."""
    begun, undoing, go_on = Signal(), Signal(), Signal()

    async def work(request, op):
        if op.cancel_requested:
            undoing.set()
            await go_on
            op.progress(detail="undone")
            await op.checkpoint()
        await op.checkpoint(b"begun")
        begun.set()
        await Signal()

    await world.start(work)
    name = await world.create(timeout=6 * SECOND)
    await begun
    await world.crash()
    await world.cancel(name)
    await world.start(work)
    await undoing
    await world.pass_time(6 + 2 * LEASE)
    go_on.set()
    done = await world.done(name)
    assert (done.error.code, metadata_of(done).status_detail) == (Code.CANCELLED, "undone")


# Retention.


async def test_a_done_operation_is_kept_for_its_retention_and_then_goes(world, caplog):
    """Its end is logged once, and not again when it goes."""
    caplog.set_level(logging.INFO, "lro_grpc")

    async def work(request, op):
        return Text()

    await world.start(work)
    name = await world.create(retention=30 * SECOND)
    done = await world.done(name)
    shown = metadata_of(done)
    kept = shown.expire_time.ToMicroseconds() - shown.end_time.ToMicroseconds()
    assert kept == 30 * SECOND
    await world.pass_time(29.5)
    assert await world.get(name) == done
    await world.pass_time(0.5 + SWEEP)
    with pytest.raises(OperationNotFoundError):
        await world.get(name)
    assert caplog.text.count(f"{name}: SUCCEEDED") == 1


async def test_more_than_fits_into_one_commit_is_removed_by_one_sweep(memory_world):
    names = [await memory_world.create(retention=SECOND) for _ in range(1100)]
    for name in names:
        await memory_world.cancel(name)
    memory_world.clock.advance(timedelta(seconds=1))
    store = await memory_world.open()
    gone = []
    store.subscribe(lambda _, one: gone.append(one.name))
    await memory_world.start()
    await memory_world.pass_time(SWEEP + 0.5)
    assert sorted(gone) == sorted(names)
    assert await store.expired(9) == []


# Silence.


def silent_after(waiter: Waiter, seconds: float, **more: Any) -> Any:
    return handler(waiter.run, progress_timeout=timedelta(seconds=seconds), **more)


@pytest.mark.any_engine
async def test_a_handler_that_is_silent_is_lost_and_run_again(world, waiter):
    await world.start(silent_after(waiter, 6))
    name = await world.create()
    await waiter.started
    await world.pass_time(5.5)
    assert waiter.attempts == [1]
    await world.pass_time(0.5)
    again = await world.until(name, lambda one: one.attempt == 2)
    assert again.failed_attempts == 1
    assert [reason for _, reason in waiter.stopped_by] == [StopReason.TIMEOUT]
    waiter.go_on.set()
    assert response_of(await world.done(name)) == "attempt 2"


@pytest.mark.any_engine
async def test_the_last_attempt_that_is_silent_fails_with_aborted(world, waiter):
    await world.start(silent_after(waiter, 6))
    name = await world.create(max_attempts=1)
    await waiter.started
    await world.pass_time(6)
    done = await world.done(name)
    assert done.error.code == Code.ABORTED
    assert info_of(done.error.details).reason == "NO_PROGRESS"


async def test_a_silent_handler_that_does_not_stop_is_fenced(world, keyword):
    """Another attempt begins beside it; nothing that the first one still says counts."""
    deaf, go_on, second, end, refused = Signal(), Signal(), Signal(), Signal(), Signal()
    met = []

    def work(request, op):
        if op.attempt == 1:
            deaf.set()
            go_on.wait()
            try:
                op.checkpoint(b"stale")
            except BaseException as error:
                met.append(type(error))
                refused.set()
                raise
        second.set()
        end.wait_or_stop(op)
        return Text(value=f"attempt {op.attempt}")

    async def work_async(request, op):
        if op.attempt == 1:
            deaf.set()
            while not go_on.is_set():
                try:
                    await go_on
                except asyncio.CancelledError:
                    continue
            try:
                await op.checkpoint(b"stale")
            except BaseException as error:
                met.append(type(error))
                refused.set()
                raise
        second.set()
        await end
        return Text(value=f"attempt {op.attempt}")

    run = work if keyword == "def" else work_async
    await world.start(handler(run, progress_timeout=timedelta(seconds=6)))
    name = await world.create()
    await deaf
    await world.pass_time(6 + LEASE + 0.5)
    await second
    go_on.set()
    await refused
    end.set()
    done = await world.done(name)
    assert response_of(done) == "attempt 2"
    assert met == [AttemptStopped]
    assert (await world.record(name)).checkpoint == b""


async def test_a_stuck_thread_keeps_its_slot(world):
    waiter = Waiter("def", deaf=True)
    await world.start(silent_after(waiter, 2, concurrency=1))
    name = await world.create()
    await waiter.started
    await world.pass_time(2 + LEASE + SWEEP)
    lost = await world.record(name)
    assert (lost.state, lost.attempt) == (states.QUEUED, 1)
    waiter.go_on.set()
    assert response_of(await world.done(name)) == "attempt 2"


@pytest.mark.parametrize("sign", ["progress", "checkpoint", "updating", "batch"])
async def test_any_sign_of_the_handler_counts(world, keyword, sign):
    steps = [Signal() for _ in range(4)]
    said = [Signal() for _ in range(4)]

    def work(request, op):
        def create(target):
            steps[int(target)].wait()

        if sign == "batch":
            op.batch([*"0123"], create=create, delete=lambda target: None)
            return Text(value=f"attempt {op.attempt}")
        for step, done in zip(steps, said, strict=True):
            step.wait_or_stop(op)
            if sign == "progress":
                op.progress()
            elif sign == "checkpoint":
                op.checkpoint(b"x")
            else:
                with op.updating():
                    pass
            done.set()
        return Text(value=f"attempt {op.attempt}")

    async def work_async(request, op):
        async def create(target):
            await steps[int(target)]

        async def delete(target):
            pass

        if sign == "batch":
            await op.batch([*"0123"], create=create, delete=delete)
            return Text(value=f"attempt {op.attempt}")
        for step, done in zip(steps, said, strict=True):
            await step
            if sign == "progress":
                op.progress()
            elif sign == "checkpoint":
                await op.checkpoint(b"x")
            else:
                async with op.updating():
                    pass
            done.set()
        return Text(value=f"attempt {op.attempt}")

    run = work if keyword == "def" else work_async
    await world.start(handler(run, progress_timeout=timedelta(seconds=6)))
    name = await world.create()
    await world.until(name, lambda one: one.attempt)
    for number, step in enumerate(steps):
        await world.pass_time(4)
        step.set()
        if sign != "batch":
            await said[number]
        elif number < 3:
            await world.until(name, functools.partial(_has_picked, number + 2))
    assert response_of(await world.done(name)) == "attempt 1"


def _has_picked(number: int, one: Any) -> bool:
    states = BatchStates(one.batch)
    return len(states.targets) - len(states.among(UNBEGUN)) >= number


async def test_a_drain_is_not_stuck(world, keyword):
    """A handler that takes its time to unwind has not failed by that."""
    started, stopping, go_on = Signal(), Signal(), Signal()

    def work(request, op):
        started.set()
        try:
            Signal().wait_or_stop(op)
        finally:
            stopping.set()
            go_on.wait()

    async def work_async(request, op):
        started.set()
        try:
            await Signal()
        finally:
            stopping.set()
            await go_on

    run = work if keyword == "def" else work_async
    engine = await world.start(handler(run, progress_timeout=timedelta(seconds=2)))
    name = await world.create(max_attempts=1)
    await started
    stop = asyncio.create_task(engine.stop(timedelta(seconds=8)))
    await stopping
    await world.pass_time(3)
    go_on.set()
    await stop
    drained = await world.record(name)
    assert (drained.state, drained.failed_attempts, drained.lease_expire_time) == (
        states.QUEUED,
        0,
        0,
    )


async def test_a_silent_undo_is_lost_and_begun_again(world):
    """The undoing may get stuck, too."""
    begun = Signal()
    undoing = []

    async def create(target):
        pass

    async def delete(target):
        undoing.append(target)
        if len(undoing) == 1:
            await Signal()

    async def work(request, op):
        await op.batch(["a"], create=create, delete=delete)
        begun.set()
        await Signal()

    await world.start(handler(work, progress_timeout=timedelta(seconds=6)))
    name = await world.create()
    await begun
    await world.cancel(name)
    await world.pass_time(7)
    done = await world.done(name)
    assert done.error.code == Code.CANCELLED
    assert undoing == ["a", "a"]
    assert states_of(done) == ["ROLLED_BACK"]


# What an engine leaves.


async def test_time_limits_leave_no_tasks_behind(world, waiter):
    await world.open()
    await asyncio.sleep(0)
    before = asyncio.all_tasks()
    engine = await world.start(silent_after(waiter, 60))
    ended = await world.create(timeout=60 * SECOND)
    await waiter.started
    waiter.go_on.set()
    await world.done(ended)
    waiter.go_on = Signal()
    running = await world.create(timeout=60 * SECOND)
    await world.until(running, lambda one: one.attempt)
    await engine.stop(timedelta(seconds=5))
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
