"""An engine on a store, and the time and the faults that a test gives them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import threading
import time
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Mapping,
    Sequence,
)
from datetime import timedelta
from typing import Any, TypeVar

from google.longrunning import operations_pb2
from google.protobuf import any_pb2, wrappers_pb2
from google.rpc import error_details_pb2

from lro.v1 import operation_metadata_pb2
from lro_grpc import Clock, LroError, StopReason
from lro_grpc._operation import publication
from lro_grpc._operation.events import Cancel, Claim, Event, Heartbeat, Pause, Resume
from lro_grpc._operation.record import Record
from lro_grpc.engines import Engine, Handler, InProcess, Workbench
from lro_grpc.stores import Change, Claimed, ForwardingStore, Leased, Listener, Notifier, Store
from lro_grpc.testing import ManualClock

T = TypeVar("T")

METHOD = "/test.v1.Tests/Run"
OTHER_METHOD = "/test.v1.Tests/RunOther"
WORKER = "test-host:1"
LEASE, SWEEP = 15.0, 4.0
"""In seconds, of the world's clock."""

Text = wrappers_pb2.StringValue
"""The type of requests and responses."""


def bench(
    store: Store,
    handlers: Sequence[Handler],
    clock: Clock,
    random: Callable[[], float] = random.random,
) -> Workbench:
    """Returns a workbench with the lease and the sweep of these tests."""
    return Workbench(
        store,
        {name: one for one in handlers for name in one.names},
        clock,
        lease=timedelta(seconds=LEASE),
        sweep=timedelta(seconds=SWEEP),
        random=random,
        worker=WORKER,
    )


def handler(
    run: Callable[[Any, Any], Any],
    *,
    method: str = METHOD,
    concurrency: int | None = None,
    metadata: Any = operation_metadata_pb2.OperationMetadata,
    **more: Any,
) -> Handler:
    return Handler(method, run, Text, Text, metadata, "test.example", concurrency, **more)


class Signal:
    """Something that happens once, in a thread or on the loop."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._waiting: list[asyncio.Future[None]] = []

    def set(self) -> None:
        with self._lock:
            self._event.set()
            waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.get_loop().is_closed():
                one.get_loop().call_soon_threadsafe(_settle, one)

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self) -> None:
        """For a thread."""
        assert self._event.wait(5), "it did not happen"

    def wait_or_stop(self, op: Any) -> None:
        """For a thread that looks now and then whether it has to stop."""
        while not self._event.wait(0.005):
            op.raise_if_stopped()

    def __await__(self) -> Generator[Any, None, None]:
        """For the loop."""
        future = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._event.is_set():
                future.set_result(None)
            self._waiting.append(future)
        return future.__await__()


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class WorldClock(ManualClock):
    """A clock whose time of day can be set, as an administrator does; no time passes by that."""

    offset = timedelta()

    def now(self) -> int:
        return super().now() + self.offset // timedelta(microseconds=1)


class RunningClock(WorldClock):
    """A clock that also goes by itself, for engines of which a part has a clock of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._begin = time.monotonic()

    def now(self) -> int:
        return super().now() + int(self._gone() * 1_000_000)

    def monotonic(self) -> float:
        return super().monotonic() + self._gone()

    async def sleep(self, seconds: float) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(super().sleep(seconds), max(0, seconds))

    def _gone(self) -> float:
        return time.monotonic() - self._begin


Hook = Callable[[Sequence[Event]], Awaitable[None]]


class Link(ForwardingStore):
    """An engine's way to the store, which a test can disturb or cut.

    Once it is cut, nothing that the engine does reaches the store any more, and what waits for an
    answer ends: for the store, the engine's process is dead.
    """

    def __init__(
        self, store: Store, before_claim: Callable[[], None], *, is_shared: bool = False
    ) -> None:
        super().__init__(store)
        self._before_claim = before_claim
        self._is_shared = is_shared
        self._cut = False
        self.hears = True
        """Whether the engine hears of changes that the store makes; a notice may be lost."""
        self.before: Hook = _nothing
        """Is awaited before events are given to the store."""
        self.after: Hook = _nothing
        """Is awaited after the store has applied them, before the engine is answered."""

    def cut(self) -> None:
        self._cut = True

    @property
    def exclusive(self) -> bool:
        return super().exclusive and not self._is_shared

    async def renew(self, leased: Sequence[Leased], lease: int) -> Sequence[Record | LroError]:
        beats = [(one.name, Heartbeat(one.attempt, lease, one.create_time)) for one in leased]
        return await self.apply_all(beats)

    async def open(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        def pass_on(before: Record | None, after: Record) -> None:
            if self.hears and not self._cut and not _is_renewal(before, after):
                listener(before, after)

        return self._store.subscribe(pass_on)

    async def create(self, record: Record) -> Record:
        raise NotImplementedError

    async def apply(self, name: str, event: Event) -> Record:
        (outcome,) = await self.apply_all([(name, event)])
        if isinstance(outcome, LroError):
            raise outcome
        return outcome

    async def apply_all(self, changes: Sequence[Change]) -> Sequence[Record | LroError]:
        events = [event for _, event in changes]
        await self._pass()
        await self.before(events)
        outcomes = await self._store.apply_all(changes)
        await self.after(events)
        await self._pass()
        return outcomes

    async def claim(self, limits: Mapping[str, int], claim: Claim, **how: Any) -> Sequence[Claimed]:
        await self._pass()
        self._before_claim()
        await self.before([claim])
        claimed = await self._store.claim(limits, claim, **how)
        if claimed:
            await self.after([claim])
        await self._pass()
        return claimed

    async def _call(
        self, call: Callable[..., Coroutine[Any, Any, T]], *arguments: Any, **options: Any
    ) -> T:
        await self._pass()
        return await super()._call(call, *arguments, **options)

    async def _pass(self) -> None:
        if self._cut:
            raise asyncio.CancelledError


def _is_renewal(before: Record | None, after: Record) -> bool:
    """Tells whether a heartbeat has made a change, of which no listener hears."""
    lease = after.lease_expire_time
    return bool(before and lease) and after == before._replace(lease_expire_time=lease)


async def _nothing(events: Sequence[Event]) -> None:
    del events


class World:
    """A store, the engines that a test starts on it, and a client's view of the operations.

    Args:
        make_store: Makes the store.
        is_shared: Whether the engines take it for one that other processes have open, too.
        clock: Tells the time to the store and the engines.
        make_engine: Makes an engine.
        ids: What the ids of operations begin with, of which no other world may have any.
    """

    def __init__(
        self,
        make_store: Callable[[], Store],
        *,
        is_shared: bool = False,
        clock: WorldClock | None = None,
        make_engine: Callable[[Workbench], Engine] = InProcess,
        ids: str = "",
    ) -> None:
        self.clock = clock or WorldClock()
        self._make_engine = make_engine
        self.is_shared = is_shared
        self.link: Link
        self._make_store = make_store
        self._store: Store | None = None
        self._notifier: Notifier
        self._engine: Any = None
        self._count = itertools.count(1)
        self._ids = ids

    async def open(self) -> Store:
        """Opens the store, unless it is open; ``start`` does so by itself."""
        if self._store is None:
            self._store = self._make_store()
            await self._store.open()
            self._notifier = Notifier(self._store)
        return self._store

    async def start(
        self,
        *handlers: Callable[[Any, Any], Any] | Handler,
        before_claim: Callable[[], None] = lambda: None,
        random: Callable[[], float] = random.random,
        through: Callable[[Store], Store] = lambda store: store,
    ) -> Engine:
        """Starts an engine; a bare function is the handler of ``METHOD``."""
        store = through(await self.open())
        self.link = Link(store, before_claim, is_shared=self.is_shared)
        made = [one if isinstance(one, Handler) else handler(one) for one in handlers]
        self._bench = bench(self.link, made, self.clock, random)
        self._engine = self._make_engine(self._bench)
        self.recovered = await self._engine.start()
        return self._engine

    async def stop(self, grace: float = 5.0) -> None:
        """Stops the engine and closes the store, as an orderly end of the process does."""
        if self._engine is not None:
            await self._engine.stop(timedelta(seconds=grace))
            self._engine = None
        if self._store is not None:
            await self._store.close()
            self._store = None

    async def crash(self) -> None:
        """Ends the process as kill -9 does: nothing that the engine still does has an effect."""
        self.link.cut()
        for attempt in self._bench._attempts.values():
            attempt.stop(StopReason.LEASE_LOST)  # a dead handler does nothing more
        self._engine = None
        await self.stop()

    async def close(self) -> None:
        await self.stop(grace=0.05)

    async def create(self, value: str = "", *, method: str = METHOD, **more: Any) -> str:
        """Starts an operation, and returns its name."""
        store = await self.open()
        made = publication.create(
            parent="projects/p/locations/l",
            operation_id=f"op-{self._ids}{next(self._count)}",
            method=method,
            request=Text(value=value).SerializeToString(),
            metadata_type="lro.v1.OperationMetadata",
            now=self.clock.now(),
            **more,
        )
        return (await store.create(made)).name

    async def apply(self, name: str, event: Event) -> Record:
        return await (await self.open()).apply(name, event)

    async def apply_unheard(self, name: str, event: Event) -> Record:
        """Applies an event of which the engine does not hear."""
        self.link.hears = False
        try:
            return await self.apply(name, event)
        finally:
            self.link.hears = True

    async def cancel(self, name: str) -> None:
        await self.apply(name, Cancel())

    async def pause(self, name: str) -> None:
        await self.apply(name, Pause())

    async def resume(self, name: str) -> None:
        await self.apply(name, Resume())

    async def record(self, name: str) -> Record:
        return await (await self.open()).read(name)

    async def get(self, name: str) -> operations_pb2.Operation:
        return operations_pb2.Operation.FromString((await self.record(name)).operation)

    async def pass_time(self, seconds: float) -> None:
        """Lets time pass, half a second after the other, and everyone do what is due in it."""
        store = await self.open()
        for _ in range(round(seconds * 2)):
            self.clock.advance(timedelta(seconds=0.5))
            for _ in range(3):  # a round of an engine's loop, and what comes of it
                await asyncio.sleep(0)
                await store.apply_all([])  # comes after all that the store was given before

    async def until(self, name: str, fits: Callable[[Record], bool]) -> Record:
        """Waits for a record to be as the test wants it."""
        with self._notifier.watch(name) as subscription:
            while not fits(latest := await self.record(name)):
                await subscription.wait(1.0)
        return latest

    async def until_in(self, name: str, state: int) -> Record:
        """Waits for an operation to be in a state."""
        return await self.until(name, lambda one: one.state == state)

    async def done(self, name: str) -> operations_pb2.Operation:
        """Waits for an operation to be done."""
        ended = await self.until(name, lambda one: one.done)
        return operations_pb2.Operation.FromString(ended.operation)


def metadata_of(operation: operations_pb2.Operation) -> operation_metadata_pb2.OperationMetadata:
    shown = operation_metadata_pb2.OperationMetadata()
    assert operation.metadata.Unpack(shown)
    return shown


def response_of(operation: operations_pb2.Operation) -> str:
    assert operation.done
    response = Text()
    assert operation.response.Unpack(response), operation
    return response.value


def info_of(details: Sequence[any_pb2.Any]) -> error_details_pb2.ErrorInfo:
    """Returns the one ErrorInfo among details."""
    (packed,) = [one for one in details if one.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)]
    info = error_details_pb2.ErrorInfo()
    packed.Unpack(info)
    return info


def states_of(operation: operations_pb2.Operation) -> list[str]:
    """Returns the names of the states of a batch's targets, in the order of the request."""
    batch = metadata_of(operation).batch_create_instances_metadata
    states = [batch.instance_statuses[target] for target in batch.instance_targets]
    return [type(one).State.Name(one.state) for one in states]


def statuses_of(operation: operations_pb2.Operation) -> list[Any]:
    batch = metadata_of(operation).batch_create_instances_metadata
    return [batch.instance_statuses[target] for target in batch.instance_targets]
