"""One attempt after the other: what a handler does, and what becomes of its operation."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import threading
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from engine_world import (
    METHOD,
    OTHER_METHOD,
    Signal,
    Text,
    handler,
    info_of,
    metadata_of,
    response_of,
)
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2
from google.rpc import error_details_pb2

from lro.v1 import operation_metadata_pb2, state_pb2
from lro_grpc._errors import Code, LroError, UnavailableError
from lro_grpc._operation import publication, record, states
from lro_grpc._operation.events import Delete, Report, SaveBatch

KEYWORDS = ["def", "async def"]


def defined_with(keyword: str, work: Any) -> Any:
    """A handler of that keyword which does the work, a plain function."""

    async def run_async(request: Any, op: Any) -> Any:
        return work(request, op)

    return work if keyword == "def" else run_async


@pytest.mark.parametrize("keyword", KEYWORDS)
async def test_a_large_request_is_not_read_on_the_event_loop(world, keyword):
    threads = []
    made = handler(defined_with(keyword, lambda request, op: Text(value=request.value[:1])))
    parse = made.parse_request

    def noting(body):
        threads.append(threading.current_thread())
        return parse(body)

    object.__setattr__(made, "parse_request", noting)
    await world.start(made)
    done = await world.done(await world.create("x" * 40_000))
    assert response_of(done) == "x"
    (thread,) = threads
    assert thread is not threading.current_thread()


@pytest.mark.parametrize("keyword", KEYWORDS)
async def test_a_handler_gets_its_request_and_gives_the_response(world, keyword):
    seen = []

    def work(request, op):
        seen.append((op.name, op.id, op.target, op.attempt, op.cancel_requested, op.stop_reason))
        return Text(value=request.value.upper())

    await world.start(defined_with(keyword, work))
    name = await world.create("hello", target="projects/p/things/t", verb="create")
    done = await world.done(name)
    assert response_of(done) == "HELLO"
    assert seen == [(name, "op-1", "projects/p/things/t", 1, False, None)]
    shown = metadata_of(done)
    assert (shown.state, shown.attempt) == (state_pb2.JOB_STATE_SUCCEEDED, 1)
    assert (shown.progress_percent, shown.verb) == (100, "create")
    assert shown.create_time.ToMicroseconds() <= shown.start_time.ToMicroseconds()
    assert shown.start_time.ToMicroseconds() <= shown.end_time.ToMicroseconds()


@pytest.mark.any_engine
async def test_operations_that_wait_when_the_engine_starts_are_run(world):
    names = [await world.create(str(n)) for n in range(5)]
    await world.start(defined_with("async def", lambda request, op: request))
    assert [response_of(await world.done(name)) for name in names] == ["0", "1", "2", "3", "4"]
    assert world.recovered == 0


# Progress.


@pytest.mark.any_engine
@pytest.mark.parametrize("keyword", KEYWORDS)
async def test_progress_is_stored_while_the_handler_runs(world, keyword):
    reported, go_on = Signal(), Signal()

    def work(request, op):
        op.progress(10, "allocating")
        op.progress(20)
        reported.set()
        go_on.wait()
        return Text()

    async def work_async(request, op):
        op.progress(10, "allocating")
        op.progress(20)
        reported.set()
        await go_on
        return Text()

    await world.start(work if keyword == "def" else work_async)
    name = await world.create()
    await reported
    seen = await world.until(name, lambda one: one.progress_percent == 20)
    assert seen.status_detail == "allocating"
    assert seen.state == states.RUNNING
    go_on.set()
    done = metadata_of(await world.done(name))
    assert (done.progress_percent, done.status_detail) == (100, "allocating")


def _says(detail: str, one: record.Record) -> bool:
    return one.status_detail == detail


async def test_progress_is_clamped_and_never_goes_back(world):
    """R8."""
    gates = {-5: Signal(), 70.9: Signal(), 30: Signal()}

    async def work(request, op):
        for percent, gate in gates.items():
            op.progress(percent, str(percent))
            await gate
        op.progress(1000)
        raise LroError("that is it", code=Code.ABORTED)

    await world.start(work)
    name = await world.create()
    seen = []
    for percent, gate in gates.items():
        shown = await world.until(name, functools.partial(_says, str(percent)))
        seen.append(shown.progress_percent)
        gate.set()
    seen.append(metadata_of(await world.done(name)).progress_percent)
    assert seen == [0, 70, 70, 100]


@pytest.mark.any_engine
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("keyword", KEYWORDS)
async def test_the_outcome_carries_the_last_progress_and_the_metadata(world, keyword, fails):
    def work(request, op):
        op.progress(30, "nearly there")
        op.metadata.details.Pack(Text(value="mine"))
        if fails:
            raise LroError("not quite", code=Code.ABORTED)
        return Text()

    await world.start(defined_with(keyword, work))
    done = metadata_of(await world.done(await world.create()))
    mine = Text()
    assert done.details.Unpack(mine)
    assert mine.value == "mine"
    assert done.status_detail == "nearly there"
    assert done.progress_percent == (30 if fails else 100)


async def test_partial_failures_in_the_metadata_make_a_partial_success(world):
    def work(request, op):
        op.metadata.partial_failures.add(code=5, message="one was missing")
        return Text(value="the rest")

    await world.start(work)
    done = await world.done(await world.create())
    assert response_of(done) == "the rest"
    assert metadata_of(done).state == state_pb2.JOB_STATE_PARTIALLY_SUCCEEDED
    assert [one.message for one in metadata_of(done).partial_failures] == ["one was missing"]


async def test_what_a_handler_writes_into_a_conventional_field_is_not_shown(world):
    """They are the library's: no end before the end, no cancel that nobody asked for."""
    reported, go_on = Signal(), Signal()

    async def work(request, op):
        op.metadata.end_time.FromSeconds(1)
        op.metadata.cancel_requested = True
        op.metadata.state = state_pb2.JOB_STATE_FAILED
        op.metadata.attempt = 7
        op.progress(detail="said")
        reported.set()
        await go_on
        return Text()

    await world.start(work)
    name = await world.create()
    await reported
    await world.until(name, lambda one: one.status_detail == "said")
    shown = metadata_of(await world.get(name))
    go_on.set()
    assert (shown.state, shown.attempt) == (state_pb2.JOB_STATE_RUNNING, 1)
    assert not shown.cancel_requested
    assert not shown.HasField("end_time")


# Failures.


@pytest.mark.any_engine
@pytest.mark.parametrize("keyword", KEYWORDS)
async def test_an_lro_error_fails_the_operation_with_its_code_and_details(world, keyword):
    details = [
        error_details_pb2.BadRequest(field_violations=[{"field": "size", "description": "big"}]),
        error_details_pb2.RetryInfo(retry_delay={"seconds": 5}),
    ]

    def work(request, op):
        raise LroError(
            "size is 9; give at most 8",
            code=Code.OUT_OF_RANGE,
            reason="TOO_BIG",
            metadata={"size": "9"},
            details=details,
        )

    await world.start(defined_with(keyword, work))
    done = await world.done(await world.create())
    assert (done.error.code, done.error.message) == (Code.OUT_OF_RANGE, "size is 9; give at most 8")
    info, *others = done.error.details
    assert info_of([info]) == error_details_pb2.ErrorInfo(
        reason="TOO_BIG", domain="test.example", metadata={"size": "9"}
    )
    for packed, detail in zip(others, details, strict=True):
        unpacked = type(detail)()
        assert packed.Unpack(unpacked)
        assert unpacked == detail
    assert metadata_of(done).state == state_pb2.JOB_STATE_FAILED


def _raise(error: BaseException) -> Any:
    def work(request, op):
        raise error

    return work


UNEXPECTED = {
    "an exception": ValueError("password is hunter2"),
    "no reason to be cancelled": asyncio.CancelledError("hunter2"),
    "the end of an iterator": StopIteration("hunter2"),
    "an exit": SystemExit("hunter2"),
}


@pytest.mark.parametrize("error", UNEXPECTED.values(), ids=UNEXPECTED)
@pytest.mark.parametrize("keyword", KEYWORDS)
async def test_an_unexpected_exception_is_internal_and_only_the_log_has_it(
    world, keyword, error, caplog
):
    await world.start(defined_with(keyword, _raise(error)))
    with caplog.at_level(logging.ERROR, "lro_grpc"):
        done = await world.done(await world.create())
    assert done.error.code == Code.INTERNAL
    info = info_of(done.error.details)
    assert (info.reason, info.domain) == ("UNEXPECTED", "lro-grpc")
    assert set(info.metadata) == {"incident"}
    assert len(done.error.details) == 1
    assert b"hunter2" not in done.SerializeToString()
    assert info.metadata["incident"] in caplog.text
    assert "hunter2" in caplog.text


WRONG = {
    "nothing": None,
    "another message": empty_pb2.Empty(),
    "no message": "made",
    "a class": Text,
}


@pytest.mark.parametrize("response", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("keyword", KEYWORDS)
async def test_a_response_of_another_type_is_internal_and_says_which(world, keyword, response):
    """P3: the response is of the type that the method declares, or there is none."""
    await world.start(defined_with(keyword, lambda request, op: response))
    done = await world.done(await world.create())
    assert done.error.code == Code.INTERNAL
    info = info_of(done.error.details)
    assert (info.reason, info.domain) == ("WRONG_TYPE", "lro-grpc")
    assert info.metadata["expected"] == "google.protobuf.StringValue"
    assert METHOD in done.error.message


MISTAKES = {
    "a message that is not Unicode": lambda op: _throw(LroError("caf\udce9", code=5)),
    "a detail of progress that is no text": lambda op: op.progress(1, 5),
    "a detail of progress that is not Unicode": lambda op: op.progress(1, "caf\udce9"),
    "progress that is no number": lambda op: op.progress("half"),
    "progress that is a text with a number": lambda op: op.progress("50"),
    "progress that is infinite": lambda op: op.progress(float("inf")),
    "progress that is complex": lambda op: op.progress(1j),
}


def _throw(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
async def test_a_handlers_mistake_ends_its_operation_at_once_and_no_other(world, mistake):
    """It is not taken for a lost worker, to be run again and again."""
    runs = []

    async def work(request, op):
        runs.append(op.attempt)
        if request.value == "mistaken":
            mistake(op)
        else:
            op.progress(5, "fine")
        return Text()

    await world.start(work)
    mistaken, others = await world.create("mistaken"), [await world.create() for _ in range(3)]
    for name in others:
        assert metadata_of(await world.done(name)).status_detail == "fine"
    done = await world.done(mistaken)
    assert done.error.code == Code.INTERNAL
    assert runs == [1, 1, 1, 1]


@pytest.mark.any_engine
async def test_a_request_that_cannot_be_read_fails_the_operation(world):
    await world.start(defined_with("def", lambda request, op: request))
    name = await world.create()
    store = await world.open()
    broken = publication.create(
        parent="",
        operation_id="op-broken",
        method=METHOD,
        request=b"\xff\xff",
        metadata_type="lro.v1.OperationMetadata",
        now=world.clock.now(),
    )
    await store.create(broken)
    assert (await world.done(broken.name)).error.code == Code.INTERNAL
    assert response_of(await world.done(name)) == ""


async def test_metadata_of_another_type_than_before_does_not_keep_an_operation_from_its_end(world):
    """A new release may have changed the method's metadata_type (P11); what fits is adopted."""

    async def work(request, op):
        op.progress(5)
        await Signal()

    await world.start(work)
    name = await world.create()
    await world.until(name, lambda one: one.progress_percent == 5)
    await world.crash()
    await world.start(handler(lambda request, op: Text(), metadata=operations_pb2.Operation))
    done = await world.done(name)
    assert done.HasField("response")
    assert done.metadata.Is(operations_pb2.Operation.DESCRIPTOR)


# Slots.


@pytest.mark.parametrize("keyword", KEYWORDS)
async def test_a_method_runs_as_many_attempts_as_it_has_slots(world, keyword):
    running, most, started, go_on = 0, 0, Signal(), Signal()
    names = []

    def enter() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            started.set()

    def work(request, op):
        nonlocal running
        enter()
        go_on.wait()
        running -= 1
        return Text()

    async def work_async(request, op):
        nonlocal running
        enter()
        await go_on
        running -= 1
        return Text()

    await world.start(
        handler(work if keyword == "def" else work_async, concurrency=3),
        handler(lambda request, op: Text(), method=OTHER_METHOD),
    )
    names = [await world.create() for _ in range(10)]
    await started
    await world.done(await world.create(method=OTHER_METHOD))  # has slots of its own
    found = [(await world.record(name)).state for name in names]
    assert found == [states.RUNNING] * 3 + [states.QUEUED] * 7
    go_on.set()
    for name in names:
        await world.done(name)
    assert most == 3


async def test_more_operations_than_the_engine_keeps_in_mind_are_all_run(world):
    async def work(request, op):
        return request

    store = await world.open()
    await world.start(handler(work, concurrency=50))
    names = await asyncio.gather(*(world.create() for _ in range(1500)))
    del store
    for name in names:
        await world.done(name)


async def test_a_busy_method_does_not_keep_another_from_running(sqlite_world):
    world = sqlite_world
    other_done = Signal()
    created = 0

    async def other(request, op):
        other_done.set()
        return Text()

    async def keep_busy():
        nonlocal created
        while not other_done.is_set() and created < 1000:
            created += 1
            await world.create()

    await world.start(
        defined_with("async def", lambda request, op: Text()), handler(other, method=OTHER_METHOD)
    )
    busy = [asyncio.create_task(keep_busy()) for _ in range(10)]
    await world.create(method=OTHER_METHOD)
    await asyncio.gather(*busy)
    assert created < 500


async def test_operations_that_cannot_be_claimed_do_not_keep_others_from_running(sqlite_world):
    """A new release may not know the metadata type of old ones, which stand first in the line."""
    world = sqlite_world
    store = await world.open()
    for number in range(3):
        made = publication.create(
            parent="",
            operation_id=f"op-old-{number}",
            method=METHOD,
            request=b"",
            metadata_type="lro.v1.OperationMetadata",
            now=world.clock.now(),
        )
        await store.create(made._replace(metadata_type="gone.v1.Metadata"))
    name = await world.create("new")
    await world.start(handler(lambda request, op: request, concurrency=2))
    assert response_of(await world.done(name)) == "new"


@pytest.mark.any_engine
async def test_an_operation_of_an_unknown_method_waits(world):
    await world.start(defined_with("def", lambda request, op: Text()))
    unknown = await world.create(method=OTHER_METHOD)
    await world.done(await world.create())
    assert (await world.record(unknown)).state == states.QUEUED
    await world.stop()
    await world.start(handler(lambda request, op: Text(), method=OTHER_METHOD))
    assert response_of(await world.done(unknown)) == ""


@pytest.mark.any_engine
async def test_a_deleted_operation_is_run_to_its_end(world):
    ran, go_on = Signal(), Signal()

    def work(request, op):
        go_on.wait()
        op.raise_if_stopped()
        op.progress(50)
        ran.set()
        return Text()

    await world.start(work)
    name = await world.create()
    await world.until(name, lambda one: one.state == states.RUNNING)
    await world.apply(name, Delete())
    go_on.set()
    await ran
    await world.stop()
    store = await world.open()
    assert list(await store.leased()) == []


async def test_the_default_metadata_is_a_message_of_this_schema(world):
    await world.start(defined_with("def", lambda request, op: Text()))
    done = await world.done(await world.create())
    assert done.metadata.Is(operation_metadata_pb2.OperationMetadata.DESCRIPTOR)


# What was said last stays.


async def test_an_older_report_does_not_come_back_after_a_checkpoint(world):
    """While the store fails the one, the other is stored with newer words."""
    tried, stored, again = Signal(), Signal(), Signal()

    async def fail(events):
        if any(isinstance(event, Report) for event in events):
            if tried.is_set():
                again.set()
                return
            tried.set()
            await stored
            raise UnavailableError("the store is away")

    async def work(request, op):
        op.progress(10, "old")
        await tried
        op.progress(20, "new")
        await op.checkpoint(b"x")
        stored.set()
        await Signal()

    await world.start(work)
    world.link.before = fail
    name = await world.create()
    await stored
    await world.pass_time(1)
    await again
    await world.pass_time(0.5)
    shown = metadata_of(await world.get(name))
    assert (shown.progress_percent, shown.status_detail) == (20, "new")


async def test_an_older_report_in_a_write_that_is_repeated_does_not_come_back(world):
    """A checkpoint waits for the store; what is said meanwhile is what shows in the end."""
    tried, said = Signal(), Signal()

    async def fail(events):
        if any(isinstance(event, SaveBatch) for event in events) and not said.is_set():
            tried.set()
            raise UnavailableError("the store is away")

    started = Signal()

    async def create(target):
        started.set()
        await Signal()

    async def delete(target):
        pass

    async def work(request, op):
        async def talk():
            await tried
            op.progress(detail="new")

        talking = asyncio.create_task(talk())
        op.progress(detail="old")
        await op.batch(["a"], create=create, delete=delete)
        await talking

    await world.start(work)
    world.link.before = fail
    name = await world.create()
    await tried
    await world.until(name, lambda one: one.status_detail == "new")
    said.set()
    await world.pass_time(1)
    await started  # with the old words, and the batch says nothing more
    latest = await world.until(name, lambda one: one.status_detail == "new")
    assert latest.batch


@pytest.mark.parametrize("keyword", KEYWORDS)
async def test_slots_that_are_all_taken_while_others_wait_are_reported_ever_more_rarely(
    world, keyword, caplog
):
    """As when each handler waits for an operation of its own method, which waits for its slot."""
    go_on, running = Signal(), Counter()

    def work(request, op):
        running[op.name] += 1
        go_on.wait_or_stop(op)
        return Text()

    async def async_work(request, op):
        running[op.name] += 1
        await go_on
        return Text()

    await world.start(handler(work if keyword == "def" else async_work, concurrency=2))
    names = [await world.create() for _ in range(5)]
    for name in names[:2]:
        await world.until_in(name, states.RUNNING)
    await world.pass_time(59)
    assert reports(caplog) == []
    await world.pass_time(301)
    first, *others = reports(caplog)
    assert "all 2 slots of /test.v1.Tests/Run have been taken for 60 s" in first
    assert "3 wait" in first
    assert len(others) == 2
    go_on.set()
    for name in names:
        await world.done(name)
    await world.pass_time(600)
    assert len(reports(caplog)) == 3


async def test_slots_are_reported_by_the_time_since_an_attempt_has_last_ended(world, caplog):
    """Busy is not stuck."""
    ends = [Signal() for _ in range(3)]
    begun = itertools.count()

    async def work(request, op):
        await ends[next(begun)]
        return Text()

    await world.start(handler(work, concurrency=1))
    names = [await world.create() for _ in range(3)]
    for name, end in zip(names[:2], ends, strict=False):
        await world.until_in(name, states.RUNNING)
        await world.pass_time(45)
        end.set()
        await world.done(name)
    await world.until_in(names[2], states.RUNNING)
    await world.pass_time(45)
    assert reports(caplog) == []


async def test_operations_of_a_former_name_that_wait_for_a_slot_are_reported(world, caplog):
    go_on = Signal()

    async def work(request, op):
        await go_on
        return Text()

    await world.start(handler(work, concurrency=1, former_names=(OTHER_METHOD,)))
    await world.until_in(await world.create(), states.RUNNING)
    await world.create(method=OTHER_METHOD)
    await world.pass_time(75)
    (report,) = reports(caplog)
    assert "1 wait" in report
    (line,) = [one for one in caplog.records if one.getMessage() == report]
    assert vars(line)["method"] == METHOD


async def test_slots_that_are_all_taken_are_not_reported_while_nothing_waits(world, caplog):
    go_on = Signal()

    async def work(request, op):
        await go_on
        return Text()

    await world.start(handler(work, concurrency=1))
    await world.until_in(await world.create(), states.RUNNING)
    await world.pass_time(600)
    assert reports(caplog) == []


def reports(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if "slots" in one.getMessage()]


@pytest.mark.parametrize(
    ("said", "warned"),
    [
        ((0.25, 0.5, 1), True),
        ((0, 0.5), True),
        ((Fraction(1, 4), Decimal("0.5")), True),
        ((-1, -0.5), False),
        ((0.1, 0.9, 1.0, 1.1, 100), False),  # the beginning of a long one, in percent
        ((1,), False),
        ((50, 100), False),
        ((), False),
    ],
)
async def test_progress_in_fractions_is_said_to_be_percent(world, caplog, said, warned):
    """``op.progress(0.5)`` is half a percent: ``100 * done / total`` begins like that."""

    def run(request, op):
        for percent in said:
            op.progress(percent)
        return Text()

    await world.start(defined_with("def", run))
    for _ in range(3):
        await world.done(await world.create())
    lines = [one for one in caplog.records if "op.progress takes percent" in one.getMessage()]
    assert [one.levelname for one in lines] == ["WARNING"] * warned
