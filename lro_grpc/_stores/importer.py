"""Stores operations of another server, some at a time; see ``old_operation``.

Each is a new record of its own, in the order in which they are given, so that an import may stop
anywhere, and goes on if it is made again: what is stored already, as it is, is skipped.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from lro_grpc._errors import (
    LIBRARY_DOMAIN,
    Code,
    LroError,
    OperationNotFoundError,
    UnavailableError,
    cut,
)
from lro_grpc._operation.old_operation import OldOperation, is_same, record_of
from lro_grpc._stores.refusals import NAME_TAKEN
from lro_grpc._stores.store import Store
from lro_grpc._stores.transfer import MOST_BYTES, MOST_RECORDS

T = TypeVar("T")


class Imported(NamedTuple):
    """The numbers of operations that an import has come across.

    Attributes:
        stored: Those that it has stored.
        skipped: Those that were stored before, as they are.
        left_out: Those that are not done, and were to be left out.
    """

    stored: int = 0
    skipped: int = 0
    left_out: int = 0

    def plus(self, other: Imported) -> Imported:
        """Returns the sums of the numbers of this and of another one."""
        return Imported(*map(sum, zip(self, other, strict=True)))


class Unfinished(str, enum.Enum):
    """The fate of an operation that is not done."""

    ABORT = "abort"
    """It fails, with ABORTED."""
    LEAVE = "leave"
    """It is left out."""


_STORED, _SKIPPED, _LEFT_OUT = Imported(stored=1), Imported(skipped=1), Imported(left_out=1)


class Importer:
    """Imports operations into a store that is open.

    Args:
        store: The store.
        retention: The time that they are kept from now on, in microseconds.
        operation_bytes: The most bytes of an operation.
        unfinished: What becomes of those that are not done.
        beside: A store that is only read: what that has is there, too.
    """

    def __init__(
        self,
        store: Store,
        *,
        retention: int,
        operation_bytes: int,
        unfinished: Unfinished = Unfinished.ABORT,
        beside: Store | None = None,
    ) -> None:
        self._store = store
        self._retention = retention
        self._operation_bytes = operation_bytes
        self._unfinished = unfinished
        self._beside = beside
        self._making = asyncio.Lock()

    async def put(self, group: Sequence[OldOperation]) -> Sequence[Imported | LroError]:
        """Stores a few operations, and returns what has become of each, or why it is refused.

        Raises:
            UnavailableError: If the store fails. Each of them is stored, or it is not.
        """
        outcomes = await asyncio.gather(*map(self._put, group), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not _is_refusal(outcome):
                raise outcome
        return [one for one in outcomes if isinstance(one, (Imported, LroError))]

    async def _put(self, old: OldOperation) -> Imported:
        async with self._making:
            record = record_of(
                old,
                now=self._store.now(),
                retention=self._retention,
                operation_bytes=self._operation_bytes,
            )
            await asyncio.sleep(0)  # it takes a while, and others want the loop, too
        if not old.operation.done and self._unfinished is Unfinished.LEAVE:
            return _LEFT_OUT
        if self._beside is not None and await self._has(self._beside, old):
            return _SKIPPED
        try:
            await self._store.create(record)
        except LroError as error:
            if error.reason == NAME_TAKEN and await self._has(self._store, old):
                return _SKIPPED
            raise
        return _STORED

    async def _has(self, store: Store, old: OldOperation) -> bool:
        """Returns whether a store has an operation, as it is.

        Raises:
            LroError: If it has another one of its name.
        """
        try:
            stored = await store.read(old.operation.name)
        except OperationNotFoundError:
            return False
        if is_same(stored, old, self._operation_bytes):
            return True
        raise _other_stored(old.operation.name)


class Group(list[T]):
    """Items that are few and small enough to be in memory, and to be stored, at once."""

    def __init__(self) -> None:
        super().__init__()
        self._size = 0

    def add(self, item: T, size: int) -> bool:
        """Adds one, and returns whether the group is complete.

        Args:
            item: The item.
            size: Its bytes.
        """
        self.append(item)
        self._size += size
        return len(self) >= MOST_RECORDS or self._size >= MOST_BYTES


def _is_refusal(error: BaseException) -> bool:
    return isinstance(error, LroError) and not isinstance(error, UnavailableError)


def _other_stored(name: str) -> LroError:
    return LroError(
        f"an operation {cut(name)!r} is stored already, and is not the same; it stays as it is",
        code=Code.ALREADY_EXISTS,
        reason=NAME_TAKEN,
        domain=LIBRARY_DOMAIN,
        metadata={"operation": cut(name)},
    )
