"""Batches: several targets made as one operation, all or nothing, as AlloyDB has them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from engine_world import (
    LEASE,
    Signal,
    Text,
    handler,
    info_of,
    metadata_of,
    response_of,
    states_of,
    statuses_of,
)
from google.longrunning import operations_pb2
from google.rpc import error_details_pb2

from lro.v1.batch_create_instances_pb2 import BatchCreateInstanceStatus
from lro_grpc._errors import (
    AttemptStopped,
    Code,
    LroError,
    RetryableError,
    StopReason,
    UnavailableError,
)
from lro_grpc._operation import states
from lro_grpc._operation.batch_states import BatchStates
from lro_grpc._operation.events import Claim, LeaseLost, SaveBatch

KEYWORDS = ["def", "async def"]
A, B, C, D = TARGETS = [f"projects/p/instances/i{n}" for n in range(1, 5)]

READY, CREATING, DELETING = "READY", "CREATING", "DELETING"
FAILED, ROLLED_BACK, PENDING = "FAILED", "ROLLED_BACK", "PENDING_CREATE"


class Fleet:
    """Creates and deletes targets as a test says, sync or async.

    A target in ``gates`` waits there, and looks whether it has to stop; one in ``failures`` then
    fails with what stands there. ``exists`` is what there is in the end.
    """

    def __init__(self, keyword: str, targets: list[str] = TARGETS, parallelism: int = 1) -> None:
        self.targets = targets
        self.parallelism = parallelism
        self.run = self._run if keyword == "def" else self._run_async
        self.create_gates: dict[str, Signal] = {}
        self.delete_gates: dict[str, Signal] = {}
        self.create_failures: dict[str, BaseException] = {}
        self.delete_failures: dict[str, BaseException] = {}
        self.begun = {target: Signal() for target in targets}
        self.deleting = {target: Signal() for target in targets}
        self.after_batch: Signal | None = None
        self.unwound = Signal()
        self.exists: set[str] = set()
        self.calls: list[tuple[str, str, int]] = []
        self.cancel_requested: list[bool] = []
        self.raised: list[BaseException] = []
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def created(self, attempt: int = 1) -> list[str]:
        return [
            target for what, target, number in self.calls if (what, number) == ("create", attempt)
        ]

    def deleted(self, attempt: int = 1) -> list[str]:
        return [
            target for what, target, number in self.calls if (what, number) == ("delete", attempt)
        ]

    def _run(self, request: Any, op: Any) -> Any:
        self.cancel_requested.append(op.cancel_requested)

        def create(target: str) -> None:
            with self._begins("create", target, op):
                if gate := self.create_gates.get(target):
                    gate.wait_or_stop(op)
                self._create(target)

        def delete(target: str) -> None:
            with self._begins("delete", target, op):
                if gate := self.delete_gates.get(target):
                    gate.wait_or_stop(op)
                self._delete(target)

        try:
            op.batch(self.targets, create=create, delete=delete, parallelism=self.parallelism)
        except BaseException as error:
            self.raised.append(error)
            self.unwound.set()
            raise
        if self.after_batch:
            self.after_batch.wait_or_stop(op)
        return Text(value="made")

    async def _run_async(self, request: Any, op: Any) -> Any:
        self.cancel_requested.append(op.cancel_requested)

        async def create(target: str) -> None:
            with self._begins("create", target, op):
                if gate := self.create_gates.get(target):
                    await gate
                self._create(target)

        async def delete(target: str) -> None:
            with self._begins("delete", target, op):
                if gate := self.delete_gates.get(target):
                    await gate
                self._delete(target)

        try:
            await op.batch(self.targets, create=create, delete=delete, parallelism=self.parallelism)
        except BaseException as error:
            self.raised.append(error)
            self.unwound.set()
            raise
        if self.after_batch:
            await self.after_batch
        return Text(value="made")

    @contextlib.contextmanager
    def _begins(self, what: str, target: str, op: Any) -> Any:
        with self._lock:
            self.calls.append((what, target, op.attempt))
            self._now += 1
            self.most = max(self.most, self._now)
        (self.begun if what == "create" else self.deleting)[target].set()
        try:
            yield
        finally:
            with self._lock:
                self._now -= 1

    def _create(self, target: str) -> None:
        if target in self.create_failures:
            raise self.create_failures[target]
        self.exists.add(target)

    def _delete(self, target: str) -> None:
        if target in self.delete_failures:
            raise self.delete_failures[target]
        self.exists.discard(target)


@pytest.fixture(params=KEYWORDS)
def fleet(request: pytest.FixtureRequest) -> Fleet:
    return Fleet(request.param)


def no_room(target: str) -> LroError:
    return LroError(
        f"no room for {target}",
        code=Code.RESOURCE_EXHAUSTED,
        reason="NO_ROOM",
        details=[error_details_pb2.RetryInfo(retry_delay={"seconds": 5})],
    )


# Success.


@pytest.mark.any_engine
async def test_a_batch_that_succeeds_has_every_target_ready(world, fleet):
    await world.start(fleet.run)
    done = await world.done(await world.create())
    assert response_of(done) == "made"
    assert states_of(done) == [READY] * 4
    batch = metadata_of(done).batch_create_instances_metadata
    assert list(batch.instance_targets) == TARGETS
    assert set(batch.instance_statuses) == set(TARGETS)
    assert [one for one in statuses_of(done) if one.HasField("error") or one.error_msg] == []
    assert fleet.created() == TARGETS
    assert fleet.deleted() == []


async def test_targets_are_picked_in_order_and_each_state_is_stored_first(world, fleet):
    fleet.create_gates = {target: Signal() for target in TARGETS}
    await world.start(fleet.run)
    name = await world.create()
    seen = []
    for target in TARGETS:
        await fleet.begun[target]
        seen.append(states_of(await world.get(name)))
        fleet.create_gates[target].set()
    assert seen == [
        [CREATING, PENDING, PENDING, PENDING],
        [READY, CREATING, PENDING, PENDING],
        [READY, READY, CREATING, PENDING],
        [READY, READY, READY, CREATING],
    ]
    await world.done(name)


@pytest.mark.parametrize("keyword", KEYWORDS)
async def test_as_many_targets_are_created_at_a_time_as_asked_for(world, keyword):
    targets = [f"i{n}" for n in range(7)]
    fleet = Fleet(keyword, targets, parallelism=3)
    fleet.create_gates = {target: Signal() for target in targets}
    await world.start(fleet.run)
    name = await world.create()
    for target in targets[:3]:
        await fleet.begun[target]
    assert states_of(await world.get(name)) == [CREATING] * 3 + [PENDING] * 4
    fleet.create_gates["i1"].set()  # whichever is first makes room for the next
    await fleet.begun["i3"]
    assert states_of(await world.get(name)) == [CREATING, READY, CREATING, CREATING] + [PENDING] * 3
    for gate in fleet.create_gates.values():
        gate.set()
    assert states_of(await world.done(name)) == [READY] * 7
    assert fleet.most == 3


async def test_a_batch_without_targets_is_made_at_once(world):
    await world.start(Fleet("async def", []).run)
    done = await world.done(await world.create())
    assert response_of(done) == "made"
    assert not metadata_of(done).HasField("batch_create_instances_metadata")


@pytest.mark.any_engine
async def test_progress_goes_with_the_states(world):
    async def run(request, op):
        async def create(target):
            op.progress(50, f"creating {target}")

        await op.batch([A], create=create, delete=create)
        return Text()

    await world.start(run)
    assert metadata_of(await world.done(await world.create())).status_detail == f"creating {A}"


# Failure.


@pytest.mark.any_engine
async def test_a_failure_at_the_third_of_four_rolls_back_the_first_two(world, fleet):
    """ROLLED_BACK, ROLLED_BACK, FAILED, FAILED: the documented example."""
    fleet.create_failures = {C: no_room(C)}
    await world.start(fleet.run)
    done = await world.done(await world.create())
    assert states_of(done) == [ROLLED_BACK, ROLLED_BACK, FAILED, FAILED]
    assert fleet.exists == set()
    assert fleet.created() == [A, B, C]
    assert fleet.deleted() == [B, A]

    first, second, failed, never_picked = statuses_of(done)
    assert not first.HasField("error")
    assert not second.HasField("error")
    assert failed.error == done.error
    assert (done.error.code, done.error.message) == (8, f"no room for {C}")
    assert info_of(done.error.details).reason == "NO_ROOM"
    assert info_of(done.error.details).domain == "test.example"
    assert any(one.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for one in done.error.details)
    assert never_picked.error.code == Code.ABORTED
    assert C in never_picked.error.message
    assert info_of(never_picked.error.details).metadata["failed"] == C
    for one in (first, second, failed, never_picked):
        assert one.error_msg == one.error.message


async def test_what_the_library_says_of_a_target_is_in_its_own_domain(world, fleet):
    """The reasons of the service's domain are the service's to define (S21)."""
    fleet.create_failures = {A: no_room(A)}
    await world.start(fleet.run)
    done = await world.done(await world.create())
    assert info_of(statuses_of(done)[3].error.details).domain == "lro-grpc"


async def test_an_unexpected_exception_of_a_target_leaks_nothing(world, fleet, caplog):
    fleet.create_failures = {B: ValueError("password is hunter2")}
    await world.start(fleet.run)
    done = await world.done(await world.create())
    assert states_of(done) == [ROLLED_BACK, FAILED, FAILED, FAILED]
    assert done.error.code == Code.INTERNAL
    incident = info_of(done.error.details).metadata["incident"]
    assert b"hunter2" not in done.SerializeToString()
    assert incident in caplog.text
    assert B in caplog.text


@pytest.mark.parametrize("error", [asyncio.CancelledError(), SystemExit(1)], ids=repr)
async def test_a_target_that_ends_as_if_it_were_stopped_has_failed(world, fleet, error):
    """Nobody has stopped it: so its batch is not through."""
    fleet.create_failures = {C: error}
    await world.start(fleet.run)
    done = await world.done(await world.create())
    assert done.error.code == Code.INTERNAL
    assert states_of(done) == [ROLLED_BACK, ROLLED_BACK, FAILED, FAILED]
    assert fleet.exists == set()


async def test_each_that_fails_at_the_same_time_has_its_own_error(world):
    fleet = Fleet("def", parallelism=4)
    fleet.create_gates = {B: Signal(), D: Signal()}
    fleet.create_failures = {B: no_room(B), C: no_room(C)}
    await world.start(fleet.run)
    name = await world.create()
    await fleet.begun[B]
    await fleet.begun[D]
    fleet.create_gates[B].set()
    fleet.create_gates[D].set()
    done = await world.done(name)
    assert states_of(done) == [ROLLED_BACK, FAILED, FAILED, ROLLED_BACK]
    assert fleet.exists == set()
    for target, one in zip((B, C), statuses_of(done)[1:3], strict=True):
        assert one.error.message == f"no room for {target}"
    assert done.error.message in (f"no room for {B}", f"no room for {C}")


async def test_what_was_begun_when_another_fails_is_finished_and_rolled_back(world, fleet):
    fleet.parallelism = 2
    fleet.create_gates = {A: Signal()}
    fleet.create_failures = {B: no_room(B)}
    await world.start(fleet.run)
    name = await world.create()
    failed = await world.until(name, lambda one: bool(one.batch_error))
    assert failed.state == states.RUNNING
    assert states_of(await world.get(name)) == [CREATING, FAILED, PENDING, PENDING]
    fleet.create_gates[A].set()
    done = await world.done(name)
    assert states_of(done) == [ROLLED_BACK, FAILED, FAILED, FAILED]
    assert fleet.created() in ([A, B], [B, A])


async def test_a_target_that_cannot_be_deleted_is_failed_and_the_others_rolled_back(world, fleet):
    fleet.create_failures = {D: no_room(D)}
    fleet.delete_failures = {B: LroError("it is in use", code=Code.FAILED_PRECONDITION)}
    await world.start(fleet.run)
    done = await world.done(await world.create())
    assert states_of(done) == [ROLLED_BACK, FAILED, ROLLED_BACK, FAILED]
    assert statuses_of(done)[1].error.message == statuses_of(done)[1].error_msg == "it is in use"
    assert done.error.message == f"no room for {D}"
    assert fleet.exists == {B}


async def test_rollback_is_as_parallel_as_creation(world, fleet):
    fleet.parallelism = 3
    fleet.create_failures = {D: no_room(D)}
    fleet.delete_gates = {target: Signal() for target in (A, B, C)}
    await world.start(fleet.run)
    name = await world.create()
    for target in (A, B, C):
        await fleet.deleting[target]
    assert states_of(await world.get(name)) == [DELETING, DELETING, DELETING, FAILED]
    for gate in fleet.delete_gates.values():
        gate.set()
    assert states_of(await world.done(name)) == [ROLLED_BACK] * 3 + [FAILED]


async def test_a_handler_may_catch_the_error_and_raise_one_of_its_own(world):
    async def run(request, op):
        async def create(target):
            raise no_room(target)

        try:
            await op.batch([A], create=create, delete=create)
        except LroError as error:
            raise LroError(f"full: {error.reason}", code=Code.OUT_OF_RANGE) from error

    await world.start(run)
    done = await world.done(await world.create())
    assert (done.error.code, done.error.message) == (Code.OUT_OF_RANGE, "full: NO_ROOM")
    assert statuses_of(done)[0].error.message == f"no room for {A}"


# Errors that may pass.


class Passing:
    """Creates and deletes, and fails as often as a test says before it does."""

    def __init__(self, keyword: str, parallelism: int = 1) -> None:
        self.run = self._run if keyword == "def" else self._run_async
        self.failures: dict[tuple[str, str], list[BaseException]] = {}
        self.tries: Counter[tuple[str, str]] = Counter()
        self.failed = Signal()
        self.exists: set[str] = set()
        self._parallelism = parallelism

    def _try(self, what: str, target: str) -> None:
        self.tries[what, target] += 1
        if errors := self.failures.get((what, target)):
            self.failed.set()
            raise errors.pop(0) if len(errors) > 1 or self.tries[what, target] < MANY else errors[0]
        (self.exists.add if what == "create" else self.exists.discard)(target)

    def _run(self, request: Any, op: Any) -> Any:
        op.batch(
            TARGETS,
            create=lambda target: self._try("create", target),
            delete=lambda target: self._try("delete", target),
            parallelism=self._parallelism,
        )
        return Text(value=f"attempt {op.attempt}")

    async def _run_async(self, request: Any, op: Any) -> Any:
        async def create(target: str) -> None:
            self._try("create", target)

        async def delete(target: str) -> None:
            self._try("delete", target)

        await op.batch(TARGETS, create=create, delete=delete, parallelism=self._parallelism)
        return Text(value=f"attempt {op.attempt}")


MANY = 100


@pytest.fixture(params=KEYWORDS)
def passing(request: pytest.FixtureRequest) -> Passing:
    return Passing(request.param)


async def done_in_time(world: Any, name: str) -> operations_pb2.Operation:
    """Lets time pass until an operation is done."""
    while not (await world.record(name)).done:
        await world.pass_time(0.5)
    return await world.get(name)


PASSES = {
    "a RetryableError": lambda: RetryableError("busy"),
    "one that says when": lambda: RetryableError("busy", retry_after=timedelta(seconds=3)),
    "one that the predicate knows": lambda: ConnectionResetError("busy"),
}


@pytest.mark.any_engine
@pytest.mark.parametrize("error", PASSES.values(), ids=PASSES)
async def test_a_target_is_created_again_after_an_error_that_may_pass(world, passing, error):
    passing.failures = {("create", B): [error(), error()]}
    retry = lambda error: isinstance(error, ConnectionError)  # noqa: E731
    await world.start(handler(passing.run, retry=retry))
    name = await world.create(max_attempts=3)
    await passing.failed
    assert states_of(await world.get(name)) == [READY, CREATING, PENDING, PENDING]
    done = await done_in_time(world, name)
    assert response_of(done) == "attempt 1"
    assert states_of(done) == [READY] * 4
    assert passing.tries["create", B] == 3


@pytest.mark.parametrize("error", PASSES.values(), ids=PASSES)
async def test_a_target_is_deleted_again_after_an_error_that_may_pass(world, passing, error):
    passing.failures = {("create", D): [no_room(D)], ("delete", B): [error()]}
    retry = lambda error: isinstance(error, ConnectionError)  # noqa: E731
    await world.start(handler(passing.run, retry=retry))
    done = await done_in_time(world, await world.create())
    assert states_of(done) == [ROLLED_BACK] * 3 + [FAILED]
    assert passing.exists == set()
    assert done.error == statuses_of(done)[3].error


async def test_what_never_passes_fails_by_the_methods_own_number_of_attempts(world, passing):
    passing.failures = {("create", C): [RetryableError("busy", retry_after=timedelta(0))] * MANY}
    await world.start(passing.run)
    done = await done_in_time(world, await world.create(max_attempts=4))
    assert passing.tries["create", C] == 4
    assert (done.error.code, done.error.message) == (Code.UNAVAILABLE, "busy")
    assert states_of(done) == [ROLLED_BACK, ROLLED_BACK, FAILED, FAILED]


async def test_an_operations_error_names_what_could_not_be_deleted(world, passing):
    busy = RetryableError("in use", retry_after=timedelta(0))
    passing.failures = {
        ("create", D): [no_room(D)],
        ("delete", B): [busy] * MANY,
        ("delete", C): [LroError("protected", code=Code.FAILED_PRECONDITION)],
    }
    await world.start(passing.run)
    done = await done_in_time(world, await world.create(max_attempts=2))
    assert states_of(done) == [ROLLED_BACK, FAILED, FAILED, FAILED]
    assert [one.error.message for one in statuses_of(done)[1:3]] == ["in use", "protected"]
    assert done.error.message == f"no room for {D}"
    assert info_of(done.error.details).metadata["left_over"] == f"{C}, {B}"
    assert passing.exists == {B, C}
    assert passing.tries["delete", B] == 2


async def test_a_cancel_ends_the_pause_before_the_next_try(world, passing):
    hour = RetryableError("busy", retry_after=timedelta(hours=1))
    passing.failures = {("create", B): [hour]}
    await world.start(passing.run)
    name = await world.create()
    await passing.failed
    await world.cancel(name)
    done = await world.done(name)
    assert done.error.code == Code.CANCELLED
    assert states_of(done) == [ROLLED_BACK, FAILED, FAILED, FAILED]
    assert passing.exists == set()


@pytest.mark.parametrize("end", ["shutdown", "crash"])
async def test_a_batch_that_rests_goes_on_in_the_next_process(world, passing, end):
    hour = RetryableError("busy", retry_after=timedelta(hours=1))
    passing.failures = {("create", B): [hour]}
    await world.start(passing.run)
    name = await world.create()
    await passing.failed
    await (world.stop() if end == "shutdown" else world.crash())
    await world.start(passing.run)
    done = await done_in_time(world, name)
    assert states_of(done) == [READY] * 4
    assert response_of(done) == "attempt 2"


async def test_a_rollback_that_rests_goes_on_in_the_next_process(world, passing):
    hour = RetryableError("in use", retry_after=timedelta(hours=1))
    passing.failures = {("create", D): [no_room(D)], ("delete", B): [hour]}
    await world.start(passing.run)
    name = await world.create()
    await world.until(name, lambda one: bool(one.batch_error) and passing.tries["delete", B] == 1)
    await world.stop()
    await world.start(passing.run)
    done = await done_in_time(world, name)
    assert states_of(done) == [ROLLED_BACK] * 3 + [FAILED]
    assert (done.error.message, passing.exists) == (f"no room for {D}", set())


@pytest.mark.parametrize("keyword", KEYWORDS)
async def test_a_pause_ends_when_another_target_fails_for_good(world, keyword):
    passing = Passing(keyword, parallelism=2)
    hour = RetryableError("busy", retry_after=timedelta(hours=1))
    passing.failures = {("create", A): [hour], ("create", C): [no_room(C)]}
    await world.start(passing.run)
    done = await world.done(await world.create())
    assert done.error.message == f"no room for {C}"
    assert states_of(done) == [FAILED, ROLLED_BACK, FAILED, FAILED]
    assert statuses_of(done)[0].error.message == "busy"


async def test_a_pause_is_no_lack_of_progress(world):
    passing = Passing("async def")  # a thread may be slower than the clock of the test
    passing.failures = {("create", B): [RetryableError("busy", retry_after=timedelta(minutes=5))]}
    await world.start(handler(passing.run, progress_timeout=timedelta(seconds=20)))
    name = await world.create()
    await passing.failed
    done = await done_in_time(world, name)
    assert response_of(done) == "attempt 1"


# Many targets.


@pytest.mark.parametrize("keyword", KEYWORDS)
@pytest.mark.parametrize("fails", [False, True], ids=["created", "rolled back"])
async def test_the_states_of_many_targets_are_stored_a_few_times_only(memory_world, keyword, fails):
    """All of them are written each time: so the work grows with their number, not its square."""
    targets = [f"i{n}" for n in range(2000)]
    fleet = Fleet(keyword, targets, parallelism=4)
    if fails:
        fleet.create_failures = {targets[-2]: no_room(targets[-2])}
    saves = 0

    async def count(events):
        nonlocal saves
        saves += sum(isinstance(event, SaveBatch) for event in events)

    await memory_world.start(fleet.run)
    memory_world.link.before = count
    done = await memory_world.done(await memory_world.create())
    assert set(states_of(done)) == ({ROLLED_BACK, FAILED} if fails else {READY})
    assert saves < 500
    assert fleet.exists == (set() if fails else set(targets))


@pytest.mark.parametrize("keyword", KEYWORDS)
async def test_what_was_stored_as_begun_ahead_of_its_turn_is_rolled_back_after_a_crash(
    world, keyword
):
    """Whichever of those the worker came to before it died."""
    targets = [f"i{n}" for n in range(1000)]
    fleet = Fleet(keyword, targets, parallelism=2)
    fleet.create_gates = {targets[500]: Signal()}
    await world.start(fleet.run)
    name = await world.create()
    await fleet.begun[targets[500]]
    await world.crash()
    assert CREATING in states_of(await world.get(name))
    await world.cancel(name)
    fleet.create_gates[targets[500]].set()
    await fleet.unwound  # a thread outlives the crash of a test, and makes one more target
    await world.start(fleet.run)
    done = await world.done(name)
    assert done.error.code == Code.CANCELLED
    assert fleet.exists == set()
    assert set(states_of(done)) == {ROLLED_BACK, FAILED}


async def test_a_slow_batch_begins_no_target_ahead_of_its_turn(memory_world):
    """It can afford to store each change, and one that was not begun need not be deleted."""
    number, begun = 300, []

    async def create(target):
        memory_world.clock.advance(timedelta(seconds=1))

    async def delete(target):
        pass

    async def run(request, op):
        await op.batch([f"i{n}" for n in range(number)], create=create, delete=delete)
        return Text()

    async def note(events):
        for event in events:
            if isinstance(event, SaveBatch):
                begun.append(
                    len(
                        BatchStates(event.batch).among(
                            frozenset({BatchCreateInstanceStatus.CREATING})
                        )
                    )
                )

    await memory_world.start(run)
    memory_world.link.before = note
    await memory_world.done(await memory_world.create())
    assert begun == [1] * number + [0]


# What cannot be.


@pytest.mark.parametrize("keyword", KEYWORDS)
async def test_a_target_that_stands_there_twice_fails_before_anything_is_begun(world, keyword):
    fleet = Fleet(keyword, TARGETS)
    fleet.targets = [A, B, A]
    await world.start(fleet.run)
    done = await world.done(await world.create())
    assert done.error.code == Code.INTERNAL
    assert fleet.calls == []
    assert A in str(fleet.raised[0])
    assert not metadata_of(done).HasField("batch_create_instances_metadata")


async def test_other_targets_than_in_the_attempt_before_fail(world, fleet):
    fleet.create_gates = {A: Signal()}
    await world.start(fleet.run)
    name = await world.create()
    await fleet.begun[A]
    await world.crash()
    fleet.targets = TARGETS[:2]
    await world.start(fleet.run)
    done = await world.done(name)
    assert (done.error.code, info_of(done.error.details).reason) == (13, "BATCH_CHANGED")


async def test_a_second_batch_in_one_operation_is_refused(world):
    """It would overwrite the states of the first, which nothing could then roll back."""
    made = []

    async def run(request, op):
        async def create(target):
            made.append(target)

        async def delete(target):
            made.remove(target)

        await op.batch([A], create=create, delete=delete)
        assert made == [A]
        await op.batch([B], create=create, delete=delete)
        return Text()

    await world.start(run)
    done = await world.done(await world.create())
    assert info_of(done.error.details).reason == "BATCH_CHANGED"
    assert made == []


# Cancel.


@pytest.mark.any_engine
async def test_a_cancel_rolls_back_what_was_created(world, fleet):
    fleet.create_gates = {C: Signal()}
    await world.start(fleet.run)
    name = await world.create()
    await fleet.begun[C]
    await world.cancel(name)
    done = await world.done(name)
    assert done.error.code == Code.CANCELLED
    assert states_of(done) == [ROLLED_BACK, ROLLED_BACK, FAILED, FAILED]
    assert statuses_of(done)[2].error.code == Code.CANCELLED
    assert statuses_of(done)[3].error.code == Code.ABORTED
    assert fleet.exists == set()
    assert fleet.created() == [A, B, C]
    assert isinstance(fleet.raised[0], AttemptStopped)


async def test_a_cancel_when_all_but_the_handler_is_through_rolls_back_too(world, fleet):
    """Nothing may be left of a cancelled batch: with an error, no target is READY."""
    fleet.after_batch = Signal()
    await world.start(fleet.run)
    name = await world.create()
    await world.until(name, lambda one: states_of_record(one) == [READY] * 4)
    await world.cancel(name)
    done = await world.done(name)
    assert done.error.code == Code.CANCELLED
    assert states_of(done) == [ROLLED_BACK] * 4
    assert fleet.exists == set()


async def test_a_cancel_during_the_last_creation_reaches_the_handler(world):
    """It is not lost when the creation itself takes no notice of it."""
    begun, go_on = Signal(), Signal()

    async def run(request, op):
        async def create(target):
            begun.set()
            try:
                await go_on
            except asyncio.CancelledError:
                return  # made all the same

        async def delete(target):
            pass

        await op.batch([A], create=create, delete=delete)
        await Signal()

    await world.start(run)
    name = await world.create()
    await begun
    await world.cancel(name)
    done = await world.done(name)
    assert done.error.code == Code.CANCELLED
    assert states_of(done) == [ROLLED_BACK]


async def test_a_cancel_during_the_rollback_of_a_failure_does_not_stop_it(world, fleet):
    fleet.create_failures = {D: no_room(D)}
    fleet.delete_gates = {B: Signal()}
    await world.start(fleet.run)
    name = await world.create()
    await fleet.deleting[B]
    await world.cancel(name)
    fleet.delete_gates[B].set()
    done = await world.done(name)
    assert done.WhichOneof("result") == "error"
    assert states_of(done) == [ROLLED_BACK] * 3 + [FAILED]
    assert fleet.exists == set()


async def test_a_second_cancel_does_not_stop_the_rollback_of_the_first(world, fleet):
    fleet.create_gates = {C: Signal()}
    fleet.delete_gates = {B: Signal()}
    await world.start(fleet.run)
    name = await world.create()
    await fleet.begun[C]
    await world.cancel(name)
    await fleet.deleting[B]
    await world.cancel(name)
    fleet.delete_gates[B].set()
    done = await world.done(name)
    assert states_of(done) == [ROLLED_BACK, ROLLED_BACK, FAILED, FAILED]
    *_, never_begun = statuses_of(done)
    assert never_begun.error.message == "not begun, because the operation was stopped"
    assert dict(info_of(never_begun.error.details).metadata) == {}
    assert fleet.exists == set()


async def test_nothing_is_begun_after_a_cancel(world, fleet):
    """Not even a target that was picked while the cancel came (R7)."""

    async def cancel(events):
        if any(isinstance(event, SaveBatch) for event in events):
            world.link.after = _nothing
            await world.cancel(name)

    await world.start(fleet.run)
    fleet.create_gates = {A: Signal()}
    world.link.after = cancel
    name = await world.create()
    done = await world.done(name)
    assert done.error.code == Code.CANCELLED
    assert fleet.exists == set()
    assert READY not in states_of(done)


@pytest.mark.any_engine
async def test_a_cancel_while_no_worker_has_it_is_undone_by_one_more_attempt(world, fleet):
    fleet.create_gates = {C: Signal()}
    await world.start(fleet.run)
    name = await world.create()
    await fleet.begun[C]
    await world.stop()
    assert fleet.exists == {A, B}
    await world.open()
    await world.cancel(name)
    assert (await world.record(name)).state == states.CANCELLING
    await world.start(fleet.run)
    done = await world.done(name)
    assert done.error.code == Code.CANCELLED
    assert metadata_of(done).attempt == 2
    assert fleet.cancel_requested == [False, True]
    assert fleet.created(attempt=2) == []
    assert states_of(done) == [ROLLED_BACK, ROLLED_BACK, ROLLED_BACK, FAILED]
    assert fleet.deleted(attempt=2) == [C, B, A]
    assert fleet.exists == set()


async def test_a_cancel_of_a_whole_batch_while_no_worker_has_it_is_undone_too(world, fleet):
    fleet.after_batch = Signal()
    await world.start(fleet.run)
    name = await world.create()
    await world.until(name, lambda one: states_of_record(one) == [READY] * 4)
    await world.crash()
    await world.open()
    await world.apply(name, LeaseLost(1, proven=True))
    await world.cancel(name)
    fleet.after_batch.set()
    await world.start(fleet.run)
    done = await world.done(name)
    assert fleet.cancel_requested == [False, True]
    assert states_of(done) == [ROLLED_BACK] * 4
    assert done.error.code == Code.CANCELLED


# Shutdown, crash, lost lease.


@pytest.mark.any_engine
async def test_a_shutdown_in_the_middle_leaves_the_states_to_the_next_attempt(world, fleet):
    fleet.create_gates = {C: Signal()}
    await world.start(fleet.run)
    name = await world.create()
    await fleet.begun[C]
    await world.stop()
    await world.open()
    assert states_of(await world.get(name)) == [READY, READY, CREATING, PENDING]
    assert (await world.record(name)).state == states.QUEUED
    assert fleet.deleted() == []
    fleet.create_gates[C].set()
    await world.start(fleet.run)
    done = await world.done(name)
    assert response_of(done) == "made"
    assert fleet.created(attempt=2) == [C, D]
    assert states_of(done) == [READY] * 4


async def test_a_shutdown_during_the_last_creation_gives_the_operation_back(world):
    """It is not taken for the end of the handler when the creation takes no notice of it."""
    begun, attempts = Signal(), []

    async def run(request, op):
        attempts.append(op.attempt)

        async def create(target):
            begun.set()
            with contextlib.suppress(asyncio.CancelledError):
                await Signal()

        await op.batch([A], create=create, delete=create)
        if op.attempt == 1:
            await Signal()
        return Text(value="made")

    await world.start(run)
    name = await world.create(max_attempts=1)
    await begun
    await world.stop(grace=0.2)
    await world.start(run)
    assert response_of(await world.done(name)) == "made"
    assert attempts == [1, 2]


async def test_a_crash_while_creating_goes_on_where_it_was(world, fleet):
    fleet.create_gates = {C: Signal()}
    await world.start(fleet.run)
    name = await world.create()
    await fleet.begun[C]
    await world.crash()
    fleet.create_gates[C].set()
    await world.start(fleet.run)
    done = await world.done(name)
    assert response_of(done) == "made"
    assert states_of(done) == [READY] * 4
    assert fleet.created(attempt=2) == [C, D]


async def test_a_crash_while_creating_and_then_a_failure_ends_as_without_the_crash(world, fleet):
    fleet.create_gates = {B: Signal()}
    fleet.create_failures = {C: no_room(C)}
    await world.start(fleet.run)
    name = await world.create()
    await fleet.begun[B]
    await world.crash()
    fleet.create_gates[B].set()
    await world.start(fleet.run)
    done = await world.done(name)
    assert states_of(done) == [ROLLED_BACK, ROLLED_BACK, FAILED, FAILED]
    assert C in statuses_of(done)[3].error.message
    assert fleet.deleted(attempt=2) == [B, A]


async def test_a_crash_in_the_rollback_goes_on_with_it(world, fleet):
    """Nothing is created any more, and the error is the first one's still."""
    fleet.create_failures = {C: no_room(C)}
    fleet.delete_gates = {A: Signal()}
    await world.start(fleet.run)
    name = await world.create()
    await fleet.deleting[A]
    assert states_of(await world.get(name)) == [DELETING, ROLLED_BACK, FAILED, FAILED]
    await world.crash()
    fleet.delete_gates[A].set()
    fleet.create_failures = {}
    await world.start(fleet.run)
    done = await world.done(name)
    assert states_of(done) == [ROLLED_BACK, ROLLED_BACK, FAILED, FAILED]
    assert done.error == statuses_of(done)[2].error
    assert done.error.message == f"no room for {C}"
    assert (fleet.created(attempt=2), fleet.deleted(attempt=2)) == ([], [A])
    assert fleet.exists == set()


async def test_a_crash_in_the_rollback_for_an_error_of_the_handler_goes_on_with_it(world):
    """The operation has failed, whatever comes of the handler in the next attempt."""
    fleet = Fleet("async def")
    fleet.delete_gates = {B: Signal()}

    async def run(request, op):
        made = await fleet.run(request, op)
        if op.attempt == 1:
            raise no_room("the rest")
        return made

    await world.start(run)
    name = await world.create()
    await fleet.deleting[B]
    await world.crash()
    fleet.delete_gates[B].set()
    await world.start(run)
    done = await world.done(name)
    assert (done.error.code, done.error.message) == (no_room("").code, "no room for the rest")
    assert states_of(done) == [ROLLED_BACK] * 4
    assert (fleet.created(), fleet.created(2)) == (TARGETS, [])
    assert fleet.exists == set()


@pytest.mark.any_engine
async def test_a_shutdown_in_the_rollback_goes_on_with_it(world, fleet):
    fleet.create_failures = {C: no_room(C)}
    fleet.delete_gates = {B: Signal()}
    await world.start(fleet.run)
    name = await world.create()
    await fleet.deleting[B]
    await world.stop()
    await world.open()
    assert states_of(await world.get(name)) == [READY, DELETING, FAILED, FAILED]
    fleet.delete_gates[B].set()
    await world.start(fleet.run)
    done = await world.done(name)
    assert states_of(done) == [ROLLED_BACK, ROLLED_BACK, FAILED, FAILED]
    assert fleet.deleted(attempt=2) == [B, A]


async def test_a_crash_in_a_cancelled_rollback_goes_on_with_it(world, fleet):
    fleet.create_gates = {C: Signal()}
    fleet.delete_gates = {A: Signal()}
    await world.start(fleet.run)
    name = await world.create()
    await fleet.begun[C]
    await world.cancel(name)
    await fleet.deleting[A]
    await world.crash()
    fleet.delete_gates[A].set()
    await world.start(fleet.run)
    done = await world.done(name)
    assert done.error.code == Code.CANCELLED
    assert states_of(done) == [ROLLED_BACK, ROLLED_BACK, FAILED, FAILED]
    assert fleet.exists == set()


async def test_a_batch_whose_every_worker_is_lost_has_no_target_that_is_still_to_come(world, fleet):
    """At the end each instance is READY, FAILED or ROLLED_BACK, and with an error none is READY."""
    fleet.create_gates = {B: Signal()}
    await world.start(fleet.run)
    name = await world.create(max_attempts=1)
    await fleet.begun[B]
    await world.crash()
    await world.start(fleet.run)
    done = await world.done(name)
    assert done.error.code == Code.ABORTED
    assert set(states_of(done)) <= {FAILED, ROLLED_BACK}


async def test_an_attempt_that_has_lost_its_lease_begins_nothing_more(world, fleet):
    """Another worker may be creating the very same targets by now (R5)."""
    fleet.create_gates = {A: Signal()}
    await world.start(fleet.run)
    name = await world.create()
    await fleet.begun[A]
    store = await world.open()
    await store.apply_all([(name, LeaseLost(1, proven=True)), (name, Claim(10**9))])
    fleet.create_gates[A].set()
    await fleet.unwound
    assert isinstance(fleet.raised[0], AttemptStopped)
    assert fleet.raised[0].reason is StopReason.LEASE_LOST
    assert fleet.created() == [A]
    assert (await world.record(name)).attempt == 2


async def test_an_outage_of_the_store_holds_the_batch_up_and_does_not_fail_it(world, fleet):
    """A target is touched only once its state is stored (R10)."""
    failed = Signal()

    async def fail(events):
        if any(isinstance(event, SaveBatch) for event in events):
            failed.set()
            raise UnavailableError("the store is down")

    await world.start(fleet.run)
    world.link.before = fail
    name = await world.create()
    await failed
    assert fleet.calls == []
    world.link.before = _nothing
    await world.pass_time(1)
    assert states_of(await world.done(name)) == [READY] * 4
    assert Counter(fleet.calls).most_common(1)[0][1] == 1


async def test_a_batch_survives_more_than_a_lease(world, fleet):
    fleet.create_gates = {B: Signal()}
    await world.start(fleet.run)
    name = await world.create()
    await fleet.begun[B]
    await world.pass_time(3 * LEASE)
    fleet.create_gates[B].set()
    done = await world.done(name)
    assert states_of(done) == [READY] * 4
    assert metadata_of(done).attempt == 1


def states_of_record(one):
    return states_of(operations_pb2.Operation.FromString(one.operation))


async def _nothing(events):
    del events


async def test_a_batch_of_no_parallelism_is_a_mistake_of_the_handler(world):
    raised = []

    async def run(request, op):
        try:
            await op.batch(["a"], create=print, delete=print, parallelism=0)
        except ValueError as error:
            raised.append(str(error))
            raise

    await world.start(handler(run))
    name = await world.create()
    assert (await world.done(name)).error.code == Code.INTERNAL
    assert raised == ["parallelism is 0; give a positive number"]


WRONG_TARGETS = [{"a", "b"}, "ab", iter(["a"]), {"a": 1}.keys(), [1], [None], ["\ud800"], None]


@pytest.mark.parametrize("targets", WRONG_TARGETS, ids=repr)
async def test_targets_that_are_no_list_of_names_are_a_mistake_of_the_handler(world, targets):
    """A set has another order in the next process, which could not go on with the batch."""
    raised = []

    async def run(request, op):
        try:
            await op.batch(targets, create=print, delete=print)
        except ValueError as error:
            raised.append(str(error))
            raise

    await world.start(handler(run))
    name = await world.create()
    assert (await world.done(name)).error.code == Code.INTERNAL
    assert raised == [f"the targets of the batch are {targets!r}; give a list of resource names"]


class AsyncCall:
    """What no look at a function tells from a plain one."""

    async def __call__(self, target: str) -> None: ...


async def created(target: str) -> None: ...


@pytest.mark.parametrize("wrong", ["create", "delete"])
async def test_a_def_is_refused_a_coroutine_function_that_makes_targets(world, wrong):
    """It has nobody to await it: its batch would be READY, and nothing would be there."""
    functions = {"create": print, "delete": print, wrong: created}
    raised = []

    def run(request, op):
        try:
            op.batch([A, B], **functions)
        except TypeError as error:
            raised.append(str(error))
            raise

    await world.start(handler(run))
    done = await world.done(await world.create())
    assert (done.error.code, states_of(done)) == (Code.INTERNAL, [])
    assert raised == [f"{wrong} is a coroutine function, which a def has nobody to await"]


@pytest.mark.parametrize("function", [AsyncCall(), lambda target: created(target)])
@pytest.mark.parametrize("wrong", ["create", "delete"])
async def test_a_coroutine_that_a_def_is_given_fails_its_target(world, wrong, function):
    functions = {"create": lambda target: None, "delete": lambda target: None, wrong: function}

    def run(request, op):
        op.batch([A, B], **functions)
        raise LroError("after the batch", code=Code.ABORTED)

    await world.start(handler(run))
    done = await world.done(await world.create())
    assert states_of(done) == [FAILED, FAILED]
    assert done.error.code == (Code.INTERNAL if wrong == "create" else Code.ABORTED)
    assert info_of(done.error.details).metadata.get("left_over") == (
        None if wrong == "create" else f"{B}, {A}"
    )
