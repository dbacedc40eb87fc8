"""A store that passes every call on to another: the base of stores that observe or disturb it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, TypeVar, cast

from lro_grpc._errors import LroError
from lro_grpc._operation.attempts import AttemptRecord
from lro_grpc._operation.completion import Completion, Settlement
from lro_grpc._operation.events import Claim, Event
from lro_grpc._operation.record import Record
from lro_grpc._stores.store import (
    MOST_COUNTED,
    MOST_EXAMINED,
    MOST_PENDING,
    MOST_SUMMARIZED,
    Change,
    Claimed,
    Counts,
    KeyedClaims,
    Leased,
    Listener,
    Page,
    Query,
    SharedStore,
    Store,
)

T = TypeVar("T")


class ForwardingStore:
    """Passes everything on; see :class:`lro_grpc.stores.Store`.

    Args:
        store: The store itself.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def exclusive(self) -> bool:
        """The store's own."""
        return self._store.exclusive

    @property
    def is_lost(self) -> bool:
        """The store's own."""
        return self._store.is_lost

    @property
    def signing_secret(self) -> bytes:
        """The store's own."""
        return self._store.signing_secret

    def now(self) -> int:
        """Returns the store's time."""
        return self._store.now()

    async def open(self) -> None:
        """Opens the store."""
        await self._store.open()

    async def close(self) -> None:
        """Closes the store."""
        await self._store.close()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Adds a listener to the store, and returns what removes it."""
        return self._store.subscribe(listener)

    def follow(self, name: str, follower: Callable[[Record | None], None]) -> Callable[[], None]:
        """Tells what other processes make of one operation; returns what ends it."""
        return self._store.follow(name, follower)

    def follow_work(
        self, has_room: Callable[[str], bool], follower: Callable[[str], None]
    ) -> Callable[[], None]:
        """Tells of methods of which others have left work; returns what ends it."""
        return self._store.follow_work(has_room, follower)

    async def create(self, record: Record) -> Record:
        """Stores a new record, unless its ``request_id`` was used before."""
        return await self._call(self._store.create, record)

    async def apply(self, name: str, event: Event) -> Record:
        """Applies one event, and returns the record as it is then."""
        return await self._call(self._store.apply, name, event)

    async def apply_all(self, changes: Sequence[Change]) -> Sequence[Record | LroError]:
        """Applies events in their order; the outcome of one does not touch the others."""
        return await self._call(self._store.apply_all, changes)

    async def read(self, name: str) -> Record:
        """Returns the record of a name."""
        return await self._call(self._store.read, name)

    async def read_attempts(self, name: str) -> tuple[Record, Sequence[AttemptRecord]]:
        """Returns the record of a name and its attempts."""
        return await self._call(self._store.read_attempts, name)

    async def operation(self, name: str) -> bytes:
        """Returns the bytes that Get answers with."""
        return await self._call(self._store.operation, name)

    async def find_request(self, method: str, request_id: str, caller: str) -> Sequence[Record]:
        """Returns the operations that a caller has started under a ``request_id``."""
        return await self._call(self._store.find_request, method, request_id, caller)

    async def find_id(self, operation_id: str) -> Sequence[str]:
        """Returns the names that end with an id."""
        return await self._call(self._store.find_id, operation_id)

    async def latest_rerun(self, name: str) -> str:
        """Returns the latest operation that runs another one again; empty for none."""
        return await self._call(self._store.latest_rerun, name)

    async def page(
        self,
        query: Query,
        *,
        position: bytes,
        size: int,
        examined: int = MOST_EXAMINED,
        records: bool = False,
    ) -> Page:
        """Returns the operations that a query asks for, in its order."""
        return await self._call(
            self._store.page,
            query,
            position=position,
            size=size,
            examined=examined,
            records=records,
        )

    async def counts(
        self, query: Query, *, most: int = MOST_COUNTED, examined: int = MOST_SUMMARIZED
    ) -> Counts:
        """Returns how many operations there are, by their methods and states."""
        return await self._call(self._store.counts, query, most=most, examined=examined)

    async def exclusive_holder(self, target: str) -> str:
        """Returns the operation that has a target for itself; empty for none."""
        return await self._call(self._store.exclusive_holder, target)

    async def claimable(self, limits: Mapping[str, int]) -> Sequence[str]:
        """Returns the operations that are ready, oldest first."""
        return await self._call(self._store.claimable, limits)

    async def claim(
        self,
        limits: Mapping[str, int],
        claim: Claim,
        *,
        left_out: Collection[str] = (),
        ready_before: int | None = None,
    ) -> Sequence[Claimed]:
        """Applies a claim to operations that are ready, oldest first."""
        return await self._call(
            self._store.claim, limits, claim, left_out=left_out, ready_before=ready_before
        )

    async def claim_by_key(
        self,
        method: str,
        limit: int,
        per_key: int,
        claim: Claim,
        *,
        after: str = "",
        left_out: Collection[str] = (),
        ready_before: int | None = None,
    ) -> KeyedClaims:
        """Applies a claim to operations with a key that are ready, one key in turn."""
        return await self._call(
            self._store.claim_by_key,
            method,
            limit,
            per_key,
            claim,
            after=after,
            left_out=left_out,
            ready_before=ready_before,
        )

    async def waiting(self, method: str, most: int, *, delayed: bool = False) -> Mapping[str, int]:
        """Returns how many operations wait for an attempt, by their callers."""
        return await self._call(self._store.waiting, method, most, delayed=delayed)

    async def leased(self, *, until: int | None = None) -> Sequence[Leased]:
        """Returns the operations that an attempt holds."""
        return await self._call(self._store.leased, until=until)

    async def waiting_methods(self) -> Mapping[str, int]:
        """Returns how many operations wait for an attempt, by their methods."""
        return await self._call(self._store.waiting_methods)

    async def held_of_key(self, method: str, concurrency_key: str, most: int) -> int:
        """Returns how many operations of a method that have a key an attempt holds."""
        return await self._call(self._store.held_of_key, method, concurrency_key, most)

    async def expired(self, limit: int, *, to_undo: bool = False) -> Sequence[str]:
        """Returns operations that time changes now."""
        return await self._call(self._store.expired, limit, to_undo=to_undo)

    async def take_completions(self, limit: int, lease: int) -> Sequence[Completion]:
        """Takes completions that are due."""
        return await self._call(self._store.take_completions, limit, lease)

    async def settle_completions(self, settlements: Sequence[Settlement]) -> None:
        """Settles completions that were taken."""
        await self._call(self._store.settle_completions, settlements)

    async def read_completion(self, name: str, create_time: int) -> Completion | None:
        """Returns the completion of an operation, without its event."""
        return await self._call(self._store.read_completion, name, create_time)

    async def pending_completions(self, most: int = MOST_PENDING) -> int:
        """Returns how many completions wait to be told."""
        return await self._call(self._store.pending_completions, most)

    async def renew(self, leased: Sequence[Leased], lease: int) -> Sequence[Record | LroError]:
        """Renews leases, if the store is a shared one."""
        return await self._call(cast("SharedStore", self._store).renew, leased, lease)

    async def _call(
        self, call: Callable[..., Coroutine[Any, Any, T]], *arguments: Any, **options: Any
    ) -> T:
        """Makes one call of the store; a subclass overrides this to see or change every call."""
        return await call(*arguments, **options)
