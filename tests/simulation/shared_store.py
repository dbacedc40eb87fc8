"""A store that several simulated processes share, as they would share a database server."""

from __future__ import annotations

import asyncio
import contextvars
from operator import methodcaller
from typing import TYPE_CHECKING, Any

from followed import Followed

from lro_grpc._errors import LroError
from lro_grpc._operation.events import Heartbeat, apply_safely
from lro_grpc.stores import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from simulated_loop import Process, SimulatedLoop

    from lro_grpc._operation.events import Event
    from lro_grpc._operation.record import Record
    from lro_grpc.stores import Change, Claimed, KeyedClaims, Leased, Listener

    Write = Callable[[], Awaitable[Any]]


_CLOCK_SLIPS = 0.05
"""How often a client's idea of the time changes, from 0 to 1."""

_LAGS = (0, 0, 1_000, 200_000, 3_000_000)
"""By how many microseconds it is behind then."""

_TOLERANCE = 1_000_000
"""The most that the store takes of it."""


class SharedStore(MemoryStore):
    """A memory store that knows which of its clients is writing.

    Args:
        now: Tells the time of its own machine.
        loop: Where messages travel.
        lost_notices: How many of the notices that one client's change sends to the others get
            lost, from 0 to 1.
        late_writes: How many of the writes take their time, up to ``longest_write`` seconds. They
            arrive even if who has sent them is frozen, or dead, by then.
        longest_write: In seconds.
    """

    def __init__(
        self,
        now: Callable[[], int],
        loop: SimulatedLoop,
        *,
        lost_notices: float,
        late_writes: float,
        longest_write: float,
    ) -> None:
        super().__init__(now)
        self.loop = loop
        self._lost_notices = lost_notices
        self.late_writes = late_writes
        self._longest_write = longest_write
        self._clients: list[Client] = []
        self._writer: Client | None = None
        self._changes: list[tuple[Record | None, Record]] = []
        self.subscribe(self._on_change)

    def client(self, process: Process, *, exclusive: bool) -> Client:
        """Returns a process's way to the store; those of dead processes are forgotten."""
        self._clients = [one for one in self._clients if one.process.alive]
        self._clients.append(Client(self, process, exclusive=exclusive))
        return self._clients[-1]

    async def write(self, writer: Client, call: Write) -> Any:
        """Calls the store for a client, which gets its changes before its answer."""
        if self.loop.random.random() >= self.late_writes:
            outcome, changes = await self._written(writer, call)
            self.announce(writer, changes)
            if isinstance(outcome, LroError):
                raise outcome
            return outcome
        answer = self.loop.create_future()

        async def travel() -> None:
            await asyncio.sleep(self.loop.random.uniform(0, self._longest_write))
            outcome, changes = await self._written(writer, call)
            self.loop.call_soon(arrive, changes, outcome, context=writer.process.context)

        def arrive(changes: Sequence[tuple[Record | None, Record]], outcome: Any) -> None:
            self.announce(writer, changes)
            if answer.done():  # nobody waits for it any more
                return
            if isinstance(outcome, LroError):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)

        contextvars.Context().run(self.loop.create_task, travel())  # it belongs to no process
        return await answer

    async def _written(
        self, writer: Client, call: Write
    ) -> tuple[Any, Sequence[tuple[Record | None, Record]]]:
        """Calls the store, which answers without a pause; returns its changes, too."""
        self._writer, self._changes = writer, []
        try:
            return await call(), self._changes
        except LroError as error:
            return error, self._changes
        finally:
            self._writer = None

    def _on_change(self, before: Record | None, after: Record) -> None:
        self._changes.append((before, after))
        self._notify(self._writer, methodcaller("notify", after))

    def _notify(self, sender: Client | None, notice: Callable[[Client], None]) -> None:
        random = self.loop.random
        for client in self._clients:
            if client is not sender and random.random() >= self._lost_notices:
                delay = random.choice((0.0, 0.01, 0.3))
                self.loop.call_later(delay, notice, client, context=client.process.context)

    def announce(self, writer: Client, changes: Sequence[tuple[Record | None, Record]]) -> None:
        """Tells a client of its changes, and the others of the work that it has left to them."""
        for before, after in changes:
            if writer.announce(before, after):
                self._notify(writer, methodcaller("notify_of_work", after.method))


class Client(Followed):
    """One process's way to a shared store: what others change is told late, or not at all.

    It tries an event on the record that it has last seen, as a client does that keeps records at
    hand. Where that is an old one, the store refuses the outcome, and the event is applied again.
    And its idea of the store's time falls behind; then the store refuses a write until it is
    measured anew.
    """

    def __init__(self, store: SharedStore, process: Process, *, exclusive: bool) -> None:
        super().__init__()
        self.process = process
        self.exclusive = exclusive
        self._store = store
        self._listeners: list[Listener] = []
        self._seen: dict[str, Record] = {}
        self._lag = 0

    def now(self) -> int:
        return self._store.now() - self._lag

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def announce(self, before: Record | None, after: Record) -> bool:
        """Tells of its own change; returns whether it has left an operation for others to claim."""
        self._seen[after.name] = after
        for listener in self._listeners:
            listener(before, after)
        was_held = before is not None and before.lease_expire_time > 0
        has_left = after.concurrency_key != "" and was_held and not after.lease_expire_time
        is_work = after.is_ready and not (before is not None and before.is_ready)
        return (is_work or has_left) and not self.has_room(after.method)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def create(self, record: Record) -> Record:
        return await self._write(lambda: self._store.create(record))

    async def apply(self, name: str, event: Event) -> Record:
        self._try(name, event)
        return await self._write(lambda: self._store.apply(name, event))

    async def apply_all(self, changes: Sequence[Change]) -> Sequence[Record | LroError]:
        for name, event in changes:
            self._try(name, event)
        return await self._write(lambda: self._store.apply_all(changes))

    async def claim(self, *arguments: Any, **options: Any) -> Sequence[Claimed]:
        return await self._write(lambda: self._store.claim(*arguments, **options))

    async def claim_by_key(self, *arguments: Any, **options: Any) -> KeyedClaims:
        return await self._write(lambda: self._store.claim_by_key(*arguments, **options))

    def _try(self, name: str, event: Event) -> None:
        """Applies an event to the record that was last seen, and again: it has to be pure."""
        seen = self._seen.get(name)
        if seen is not None:
            one, other = (apply_safely(event, seen, self.now()) for _ in range(2))
            assert one == other or (isinstance(one, LroError) and type(one) is type(other))

    async def _write(self, call: Write) -> Any:
        random = self._store.loop.random
        if random.random() < _CLOCK_SLIPS:
            self._lag = random.choice(_LAGS)
        while self._lag > _TOLERANCE:
            await asyncio.sleep(0.01)  # it is refused, and the time is asked for
            self._lag = random.choice(_LAGS)
        return await self._store.write(self, call)

    async def renew(self, leased: Sequence[Leased], lease: int) -> Sequence[Record | LroError]:
        return await self.apply_all([(one.name, Heartbeat(one.attempt, lease)) for one in leased])
