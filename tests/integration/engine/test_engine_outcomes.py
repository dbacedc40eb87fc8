"""Outcomes on their way into the store, and what becomes of those that it does not take."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

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
    response_of,
)
from google.protobuf import any_pb2
from replica import Replica

from lro_grpc._errors import Code, LroError, StopReason, UnavailableError, UnexpectedError
from lro_grpc._operation import publication
from lro_grpc._operation.events import (
    Claim,
    Event,
    Fail,
    Heartbeat,
    LeaseLost,
    SetUpdating,
    Succeed,
)
from lro_grpc._operation.record import Record
from lro_grpc._operation.states import FAILED, PAUSED, RUNNING
from lro_grpc._runtime.clock import SystemClock
from lro_grpc._stores.forwarding import ForwardingStore
from lro_grpc.engines import InProcess, Workbench
from lro_grpc.stores import Change, Claimed, MemoryStore

MICROS = 1_000_000


@dataclass(frozen=True)
class RefusedClaim(Claim):
    error: LroError = field(kw_only=True)

    def apply(self, record: Record, now: int) -> Record:
        raise self.error


class Refusing(ForwardingStore):
    """Answers some events with an error, in place of applying them."""

    refused: type[Event]
    error: LroError

    async def apply_all(self, changes: Sequence[Change]) -> Sequence[Record | LroError]:
        taken = [one for one in changes if not isinstance(one[1], self.refused)]
        answers = iter(await super().apply_all(taken))
        return [next(answers) if one in taken else self.error for one in changes]

    async def claim(
        self,
        limits: Mapping[str, int],
        claim: Claim,
        *,
        left_out: Collection[str] = (),
        **how: Any,
    ) -> Sequence[Claimed]:
        if isinstance(claim, self.refused):
            claim = RefusedClaim(claim.lease, error=self.error)
        return await super().claim(limits, claim, left_out=left_out, **how)


class CannotKeepSuccess(Refusing):
    refused = Succeed

    @property
    def error(self) -> LroError:  # type: ignore[override]
        error = UnexpectedError("a record cannot be stored")
        error.__cause__ = ValueError("the secret of the column")
        return error


def text_of(event: Succeed) -> str:
    return Text.FromString(any_pb2.Any.FromString(event.response).value).value


async def test_an_outcome_that_cannot_be_stored_ends_the_operation_with_internal(world, caplog):
    """It would be held, and running, for ever; its slot is free for the next one."""
    run = handler(lambda request, op: request, concurrency=1)
    await world.start(run, through=CannotKeepSuccess)
    for _ in range(2):
        caplog.clear()
        name = await world.create()
        done = await world.done(name)
        assert (await world.record(name)).state == FAILED
        assert done.error.code == Code.INTERNAL
        assert "secret" not in str(done)
        (raised,) = [one for one in caplog.records if one.levelno == logging.ERROR]
        assert raised.exc_info is not None
        assert isinstance(raised.exc_info[1], ValueError)  # what the store met, not its wrapper
        fields = vars(raised)
        assert (fields["operation"], fields["attempt"]) == (name, 1)
        assert fields["incident"] == info_of(done.error.details).metadata["incident"]
        (line,) = [one for one in caplog.messages if f"{name}: attempt 1 ended: " in one]
        assert "a record cannot be stored" in line


async def test_an_outcome_that_comes_too_late_is_not_replaced_by_another(shared_world, caplog):
    """Another process has the operation: nothing more is written, and no failure is logged."""
    go_on = Signal()

    async def run(request, op):
        await go_on
        return Text()

    await shared_world.start(run)
    name = await shared_world.create()
    await shared_world.until_in(name, RUNNING)
    store = await shared_world.open()
    sent = []

    async def take_over(events):
        if any(isinstance(one, Succeed) for one in events) and not sent:
            claim = Claim(int(LEASE * MICROS))
            await store.apply_all([(name, LeaseLost(1, proven=True)), (name, claim)])
        sent.extend(one for one in events if isinstance(one, (Succeed, Fail)))

    shared_world.link.before = take_over
    go_on.set()
    await shared_world.until(name, lambda one: one.attempt == 2)
    await shared_world.pass_time(2)
    assert [type(one) for one in sent] == [Succeed]
    held = await shared_world.record(name)
    assert (held.state, held.attempt) == (RUNNING, 2)
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []
    assert caplog.text.count("attempt 1 ended: ") == 1


async def test_of_outcomes_in_an_outage_the_lost_one_is_dropped_for_good(shared_world, caplog):
    """The other one is stored when the store is back, and the lost operation is run again.

    Neither keeps its slot.
    """
    go_on, more_go_on, is_out = Signal(), Signal(), True
    stored: list[tuple[str, int]] = []

    async def run(request, op):
        await (more_go_on if request.value == "more" else go_on)
        return Text(value=request.value)

    async def fail(events: Sequence[Event]) -> None:
        outcomes = [one for one in events if isinstance(one, Succeed)]
        if any(isinstance(one, Heartbeat) for one in events) or (outcomes and is_out):
            raise UnavailableError("away")
        stored.extend((text_of(one), one.report.attempt) for one in outcomes)

    await shared_world.start(handler(run, concurrency=2))
    shared_world.link.before = fail
    early = await shared_world.create("early")
    await shared_world.until_in(early, RUNNING)
    await shared_world.pass_time(LEASE / 2)
    late = await shared_world.create("late")
    await shared_world.until_in(late, RUNNING)
    go_on.set()
    await shared_world.pass_time(LEASE / 2 + 1)  # the early one's lease is over
    is_out = False
    await shared_world.pass_time(SWEEP + 1)
    assert response_of(await shared_world.get(late)) == "late"
    assert response_of(await shared_world.done(early)) == "early"
    assert sorted(stored) == [("early", 2), ("late", 1)]
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []
    for name in [await shared_world.create("more") for _ in range(2)]:
        await shared_world.until_in(name, RUNNING)
    more_go_on.set()


async def test_a_stop_waits_for_no_outcome_that_is_stored_already(world):
    """However long the grace is."""
    engine = await world.start(lambda request, op: request)
    names = [await world.create(str(number)) for number in range(3)]
    for name in names:
        await world.done(name)
    await engine.stop(timedelta(hours=1))


# Writes of a handler that has lost its operation.


async def test_a_thread_whose_write_is_refused_goes_no_further(world):
    """Another attempt has its operation: the block of ``updating`` must not run (R5)."""
    ran: list[str] = []
    raised: list[BaseException] = []
    ended = Signal()

    def run(request, op):
        if op.attempt > 1:
            return Text(value="second")
        try:
            with op.updating():
                ran.append("the block")
        except BaseException as error:
            raised.append(error)
            raise
        finally:
            ended.set()
        return Text(value="first")

    await world.start(run)

    async def take_over(events):
        if any(isinstance(one, SetUpdating) for one in events):
            world.link.before = _nothing
            await world.apply(name, LeaseLost(1, proven=True))

    world.link.before = take_over
    name = await world.create()
    await ended
    assert ran == []
    assert [getattr(one, "reason", None) for one in raised] == [StopReason.LEASE_LOST]
    assert response_of(await world.done(name)) == "second"


async def _nothing(events: Sequence[Event]) -> None:
    del events


@pytest.mark.parametrize("keyword", ["def", "async def"])
async def test_a_handler_may_ask_for_a_pause_request_before_it_has_written_anything(world, keyword):
    asked, go_on, seen = Signal(), Signal(), []

    def work(request, op):
        seen.append(op.pause_requested)
        asked.set()
        go_on.wait()
        seen.append(op.pause_requested)
        return Text()

    async def work_on_the_loop(request, op):
        seen.append(op.pause_requested)
        asked.set()
        await go_on
        seen.append(op.pause_requested)
        return Text()

    await world.start(work if keyword == "def" else work_on_the_loop)
    name = await world.create(pausable=True)
    await asked
    await world.pause(name)
    await asyncio.sleep(0)
    go_on.set()
    await world.done(name)
    assert seen == [False, True]


# Heartbeats


class Beating:
    """An operation that runs until it may go on, and the times of its heartbeats."""

    def __init__(self, world, first=None):
        self.go_on = Signal()
        self.times = []
        self.name = ""
        self._world = world
        self._first = first
        self._started = Signal()

    async def start(self):
        await self._world.start(self._run)
        self._world.link.before = self._note
        self.name = await self._world.create()
        await self._started

    async def _run(self, request, op):
        self._started.set()
        await self.go_on
        return Text(value=str(op.attempt))

    async def _note(self, events):
        if any(isinstance(one, Heartbeat) for one in events):
            self.times.append(self._world.clock.monotonic())
            if self._first is not None and len(self.times) == 1:
                raise self._first


class Unwinding:
    """A handler that stops when it has to, but not before it may."""

    def __init__(self):
        self.started = Signal()
        self.to_checkpoint = Signal()
        self.unwinding = Signal()
        self.go_on = Signal()
        self.reasons = []

    async def run(self, request, op):
        self.started.set()
        try:
            await self.to_checkpoint
            await op.checkpoint()
        finally:
            self.reasons.append(op.stop_reason)
            self.unwinding.set()
            await self.go_on


async def test_after_an_outage_the_next_heartbeat_is_tried_soon(shared_world):
    """Not a third of the lease later: two of three would be lost with one."""
    beating = Beating(shared_world, first=UnavailableError("away"))
    await beating.start()
    await shared_world.pass_time(LEASE)
    beating.go_on.set()
    first, second, third = beating.times[:3]
    assert second - first < LEASE / 10
    assert LEASE / 3 <= third - second < LEASE / 2  # and then they come as always


async def test_a_lease_that_could_not_be_renewed_for_now_is_not_lost(shared_world):
    """As when others are at its operation all the time: that is no refusal."""
    beating = Beating(shared_world)
    await beating.start()
    renew, renewed = shared_world.link.renew, []

    async def once_contended(leased, lease):
        renewed.append(lease)
        if len(renewed) == 1:
            return [UnavailableError("others are at it all the time") for _ in leased]
        return await renew(leased, lease)

    shared_world.link.renew = once_contended
    await shared_world.pass_time(LEASE / 3 + 1.5)
    assert len(renewed) == 2  # soon, and not a third of the lease later
    await shared_world.pass_time(LEASE)
    beating.go_on.set()
    assert response_of(await shared_world.done(beating.name)) == "1"


async def test_the_late_answer_to_a_heartbeat_takes_no_time_from_the_lease(shared_world):
    """For a later one has been answered by then. So each is given up when the next is sent."""
    world, sent, answer = shared_world, [], Signal()
    worker = Unwinding()

    async def keep_the_first(events):
        if any(isinstance(one, Heartbeat) for one in events):
            sent.append(world.clock.monotonic())
            if len(sent) == 1:
                await answer
            elif len(sent) > 2:
                raise UnavailableError("the store is down")

    await world.start(worker.run)
    world.link.after = keep_the_first
    await world.create()
    await worker.started
    await world.pass_time(LEASE)
    assert len(sent) > 2
    answer.set()
    begin = world.clock.monotonic()
    await world.pass_time(sent[0] + LEASE - begin)
    assert worker.reasons == []
    await world.pass_time(sent[1] - sent[0])
    await worker.unwinding
    assert worker.reasons == [StopReason.LEASE_LOST]


async def test_a_heartbeat_that_is_under_way_ends_with_the_engine(shared_world):
    sent, ended = Signal(), Signal()

    async def answer_nothing(events):
        if any(isinstance(one, Heartbeat) for one in events):
            sent.set()
            try:
                await Signal()
            finally:
                ended.set()

    worker = Unwinding()
    await shared_world.start(worker.run)
    shared_world.link.before = answer_nothing
    await shared_world.create()
    await worker.started
    await shared_world.pass_time(LEASE / 3 + 1)
    await sent
    assert not ended.is_set()
    worker.go_on.set()
    await shared_world.stop()
    await ended


async def test_a_heartbeat_that_is_never_answered_keeps_no_engine_from_its_end(caplog, monkeypatch):
    """As when a driver of a database blocks the thread of the leases."""
    monkeypatch.setattr("lro_grpc._engine.leases._LAST_SECONDS", 0.01)
    sent, answer = Signal(), threading.Event()

    class Silent(Replica):
        async def renew(self, leased, lease):
            sent.set()
            answer.wait(60)
            raise UnavailableError("away")

    worker, clock = Unwinding(), SystemClock()
    store, one = Silent(MemoryStore(clock.now)), handler(worker.run)
    lease = timedelta(seconds=1.5)
    engine = InProcess(Workbench(store, {one.method: one}, clock, lease=lease, sweep=lease))
    await engine.start()
    await store.create(
        publication.create(
            parent="",
            operation_id="op-1",
            method=one.method,
            request=b"",
            metadata_type="lro.v1.OperationMetadata",
            now=clock.now(),
        )
    )
    await sent
    worker.go_on.set()
    await engine.stop(timedelta(seconds=5))
    assert "the store has not answered the last heartbeat" in caplog.text
    (closing,) = [one for one in threading.enumerate() if one.name == "lro-leases"]
    answer.set()
    await asyncio.to_thread(closing.join)


async def test_an_attempt_that_unwinds_keeps_its_lease(shared_world):
    """However long it takes to come to an end, such as to a pause."""
    world, worker = shared_world, Unwinding()
    await world.start(worker.run)
    name = await world.create(pausable=True)
    await worker.started
    await world.pause(name)
    worker.to_checkpoint.set()
    await worker.unwinding
    await world.pass_time(2 * LEASE)
    record = await world.record(name)
    assert record.lease_expire_time > world.clock.now()
    worker.go_on.set()
    assert (await world.until_in(name, PAUSED)).attempt == 1


async def test_an_attempt_that_has_lost_its_lease_renews_it_no_more(shared_world):
    """Its handler may go on for ever, and another attempt is to begin."""
    world, worker = shared_world, Unwinding()
    await world.start(worker.run)
    name = await world.create()
    await worker.started

    async def fail(events):
        raise UnavailableError("the store is down")

    world.link.before = fail
    await world.pass_time(LEASE)
    await worker.unwinding
    world.link.before = _nothing
    await world.pass_time(2 * LEASE)
    assert (await world.record(name)).failed_attempts == 1
    worker.go_on.set()


# Rounds of the engine that meet an error.


async def test_a_claim_that_fails_keeps_no_other_operation_waiting(world, caplog):
    class CannotClaim(Refusing):
        refused = Claim
        error = LroError("no such column", code=Code.INTERNAL)

    stores: list[CannotClaim] = []

    def through(store):
        stores.append(CannotClaim(store))
        return stores[0]

    await world.start(handler(lambda request, op: request, concurrency=1), through=through)
    bad = await world.create("bad")
    await world.pass_time(0.5)
    (line,) = [one for one in caplog.records if f"{bad} cannot be claimed" in one.message]
    assert "no such column" in line.message
    assert (vars(line)["operation"], vars(line)["method"]) == (bad, METHOD)
    stores[0].refused = Fail
    assert response_of(await world.done(await world.create("good"))) == "good"
    assert (await world.record(bad)).attempt == 0


class CannotLookFor(ForwardingStore):
    """Cannot find the operations of one method, as when a row of one of them is damaged."""

    async def claim(self, limits: Mapping[str, int], claim: Claim, **how: Any) -> Sequence[Claimed]:
        if METHOD in limits:
            raise UnavailableError("a row cannot be read")
        return await super().claim(limits, claim, **how)


@pytest.mark.parametrize("is_former_name", [False, True], ids=["other method", "former name"])
async def test_a_method_that_cannot_be_claimed_for_keeps_no_other_one_waiting(
    world, is_former_name
):
    def run(request, op):
        return request

    handlers = [handler(run), handler(run, method=OTHER_METHOD)]
    if is_former_name:
        handlers = [handler(run, method=OTHER_METHOD, former_names=(METHOD,))]
    await world.start(*handlers, through=CannotLookFor)
    await world.pass_time(2)
    name = await world.create("x", method=OTHER_METHOD)
    await world.pass_time(2)
    assert response_of(await world.done(name)) == "x"


async def test_an_unexpected_error_ends_no_loop_of_the_engine(world, caplog):
    errors = [RuntimeError("an index of the queue")]

    def fail_once():
        if errors:
            raise errors.pop()

    await world.start(lambda request, op: request, before_claim=fail_once)
    name = await world.create("x")
    await world.pass_time(2)
    assert errors == []
    assert response_of(await world.done(name)) == "x"
    (line,) = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert "going on" in line.message
    assert line.exc_info is not None
    assert str(line.exc_info[1]) == "an index of the queue"


async def test_a_process_that_has_stood_still_for_a_moment_beats_at_once(shared_world):
    """Though its next heartbeat is not due: the store may know more than its clock."""
    beating = Beating(shared_world)
    await beating.start()
    await shared_world.pass_time(LEASE / 3 + 1)
    assert len(beating.times) == 1
    shared_world.clock.advance(timedelta(seconds=LEASE / 5))
    await shared_world.pass_time(0.5)
    assert len(beating.times) == 2
    beating.go_on.set()


async def test_a_mistake_in_one_heartbeat_ends_no_other(shared_world, caplog):
    beating = Beating(shared_world, first=RuntimeError("a driver of the database"))
    await beating.start()
    await shared_world.pass_time(2 * LEASE)
    assert len(beating.times) > 3
    beating.go_on.set()
    assert response_of(await shared_world.done(beating.name)) == "1"
    (line,) = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert line.exc_info is not None
    assert str(line.exc_info[1]) == "a driver of the database"
