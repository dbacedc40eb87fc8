"""Completion events: on_done is told of each operation that is done, at least once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import random
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from server_harness import SECONDS, Client, Gate, Held, Server, defined_with, every_store
from server_harness import fleet as fleet_of

import lro_grpc
from lro.v1.operation_description_pb2 import CompletionDelivery
from lro_grpc import Code, CompletionEvent
from lro_grpc._events import deliverer
from lro_grpc._runtime.clock import SystemClock
from lro_grpc._stores.open_url import open_url
from lro_grpc._testing.clock import RunningClock
from lro_grpc._testing.faulty_store import NO_FAULTS, FaultyStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Serve = Any

SCRIPT = Path(__file__).with_name("on_done_process.py")


class Told:
    """An ``on_done`` that keeps its events, and first does what the test says.

    Args:
        keyword: ``def`` or ``async def``.
        act: Is called with each event; it may raise.
    """

    def __init__(
        self, keyword: str = "def", act: Callable[[CompletionEvent], object] = lambda _: None
    ) -> None:
        self._events: queue.Queue[CompletionEvent] = queue.Queue()

        def tell(event: CompletionEvent) -> None:
            self._events.put(event)
            act(event)

        self.on_done = defined_with(keyword, tell)

    def next(self) -> CompletionEvent:
        """Returns the next event that it was given."""
        return self._events.get(timeout=SECONDS)

    @property
    def is_silent(self) -> bool:
        """Whether there is no event that nobody has asked for."""
        return self._events.empty()


class Log(logging.Handler):
    """Keeps what the log says."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: queue.Queue[logging.LogRecord] = queue.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.put(record)

    def find(self, words: str) -> logging.LogRecord:
        """Returns the next line that has some words; waits for it."""
        while True:
            line = self._lines.get(timeout=SECONDS)
            if words in line.getMessage():
                return line


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    logger = logging.getLogger("lro_grpc")
    logger.addHandler(log)
    yield log
    logger.removeHandler(log)


class UnspeakableError(Exception):
    """An error of which no text can be made."""

    def __str__(self) -> str:
        raise AttributeError("its words need what was never set")


class Fails:
    """Fails so many times."""

    def __init__(self, error: Exception, times: int = 1) -> None:
        self._error = error
        self._left = times

    def __call__(self, _: object) -> None:
        if self._left:
            self._left -= 1
            raise self._error


@every_store
def test_each_operation_that_is_done_is_told(
    serve: Serve, store: Any, handler_keyword: str
) -> None:
    """With what it has come to, and whose it is."""
    told = Told(handler_keyword)

    def work(self: Any, request: Any, op: Any) -> Any:
        if request.instance_id == "bad":
            raise lro_grpc.LroError("no room", code=Code.RESOURCE_EXHAUSTED)
        return request.instance

    server: Server = serve(
        fleet_of("CreateInstance", work),
        store=store,
        on_done=told.on_done,
        identify=lambda context: "ann",
    )
    good, bad = server.create(instance_id="good"), server.create(instance_id="bad")
    events = {event.name: event for event in (told.next(), told.next())}
    for name in (good.name, bad.name):
        event = events[name]
        assert event.operation == server.get(name)
        assert event.method == "lro.example.v1.FleetService/CreateInstance"
        assert (event.caller, event.attempt_count) == ("ann", 1)
        assert event.data.end_time.ToMicroseconds() >= event.data.start_time.ToMicroseconds() > 0
    assert events[good.name].state.name == "JOB_STATE_SUCCEEDED"
    assert events[bad.name].state.name == "JOB_STATE_FAILED"
    assert events[bad.name].data.code == Code.RESOURCE_EXHAUSTED
    assert events[good.name].id != events[bad.name].id
    server.stop()
    assert told.is_silent


def test_what_ends_without_an_attempt_is_told(serve: Serve, held: Held) -> None:
    """Also if the operation is run again."""
    told = Told()
    server = serve(held.servicer(), on_done=told.on_done)
    first = server.create()
    held.next()
    server.terminate(first.name, "it hangs")
    event = told.next()
    assert (event.name, event.state.name) == (first.name, "JOB_STATE_FAILED")
    again = server.rerun(first.name)
    server.cancel(again.name)
    assert told.next().name == again.name
    assert again.name != first.name


def quick(self: Any, request: Any, op: Any) -> Any:
    return request.instance


def fleet() -> Any:
    return fleet_of("CreateInstance", quick)


def test_nobody_is_told_where_nobody_asks(serve: Serve, file_url: str) -> None:
    """Nor later of what was started before."""
    server = serve(fleet(), store=file_url)
    server.done(server.create().name)
    server.stop()
    told = Told()
    server = serve(fleet(), store=file_url, on_done=told.on_done)
    later = server.create().name
    assert told.next().name == later
    server.stop()
    assert told.is_silent


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no words"),
        SystemExit(3),
        asyncio.CancelledError(),
        UnspeakableError(),
        lro_grpc.RetryableError("later", retry_after=timedelta(seconds=2)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_event_is_told_again_under_its_id_if_on_done_raises(
    serve: Serve, handler_keyword: str, error: Any, log: Log
) -> None:
    clock = RunningClock()
    told = Told(handler_keyword, Fails(error))
    server = serve(fleet(), on_done=told.on_done, clock=clock)
    server.create()
    first = told.next()
    log.find("a completion event could not be told")
    clock.advance(3)
    again = told.next()
    assert (first.attempt_count, again.attempt_count) == (1, 2)
    assert (first.id, first.data) == (again.id, again.data)


def test_what_cannot_be_told_for_a_day_is_given_up(serve: Serve, log: Log) -> None:
    """With one line; and what a day without a server has missed is tried once more."""
    clock = RunningClock()
    told = Told(act=Fails(OSError("the receiver is down"), 99))
    server = serve(fleet(), on_done=told.on_done, clock=clock)
    name = server.create().name
    told.next()
    log.find("the receiver is down")
    clock.advance(timedelta(hours=25))
    assert told.next().attempt_count == 2
    line = log.find("given up")
    assert line.levelno == logging.WARNING
    assert f"{name}: its completion event is given up after 2 attempts" in line.getMessage()
    clock.advance(timedelta(days=40))
    server.create()
    assert told.next().name != name


def test_what_on_done_calls_undeliverable_is_given_up_at_once(serve: Serve, log: Log) -> None:
    told = Told(act=Fails(lro_grpc.UndeliverableError("nobody listens any more")))
    server = serve(fleet(), on_done=told.on_done)
    first, second = server.create().name, server.create().name
    assert {told.next().name, told.next().name} == {first, second}
    assert "after 1 attempts: " in log.find("given up").getMessage()
    server.stop()
    assert told.is_silent


@every_store
def test_an_operation_that_is_deleted_before_it_is_told_is_told_all_the_same(
    serve: Serve, store: Any
) -> None:
    deleted = threading.Event()
    failing = Fails(OSError("not yet"), 1)

    def act(event: CompletionEvent) -> None:
        assert deleted.wait(SECONDS)
        failing(event)

    told = Told(act=act)
    server: Server = serve(fleet(), store=store, on_done=told.on_done)
    done = server.done(server.create().name)
    server.delete(done.name)
    deleted.set()
    assert told.next().operation == done
    again = told.next()
    assert (again.operation, again.attempt_count) == (done, 2)


def test_a_description_tells_how_far_the_telling_is(serve: Serve, store: Any, log: Log) -> None:
    errors: list[Exception] = [
        ValueError("with a secret in its words"),
        lro_grpc.UndeliverableError("nobody listens", reason="GONE"),
    ]

    def act(_: CompletionEvent) -> None:
        if errors:
            raise errors[0]

    clock = RunningClock()
    told = Told(act=act)
    server: Server = serve(fleet(), store=store, on_done=told.on_done, clock=clock)
    first = server.create().name
    told.next()
    log.find("could not be told")
    server.done(server.create(instance_id="other").name)
    described = server.describe(first)
    while not described.delivery.HasField("error"):  # until it is settled
        described = server.describe(first)
    delivery = described.delivery
    assert delivery.state == CompletionDelivery.PENDING
    assert delivery.attempt_count >= 1
    assert (
        delivery.next_attempt_time.ToMicroseconds() > described.metadata.end_time.ToMicroseconds()
    )
    assert (delivery.error.code, delivery.error.message) == (
        Code.UNKNOWN,
        "on_done has raised ValueError; the server's log has more",
    )
    del errors[0]
    clock.advance(60)
    while (delivery := server.describe(first).delivery).state == CompletionDelivery.PENDING:
        clock.advance(1)
    assert delivery.state == CompletionDelivery.FAILED
    assert not delivery.HasField("next_attempt_time")
    assert delivery.error.message == "nobody listens"
    errors.clear()
    last = server.create(instance_id="last").name
    server.done(last)
    while (delivery := server.describe(last).delivery).state == CompletionDelivery.PENDING:
        pass
    assert delivery == CompletionDelivery(state=CompletionDelivery.SUCCEEDED)


def test_a_description_tells_nothing_of_what_is_told_to_nobody(serve: Serve, held: Held) -> None:
    """Nor before the end."""
    server: Server = serve(fleet())
    assert not server.describe(server.done(server.create().name).name).HasField("delivery")
    server.stop()
    told = Told()
    server = serve(held.servicer(), on_done=told.on_done)
    server.create()
    assert not server.describe(held.next()).HasField("delivery")


class Slow:
    """An ``on_done`` with destinations, one of which does not answer."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.told: queue.Queue[str] = queue.Queue()

    def destination(self, event: CompletionEvent) -> str:
        return "slow" if "slow" in event.name else event.name

    async def __call__(self, event: CompletionEvent) -> None:
        if self.destination(event) == "slow":
            await self.gate.pass_by_async()
        self.told.put(event.name)


def test_a_destination_that_is_slow_holds_up_no_other(serve: Serve) -> None:
    slow = Slow()
    ids = iter([*(f"slow-{number}" for number in range(30)), "quick"])
    server = serve(fleet(), on_done=slow, new_id=lambda request: next(ids))
    names = [server.create(instance_id=f"i{number}").name for number in range(31)]
    assert slow.told.get(timeout=SECONDS) == names[-1]
    slow.gate.open()
    assert {slow.told.get(timeout=SECONDS) for _ in range(30)} == set(names[:-1])


def test_an_on_done_that_takes_too_long_has_failed(
    serve: Serve, handler_keyword: str, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    """A thread goes on, and keeps nobody else from being told."""
    monkeypatch.setattr(deliverer, "_TELL_SECONDS", 0.1)
    gate = Gate()
    first: list[str] = []

    def act(event: CompletionEvent) -> None:
        first.append(event.id)
        if event.id == first[0]:
            gate.block()

    async def act_async(event: CompletionEvent) -> None:
        told.on_done(event)
        await asyncio.sleep(0 if event.id != first[0] else SECONDS)

    is_async = handler_keyword == "async def"
    told = Told(act=(lambda event: first.append(event.id)) if is_async else act)
    server = serve(fleet(), on_done=act_async if is_async else told.on_done)
    server.create()
    stuck = told.next()
    log.find("on_done has not ended within 0.1 s")
    other = server.create().name
    events = [told.next(), told.next()]
    assert {one.name for one in events} == {stuck.name, other}
    gate.open()


def test_what_is_being_told_ends_within_the_grace(serve: Serve, file_url: str) -> None:
    """And what is not is told by the next server, at once."""
    gate, ended = Gate(), threading.Event()

    async def tell(event: CompletionEvent) -> None:
        told.on_done(event)
        await gate.pass_by_async()
        ended.set()

    told = Told()
    server = serve(fleet(), store=file_url, on_done=tell)
    server.create()
    told.next()
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    gate.open()
    stopping.join(SECONDS)
    assert ended.is_set()
    again = Told()
    server = serve(fleet(), store=file_url, on_done=again.on_done)
    later = server.create().name
    assert again.next().name == later


@pytest.mark.parametrize("store", ["sqlite", "postgres"], indirect=True)
def test_what_is_not_told_within_the_grace_is_told_by_the_next_server(
    serve: Serve, store: Any
) -> None:
    """Also what it had taken, and not begun to tell: no lease has to end first."""

    async def hang(event: CompletionEvent) -> None:
        told.on_done(event)
        await asyncio.Event().wait()

    told, again = Told(), Told()
    server = serve(fleet(), store=store, on_done=hang, grace=0.1)
    names = {server.create(instance_id=f"i{number}").name for number in range(20)}
    for name in names:
        server.done(name)
    told.next()
    server.stop()
    serve(fleet(), store=store, on_done=again.on_done)
    assert {again.next().name for _ in names} == names


def test_a_store_that_is_out_for_a_while_loses_no_event(serve: Serve, log: Log) -> None:
    """What was told meanwhile is not told again when the store answers."""
    store = FaultyStore(open_url("memory:", SystemClock().now), random.Random(7), NO_FAULTS)
    gate = Gate()

    async def tell(event: CompletionEvent) -> None:
        told.on_done(event)
        await gate.pass_by_async()

    told = Told()
    server: Server = serve(fleet(), store=store, on_done=tell)
    name = server.create().name
    assert told.next().name == name
    store.connected = False
    gate.open()
    log.find("the store is disconnected; trying again")
    store.heal()
    other = server.create().name
    assert told.next().name == other
    server.stop()
    assert told.is_silent


def test_what_a_process_ends_that_tells_nobody_is_told_by_another_one(
    serve: Serve, postgres: str, held: Held
) -> None:
    """The start decides whether an end is to be told."""
    told = Told()
    begins: Server = serve(held.servicer(), store=postgres, on_done=told.on_done)
    name = begins.create().name
    held.next()
    begins.stop()
    held.gate.open()
    ends: Server = serve(held.servicer(), store=postgres)
    ends.done(name)
    ends.stop()
    assert told.is_silent
    serve(held.servicer(), store=postgres, on_done=told.on_done)
    assert told.next().name == name


@pytest.mark.parametrize("given", ["yes", 3, [print]])
def test_an_on_done_that_is_no_function_is_refused(given: Any) -> None:
    with pytest.raises(lro_grpc.ConfigurationError, match=r"on_done is .*; give a function"):
        lro_grpc.Operations("memory:", on_done=given)


class Process:
    """A server in a process of its own: killed at the end of its context."""

    def __init__(self, url: str, *how: str) -> None:
        command = [sys.executable, str(SCRIPT), url, *how]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._told: list[list[str]] = []
        words = self._words()
        while words[0] != "listening":  # it tells what the process before has left meanwhile
            self._told.append(words)
            words = self._words()
        self.channel = grpc.insecure_channel(f"127.0.0.1:{words[1]}")
        self.client = Client(self.channel)

    def _words(self) -> list[str]:
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()

    def told(self) -> tuple[str, int, str]:
        """Returns the next event that it tells: its id, its attempt, its operation."""
        word, event_id, attempt, name = self._told.pop(0) if self._told else self._words()
        assert word == "telling"
        return event_id, int(attempt), name

    def kill(self) -> None:
        self.channel.close()
        with self.process:
            self.process.kill()


def test_a_server_that_is_killed_while_it_tells_has_it_told_by_the_next(file_url: str) -> None:
    """What it had not begun to tell, too: it had stored that together with the ends."""
    with contextlib.ExitStack() as processes:
        holds = Process(file_url, "hold")
        processes.callback(holds.kill)
        names = [holds.client.create(instance_id=f"i{n}").name for n in range(20)]
        for name in names:
            holds.client.done(name)
        event_id, attempt, name = holds.told()
        assert attempt == 1
    with contextlib.ExitStack() as processes:
        tells = Process(file_url)
        processes.callback(tells.kill)
        told = [tells.told() for _ in names]
    assert sorted(one for _, _, one in told) == sorted(names)
    assert (event_id, name) in {(found, one) for found, _, one in told}
