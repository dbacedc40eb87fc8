"""A handler that blocks the event loop costs no operation its attempt (R6), and is named."""

from __future__ import annotations

import asyncio
import functools
import logging
import queue
import threading
from concurrent import futures
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from server_harness import FLEET, SECONDS, Gate, Instance, Server, fleet, response_of

import lro_grpc
from lro_grpc._operation.events import Heartbeat, LeaseLost, apply_safely
from lro_grpc._runtime.clock import SystemClock
from lro_grpc.stores import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lro_grpc import LroError
    from lro_grpc.stores import Leased, Record

Serve = Any

CREATE = f"/{FLEET}/CreateInstance"
LEASE_SECONDS = 0.6
RIVALS_LEASE_SECONDS = 2.4
"""Where a busy machine must not keep a process from renewing its leases in time."""


def liveness(lease: float = LEASE_SECONDS) -> dict[str, timedelta]:
    return {"lease": timedelta(seconds=lease), "sweep": timedelta(seconds=lease / 10)}


class Blocking:
    """A fleet in which the instance ``blocks`` holds the event loop, and others wait on it."""

    def __init__(self) -> None:
        self.began: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.held = Gate()
        self.loop = Gate()

        async def run(_: Any, request: Any, op: Any) -> Any:
            self.began.put(op.name)
            if request.instance_id == "blocks":
                self.loop.block()
            else:
                await self.held.pass_by_async()
            return Instance(name=request.instance_id, seed_rows=op.attempt)

        self.servicer = fleet("CreateInstance", run)

    def block(
        self,
        server: Server,
        *,
        lease: float = LEASE_SECONDS,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> list[str]:
        """Blocks the loop beside two handlers for three leases; returns all their operations."""
        names = [server.create(instance_id=f"waits-{number}").name for number in range(2)]
        for _ in names:
            self.began.get(timeout=SECONDS)
        with futures.ThreadPoolExecutor(1) as pool:
            starting = pool.submit(server.create, instance_id="blocks")
            self.began.get(timeout=SECONDS)
            meanwhile()
            threading.Event().wait(3 * lease)
            self.loop.open()
            return [*names, starting.result(SECONDS).name]


@pytest.fixture
def blocking(serve: Serve) -> Any:
    blocking = Blocking()
    yield blocking
    blocking.loop.open()
    blocking.held.open()


def test_a_handler_that_blocks_the_event_loop_costs_no_operation_its_attempt(
    serve: Serve, store: str, blocking: Blocking
) -> None:
    server = serve(blocking.servicer, store=store, **liveness())
    names = blocking.block(server)
    threading.Event().wait(2 * LEASE_SECONDS)  # sweeps, which find nothing to take away
    blocking.held.open()
    assert [response_of(server.done(name)).seed_rows for name in names] == [1, 1, 1]


class RivalsStore(MemoryStore):
    """A memory store that another process has open, too: it takes over what has no lease left."""

    exclusive = False

    def __init__(self) -> None:
        super().__init__(SystemClock().now)
        self._lock = threading.Lock()
        self.rescued: list[str] = []

    async def apply(self, name: str, event: Any) -> Record:
        with self._lock:
            return await super().apply(name, event)

    async def renew(self, leased: Sequence[Leased], lease: int) -> Sequence[Record | LroError]:
        with self._lock:
            return [
                self._kept(one.name, Heartbeat(one.attempt, lease), self._records[one.name])
                for one in leased
            ]

    def rescue(self) -> None:
        """Does what the sweep of another process does."""
        with self._lock:
            for record in list(self._records.values()):
                after = record
                if record.lease_expire_time:
                    after = self._kept(record.name, LeaseLost(record.attempt), record)
                if after is not record:
                    self.rescued.append(record.name)

    def _kept(self, name: str, event: Any, before: Record) -> Any:
        after = apply_safely(event, before, self._now())
        if isinstance(after, type(before)):
            self._records[name] = after
        return after


def test_leases_on_a_shared_store_are_renewed_while_the_event_loop_stands_still(
    serve: Serve, blocking: Blocking
) -> None:
    store = RivalsStore()
    server = serve(blocking.servicer, store=store, **liveness(RIVALS_LEASE_SECONDS))
    is_over = threading.Event()

    def take_over() -> None:
        while not is_over.wait(RIVALS_LEASE_SECONDS / 20):
            store.rescue()

    rival = threading.Thread(target=take_over)
    try:
        names = blocking.block(server, lease=RIVALS_LEASE_SECONDS, meanwhile=rival.start)
        blocking.held.open()
        assert [response_of(server.done(name)).seed_rows for name in names] == [1, 1, 1]
        assert store.rescued == []
    finally:
        is_over.set()
        rival.join()


class SilentStore(RivalsStore):
    """A shared store that answers no heartbeat, in a thread that nothing can cancel."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.may_answer = threading.Event()

    async def renew(self, leased: Sequence[Leased], lease: int) -> Sequence[Record | LroError]:
        def wait() -> None:
            self.asked.set()
            self.may_answer.wait()

        await asyncio.to_thread(wait)
        return await super().renew(leased, lease)


def test_a_heartbeat_that_is_never_answered_does_not_keep_its_server(
    serve: Serve, blocking: Blocking
) -> None:
    store = SilentStore()
    server = serve(blocking.servicer, store=store, **liveness(6))
    try:
        server.create(instance_id="waits")
        assert store.asked.wait(SECONDS)
        blocking.held.open()
        server.stop()  # which raises after a while
    finally:
        store.may_answer.set()


def test_time_in_which_the_event_loop_stands_still_does_not_count_as_time_without_progress(
    serve: Serve, blocking: Blocking, gate: Gate
) -> None:
    """Though the handler that is not to blame needs some more steps until it has news."""

    async def run(_: Any, request: Any, op: Any) -> Any:
        while not gate.is_open:
            for _step in range(4):
                await asyncio.sleep(0.05)
            op.progress(detail="on the way")
            blocking.began.put(op.name)
        return Instance(name="steady", seed_rows=op.attempt)

    limit = timedelta(seconds=2)
    server = serve(
        blocking.servicer,
        configure=lambda operations: operations.add_method(
            "/test.v1.Tests/Run",
            functools.partial(run, None),
            request=Instance,
            response=Instance,
            options=lro_grpc.MethodOptions(progress_timeout=limit),
        ),
    )
    name = server.start("/test.v1.Tests/Run", Instance()).name
    assert blocking.began.get(timeout=SECONDS) == name
    with futures.ThreadPoolExecutor(1) as pool:
        starting = pool.submit(server.create, instance_id="blocks")
        while blocking.began.get(timeout=SECONDS) == name:
            pass
        threading.Event().wait(1.5 * limit.total_seconds())
        blocking.loop.open()
        starting.result(SECONDS)
    assert blocking.began.get(timeout=SECONDS) == name
    gate.open()
    assert response_of(server.done(name)) == Instance(name="steady", seed_rows=1)


# What is said of it.


class Heard(logging.Handler):
    """Keeps what this package logs, and lets a test wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self._more = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._more:
            self.records.append(record)
            self._more.notify_all()

    def until(self, text: str, count: int = 1) -> list[logging.LogRecord]:
        """Returns the records that have a text, once there are so many."""

        def found() -> list[logging.LogRecord]:
            return [one for one in self.records if text in one.getMessage()]

        with self._more:
            assert self._more.wait_for(lambda: len(found()) >= count, SECONDS), self.records
            return found()


@pytest.fixture(autouse=True)
def leaves_out_busy_machine() -> None:
    """Leaves nothing out of the log."""


@pytest.fixture
def heard() -> Any:
    heard = Heard()
    log = logging.getLogger("lro_grpc")
    log.addHandler(heard)
    yield heard
    log.removeHandler(heard)


STANDS = "the event loop has stood still for"
GOES_ON = "the event loop goes on, after it stood still for"


def block_here(gate: Gate) -> None:
    gate.block()


@pytest.mark.parametrize("in_child", [False, True], ids=["handler", "task of a handler"])
def test_a_handler_that_blocks_the_event_loop_is_named_while_it_does(
    serve: Serve, gate: Gate, heard: Heard, *, in_child: bool
) -> None:
    async def block() -> None:
        block_here(gate)

    async def run(_: Any, request: Any, op: Any) -> Any:
        await (asyncio.create_task(block()) if in_child else block())
        return Instance()

    server = serve(fleet("CreateInstance", run))
    with futures.ThreadPoolExecutor(1) as pool:
        starting = pool.submit(server.create)
        first, second = heard.until(STANDS, 2)  # the second one when it has lasted twice as long
        gate.open()
        name = starting.result(SECONDS).name
    (end,) = heard.until(GOES_ON)
    assert (first.levelname, end.levelname) == ("WARNING", "WARNING")
    for record in (first, second):
        message = record.getMessage()
        assert f"in the handler of {CREATE} for {name}" in message
        assert "\n" not in message
        assert "in block_here" in (record.stack_info or "")
        assert len(record.stack_info or "") < 6000
        assert (record.operation, record.method) == (name, CREATE)  # type: ignore[attr-defined]


def test_another_function_that_blocks_the_event_loop_is_shown_by_its_stack(
    serve: Serve, gate: Gate, heard: Heard
) -> None:
    async def run(_: Any, request: Any, op: Any) -> Any:
        return Instance()

    async def prepare(_: Any, request: Any, context: Any) -> None:
        block_here(gate)

    server = serve(fleet("CreateInstance", run, prepare=prepare))
    with futures.ThreadPoolExecutor(1) as pool:
        starting = pool.submit(server.create)
        (told,) = heard.until(STANDS)
        gate.open()
        starting.result(SECONDS)
    heard.until(GOES_ON)
    assert "in block_here" in (told.stack_info or "")
    assert "in the handler of" not in told.getMessage()


def test_of_an_event_loop_that_goes_on_nothing_is_said(serve: Serve, heard: Heard) -> None:
    async def run(_: Any, request: Any, op: Any) -> Any:
        await asyncio.sleep(2)
        return Instance()

    server = serve(fleet("CreateInstance", run))
    assert server.done(server.create().name).HasField("response")
    assert [one for one in heard.records if "stood still" in one.getMessage()] == []
