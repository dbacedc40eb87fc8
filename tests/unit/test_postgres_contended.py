"""Changes and renewals of rows of which the server gives or takes some only."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any, cast

import pytest

from lro_grpc._errors import UnavailableError
from lro_grpc._operation.events import Claim, Report
from lro_grpc._operation.record import Record
from lro_grpc._stores.damage import Damage
from lro_grpc._stores.postgres import changes
from lro_grpc._stores.postgres.changes import Changes
from lro_grpc._stores.postgres.database_clock import given_time
from lro_grpc._stores.postgres.failures import DamagedPageError, RefusedError
from lro_grpc._stores.postgres.reader import Reader
from lro_grpc._stores.postgres.remembered import RememberedRecords
from lro_grpc._stores.postgres.renewals import Renewals
from lro_grpc._stores.postgres.rows import Known
from lro_grpc._stores.postgres.statements import Statements
from lro_grpc._stores.postgres.table import Table, Wanted
from lro_grpc._stores.postgres.writer_parts import WriterParts
from lro_grpc.conformance import StoreConformance
from lro_grpc.stores import Leased

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lro_grpc._stores.postgres.connections import Row, Session

LEASE = 10**9
NOW = StoreConformance.START + 1000


@dataclasses.dataclass
class Server:
    """A session with operations that are running; their rows stay as they are."""

    number: int
    unreadable: str = ""
    """The name of a row whose page is damaged."""
    held: str = ""
    """The name of a row that another process has locked."""

    def __post_init__(self) -> None:
        new = [StoreConformance().record(f"op-{number}") for number in range(self.number)]
        self.records = {one.name: Claim(LEASE).apply(one, NOW) for one in new}
        self.names = list(self.records)
        self.has_passed_over = asyncio.Event()

    async def connect(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def fetch(self, statement: str, names: Sequence[str], *_: object) -> Sequence[Row]:
        if self.unreadable in names:
            raise DamagedPageError("invalid page in block 3")
        if "UPDATE" not in statement:
            return [(1, *self.records[name]) for name in names]
        if self.held in names:
            self.has_passed_over.set()
        return [(name,) for name in names if name != self.held]


TIME = given_time(lambda: NOW)


def none_new(change: object) -> bool:
    """Says that each operation is there."""
    return False


def table() -> Table:
    return Table(Statements(""), Damage())


def test_a_change_has_all_its_patience_after_a_contended_one_was_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def check() -> None:
        monkeypatch.setattr(changes, "_PAUSE_SECONDS", 0.0)
        server = Server(2)
        server.held, other = server.names
        parts = WriterParts(table(), RememberedRecords(), TIME, [])
        made = Changes(parts, cast("Session", server))
        given_up = asyncio.create_task(made.apply_all([(server.held, Report(1, 10))], none_new))
        await server.has_passed_over.wait()
        given_up.cancel()
        await asyncio.wait([given_up])
        await made.apply_all([(other, Report(1, 10))], none_new)
        monkeypatch.setattr(changes, "_PATIENCE_SECONDS", 0.0)  # enough to be contended once
        server.has_passed_over.clear()
        later = asyncio.create_task(made.apply_all([(server.held, Report(1, 20))], none_new))
        await server.has_passed_over.wait()
        server.held = ""
        (outcome,) = await later
        assert isinstance(outcome, Record)
        await made.close()

    asyncio.run(check())


def test_a_row_that_cannot_be_read_keeps_no_other_lease_from_being_renewed() -> None:
    async def check() -> None:
        server = Server(20)
        server.unreadable = server.names[7]
        remembered = RememberedRecords()
        for record in server.records.values():
            remembered.keep(Known(1, record))
        renewals = Renewals(table(), cast("Session", server), remembered, TIME)
        leased = [Leased(one.name, one.attempt, one.create_time) for one in server.records.values()]
        outcomes: Any = await renewals.renew(leased, LEASE)
        failed = [one for one in outcomes if not isinstance(one, Record)]
        assert [isinstance(one, UnavailableError) for one in failed] == [True]
        assert outcomes.index(failed[0]) == 7
        await renewals.close()

    asyncio.run(check())


def test_a_read_that_the_server_refuses_does_not_say_that_there_is_no_operation() -> None:
    class Refusing:
        async def fetch(self, *_: object) -> Sequence[Row]:
            raise RefusedError("deadlock detected")

    async def check() -> None:
        reader = Reader(table(), Refusing())
        for read in (reader.read, reader.operation):
            with pytest.raises(UnavailableError):
                await read("operations/op-1")
        await reader.close()

    asyncio.run(check())


def test_what_cannot_be_read_is_found_though_something_else_is_mended_meanwhile() -> None:
    async def check() -> None:
        damage = Damage()
        server = Server(2)
        mended, server.unreadable = server.names
        damage.found(mended, "it was torn")

        class Claiming:
            async def fetch(self, statement: str, *arguments: Any) -> Sequence[Row]:
                if "ORDER BY" in statement:
                    damage.forget(mended)
                    return [(name,) for name in server.names]
                return await server.fetch(statement, *arguments)

        found = Table(Statements(""), damage)
        assert await found.find_unreadable(Claiming(), Wanted(StoreConformance.METHOD, 2))
        assert damage.set_aside() == {server.unreadable}

    asyncio.run(check())
