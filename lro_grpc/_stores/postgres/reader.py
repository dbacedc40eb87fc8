"""Reads in groups: all operations that wait to be read are asked for in one statement.

Each read asks the database, never this process: so what it answers is never older than what any
process has answered before (R8). A read that comes while a statement is under way waits for the
next one, which begins after it.
"""

from __future__ import annotations

from collections.abc import Sequence

from lro_grpc._errors import LroError
from lro_grpc._operation.publication import not_found
from lro_grpc._operation.record import Record
from lro_grpc._stores.damage import Damage
from lro_grpc._stores.postgres.connections import DamagedPageError, RefusedError
from lro_grpc._stores.postgres.grouping import Answered, Groups
from lro_grpc._stores.postgres.table import Fetching, Table
from lro_grpc._stores.postgres.texts import text_of

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
        damage: The rows that are set aside.
    """

    def __init__(self, table: Table, on: Fetching, damage: Damage) -> None:
        self._table = table
        self._on = on
        self._damage = damage
        self._records = Groups[_Reading]("lro-postgres-reads", self._read, _MOST_CALLS)
        self._served = Groups[_Reading]("lro-postgres-gets", self._get, _MOST_CALLS)

    async def read(self, name: str) -> Record:
        """Returns the record of a name; see ``Store.read``."""
        call = _Reading(name)
        self._records.add(call)
        record: Record = await call.answer
        return record

    async def operation(self, name: str) -> bytes:
        """Returns the bytes that Get answers with; see ``Store.operation``."""
        call = _Reading(name)
        self._served.add(call)
        operation: bytes = await call.answer
        return operation

    async def close(self) -> None:
        """Makes the reads that wait, and ends."""
        await self._records.close()
        await self._served.close()

    async def _read(self, group: Sequence[_Reading]) -> None:
        try:
            found = await self._table.read(self._on, {call.name for call in group})
        except RefusedError as error:
            for call in self._apart(group, error):
                await self._read([call])
            return
        for call in group:
            known = found.known.get(call.name)
            if call.name in found.damaged:
                call.fail(found.damaged[call.name])
            elif known is None or known.record.deleted:
                call.fail(not_found(call.name))
            else:
                call.give(known.record)

    async def _get(self, group: Sequence[_Reading]) -> None:
        names = [text_of(name) for name in {call.name for call in group}]
        try:
            rows = await self._on.fetch(self._table.statements.served, names)
        except RefusedError as error:
            for call in self._apart(group, error):
                await self._get([call])
            return
        found = {row[0]: row[1] for row in rows}
        for call in group:
            if call.name not in found:
                call.fail(not_found(call.name))
                continue
            try:
                call.give(self._damage.served(call.name, found[call.name]))
            except LroError as error:
                call.fail(error)

    def _apart(self, group: Sequence[_Reading], error: RefusedError) -> Sequence[_Reading]:
        """Returns the reads of a group, to be made one by one; answers the only one."""
        if len(group) > 1:
            return group
        (call,) = group
        if isinstance(error, DamagedPageError):
            call.fail(self._damage.found(call.name, f"its row cannot be read ({error})"))
        else:
            call.fail(not_found(call.name))  # a text that Postgres cannot have is no name
        return ()
