"""The protocol of a store: the only arbiter of what is true of an operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lro_grpc.errors import (
    LIBRARY_DOMAIN,
    Code,
    LroError,
    OperationInProgressError,
    RequestIdReusedError,
    UnexpectedError,
    cut,
)
from lro_grpc.record import Event, Record

Listener = Callable[[Record], None]
"""Is called on the event loop with each record that has changed, once the change is durable."""

Change = tuple[str, Event]
"""What is to happen to which operation, by its name."""

Now = Callable[[], int]
"""Tells the time in microseconds since 1970 UTC."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list, newest first."""

    operations: Sequence[bytes]
    """Serialized ``google.longrunning.Operation`` messages."""
    position: bytes
    """Where the next page goes on; empty if this is the last one."""


@dataclass(frozen=True, slots=True)
class Held:
    """An operation that an attempt holds."""

    name: str
    attempt: int


class Store(Protocol):
    """Keeps records, and applies events to them one at a time.

    Every method is called on one event loop, and only between ``open`` and ``close``. What a
    method has returned is durable; what it has not returned may or may not have happened. A store
    that cannot answer raises ``UnavailableError``.
    """

    @property
    def exclusive(self) -> bool:
        """Whether having opened the store proves that whoever had it open before is gone."""
        ...

    @property
    def key(self) -> bytes:
        """A secret of 32 random bytes that lives as long as the store does."""
        ...

    async def open(self) -> None:
        """Makes the store ready.

        Raises:
            ConfigurationError: If it cannot be opened, or another process owns it.
        """
        ...

    async def close(self) -> None:
        """Finishes what was begun and lets go of the store."""
        ...

    def subscribe(self, listener: Listener) -> None:
        """Adds a listener; it must neither block nor raise."""
        ...

    async def create(self, record: Record) -> Record:
        """Stores a new record, unless its ``request_id`` was used before.

        Returns:
            The record; or the one that is stored under the same method, parent, ``request_id``
            and fingerprint.

        Raises:
            RequestIdReusedError: If that one's fingerprint is another (S22).
            OperationInProgressError: If an operation has its ``exclusive_target`` (S6).
            LroError: If an operation has the name.
        """
        ...

    async def apply(self, name: str, event: Event) -> Record:
        """Applies one event, and returns the record as it is then.

        Raises:
            OperationNotFoundError: If no operation has the name.
            LroError: What the event itself raises; nothing has changed.
        """
        ...

    async def apply_all(self, changes: Sequence[Change]) -> Sequence[Record | LroError]:
        """Applies events in their order; the outcome of one does not touch the others.

        Returns:
            For each change the record as it is then, or the error why it did not happen.
        """
        ...

    async def read(self, name: str) -> Record:
        """Returns the record of a name.

        Raises:
            OperationNotFoundError: If no operation has the name, or it is deleted.
        """
        ...

    async def operation(self, name: str) -> bytes:
        """Returns the served bytes of a name.

        Raises:
            OperationNotFoundError: If no operation has the name, or it is deleted.
        """
        ...

    async def find_request(self, method: str, request_id: str) -> Sequence[Record]:
        """Returns the operations that were started under a ``request_id``: one a parent at most."""
        ...

    async def page(self, parent: str, *, position: bytes, size: int) -> Page:
        """Returns the operations of a parent (empty for none), newest first, deleted ones left out.

        Args:
            parent: The exact parent.
            position: ``Page.position`` of the page before; empty for the first.
            size: How many at most; positive.
        """
        ...

    async def occupant(self, target: str) -> str:
        """Returns the operation whose ``exclusive_target`` this is; empty for none."""
        ...

    async def claimable(self, limits: Mapping[str, int]) -> Sequence[str]:
        """Returns the operations that are ready for an attempt, oldest first.

        Args:
            limits: For each method to look at, how many at most.
        """
        ...

    async def held(self, *, until: int | None = None) -> Sequence[Held]:
        """Returns the operations that an attempt holds.

        Args:
            until: Only those whose lease is over at this time; all of them unless given.
        """
        ...

    async def due(self, limit: int) -> Sequence[str]:
        """Returns operations that ``Elapse`` would change now: to expire, or to be removed.

        Args:
            limit: How many at most.
        """
        ...


def name_taken(name: str) -> LroError:
    """Returns the error for a new record whose name an operation has."""
    return LroError(
        f"an operation {name!r} exists; make ids that are unique",
        code=Code.ALREADY_EXISTS,
        reason="NAME_TAKEN",
        domain=LIBRARY_DOMAIN,
        metadata={"operation": name},
    )


def in_progress(target: str, occupant: str) -> OperationInProgressError:
    """Returns the error for a new record whose target an operation has for itself (S6)."""
    return OperationInProgressError(
        f"{occupant} works on {target!r}, which one operation at a time may do;"
        " wait until it is done, or cancel it",
        metadata={"target": cut(target), "operation": occupant},
    )


def happen(event: Event, record: Record, now: int) -> Record | LroError:
    """Applies an event, and returns the record as it is then or why it did not happen.

    An event that raises what it should not has not happened either, and says so as an
    ``UnexpectedError``, whose cause is what it raised.
    """
    try:
        return event.apply(record, now)
    except LroError as error:
        return error
    except Exception as cause:  # noqa: BLE001 - a bug in one event must not touch the others
        failed = UnexpectedError(f"{type(event).__name__} on {record.name} has raised {cause!r}")
        failed.__cause__ = cause
        return failed


def check_same_request(stored: Record, record: Record) -> Record:
    """Returns the stored record if it was started by the same request as the new one.

    Raises:
        RequestIdReusedError: If it was not (S22).
    """
    if stored.fingerprint != record.fingerprint:
        raise request_id_reused(stored, caller=record.caller)
    return stored


def request_id_reused(stored: Record, *, caller: str) -> RequestIdReusedError:
    """Returns the error for a request under the ``request_id`` of another one (S22).

    Args:
        stored: What was started under it.
        caller: Who uses it now; what someone else has started is not named to them.
    """
    is_theirs = stored.caller == caller
    started = f", which started {stored.name}" if is_theirs else ""
    return RequestIdReusedError(
        f"request_id {cut(stored.request_id)!r} was used for another request of {stored.method}"
        f"{started}; use a new one for a new request",
        metadata={
            "request_id": cut(stored.request_id),
            **({"operation": stored.name} if is_theirs else {}),
        },
    )


def page_of(found: Sequence[tuple[int, bytes]], size: int) -> Page:
    """Makes a page of what was found, which is one more than fits if there are more pages."""
    last = found[size - 1][0] if len(found) > size else 0
    return Page(
        operations=[operation for _, operation in found[:size]],
        position=last.to_bytes(8, "big") if last else b"",
    )
