"""Renews leases in a thread of its own, with a connection of its own.

The event loop of the store may stand still, held by a handler that blocks. Leases go on all the
same: whoever asks for it does so in another thread, and the connection lives on a loop in this one,
as does a clock.

A renewal is a ``Heartbeat``, applied like any other event (``compare_and_set``). Those of all
attempts are one statement; if that is late by the server's check of the time, they are made in
halves. The remembered records are the store's: the thread takes what it finds there, and has what
it stores put there by the store's loop, when that goes on.

A heartbeat looks at numbers alone, and changes one. So of what is not remembered only the numbers
are read, and a lease goes on however many megabytes its operation has.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Mapping, Sequence

from lro_grpc._errors import LroError
from lro_grpc._operation.events import Heartbeat
from lro_grpc._operation.record import Record
from lro_grpc._runtime.loop_thread import LoopThread
from lro_grpc._runtime.repeated_lines import RepeatedLines
from lro_grpc._runtime.threads import run_in_thread
from lro_grpc._stores.postgres.compare_and_set import Result, compare_and_set
from lro_grpc._stores.postgres.connections import Session
from lro_grpc._stores.postgres.database_clock import StoreTime
from lro_grpc._stores.postgres.failures import RefusedError, closed, in_full, refused, unavailable
from lro_grpc._stores.postgres.remembered import RememberedRecords
from lro_grpc._stores.postgres.table import Table
from lro_grpc._stores.store import Change, Leased

_log = logging.getLogger("lro_grpc")

_MOST_ROUNDS = 20
"""The times in a row that renewals are tried in vain, because others are at all operations."""

_PAUSE_SECONDS = 0.01
"""The longest pause before the first repetition; that before the nth is n times as long."""


class Renewals:
    """Renews leases; see the module.

    Args:
        table: The rows.
        session: A session, which only the thread uses.
        remembered: The remembered records.
        time: The time, measured by that session.
    """

    def __init__(
        self, table: Table, session: Session, remembered: RememberedRecords, time: StoreTime
    ) -> None:
        self._table = table
        self._session = session
        self._remembered = remembered
        self._time = time
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        """Whoever has it uses the session, on the loop of the thread."""
        self._closing = False
        self._lines = RepeatedLines(_log)
        """On the loop of the thread, too."""
        self._thread = LoopThread()

    async def open(self) -> None:
        """Connects, so that the first renewal need not wait for it.

        Raises:
            UnavailableError: If that fails.
        """
        await asyncio.wrap_future(self._thread.submit(self._session.connect()))

    async def renew(self, leased: Sequence[Leased], lease: int) -> Sequence[Record | LroError]:
        """Renews some leases; see ``SharedStore.renew``."""
        if self._closing:
            raise closed()
        beats = [(one.name, Heartbeat(one.attempt, lease, one.create_time)) for one in leased]
        return await asyncio.wrap_future(self._thread.submit(self._renew(beats)))

    async def close(self) -> None:
        """Ends the renewal under way, and the thread."""
        self._closing = True
        await asyncio.wrap_future(self._thread.submit(self._end()))
        await run_in_thread("lro-postgres-renewals", self._thread.close)

    async def _end(self) -> None:
        async with self._turn:
            await self._session.close()
        self._lines.close()

    async def _renew(self, beats: Sequence[Change]) -> Sequence[Record | LroError]:
        async with self._turn:
            try:
                return await self._tried(beats)
            except RefusedError as error:
                outage = unavailable(error.public)
                self._lines.say(logging.ERROR, f"{outage.message} ({error})")
                raise outage from error

    async def _tried(self, beats: Sequence[Change]) -> Sequence[Record | LroError]:
        outcomes: dict[str, Record | LroError] = {}
        remembered, left, rounds = self._remembered, beats, 0
        while left and rounds < _MOST_ROUNDS:
            tried = await self._tried_once(remembered, left)
            outcomes.update(tried)
            left = [beat for beat in left if beat[0] not in outcomes]
            rounds = 0 if tried else rounds + 1  # for want of room, some may have been left out
            remembered = RememberedRecords()  # those were old
            await asyncio.sleep(random.random() * _PAUSE_SECONDS * rounds)  # noqa: S311
        late = unavailable("other processes are at it all the time")
        return [outcomes.get(name, late) for name, _ in beats]

    async def _tried_once(
        self, remembered: RememberedRecords, beats: Sequence[Change]
    ) -> Mapping[str, Record | LroError]:
        """Returns what has come of the renewals at whose operations no other process is."""
        await self._time.measure()
        try:
            result = await compare_and_set(
                self._table,
                self._session,
                remembered,
                self._time,
                beats,
                self._table.read_numbers,
            )
        except RefusedError as error:  # it may be about one of them
            if len(beats) > 1:
                return await self._tried_in_halves(remembered, beats)
            outcome = refused(error)
            self._lines.say(logging.ERROR, in_full(outcome))
            return {beats[0][0]: outcome}
        if result.is_late and len(beats) > 1:  # fewer at a time take less
            return await self._tried_in_halves(remembered, beats)
        with contextlib.suppress(RuntimeError):  # the store's loop has ended
            self._loop.call_soon_threadsafe(self._keep, result)
        return {
            name: outcome
            for (name, _), outcome in zip(beats, result.outcomes, strict=True)
            if name not in result.contended and name not in result.left
        }

    async def _tried_in_halves(
        self, remembered: RememberedRecords, beats: Sequence[Change]
    ) -> Mapping[str, Record | LroError]:
        middle = len(beats) // 2
        first = await self._tried_once(remembered, beats[:middle])
        return {**first, **await self._tried_once(remembered, beats[middle:])}

    def _keep(self, result: Result) -> None:
        for name in result.contended:
            self._remembered.drop(name)
        for known in result.stored:
            self._remembered.keep(known)
