"""Errors that another attempt may be spared: which, when, and how often."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from datetime import timedelta
from typing import Any

import pytest
from engine_world import (
    SWEEP,
    Signal,
    Text,
    handler,
    info_of,
    metadata_of,
    response_of,
    states_of,
)

from lro_grpc._errors import (
    Code,
    LroError,
    RetryableError,
    StaleAttemptError,
    UnavailableError,
)
from lro_grpc._operation import states
from lro_grpc._operation.events import Claim, Delete, Release, Report, RetryLater
from lro_grpc._runtime.backoff import Backoff

KEYWORDS = ["def", "async def"]


class Flaky:
    """A handler that raises what it is given, one after the other, and then succeeds."""

    def __init__(self, *errors: BaseException, keyword: str = "async def") -> None:
        self.run = self._run if keyword == "def" else self._run_async
        self._errors = list(errors)
        self.attempts: list[int] = []

    def _run(self, request: Any, op: Any) -> Any:
        self.attempts.append(op.attempt)
        if self._errors:
            raise self._errors.pop(0)
        return Text(value=f"attempt {op.attempt}")

    async def _run_async(self, request: Any, op: Any) -> Any:
        return self._run(request, op)


@pytest.fixture(params=KEYWORDS)
def keyword(request: pytest.FixtureRequest) -> str:
    return request.param


async def waits(world: Any, name: str, failed: int = 1) -> Any:
    """Waits for an operation to wait for another attempt, and returns its record."""
    return await world.until(
        name, lambda one: one.failed_attempts == failed and not one.lease_expire_time
    )


def backoff(seconds: float, maximum: float = 1000.0) -> Backoff:
    return Backoff(timedelta(seconds=seconds), 2.0, timedelta(seconds=maximum))


# Which errors.


@pytest.mark.any_engine
async def test_a_retryable_error_begins_another_attempt(world, keyword):
    flaky = Flaky(RetryableError("busy"), keyword=keyword)
    await world.start(flaky.run)
    name = await world.create()
    waiting = await waits(world, name)
    assert (waiting.state, waiting.done) == (states.QUEUED, False)
    await world.pass_time(1.5)
    done = await world.done(name)
    assert response_of(done) == "attempt 2"
    assert metadata_of(done).attempt == 2


@pytest.mark.any_engine
async def test_any_other_error_is_final(world, keyword):
    flaky = Flaky(UnavailableError("gone"), keyword=keyword)
    await world.start(flaky.run)
    done = await world.done(await world.create())
    assert done.error.code == Code.UNAVAILABLE
    assert flaky.attempts == [1]


async def test_the_options_predicate_says_which_errors_are_retried(world, keyword):
    flaky = Flaky(ConnectionResetError("reset"), KeyError("k"), keyword=keyword)
    await world.start(
        handler(flaky.run, retry=lambda error: isinstance(error, ConnectionResetError))
    )
    name = await world.create()
    await waits(world, name)
    await world.pass_time(1.5)
    assert (await world.done(name)).error.code == Code.INTERNAL
    assert flaky.attempts == [1, 2]


class Wordless(Exception):  # noqa: N818 - as a service may name it
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionResetError("the database is away"), "the database is away"),
        (TimeoutError(), "TimeoutError"),
        (OSError("no file caf\udce9"), "no file caf\\udce9"),
        (Wordless(), "Wordless"),
        (LroError("busy", code=Code.ABORTED), "busy"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_an_error_that_was_expected_is_shown_in_its_own_words_and_no_incident(
    world, keyword, caplog, error, words
):
    """The predicate knows it: so it is no bug, and there is nothing to find out."""
    flaky = Flaky(error, error, keyword=keyword)
    await world.start(handler(flaky.run, retry=lambda error: True))
    name = await world.create(max_attempts=2)
    await waits(world, name)
    await world.pass_time(2)
    done = await world.done(name)
    code = error.code if isinstance(error, LroError) else Code.UNAVAILABLE
    assert (done.error.code, done.error.message) == (code, words)
    info = info_of(done.error.details)
    assert (info.reason, info.domain, dict(info.metadata)) == (code.name, "test.example", {})
    assert [one.levelname for one in caplog.records if one.levelno > logging.INFO] == ["WARNING"]
    (warning,) = (one for one in caplog.records if one.levelno > logging.INFO)
    assert warning.getMessage().endswith(words)


@pytest.mark.parametrize("kind", [RuntimeError, SystemExit, KeyboardInterrupt])
async def test_a_predicate_that_raises_leaves_the_handlers_own_error(world, caplog, kind):
    def retry(error):
        raise kind("a bug in the predicate")

    flaky = Flaky(UnavailableError("gone"))
    await world.start(handler(flaky.run, retry=retry))
    done = await world.done(await world.create())
    assert (done.error.code, done.error.message) == (Code.UNAVAILABLE, "gone")
    assert "a bug in the predicate" in caplog.text


@pytest.mark.parametrize("answer", ["False", 1, None, object()], ids=type)
async def test_a_predicate_says_true_to_retry_and_nothing_else_that_is_true(
    memory_world, caplog, answer
):
    flaky = Flaky(UnavailableError("gone"))
    await memory_world.start(handler(flaky.run, retry=lambda error: answer))
    done = await memory_world.done(await memory_world.create())
    assert (done.error.code, flaky.attempts) == (Code.UNAVAILABLE, [1])
    assert f"returned {type(answer).__qualname__}, not a bool" in caplog.text


async def test_a_predicate_is_not_asked_about_what_is_no_error(memory_world):
    """A handler that cancels itself is no failure that may pass."""
    asked = []

    def retry(error):
        asked.append(error)
        return True

    async def work(request, op):
        raise asyncio.CancelledError

    await memory_world.start(handler(work, retry=retry))
    assert (await memory_world.done(await memory_world.create())).error.code == Code.INTERNAL
    assert asked == []


# When.


async def test_no_attempt_begins_before_its_pause_is_over(world):
    flaky = Flaky(RetryableError("busy"))
    await world.start(handler(flaky.run, backoff=backoff(20)), random=iter([0.5]).__next__)
    name = await world.create()
    assert (await waits(world, name)).scheduled_time == world.clock.now() + 10_000_000
    await world.pass_time(9.5)
    assert flaky.attempts == [1]
    await world.pass_time(0.5)
    await world.done(name)
    assert flaky.attempts == [1, 2]


async def test_pauses_grow_up_to_the_maximum_with_full_jitter(memory_world):
    numbers = random.Random(7)
    flaky = Flaky(*[RetryableError("busy")] * 5)
    await memory_world.start(handler(flaky.run, backoff=backoff(2, 10)), random=numbers.random)
    name = await memory_world.create()
    pauses = []
    for failed in range(1, 6):
        waiting = await waits(memory_world, name, failed)
        pauses.append((waiting.scheduled_time - memory_world.clock.now()) / 1e6)
        await memory_world.pass_time(math.ceil(pauses[-1] * 2) / 2)
    ceilings = [2, 4, 8, 10, 10]
    assert all(0 <= pause <= most for pause, most in zip(pauses, ceilings, strict=True))
    assert len(set(pauses)) == 5
    assert response_of(await memory_world.done(name)) == "attempt 6"


async def test_retry_after_comes_before_the_backoff(world):
    flaky = Flaky(RetryableError("busy", retry_after=timedelta(seconds=30)))
    await world.start(flaky.run)
    name = await world.create()
    assert (await waits(world, name)).scheduled_time == world.clock.now() + 30_000_000
    await world.pass_time(29.5)
    assert flaky.attempts == [1]
    await world.pass_time(0.5)
    assert response_of(await world.done(name)) == "attempt 2"


@pytest.mark.parametrize("nothing", [timedelta(0), 0])
async def test_a_pause_of_nothing_is_none(world, nothing):
    flaky = Flaky(RetryableError("busy", retry_after=nothing))
    await world.start(flaky.run)
    assert response_of(await world.done(await world.create())) == "attempt 2"


@pytest.mark.any_engine
async def test_a_pause_that_never_ends_still_lets_the_operation_be_cancelled(world):
    flaky = Flaky(RetryableError("busy", retry_after=timedelta.max))
    await world.start(flaky.run)
    name = await world.create()
    waiting = await world.until(name, lambda one: one.failed_attempts or one.done)
    assert not waiting.done
    await world.pass_time(5)
    assert flaky.attempts == [1]
    await world.cancel(name)
    assert (await world.get(name)).error.code == Code.CANCELLED


async def test_a_retry_waits_through_a_restart(world):
    """It begins when it is due, or at the first sweep after it."""
    flaky = Flaky(RetryableError("busy", retry_after=timedelta(seconds=6)))
    await world.start(flaky.run)
    name = await world.create()
    await waits(world, name)
    await world.crash()
    await world.start(flaky.run)
    await world.pass_time(5.5)
    assert flaky.attempts == [1]
    await world.pass_time(0.5 + SWEEP)
    assert response_of(await world.done(name)) == "attempt 2"


async def test_a_retry_that_fell_due_while_no_process_was_there_begins_at_once(world):
    flaky = Flaky(RetryableError("busy", retry_after=timedelta(seconds=6)))
    await world.start(flaky.run)
    name = await world.create()
    await waits(world, name)
    await world.crash()
    await world.pass_time(7)
    await world.start(flaky.run)
    assert response_of(await world.done(name)) == "attempt 2"


async def test_a_clock_that_is_set_forward_lets_a_retry_begin(world):
    flaky = Flaky(RetryableError("busy", retry_after=timedelta(hours=1)))
    await world.start(flaky.run)
    name = await world.create()
    await waits(world, name)
    world.clock.offset = timedelta(hours=2)
    await world.pass_time(SWEEP)
    assert response_of(await world.done(name)) == "attempt 2"


@pytest.mark.any_engine
async def test_an_operation_that_waits_for_a_retry_takes_no_slot(world, keyword):
    flaky = Flaky(RetryableError("busy", retry_after=timedelta(hours=1)), keyword=keyword)
    await world.start(handler(flaky.run, concurrency=1))
    name = await world.create()
    await waits(world, name)
    assert response_of(await world.done(await world.create())) == "attempt 1"


@pytest.mark.any_engine
async def test_a_retry_in_the_queue_can_be_paused_and_resumed(world):
    flaky = Flaky(RetryableError("busy", retry_after=timedelta(hours=1)))
    await world.start(flaky.run)
    name = await world.create(pausable=True)
    await waits(world, name)
    await world.pause(name)
    assert (await world.record(name)).state == states.PAUSED
    await world.resume(name)
    assert response_of(await world.done(name)) == "attempt 2"


async def test_a_pause_that_cannot_be_known_fails_the_operation(world, caplog):
    """A mistake in the method's options must not keep the operation for ever."""
    flaky = Flaky(RetryableError("busy"))
    await world.start(handler(flaky.run, backoff="a minute"))
    done = await world.done(await world.create())
    assert done.error.code == Code.INTERNAL
    assert "'str' object has no attribute 'pauses'" in caplog.text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("5", "retry_after is '5'; give a timedelta"),
        (-5, "retry_after is -5; give at least 0 seconds"),
        (timedelta.min, f"retry_after is {timedelta.min!r}; give at least 0 seconds"),
    ],
)
async def test_a_retry_after_that_cannot_be_fails_the_handler_by_name(world, caplog, wrong, said):
    async def work(request, op):
        raise RetryableError("busy", retry_after=wrong)

    await world.start(work)
    done = await world.done(await world.create())
    assert done.error.code == Code.INTERNAL
    assert said in caplog.text


# How often.


@pytest.mark.any_engine
@pytest.mark.parametrize("most", [1, 3])
async def test_the_last_attempt_fails_with_the_handlers_own_error(world, keyword, most):
    error = RetryableError(
        "the quota is used up",
        code=Code.RESOURCE_EXHAUSTED,
        reason="QUOTA",
        retry_after=timedelta(seconds=0.5),
    )
    flaky = Flaky(*[error] * 5, keyword=keyword)
    await world.start(flaky.run)
    name = await world.create(max_attempts=most)
    for failed in range(1, most):
        await waits(world, name, failed)
        await world.pass_time(0.5)
    done = await world.done(name)
    assert (done.error.code, done.error.message) == (
        Code.RESOURCE_EXHAUSTED,
        "the quota is used up",
    )
    info = info_of(done.error.details)
    assert (info.reason, info.domain) == ("QUOTA", "test.example")
    assert flaky.attempts == list(range(1, most + 1))
    assert metadata_of(done).state == states.FAILED


async def test_an_unexpected_error_after_an_expected_one_leaks_nothing(world):
    flaky = Flaky(ConnectionError("reset"), ValueError("password=hunter2"))
    await world.start(handler(flaky.run, retry=lambda error: isinstance(error, ConnectionError)))
    name = await world.create(max_attempts=2)
    await waits(world, name)
    await world.pass_time(1)
    done = await world.done(name)
    assert done.error.code == Code.INTERNAL
    assert b"hunter2" not in done.SerializeToString()


@pytest.mark.any_engine
async def test_progress_of_an_attempt_that_failed_is_kept(world):
    async def work(request, op):
        if op.attempt == 1:
            op.progress(60, "nearly")
            raise RetryableError("busy")
        op.progress(10)
        await Signal()

    await world.start(work)
    name = await world.create()
    await waits(world, name)
    await world.pass_time(1)
    await world.until(name, lambda one: one.attempt == 2)
    shown = metadata_of(await world.get(name))
    assert (shown.progress_percent, shown.status_detail) == (60, "nearly")


@pytest.mark.any_engine
async def test_a_retry_that_meets_a_cancel_ends_cancelled(world):
    started = Signal()

    async def work(request, op):
        started.set()
        try:
            await Signal()
        except asyncio.CancelledError:
            raise RetryableError("busy") from None

    await world.start(work)
    name = await world.create()
    await started
    await world.cancel(name)
    assert (await world.done(name)).error.code == Code.CANCELLED


async def test_an_outage_between_two_attempts_loses_neither(world):
    """The retry is stored when the store answers again, once."""
    flaky = Flaky(RetryableError("busy"))
    await world.start(flaky.run)
    failures = iter([True, True])
    met = Signal()

    async def fail(events):
        if any(isinstance(event, RetryLater) for event in events) and next(failures, False):
            met.set()
            raise UnavailableError("the store is away")

    world.link.before = fail
    name = await world.create(max_attempts=2)
    await met
    await world.pass_time(4)
    assert response_of(await world.done(name)) == "attempt 2"


async def test_a_retry_whose_commit_was_not_answered_counts_once(world):
    """R11: the fence shows that it was stored."""
    flaky = Flaky(RetryableError("busy"))
    await world.start(flaky.run)
    failures = iter([True])

    async def fail(events):
        if any(isinstance(event, RetryLater) for event in events) and next(failures, False):
            raise UnavailableError("timed out")

    world.link.after = fail
    name = await world.create(max_attempts=3)
    await waits(world, name)
    await world.pass_time(4)
    assert response_of(await world.done(name)) == "attempt 2"
    assert (await world.record(name)).failed_attempts == 1


# Batches.


class Batcher:
    """Creates a batch, and then raises what it is given; notes what it creates and deletes."""

    def __init__(self, keyword: str, *errors: Exception, fail_at: str = "") -> None:
        self.run = self._run if keyword == "def" else self._run_async
        self.created: list[str] = []
        self.deleted: list[str] = []
        self._errors = list(errors)
        self._fail_at = fail_at

    def _create(self, target: str) -> None:
        if target == self._fail_at:
            raise RetryableError("busy", retry_after=timedelta(0))
        self.created.append(target)

    async def _create_async(self, target: str) -> None:
        self._create(target)

    async def _delete_async(self, target: str) -> None:
        self.deleted.append(target)

    def _run(self, request: Any, op: Any) -> Any:
        op.batch(["a", "b"], create=self._create, delete=self.deleted.append)
        return self._end(op)

    async def _run_async(self, request: Any, op: Any) -> Any:
        await op.batch(["a", "b"], create=self._create_async, delete=self._delete_async)
        return self._end(op)

    def _end(self, op: Any) -> Any:
        if self._errors:
            raise self._errors.pop(0)
        return Text(value=f"attempt {op.attempt}")


@pytest.mark.any_engine
async def test_a_retry_keeps_the_batch_that_was_created(world, keyword):
    batcher = Batcher(keyword, RetryableError("busy", retry_after=timedelta(seconds=1)))
    await world.start(batcher.run)
    name = await world.create()
    await waits(world, name)
    assert states_of(await world.get(name)) == ["READY", "READY"]
    await world.pass_time(1)
    done = await world.done(name)
    assert response_of(done) == "attempt 2"
    assert (batcher.created, batcher.deleted) == (["a", "b"], [])
    assert states_of(done) == ["READY", "READY"]


async def test_a_batch_that_has_failed_is_rolled_back_and_not_retried(world, keyword):
    batcher = Batcher(keyword, fail_at="b")
    await world.start(batcher.run)
    done = await world.done(await world.create())
    assert (done.error.code, done.error.message) == (Code.UNAVAILABLE, "busy")
    assert states_of(done) == ["ROLLED_BACK", "FAILED"]
    assert (batcher.created, batcher.deleted) == (["a"], ["a"])
    assert metadata_of(done).attempt == 1


@pytest.mark.any_engine
async def test_the_last_attempt_that_fails_rolls_its_batch_back(world, keyword):
    """All or nothing: an error to retry is final when there is no further attempt."""
    errors = [RetryableError("busy", retry_after=timedelta(seconds=0.5))] * 2
    batcher = Batcher(keyword, *errors)
    await world.start(batcher.run)
    name = await world.create(max_attempts=2)
    await waits(world, name)
    await world.pass_time(0.5)
    done = await world.done(name)
    assert (done.error.code, done.error.message) == (Code.UNAVAILABLE, "busy")
    assert sorted(batcher.deleted) == ["a", "b"]
    assert states_of(done) == ["ROLLED_BACK", "ROLLED_BACK"]


@pytest.mark.any_engine
async def test_a_cancel_of_one_that_waits_with_a_batch_rolls_it_back_at_once(world, keyword):
    batcher = Batcher(keyword, RetryableError("busy", retry_after=timedelta(hours=1)))
    await world.start(batcher.run)
    name = await world.create()
    await waits(world, name)
    await world.cancel(name)
    done = await world.done(name)
    assert done.error.code == Code.CANCELLED
    assert sorted(batcher.deleted) == ["a", "b"]


async def test_an_error_while_it_is_undone_for_a_cancel_may_be_retried(world):
    """The operation stays CANCELLING meanwhile, and the next attempt undoes again."""
    started = Signal()
    undone = []

    async def work(request, op):
        if op.cancel_requested:
            if not undone:
                undone.append("failed")
                raise RetryableError("busy", retry_after=timedelta(seconds=2))
            undone.append("done")
            await op.checkpoint()
        await op.checkpoint(b"begun")
        started.set()
        await Signal()

    await world.start(work)
    name = await world.create()
    await started
    await world.crash()
    await world.cancel(name)
    await world.start(work)
    assert (await waits(world, name, 2)).state == states.CANCELLING
    await world.pass_time(2)
    done = await world.done(name)
    assert done.error.code == Code.CANCELLED
    assert undone == ["failed", "done"]


# Ends of the engine.


async def test_an_engine_that_stops_leaves_no_retry_behind(world):
    """Not even of an error that a handler raises while it is stopped."""
    started = Signal()

    async def work(request, op):
        started.set()
        try:
            await Signal()
        except asyncio.CancelledError:
            raise RetryableError("busy", retry_after=timedelta(hours=1)) from None

    engine = await world.start(work)
    name = await world.create()
    await started
    await engine.stop(timedelta(seconds=5))
    await waits(world, name)
    before = asyncio.all_tasks()
    await world.apply(name, Delete())  # the store still notifies of its changes
    assert asyncio.all_tasks() == before


async def test_a_retry_is_no_release_and_counts_where_a_drain_does_not(world):
    name = await world.create(max_attempts=2)
    for event in (Release(Report(1)), RetryLater(Report(2), b"", 0)):
        await world.apply(name, Claim(15_000_000))
        await world.apply(name, event)
    assert (await world.record(name)).failed_attempts == 1


async def test_a_retry_waits_for_no_longer_than_its_time_limit_to_undo(world, keyword):
    """The batch is rolled back when the time is over, not when the next attempt would begin."""
    batcher = Batcher(keyword, RetryableError("busy", retry_after=timedelta(hours=1)))
    await world.start(batcher.run)
    name = await world.create(timeout=30_000_000)
    await waits(world, name)
    await world.pass_time(30 + SWEEP)
    done = await world.done(name)
    assert done.error.code == Code.DEADLINE_EXCEEDED
    assert metadata_of(done).state == states.EXPIRED
    assert sorted(batcher.deleted) == ["a", "b"]


@pytest.mark.parametrize("by_backoff", [False, True])
async def test_a_clock_that_is_set_back_makes_no_pause_longer(world, keyword, by_backoff):
    """Nor shorter: it goes by the monotonic clock."""
    pause = timedelta(seconds=2 * SWEEP)
    error = RetryableError("busy", retry_after=None if by_backoff else pause)
    flaky = Flaky(error, error, keyword=keyword)
    steady = Backoff(initial=pause, maximum=pause, multiplier=1)
    await world.start(handler(flaky.run, backoff=steady), random=lambda: 0.999_999)
    name = await world.create()
    for failed in (1, 2):
        await waits(world, name, failed)
        world.clock.offset += timedelta(hours=-5)
        await world.pass_time(pause.total_seconds() - 1)
        assert len(flaky.attempts) == failed
        await world.pass_time(1)
    assert response_of(await world.done(name)) == "attempt 3"


async def test_a_pause_that_is_over_is_so_after_an_outage_too(world):
    """Though the first claim has failed, and the time of day was set back."""
    flaky = Flaky(RetryableError("busy", retry_after=timedelta(seconds=3)))
    await world.start(flaky.run)
    name = await world.create()
    await waits(world, name)
    world.clock.offset -= timedelta(hours=5)

    async def fail(events):
        raise UnavailableError("the store is down")

    async def sent(events):
        pass

    world.link.before = fail
    await world.pass_time(3 * SWEEP)
    world.link.before = sent
    await world.pass_time(1)
    assert response_of(await world.done(name)) == "attempt 2"


async def test_a_pause_that_is_over_does_not_shorten_a_later_one(world):
    """A claim tells for which time it has waited."""
    error = [RetryableError("busy", retry_after=timedelta(seconds=seconds)) for seconds in (3, 60)]
    flaky = Flaky(*error)
    await world.start(flaky.run)
    name = await world.create()
    first = await waits(world, name)
    await world.pass_time(3)
    second = await waits(world, name, 2)
    with pytest.raises(StaleAttemptError):
        await world.apply(name, Claim(10**9, waited_for=first.scheduled_time))
    claimed = await world.apply(name, Claim(10**9, waited_for=second.scheduled_time))
    assert (claimed.attempt, claimed.update_time) == (3, second.scheduled_time)
