"""Checkpoints, pauses at them, and what is shown while a handler changes what it works on."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Any

import pytest
from engine_world import Signal, Text, handler, metadata_of, response_of, states_of
from google.protobuf import any_pb2, timestamp_pb2

from lro_grpc._errors import (
    AttemptStopped,
    Code,
    IllegalTransitionError,
    LroError,
    RetryableError,
    StopReason,
)
from lro_grpc._operation import states
from lro_grpc._operation.events import Cancel, Checkpoint, Claim, Pause, Report

LEASE = 15_000_000
KEYWORDS = ["def", "async def"]


@pytest.fixture(params=KEYWORDS)
def keyword(request: pytest.FixtureRequest) -> str:
    return request.param


class Stepper:
    """A handler that walks from step to step, waits to be let go before each, and keeps its place.

    Its state is the number of the steps that are done, as text.
    """

    def __init__(self, keyword: str, steps: int = 3) -> None:
        self.run = self._run if keyword == "def" else self._run_async
        self.began = [Signal() for _ in range(steps)]
        self.go_on = [Signal() for _ in range(steps)]
        self.seen: list[Any] = []
        """The state that each attempt has found."""
        self.undone = Signal()
        self.stopped: list[tuple[type[BaseException], StopReason | None]] = []

    def let_go(self) -> None:
        for one in self.go_on:
            one.set()

    def _first(self, op: Any) -> int:
        self.seen.append(op.checkpoint_state)
        return int(op.checkpoint_state or b"0")

    def _undo(self, op: Any) -> None:
        op.progress(detail=f"undone from {op.checkpoint_state!r}")
        self.undone.set()

    def _run(self, request: Any, op: Any) -> Any:
        try:
            first = self._first(op)
            if op.cancel_requested:
                self._undo(op)
                op.checkpoint()
            for step in range(first, len(self.began)):
                self.began[step].set()
                self.go_on[step].wait_or_stop(op)
                op.checkpoint(str(step + 1).encode())
        except BaseException as error:
            self.stopped.append((type(error), op.stop_reason))
            raise
        return Text(value=f"attempt {op.attempt}")

    async def _run_async(self, request: Any, op: Any) -> Any:
        try:
            first = self._first(op)
            if op.cancel_requested:
                self._undo(op)
                await op.checkpoint()
            for step in range(first, len(self.began)):
                self.began[step].set()
                await self.go_on[step]
                await op.checkpoint(str(step + 1).encode())
        except BaseException as error:
            self.stopped.append((type(error), op.stop_reason))
            raise
        return Text(value=f"attempt {op.attempt}")


@pytest.fixture
def stepper(keyword: str) -> Stepper:
    return Stepper(keyword)


async def paused_after_a_step(world: Any, stepper: Stepper, **more: Any) -> str:
    """Runs an operation through its first step and pauses it there."""
    name: str = await world.create(pausable=True, **more)
    await stepper.began[0]
    await world.pause(name)
    stepper.go_on[0].set()
    await world.until_in(name, states.PAUSED)
    return name


# A checkpoint is what a later attempt finds.


async def test_the_first_attempt_finds_no_state(world, stepper):
    await world.start(stepper.run)
    stepper.let_go()
    await world.done(await world.create())
    assert stepper.seen == [None]


async def test_a_state_survives_a_crash(world, stepper):
    await world.start(stepper.run)
    name = await world.create()
    stepper.go_on[0].set()
    await stepper.began[1]
    await world.crash()
    stepper.let_go()
    await world.start(stepper.run)
    assert response_of(await world.done(name)) == "attempt 2"
    assert stepper.seen == [None, b"1"]


@pytest.mark.any_engine
async def test_a_state_survives_a_drain_which_counts_as_no_failure(world, stepper):
    await world.start(stepper.run)
    name = await world.create(max_attempts=1)
    stepper.go_on[0].set()
    await stepper.began[1]
    await world.stop()
    stepper.let_go()
    await world.start(stepper.run)
    assert response_of(await world.done(name)) == "attempt 2"
    assert stepper.seen == [None, b"1"]


@pytest.mark.any_engine
async def test_a_state_survives_an_error_that_is_retried(world, keyword):
    seen = []

    def first(op):
        seen.append(op.checkpoint_state)
        return op.attempt == 1

    def work(request, op):
        if first(op):
            op.checkpoint(b"half")
            raise RetryableError("busy")
        return Text(value="made it")

    async def work_async(request, op):
        if first(op):
            await op.checkpoint(b"half")
            raise RetryableError("busy")
        return Text(value="made it")

    await world.start(work if keyword == "def" else work_async)
    name = await world.create()
    await world.until(name, lambda one: one.scheduled_time)
    await world.pass_time(2)
    assert response_of(await world.done(name)) == "made it"
    assert seen == [None, b"half"]


@pytest.mark.parametrize(
    "state", [b"", b"\x00\xff", Text(value="text"), timestamp_pb2.Timestamp(seconds=5), Text()]
)
async def test_a_state_is_a_message_or_bytes_and_is_found_in_the_same_attempt_too(
    memory_world, state
):
    found = []

    async def work(request, op):
        await op.checkpoint(state)
        found.append(op.checkpoint_state)
        await op.checkpoint()
        found.append(op.checkpoint_state)
        return Text()

    await memory_world.start(work)
    await memory_world.done(await memory_world.create())
    assert found == [state, state]


@pytest.mark.parametrize("state", ["text", 5, {"a": 1}, bytearray(b"x"), Text])
async def test_a_state_of_another_type_is_refused_to_the_handler(memory_world, keyword, state):
    met = []

    def work(request, op):
        with contextlib.suppress(TypeError):
            op.checkpoint(state)
            met.append("stored")
        return Text(value=repr(op.checkpoint_state))

    async def work_async(request, op):
        with contextlib.suppress(TypeError):
            await op.checkpoint(state)
            met.append("stored")
        return Text(value=repr(op.checkpoint_state))

    await memory_world.start(work if keyword == "def" else work_async)
    done = await memory_world.done(await memory_world.create())
    assert (response_of(done), met) == ("None", [])


async def test_a_state_of_a_type_that_a_later_release_lacks_fails_with_its_name(memory_world):
    async def work(request, op):
        return Text(value=str(op.checkpoint_state))

    name = await memory_world.create()
    await memory_world.apply(name, Claim(LEASE))
    gone = any_pb2.Any(type_url="type.googleapis.com/a.b.Gone").SerializeToString()
    await memory_world.apply(name, Checkpoint(Report(1), gone))
    await memory_world.start(work)
    done = await memory_world.done(name)
    assert "a.b.Gone" in done.error.message


async def test_a_checkpoint_stores_the_progress_and_the_metadata_too(memory_world):
    stored = Signal()

    async def work(request, op):
        op.progress(40, "half")
        op.metadata.partial_failures.add(code=5)
        await op.checkpoint(b"x")
        stored.set()
        await Signal()

    await memory_world.start(work)
    name = await memory_world.create()
    await stored
    shown = metadata_of(await memory_world.get(name))
    assert (shown.progress_percent, shown.status_detail) == (40, "half")
    assert [one.code for one in shown.partial_failures] == [5]


# A pause comes about at a checkpoint, and only there.


@pytest.mark.any_engine
async def test_a_pause_shows_at_once_and_comes_about_at_the_next_checkpoint(world, stepper):
    await world.start(stepper.run)
    name = await world.create(pausable=True)
    await stepper.began[0]
    await world.pause(name)
    asked = metadata_of(await world.get(name))
    assert (asked.state, asked.pause_requested) == (states.RUNNING, True)
    stepper.go_on[0].set()
    paused = await world.until_in(name, states.PAUSED)
    shown = metadata_of(await world.get(name))
    assert (shown.state, shown.pause_requested) == (states.PAUSED, False)
    assert (paused.lease_expire_time, paused.failed_attempts) == (0, 0)
    assert stepper.stopped == [(AttemptStopped, StopReason.PAUSE)]
    assert not stepper.began[1].is_set()


@pytest.mark.any_engine
async def test_a_resumed_operation_goes_on_from_its_checkpoint(world, stepper):
    await world.start(stepper.run)
    name = await paused_after_a_step(world, stepper, max_attempts=1)
    stepper.let_go()
    await world.resume(name)
    done = await world.done(name)
    assert response_of(done) == "attempt 2"
    assert stepper.seen == [None, b"1"]
    assert not metadata_of(done).pause_requested


async def test_a_checkpoint_without_a_state_pauses_too(world, keyword):
    reached = Signal()

    def work(request, op):
        reached.set()
        while op.attempt == 1:
            op.checkpoint()
        return Text(value=f"attempt {op.attempt}")

    async def work_async(request, op):
        reached.set()
        while op.attempt == 1:
            await op.checkpoint()
            await asyncio.sleep(0)
        return Text(value=f"attempt {op.attempt}")

    await world.start(work if keyword == "def" else work_async)
    name = await world.create(pausable=True)
    await reached
    await world.pause(name)
    await world.until_in(name, states.PAUSED)
    await world.resume(name)
    assert response_of(await world.done(name)) == "attempt 2"


async def test_a_handler_can_clean_up_while_it_pauses(world, keyword):
    """It is unwound once, by the exception alone: what it awaits then is not interrupted."""
    started, asked, cleaned = Signal(), Signal(), Signal()

    def work(request, op):
        started.set()
        try:
            asked.wait_or_stop(op)
            op.checkpoint(b"x")
        finally:
            op.progress(detail="cleaned")
            cleaned.set()

    async def work_async(request, op):
        started.set()
        try:
            await asked
            await op.checkpoint(b"x")
        finally:
            await asyncio.sleep(0)
            op.progress(detail="cleaned")
            cleaned.set()

    await world.start(work if keyword == "def" else work_async)
    name = await world.create(pausable=True)
    await started
    await world.pause(name)
    asked.set()
    await world.until_in(name, states.PAUSED)
    assert cleaned.is_set()
    assert metadata_of(await world.get(name)).status_detail == "cleaned"


@pytest.mark.any_engine
async def test_a_pause_that_is_taken_back_in_time_does_not_happen(world, stepper):
    await world.start(stepper.run)
    name = await world.create(pausable=True)
    await stepper.began[0]
    await world.pause(name)
    await world.resume(name)
    assert not metadata_of(await world.get(name)).pause_requested
    stepper.let_go()
    assert response_of(await world.done(name)) == "attempt 1"


async def test_a_handler_that_never_comes_to_a_checkpoint_does_not_pause(world, keyword):
    started, asked = Signal(), Signal()
    seen = []

    def work(request, op):
        started.set()
        asked.wait_or_stop(op)
        seen.append((op.pause_requested, op.stop_reason))
        return Text(value="done")

    async def work_async(request, op):
        started.set()
        await asked
        seen.append((op.pause_requested, op.stop_reason))
        return Text(value="done")

    await world.start(work if keyword == "def" else work_async)
    name = await world.create(pausable=True)
    await started
    await world.pause(name)
    asked.set()
    done = await world.done(name)
    assert response_of(done) == "done"
    assert seen == [(True, None)]
    assert not metadata_of(done).pause_requested


@pytest.mark.any_engine
async def test_an_operation_that_waits_is_paused_at_once(world, stepper):
    name = await world.create(pausable=True)
    await world.pause(name)
    assert (await world.record(name)).state == states.PAUSED
    await world.start(stepper.run)
    other = await world.create()
    stepper.let_go()
    await world.done(other)
    assert (await world.record(name)).attempt == 0
    await world.resume(name)
    assert response_of(await world.done(name)) == "attempt 1"


@pytest.mark.any_engine
async def test_a_paused_operation_takes_no_slot(world, keyword):
    stepper = Stepper(keyword)
    await world.start(handler(stepper.run, concurrency=1))
    name = await paused_after_a_step(world, stepper)
    stepper.let_go()
    assert response_of(await world.done(await world.create())) == "attempt 1"
    assert (await world.record(name)).state == states.PAUSED


async def test_a_paused_operation_stays_so_through_restarts(world, stepper):
    await world.start(stepper.run)
    name = await paused_after_a_step(world, stepper)
    await world.crash()
    stepper.let_go()
    await world.start(stepper.run)
    await world.pass_time(20)
    assert (await world.record(name)).state == states.PAUSED
    await world.resume(name)
    assert response_of(await world.done(name)) == "attempt 2"


async def test_a_pause_asked_for_while_the_claim_is_under_way_is_seen(world):
    """The claim and the pause come to the store together; the engine learns of the claim last."""

    async def work(request, op):
        await op.checkpoint()
        return Text(value=f"attempt {op.attempt}")

    await world.start(work)

    async def pause(events):
        if any(isinstance(event, Claim) for event in events):
            world.link.after = nothing
            await world.pause(name)

    async def nothing(events):
        pass

    world.link.after = pause
    name = await world.create(pausable=True)
    paused = await world.until(name, lambda one: one.state == states.PAUSED or one.done)
    assert paused.state == states.PAUSED


@pytest.mark.skipif(sys.version_info < (3, 11), reason="needs asyncio.TaskGroup")
@pytest.mark.parametrize("how", ["pause", "cancel"])
async def test_a_handler_may_come_to_its_checkpoint_in_a_group_of_tasks(world, how):
    """A task group raises a group of errors, which is no failure."""
    started, asked = Signal(), Signal()

    async def step(op):
        started.set()
        while not asked.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asked
        await op.checkpoint(b"x")

    async def work(request, op):
        async with asyncio.TaskGroup() as group:
            group.create_task(step(op))
        return Text(value=f"attempt {op.attempt}")

    await world.start(work)
    name = await world.create(pausable=True)
    await started
    await world.apply(name, Pause() if how == "pause" else Cancel())
    asked.set()
    ended = await world.until(name, lambda one: one.done or one.state == states.PAUSED)
    assert ended.state == (states.PAUSED if how == "pause" else states.CANCELLED)


async def test_pausing_and_resuming_over_and_over_costs_no_attempts(world, keyword):
    stepper = Stepper(keyword, steps=6)
    await world.start(stepper.run)
    name = await world.create(pausable=True, max_attempts=1)
    for step in range(5):
        await stepper.began[step]
        await world.pause(name)
        stepper.go_on[step].set()
        await world.until_in(name, states.PAUSED)
        await world.resume(name)
    stepper.let_go()
    assert response_of(await world.done(name)) == "attempt 6"
    assert stepper.seen == [None, b"1", b"2", b"3", b"4", b"5"]


async def test_a_worker_that_is_lost_with_a_pause_asked_for_leaves_it_paused(world, stepper):
    await world.start(stepper.run)
    name = await world.create(pausable=True)
    await stepper.began[0]
    await world.pause(name)
    await world.crash()
    stepper.let_go()
    await world.start(stepper.run)
    shown = metadata_of(await world.get(name))
    assert (shown.state, shown.pause_requested) == (states.PAUSED, False)
    await world.resume(name)
    assert response_of(await world.done(name)) == "attempt 2"


@pytest.mark.any_engine
async def test_a_method_that_does_not_say_so_cannot_be_paused(world, stepper):
    await world.start(stepper.run)
    name = await world.create()
    await stepper.began[0]
    with pytest.raises(IllegalTransitionError, match="pausable=True"):
        await world.pause(name)
    stepper.let_go()
    await world.done(name)


# Pause, then cancel: what has a state is claimed once more, to undo it.


@pytest.mark.any_engine
async def test_a_cancel_of_a_paused_operation_has_its_handler_undo_it(world, stepper):
    await world.start(stepper.run)
    name = await paused_after_a_step(world, stepper)
    await world.cancel(name)
    done = await world.done(name)
    assert done.error.code == Code.CANCELLED
    assert stepper.undone.is_set()
    assert metadata_of(done).status_detail == "undone from b'1'"
    assert metadata_of(done).attempt == 2
    assert stepper.seen == [None, b"1"]
    assert not stepper.began[1].is_set()
    assert stepper.stopped[1:] == [(AttemptStopped, None)]


@pytest.mark.any_engine
async def test_a_cancel_of_a_paused_operation_without_a_state_ends_it_at_once(world, keyword):
    reached = Signal()

    def work(request, op):
        reached.set()
        while True:
            op.checkpoint()

    async def work_async(request, op):
        reached.set()
        while True:
            await op.checkpoint()
            await asyncio.sleep(0)

    await world.start(work if keyword == "def" else work_async)
    name = await world.create(pausable=True)
    await reached
    await world.pause(name)
    await world.until_in(name, states.PAUSED)
    await world.cancel(name)
    done = await world.get(name)
    assert (done.error.code, metadata_of(done).attempt) == (Code.CANCELLED, 1)


@pytest.mark.any_engine
async def test_a_cancel_after_a_pause_was_asked_for_comes_first(world, stepper):
    await world.start(stepper.run)
    name = await world.create(pausable=True)
    await stepper.began[0]
    await world.pause(name)
    await world.cancel(name)
    done = await world.done(name)
    assert done.error.code == Code.CANCELLED
    assert not metadata_of(done).pause_requested


async def test_an_attempt_that_undoes_survives_a_crash(world, stepper):
    await world.start(stepper.run)
    name = await paused_after_a_step(world, stepper)
    await world.stop()
    await world.cancel(name)
    assert (await world.record(name)).state == states.CANCELLING
    crashed = Signal()

    async def stuck(request, op):
        crashed.set()
        await Signal()

    await world.start(stuck)
    await crashed
    await world.crash()
    await world.start(stepper.run)
    done = await world.done(name)
    assert done.error.code == Code.CANCELLED
    assert metadata_of(done).attempt == 3
    assert stepper.undone.is_set()


async def test_a_checkpoint_does_not_keep_an_undo_from_the_batch_behind_it(world, keyword):
    """The batch is rolled back, though the handler comes by a checkpoint before it."""
    reached, go_on = Signal(), Signal()
    deleted = []

    def work(request, op):
        op.checkpoint(b"begun")
        op.batch(["a", "b"], create=lambda target: None, delete=deleted.append)
        reached.set()
        go_on.wait_or_stop(op)
        op.checkpoint(b"made")
        return Text()

    async def work_async(request, op):
        async def create(target):
            pass

        async def delete(target):
            deleted.append(target)

        await op.checkpoint(b"begun")
        await op.batch(["a", "b"], create=create, delete=delete)
        reached.set()
        await go_on
        await op.checkpoint(b"made")
        return Text()

    await world.start(work if keyword == "def" else work_async)
    name = await world.create(pausable=True)
    await reached
    await world.pause(name)
    go_on.set()
    await world.until_in(name, states.PAUSED)
    await world.cancel(name)
    done = await world.done(name)
    assert done.error.code == Code.CANCELLED
    assert sorted(deleted) == ["a", "b"]
    assert states_of(done) == ["ROLLED_BACK", "ROLLED_BACK"]


async def test_a_pause_asked_for_while_a_batch_is_created_comes_after_it(world, keyword):
    reached, go_on = Signal(), Signal()
    created = []

    def work(request, op):
        def create(target):
            reached.set()
            go_on.wait()
            created.append((op.attempt, target))

        op.batch(["a", "b"], create=create, delete=lambda target: None)
        op.checkpoint(b"made")
        return Text(value=f"attempt {op.attempt}")

    async def work_async(request, op):
        async def create(target):
            reached.set()
            await go_on
            created.append((op.attempt, target))

        async def delete(target):
            pass

        await op.batch(["a", "b"], create=create, delete=delete)
        await op.checkpoint(b"made")
        return Text(value=f"attempt {op.attempt}")

    await world.start(work if keyword == "def" else work_async)
    name = await world.create(pausable=True)
    await reached
    await world.pause(name)
    go_on.set()
    await world.until_in(name, states.PAUSED)
    assert states_of(await world.get(name)) == ["READY", "READY"]
    await world.resume(name)
    assert response_of(await world.done(name)) == "attempt 2"
    assert created == [(1, "a"), (1, "b")]


# Updating.


@pytest.mark.any_engine
async def test_updating_shows_inside_its_block_and_not_after_it(world, keyword):
    inside, left, out, end = Signal(), Signal(), Signal(), Signal()

    def work(request, op):
        with op.updating("switching"):
            inside.set()
            left.wait_or_stop(op)
        out.set()
        end.wait_or_stop(op)
        return Text()

    async def work_async(request, op):
        async with op.updating("switching"):
            inside.set()
            await left
        out.set()
        await end
        return Text()

    await world.start(work if keyword == "def" else work_async)
    name = await world.create()
    await inside
    shown = metadata_of(await world.get(name))
    assert (shown.state, shown.status_detail) == (states.UPDATING, "switching")
    left.set()
    await out
    assert metadata_of(await world.get(name)).state == states.RUNNING
    end.set()
    await world.done(name)


async def test_updating_is_left_by_an_error_that_the_handler_survives(world, keyword):
    out, end = Signal(), Signal()

    def work(request, op):
        with contextlib.suppress(ValueError), op.updating():
            raise ValueError("not now")
        out.set()
        end.wait_or_stop(op)
        return Text()

    async def work_async(request, op):
        with contextlib.suppress(ValueError):
            async with op.updating():
                raise ValueError("not now")
        out.set()
        await end
        return Text()

    await world.start(work if keyword == "def" else work_async)
    name = await world.create()
    await out
    assert metadata_of(await world.get(name)).state == states.RUNNING
    end.set()
    await world.done(name)


async def test_blocks_of_updating_follow_each_other_and_stand_in_each_other(world, keyword):
    steps = [Signal() for _ in range(3)]
    go_on = [Signal() for _ in range(3)]

    def work(request, op):
        with op.updating():
            with op.updating():
                pass
            steps[0].set()
            go_on[0].wait_or_stop(op)
        steps[1].set()
        go_on[1].wait_or_stop(op)
        with op.updating():
            steps[2].set()
            go_on[2].wait_or_stop(op)
        return Text()

    async def work_async(request, op):
        async with op.updating():
            async with op.updating():
                pass
            steps[0].set()
            await go_on[0]
        steps[1].set()
        await go_on[1]
        async with op.updating():
            steps[2].set()
            await go_on[2]
        return Text()

    await world.start(work if keyword == "def" else work_async)
    name = await world.create()
    seen = []
    for step, more in zip(steps, go_on, strict=True):
        await step
        seen.append(metadata_of(await world.get(name)).state)
        more.set()
    await world.done(name)
    assert seen == [states.UPDATING, states.RUNNING, states.UPDATING]


@pytest.mark.parametrize("end", ["success", "error", "cancel", "retry", "pause"])
async def test_an_operation_may_end_while_it_is_updating(world, end):
    inside, go_on = Signal(), Signal()

    async def work(request, op):
        async with op.updating():
            inside.set()
            await go_on
            if end == "success":
                return Text(value="done")
            if end == "error":
                raise LroError("it broke", code=Code.DATA_LOSS)
            if end == "retry" and op.attempt == 1:
                raise RetryableError("busy")
            await op.checkpoint(b"x")
        return Text(value="done")

    await world.start(work)
    name = await world.create(pausable=True)
    await inside
    if end == "cancel":
        await world.cancel(name)
    elif end == "pause":
        await world.pause(name)
    go_on.set()
    if end == "pause":
        await world.until_in(name, states.PAUSED)
        await world.resume(name)
    elif end == "retry":
        await world.until_in(name, states.QUEUED)
        await world.pass_time(2)
    done = await world.done(name)
    code = {"error": Code.DATA_LOSS, "cancel": Code.CANCELLED}.get(end, 0)
    assert done.error.code == code


async def test_a_crash_while_it_is_updating_puts_it_back_into_the_queue(world):
    inside = Signal()

    async def work(request, op):
        if op.attempt == 1:
            async with op.updating():
                inside.set()
                await Signal()
        return Text(value="made it")

    await world.start(work)
    name = await world.create()
    await inside
    await world.crash()
    await world.start(work)
    assert response_of(await world.done(name)) == "made it"


async def test_a_cancel_comes_before_updating(world):
    inside, stopped, go_on = Signal(), Signal(), Signal()

    async def work(request, op):
        inside.set()
        try:
            await Signal()
        except asyncio.CancelledError:
            async with op.updating("cleaning up"):
                stopped.set()
                await go_on
            raise

    await world.start(work)
    name = await world.create()
    await inside
    await world.cancel(name)
    await stopped
    shown = metadata_of(await world.get(name))
    assert (shown.state, shown.status_detail) == (states.CANCELLING, "cleaning up")
    go_on.set()
    assert (await world.done(name)).error.code == Code.CANCELLED
