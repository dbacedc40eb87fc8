"""The contract once more, with a store whose calls fail now and then, and a client that copes."""

from __future__ import annotations

import asyncio
import zlib
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from lro_grpc._errors import LroError, OperationNotFoundError, UnavailableError
from lro_grpc._operation.events import apply_safely
from lro_grpc._operation.publication import not_found
from lro_grpc._stores.postgres.store import PostgresStore
from lro_grpc._stores.store import MOST_PENDING
from lro_grpc._testing.faulty_store import Faults, FaultyStore
from lro_grpc.conformance import StoreConformance
from lro_grpc.stores import Claimed, MemoryStore, SqliteStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from lro_grpc._operation.completion import Completion, Settlement
    from lro_grpc._operation.events import Claim, Event
    from lro_grpc._operation.record import Record
    from lro_grpc.stores import (
        AttemptRecord,
        Change,
        Counts,
        KeyedClaims,
        Leased,
        Listener,
        Now,
        Page,
        Query,
        Store,
    )

T = TypeVar("T")

FAULTS = Faults(before=0.05, after=0.05, delay=0.05, disconnect=0.02, longest_delay=0.0)


class PatientStore:
    """Asks again until the store answers; what may have happened, it finds out by reading (R11).

    Changes go to the store one call after the other, so that nobody else's can come between a
    change and the look at what has become of it.

    Args:
        store: The store whose calls fail.
        now: Tells the time.
        hidden: What is known of operations that cannot be read, by their names; it stays when the
            store is opened again.
    """

    def __init__(self, store: Store, now: Now, hidden: dict[str, Record]) -> None:
        self._store = store
        self._now = now
        self._hidden = hidden
        self._turn = asyncio.Lock()
        store.subscribe(self._note)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def _note(self, _before: Record | None, record: Record) -> None:
        if record.deleted and not record.done:
            self._hidden[record.name] = record
        else:
            self._hidden.pop(record.name, None)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        return self._store.subscribe(listener)

    async def create(self, record: Record) -> Record:
        async with self._turn:
            taken = await self._look(record.name)
            while True:
                try:
                    return await self._store.create(record)
                except UnavailableError:
                    there = await self._look(record.name)
                    if there == record and taken is None:
                        return record

    async def apply(self, name: str, event: Event) -> Record:
        (outcome,) = await self.apply_all([(name, event)])
        if isinstance(outcome, LroError):
            raise outcome
        return outcome

    async def apply_all(self, changes: Sequence[Change]) -> Sequence[Record | LroError]:
        async with self._turn:
            names = {name for name, _ in changes}
            before = {name: await self._look(name) for name in names}
            while True:
                try:
                    return await self._store.apply_all(changes)
                except UnavailableError:
                    now = {name: await self._look(name) for name in names}
                    if now != before:
                        return self._outcomes(before, changes)

    def _outcomes(
        self, records: dict[str, Record | None], changes: Sequence[Change]
    ) -> Sequence[Record | LroError]:
        """Returns what the store would have answered: what events do follows from the records."""
        outcomes: list[Record | LroError] = []
        for name, event in changes:
            before = records[name]
            outcome = apply_safely(event, before, self._now()) if before else not_found(name)
            outcomes.append(outcome)
            if not isinstance(outcome, LroError):
                records[name] = outcome
        return outcomes

    async def _look(self, name: str) -> Record | None:
        """Returns what there is of a name, hidden or not."""
        try:
            return await self.read(name)
        except OperationNotFoundError:
            return self._hidden.get(name)

    async def read(self, name: str) -> Record:
        return await self._again(lambda: self._store.read(name))

    async def read_attempts(self, name: str) -> tuple[Record, Sequence[AttemptRecord]]:
        return await self._again(lambda: self._store.read_attempts(name))

    async def take_completions(self, limit: int, lease: int) -> Sequence[Completion]:
        """One whose answer is lost has taken what is due after the lease: nobody here waits."""
        return await self._store._store.take_completions(limit, lease)

    async def settle_completions(self, settlements: Sequence[Settlement]) -> None:
        await self._again(lambda: self._store.settle_completions(settlements))

    async def read_completion(self, name: str, create_time: int) -> Completion | None:
        return await self._again(lambda: self._store.read_completion(name, create_time))

    async def pending_completions(self, most: int = MOST_PENDING) -> int:
        return await self._again(lambda: self._store.pending_completions(most))

    async def operation(self, name: str) -> bytes:
        return await self._again(lambda: self._store.operation(name))

    async def find_request(self, method: str, request_id: str, caller: str) -> Sequence[Record]:
        return await self._again(lambda: self._store.find_request(method, request_id, caller))

    async def find_id(self, operation_id: str) -> Sequence[str]:
        return await self._again(lambda: self._store.find_id(operation_id))

    async def latest_rerun(self, name: str) -> str:
        return await self._again(lambda: self._store.latest_rerun(name))

    async def exclusive_holder(self, target: str) -> str:
        return await self._again(lambda: self._store.exclusive_holder(target))

    async def page(self, query: Query, **options: Any) -> Page:
        return await self._again(lambda: self._store.page(query, **options))

    async def counts(self, query: Query, **options: Any) -> Counts:
        return await self._again(lambda: self._store.counts(query, **options))

    async def claimable(self, limits: Mapping[str, int]) -> Sequence[str]:
        return await self._again(lambda: self._store.claimable(limits))

    async def claim(self, limits: Mapping[str, int], claim: Claim, **options: Any) -> Any:
        """A claim whose answer is lost may have claimed: what, is heard."""
        async with self._turn:
            heard: list[Claimed] = []
            stop = self._store.subscribe(
                lambda before, after: heard.append(Claimed(before, after)) if before else None
            )
            try:
                while not heard:
                    try:
                        return await self._store.claim(limits, claim, **options)
                    except UnavailableError:
                        continue
                return heard
            finally:
                stop()

    async def claim_by_key(self, *arguments: Any, **options: Any) -> KeyedClaims:
        """One whose answer is lost has had its turns: nobody here goes round the keys again."""
        return await self._store._store.claim_by_key(*arguments, **options)

    async def waiting(self, method: str, most: int, *, delayed: bool = False) -> Mapping[str, int]:
        return await self._again(lambda: self._store.waiting(method, most, delayed=delayed))

    async def expired(self, limit: int, **options: Any) -> Sequence[str]:
        return await self._again(lambda: self._store.expired(limit, **options))

    async def waiting_methods(self) -> Mapping[str, int]:
        return await self._again(lambda: self._store.waiting_methods())

    async def held_of_key(self, method: str, concurrency_key: str, most: int) -> int:
        return await self._again(lambda: self._store.held_of_key(method, concurrency_key, most))

    async def leased(self, *, until: int | None = None) -> Sequence[Leased]:
        return await self._again(lambda: self._store.leased(until=until))

    async def _again(self, read: Callable[[], Awaitable[T]]) -> T:
        """Reads until the store answers, which changes nothing."""
        while True:
            try:
                return await read()
            except UnavailableError:
                await asyncio.sleep(0)


class FaultyConformance(StoreConformance):
    @pytest.fixture(autouse=True)
    def _seed(self, request: pytest.FixtureRequest, seed: int, tmp_path: Path) -> None:
        """Other faults in each test and each time; the same ones when it is run again."""
        name = request.node.originalname.encode()
        self.random = Random(zlib.crc32(name) + seed)
        self.path = tmp_path / "operations.db"
        self.hidden: dict[str, Record] = {}

    def make_store(self, now: Now) -> Any:
        faulty = FaultyStore(self.make_sound_store(now), self.random, FAULTS)
        return PatientStore(faulty, now, self.hidden)

    def make_sound_store(self, now: Now) -> Store:
        raise NotImplementedError


@pytest.mark.parametrize("seed", range(3))
class TestFaultyMemoryStore(FaultyConformance):
    store: MemoryStore | None = None

    def make_sound_store(self, now: Now) -> MemoryStore:
        self.store = self.store or MemoryStore(now)  # its records stay for the next open
        return self.store


@pytest.mark.parametrize("seed", range(3))
class TestFaultySqliteStore(FaultyConformance):
    def make_sound_store(self, now: Now) -> SqliteStore:
        return SqliteStore(self.path, now)


@pytest.mark.parametrize("seed", [0])
class TestFaultyPostgresStore(FaultyConformance):
    @pytest.fixture(autouse=True)
    def _place(self, postgres: str) -> None:
        self.url = postgres

    def make_sound_store(self, now: Now) -> PostgresStore:
        return PostgresStore(self.url, now)
