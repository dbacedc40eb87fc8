"""The time for which a done operation is kept (S7, S29), and the time that one may take."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf import empty_pb2
from google.rpc import status_pb2
from server_harness import (
    FLEET,
    PARENT,
    SECONDS,
    Held,
    Instance,
    async_handler,
    defined_with,
    error_info,
    errors_logged,
    fleet,
    metadata_of,
    refused,
    response_of,
    uuid_of,
)

import lro_grpc
from lro.example.v1 import fleet_service_pb2
from lro.v1 import state_pb2
from lro_grpc.testing import ManualClock

if TYPE_CHECKING:
    from google.longrunning import operations_pb2

Serve = Any

SWEEP = timedelta(seconds=7.5)
LEASE = timedelta(days=4000)
"""So long that an attempt keeps its operation, however far the clock is moved."""
MICROSECOND = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


PARTS = 5
"""The parts of a sweep on a store that one process has, each of which sleeps by itself."""


class SweptClock(ManualClock):
    """A clock by which a test knows when a sweep is over; its time of day may jump."""

    def __init__(self) -> None:
        super().__init__()
        self._offset = 0
        self._sweeps = 0
        """The pauses between two sweeps that have begun, those of all parts."""
        self._asleep: set[object] = set()
        """The parts that are in one."""
        self._slept = threading.Condition()

    def now(self) -> int:
        return super().now() + self._offset

    async def sleep(self, seconds: float) -> None:
        if seconds != SWEEP.total_seconds():
            await super().sleep(seconds)
            return
        part = asyncio.current_task()
        with self._slept:
            self._sweeps += 1
            self._asleep.add(part)
            self._slept.notify_all()
        try:
            await super().sleep(seconds)
        finally:
            with self._slept:
                self._asleep.discard(part)

    def jump(self, by: timedelta) -> None:
        """Sets the time of day, while no time passes."""
        self._offset += by // MICROSECOND

    def sweep_after(self, time: timedelta) -> None:
        """Lets time pass, and returns when what was due then has been swept."""
        with self._slept:
            assert self._slept.wait_for(lambda: len(self._asleep) == PARTS, SECONDS)
            after = self._sweeps + PARTS
        self.advance(time)
        with self._slept:
            assert self._slept.wait_for(lambda: self._sweeps >= after, SECONDS)


@pytest.fixture
def clock() -> SweptClock:
    return SweptClock()


def made(handler_keyword: str = "async def", **options: Any) -> Any:
    """Returns a fleet whose instances are made at once."""
    return fleet("CreateInstance", defined_with(handler_keyword, _run), **options)


def _run(self: Any, request: Any, op: Any) -> Any:
    return Instance(seed_rows=op.attempt)


def serve_with(serve: Serve, clock: SweptClock, servicer: Any, **how: Any) -> Any:
    return serve(servicer, clock=clock, sweep=SWEEP, lease=LEASE, **how)


def kept_for(operation: operations_pb2.Operation) -> timedelta:
    """Returns how long an operation is kept after its end, by its own account."""
    metadata = metadata_of(operation)
    return _time(metadata.expire_time) - _time(metadata.end_time)


def _time(timestamp: Any) -> datetime:
    return timestamp.ToDatetime(tzinfo=timezone.utc)


def is_there(server: Any, name: str) -> bool:
    if name in server.names():
        assert server.get(name).name == name
        return True
    assert refused(lambda: server.get(name)).code is grpc.StatusCode.NOT_FOUND
    return False


def assert_expired(operation: operations_pb2.Operation, seconds: float) -> None:
    assert operation.done
    error: status_pb2.Status = operation.error
    assert error.code == lro_grpc.Code.DEADLINE_EXCEEDED
    assert f"within {seconds:g} s" in error.message
    assert (error_info(error).reason, error_info(error).domain) == (
        "OPERATION_EXPIRED",
        "lro-grpc",
    )
    assert metadata_of(operation).state == state_pb2.JOB_STATE_EXPIRED


# How long it is kept


@pytest.mark.parametrize(
    ("operations", "options", "expected"),
    [
        ({}, {}, 30 * DAY),
        ({"retention": DAY}, {}, DAY),
        ({}, {"retention": HOUR}, HOUR),
        ({"retention": DAY}, {"retention": HOUR}, HOUR),
        ({"retention": HOUR}, {"retention": 90 * DAY}, 90 * DAY),
        ({"retention": MICROSECOND}, {}, MICROSECOND),
        ({"retention": timedelta(days=365_000)}, {}, timedelta(days=365_000)),
    ],
)
def test_a_done_operation_shows_until_when_it_is_kept(
    serve: Serve,
    clock: SweptClock,
    store: str,
    operations: dict[str, Any],
    options: dict[str, Any],
    expected: timedelta,
) -> None:
    server = serve_with(serve, clock, made(**options), store=store, **operations)
    started = server.create()
    assert not metadata_of(started).HasField("expire_time")
    assert kept_for(server.done(started.name)) == expected


def test_failed_and_cancelled_ones_are_kept_as_long(
    serve: Serve, clock: SweptClock, store: str
) -> None:
    async def run(self: Any, request: Any, op: Any) -> Any:
        raise lro_grpc.LroError("it fails", code=lro_grpc.Code[request.instance_id])

    server = serve_with(serve, clock, fleet("CreateInstance", run), retention=HOUR, store=store)
    for code in (lro_grpc.Code.DATA_LOSS, lro_grpc.Code.CANCELLED):
        ended = server.done(server.create(instance_id=code.name).name)
        assert ended.error.code == code
        assert kept_for(ended) == HOUR
        clock.sweep_after(HOUR)
        assert not is_there(server, ended.name)


def test_it_is_kept_until_then_and_gone_a_sweep_later(
    serve: Serve, clock: SweptClock, handler_keyword: str, store: str
) -> None:
    """To the microsecond; another one, that is due, shows that there was a sweep."""

    def delete(self: Any, request: Any, op: Any) -> Any:
        return empty_pb2.Empty()

    decorated = lro_grpc.method(retention=HOUR - MICROSECOND)(defined_with(handler_keyword, delete))
    both = type("Both", (type(made(handler_keyword)),), {"DeleteInstance": decorated})()
    server = serve_with(serve, clock, both, retention=HOUR, store=store)
    name = server.create(request_id=uuid_of("r")).name
    request = fleet_service_pb2.DeleteInstanceRequest(name=f"{PARENT}/instances/i")
    earlier = server.start(f"/{FLEET}/DeleteInstance", request).name
    done = server.done(name)
    server.done(earlier)

    clock.sweep_after(HOUR - MICROSECOND)
    assert not is_there(server, earlier)
    assert server.get(name) == done
    assert server.create(request_id=uuid_of("r")).name == name

    clock.sweep_after(SWEEP)
    assert not is_there(server, name)
    for call in (server.wait, server.cancel, server.delete, server.pause, server.resume):
        failure = refused(lambda: call(name))  # noqa: B023 - called at once
        assert failure.code is grpc.StatusCode.NOT_FOUND
    again = server.create(request_id=uuid_of("r"))  # the id is free again
    assert again.name != name


def test_nothing_of_it_is_left_in_the_file(serve: Serve, clock: SweptClock, file_url: str) -> None:
    server = serve_with(serve, clock, made(), store=file_url, retention=HOUR)
    for number in range(3):
        server.done(server.create(request_id=uuid_of(f"r{number}")).name)
    clock.sweep_after(HOUR)
    kept = server.done(server.create(request_id=uuid_of("r")).name).name
    server.stop()
    connection = sqlite3.connect(file_url.removeprefix("sqlite:///"))
    rows = [name for (name,) in connection.execute("SELECT name FROM operations")]
    connection.close()
    assert rows == [kept]


def test_more_of_them_than_one_commit_takes_are_gone_in_one_sweep(
    serve: Serve, clock: SweptClock
) -> None:
    server = serve_with(serve, clock, made(), retention=HOUR)
    calls = [server.fleet.CreateInstance.future(_REQUEST, timeout=SECONDS) for _ in range(1100)]
    for call in calls:
        server.done(call.result(SECONDS).name)
    assert len(server.names()) == 1000
    clock.sweep_after(HOUR)
    assert server.names() == []


_REQUEST = fleet_service_pb2.CreateInstanceRequest(parent=PARENT)


# Clocks that jump (S29)


def test_a_clock_that_is_set_back_takes_nothing_early(
    serve: Serve, clock: SweptClock, store: str
) -> None:
    """A promise holds by the time of day, as the caller reads it."""
    server = serve_with(serve, clock, made(), retention=HOUR, store=store)
    done = server.done(server.create().name)
    clock.jump(-10 * DAY)
    clock.sweep_after(HOUR)
    assert server.get(done.name) == done
    clock.sweep_after(10 * DAY - MICROSECOND)
    assert server.get(done.name) == done
    clock.sweep_after(SWEEP)
    assert not is_there(server, done.name)


def test_a_clock_that_is_set_back_while_it_runs_shortens_nothing(
    serve: Serve, clock: SweptClock, store: str
) -> None:
    held = Held("async def")
    server = serve_with(serve, clock, held.servicer(), retention=HOUR, store=store)
    name = server.create().name
    held.next()
    clock.jump(-10 * DAY)
    held.gate.open()
    done = server.done(name)
    assert kept_for(done) == HOUR
    metadata = metadata_of(done)
    assert _time(metadata.create_time) <= _time(metadata.start_time) <= _time(metadata.end_time)


# What is not done is kept


def test_what_runs_waits_or_is_paused_is_kept_however_old(
    serve: Serve, clock: SweptClock, store: str
) -> None:
    held = Held("async def")
    servicer = held.servicer(concurrency=1, pausable=True)
    server = serve_with(serve, clock, servicer, retention=HOUR, store=store)
    running, queued, paused = (server.create().name for _ in range(3))
    assert held.next() == running
    server.pause(paused)
    clock.sweep_after(1000 * DAY)
    states = [metadata_of(server.get(name)).state for name in (running, queued, paused)]
    assert states == [
        state_pb2.JOB_STATE_RUNNING,
        state_pb2.JOB_STATE_QUEUED,
        state_pb2.JOB_STATE_PAUSED,
    ]
    server.resume(paused)
    held.gate.open()
    for name in (running, queued, paused):
        assert kept_for(server.done(name)) == HOUR


def test_the_retention_of_its_start_holds_after_a_restart(
    serve: Serve, clock: SweptClock, file_url: str
) -> None:
    first = serve_with(serve, clock, made(), retention=DAY, store=file_url)
    done = first.done(first.create().name)
    first.stop()
    clock = SweptClock()
    second = serve_with(serve, clock, made(), retention=HOUR, store=file_url)
    clock.sweep_after(DAY - MICROSECOND)
    assert second.get(done.name) == done
    clock.sweep_after(SWEEP)
    assert not is_there(second, done.name)


# How long it may take


def test_a_running_operation_expires_when_its_methods_time_is_over(
    serve: Serve, clock: SweptClock, handler_keyword: str, store: str
) -> None:
    held = Held(handler_keyword)
    servicer = held.servicer(timeout=HOUR, retention=DAY)
    server = serve_with(serve, clock, servicer, store=store)
    name = server.create().name
    held.next()
    clock.sweep_after(HOUR - MICROSECOND)
    assert not server.get(name).done
    clock.advance(MICROSECOND)
    assert_expired(server.done(name), 3600)
    assert kept_for(server.get(name)) == DAY
    clock.sweep_after(DAY + SWEEP)
    assert not is_there(server, name)


@async_handler
def test_a_queued_or_paused_operation_expires_a_sweep_after_its_time_is_over(
    serve: Serve, held: Held, clock: SweptClock, store: str
) -> None:
    servicer = held.servicer(concurrency=1, timeout=HOUR, pausable=True)
    server = serve_with(serve, clock, servicer, store=store)
    _, queued, paused = (server.create().name for _ in range(3))
    held.next()
    server.pause(paused)
    clock.sweep_after(HOUR - MICROSECOND)
    assert not server.get(queued).done
    assert not server.get(paused).done
    clock.sweep_after(SWEEP)
    for name in (queued, paused):
        assert_expired(server.done(name), 3600)
        assert metadata_of(server.get(name)).attempt == 0


def test_time_goes_on_while_the_server_is_down(
    serve: Serve, clock: SweptClock, file_url: str
) -> None:
    held = Held("async def")
    first = serve_with(serve, clock, held.servicer(timeout=HOUR), store=file_url)
    name = first.create().name
    held.next()
    first.stop()
    clock = SweptClock()
    clock.jump(2 * HOUR)
    second = serve_with(serve, clock, held.servicer(timeout=HOUR), store=file_url)
    clock.sweep_after(SWEEP)
    assert_expired(second.done(name), 3600)
    assert held.began.empty()


@async_handler
def test_what_is_overdue_when_its_turn_comes_expires_then(
    serve: Serve, held: Held, clock: SweptClock, store: str
) -> None:
    """It is neither run nor tried again and again, though the next sweep is yet to come."""
    server = serve_with(
        serve, clock, held.servicer(concurrency=1, timeout=2 * SWEEP - MICROSECOND), store=store
    )
    names = [server.create().name for _ in range(3)]
    held.next()
    clock.sweep_after(SWEEP)  # then the queue is read from the store again
    clock.advance(SWEEP - MICROSECOND)
    for name in names:
        assert_expired(server.done(name), 15)
    assert [metadata_of(server.get(name)).attempt for name in names] == [1, 0, 0]


@async_handler
def test_what_is_gone_when_its_turn_comes_is_nobodys_failure(
    serve: Serve, held: Held, store: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(held.servicer(concurrency=1), store=store)
    first, gone, last = (server.create().name for _ in range(3))
    held.next()
    server.cancel(gone)
    server.delete(gone)
    held.gate.open()
    for name in (first, last):
        assert response_of(server.done(name)).seed_rows == 1
    assert errors_logged(caplog) == []
