"""Reads in groups: all operations that wait to be read are asked for in one statement.

Each read asks the database, never this process: so what it answers is never older than what any
process has answered before (R8). A read that comes while a statement is under way waits for the
next one, which begins after it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeVar

from lro_grpc._operation.attempts import AttemptRecord, attempts_of
from lro_grpc._operation.publication import not_found
from lro_grpc._operation.record import Record
from lro_grpc._stores.postgres.failures import RefusedError, UnstorableError
from lro_grpc._stores.postgres.grouping import Answered, Groups
from lro_grpc._stores.postgres.rows import Known
from lro_grpc._stores.postgres.table import Attempts, Fetching, Found, Table

T = TypeVar("T")

_MOST_CALLS = 200
"""The most reads in one statement."""


class _Reading(Answered):
    """A call that reads one operation."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


class Reader:
    """Reads operations by their names; see the module.

    Args:
        table: The rows.
        on: What carries the statements out.
    """

    def __init__(self, table: Table, on: Fetching) -> None:
        self._table = table
        self._on = on
        self._records = Groups[_Reading]("lro-postgres-reads", self._read, _MOST_CALLS)
        self._histories = Groups[_Reading]("lro-postgres-histories", self._read_attempts, 1)
        self._served = Groups[_Reading]("lro-postgres-gets", self._get, _MOST_CALLS)

    async def read(self, name: str) -> Record:
        """Returns the record of a name; see ``Store.read``."""
        call = _Reading(name)
        self._records.add(call)
        record: Record = await call.answer
        return record

    async def read_attempts(self, name: str) -> tuple[Record, Sequence[AttemptRecord]]:
        """Returns the record of a name and its attempts; see ``Store.read_attempts``."""
        call = _Reading(name)
        self._histories.add(call)
        history: tuple[Record, Sequence[AttemptRecord]] = await call.answer
        return history

    async def operation(self, name: str) -> bytes:
        """Returns the bytes that Get answers with; see ``Store.operation``."""
        call = _Reading(name)
        self._served.add(call)
        operation: bytes = await call.answer
        return operation

    async def close(self) -> None:
        """Makes the reads that wait, and ends."""
        await self._records.close()
        await self._histories.close()
        await self._served.close()

    async def _read(self, group: Sequence[_Reading]) -> None:
        await self._make(group, self._table.read_some, _visible)

    async def _read_attempts(self, group: Sequence[_Reading]) -> None:
        async def of_one(on: Fetching, names: Collection[str]) -> Found[tuple[Known, Attempts]]:
            (name,) = names
            return await self._table.read_attempts(on, name)

        await self._make(group, of_one, _visible_history)

    async def _get(self, group: Sequence[_Reading]) -> None:
        await self._make(group, self._table.operations, _same)

    async def _make(
        self,
        group: Sequence[_Reading],
        some: Callable[[Fetching, Collection[str]], Awaitable[Found[T]]],
        shown: Callable[[T], object],
    ) -> None:
        """Answers calls as soon as what they ask for has been read."""
        waiting: dict[str, list[_Reading]] = {}
        for call in group:
            waiting.setdefault(call.name, []).append(call)
        try:
            while waiting:
                found = await some(self._on, waiting)
                for name in waiting.keys() - set(found.left):
                    known = found.known.get(name)
                    answer = None if known is None else shown(known)
                    for call in waiting.pop(name):
                        if name in found.damaged:
                            call.fail(found.damaged[name])
                        elif answer is None:
                            call.fail(not_found(name))
                        else:
                            call.give(answer)
        except RefusedError as error:
            if len(waiting) == 1:
                if not isinstance(error, UnstorableError):
                    raise
                for call in waiting.popitem()[1]:
                    call.fail(not_found(call.name))  # a text that Postgres cannot have is no name
            for calls in waiting.values():
                await self._make(calls, some, shown)


def _visible(known: Known) -> Record | None:
    return None if known.record.deleted else known.record


def _visible_history(
    history: tuple[Known, Attempts],
) -> tuple[Record, Sequence[AttemptRecord]] | None:
    known, superseded = history
    record = known.record
    return None if record.deleted else (record, attempts_of(record, superseded))


def _same(operation: bytes) -> bytes:
    return operation
