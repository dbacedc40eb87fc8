"""A store in a Postgres database, which many processes share.

Each process has a few connections: one for new records, one for changes and one for claims
(``writer``), some for reads (``reader``, ``pages``), one to count (``counts``), one in a thread for
leases (``renewals``), and one for what processes tell each other (``notices``). The time is the
database's (``database_clock``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from lro_grpc._errors import LroError, UnavailableError
from lro_grpc._operation.attempts import AttemptRecord
from lro_grpc._operation.completion import Completion, Settlement
from lro_grpc._operation.events import Claim, Event
from lro_grpc._operation.record import Record
from lro_grpc._runtime.repeated_lines import RepeatedLines
from lro_grpc._stores.damage import Damage
from lro_grpc._stores.postgres.claims import Ring
from lro_grpc._stores.postgres.connections import Pool, Row, Session, connect
from lro_grpc._stores.postgres.counts import Counting
from lro_grpc._stores.postgres.database_clock import (
    END_OF_TIME,
    TIME_QUERY,
    StoreTime,
    database_time,
    given_time,
)
from lro_grpc._stores.postgres.failures import RefusedError, in_full, unavailable, unusable
from lro_grpc._stores.postgres.filter import condition
from lro_grpc._stores.postgres.followers import GONE, Follower, Look, Seen
from lro_grpc._stores.postgres.notices import Notices
from lro_grpc._stores.postgres.options import parse
from lro_grpc._stores.postgres.pages import Pages
from lro_grpc._stores.postgres.reader import Reader
from lro_grpc._stores.postgres.remembered import RememberedRecords
from lro_grpc._stores.postgres.renewals import Renewals
from lro_grpc._stores.postgres.schema import prepare
from lro_grpc._stores.postgres.statements import Statements
from lro_grpc._stores.postgres.table import Fetching, Table
from lro_grpc._stores.postgres.texts import text_from, text_of
from lro_grpc._stores.postgres.writer import Writer
from lro_grpc._stores.postgres.writer_parts import WriterParts
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
    Now,
    Page,
    Query,
)
from lro_grpc._stores.tally import counts_by_pages

_log = logging.getLogger("lro_grpc")

_MOST_LEASED = 10_000
"""The most operations that ``leased`` returns: those whose leases end first."""


class PostgresStore:
    """Keeps records in a Postgres database; see :class:`lro_grpc.stores.SharedStore`.

    Args:
        url: The URL of the database; see ``options``.
        now: Returns the time in microseconds since 1970 UTC, for tests; by default it is the
            database's.
    """

    exclusive = False
    is_lost = False

    def __init__(self, url: str, now: Now | None = None) -> None:
        self.signing_secret = b""
        self._options = parse(url)
        self._given_now = now
        self._listeners: list[Listener] = []
        self._lines = RepeatedLines(_log)

    def now(self) -> int:
        """Returns the database's time, in microseconds since 1970 UTC."""
        return self._time.now()

    async def open(self) -> None:
        """Connects to the database, and brings its tables up to date."""
        options = self._options
        prepared = await prepare(options)
        self.signing_secret = prepared.secret
        statements = self._statements = Statements(prepared.schema)
        damage = Damage()
        table = self._table = Table(statements, damage)
        sessions = [Session(options) for _ in range(3 + options.readers)]
        creating, changing, claiming, *readers = sessions
        pool = self._pool = Pool(readers, options.statement_timeout)
        remembered = RememberedRecords()
        renewing = Session(options)
        self._time = self._time_on(pool)
        self._renewals = Renewals(table, renewing, remembered, self._time_on(renewing))
        try:
            await self._time.measure()
            await self._renewals.open()
            for session in (creating, changing, claiming):
                await session.connect()
        except BaseException as error:
            for session in sessions:
                session.drop()
            await self._renewals.close()
            if isinstance(error, LroError):
                raise unusable(options, error) from error
            raise
        self._timing = asyncio.create_task(self._time.keep(), name="lro-postgres-clock")
        parts = WriterParts(table, remembered, self._time, self._listeners)
        self._reader = Reader(table, pool)
        self._pages = Pages(statements.table, statements.labels, pool, damage)
        self._counting = Counting(statements, Session(options))
        direct = options.of_notices()
        self._notices = Notices(
            prepared.schema,
            lambda: connect(direct or options),
            self._changed,
            listens=direct is not None,
        )
        self._writer = Writer(parts, creating, changing, claiming, self._notices.tell_work)
        self._stop_noting = self.subscribe(self._notices.note)
        self._notices.start()

    async def close(self) -> None:
        """Finishes what was begun, and closes the connections, whatever one of them raises."""
        async with contextlib.AsyncExitStack() as parts:  # the last one is closed first
            parts.callback(self._lines.close)
            parts.push_async_callback(self._pool.close)
            parts.push_async_callback(asyncio.wait, [self._timing])
            parts.callback(self._timing.cancel)
            parts.push_async_callback(self._counting.close)
            parts.push_async_callback(self._pages.close)
            parts.push_async_callback(self._reader.close)
            parts.push_async_callback(self._notices.close)
            parts.callback(self._stop_noting)
            parts.push_async_callback(self._renewals.close)
            parts.push_async_callback(self._writer.close)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Adds a listener, and returns what removes it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def follow(self, name: str, follower: Follower) -> Callable[[], None]:
        """Tells what other processes make of one operation."""
        return self._notices.follow(name, follower)

    def follow_work(
        self, has_room: Callable[[str], bool], follower: Callable[[str], None]
    ) -> Callable[[], None]:
        """Tells of methods of which other processes may have left an operation to be claimed."""
        return self._notices.follow_work(has_room, follower)

    async def create(self, record: Record) -> Record:
        """Stores a new record, unless its ``request_id`` was used before."""
        return await self._writer.create(record)

    async def apply(self, name: str, event: Event) -> Record:
        """Applies one event, and returns the record as it is then."""
        (outcome,) = await self.apply_all([(name, event)])
        if isinstance(outcome, LroError):
            raise outcome
        return outcome

    async def apply_all(self, changes: Sequence[Change]) -> Sequence[Record | LroError]:
        """Applies events; the outcome of one does not touch the others."""
        return await self._writer.apply_all(changes)

    async def claim(
        self,
        limits: Mapping[str, int],
        claim: Claim,
        *,
        left_out: Collection[str] = (),
        ready_before: int | None = None,
    ) -> Sequence[Claimed]:
        """Applies a claim to operations whose next attempt may begin, oldest first."""
        self._notices.add_methods(limits)
        return await self._writer.claim(limits, claim, left_out, ready_before)

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
        """Applies a claim to operations with a key, one of each key in turn."""
        self._notices.add_methods([method])
        return await self._writer.claim_by_key(
            method, limit, Ring(after, per_key), claim, left_out, ready_before
        )

    async def renew(self, leased: Sequence[Leased], lease: int) -> Sequence[Record | LroError]:
        """Renews leases, on another event loop."""
        return await self._renewals.renew(leased, lease)

    async def read(self, name: str) -> Record:
        """Returns the record of a name."""
        return await self._reader.read(name)

    async def read_attempts(self, name: str) -> tuple[Record, Sequence[AttemptRecord]]:
        """Returns the record of a name and its attempts."""
        return await self._reader.read_attempts(name)

    async def operation(self, name: str) -> bytes:
        """Returns the bytes that Get answers with."""
        return await self._reader.operation(name)

    async def find_request(self, method: str, request_id: str, caller: str) -> Sequence[Record]:
        """Returns the operations that a caller has started under a ``request_id``."""
        rows = await self._fetch(
            self._statements.by_request, text_of(method), text_of(request_id), text_of(caller)
        )
        found = await self._table.read(self._pool, [text_from(name) for (name,) in rows])
        return [one.record for name, one in found.known.items() if name not in found.damaged]

    async def find_id(self, operation_id: str) -> Sequence[str]:
        """Returns the names that end with an id."""
        rows = await self._fetch(self._statements.by_id, text_of(operation_id))
        return [text_from(name) for (name,) in rows]

    async def latest_rerun(self, name: str) -> str:
        """Returns the latest operation that runs another one again; empty for none."""
        rows = await self._fetch(self._statements.latest_rerun, text_of(name))
        return text_from(rows[0][0]) if rows else ""

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
        with self._telling():
            return await self._pages.page(
                query,
                position=position,
                size=size,
                examined=query.examined(examined),
                records=records,
            )

    async def counts(
        self, query: Query, *, most: int = MOST_COUNTED, examined: int = MOST_SUMMARIZED
    ) -> Counts:
        """Returns how many operations there are, by their methods and states."""
        if query.filter is not None and not condition(query.filter.expression).exact:
            return await counts_by_pages(self.page, query, examined)
        with self._telling():
            return await self._counting.counts(query, most, examined)

    async def exclusive_holder(self, target: str) -> str:
        """Returns the operation that has a target for itself; empty for none."""
        rows = await self._fetch(self._statements.by_exclusive_target, text_of(target))
        return text_from(rows[0][0]) if rows else ""

    async def claimable(self, limits: Mapping[str, int]) -> Sequence[str]:
        """Returns the operations whose next attempt may begin, oldest first."""
        names: list[str] = []
        with self._telling():
            for method, limit in limits.items():
                names += await self._table.ready_names_of_any_key(self._pool, method, limit)
        return names

    async def waiting(self, method: str, most: int, *, delayed: bool = False) -> Mapping[str, int]:
        """Returns how many operations wait for an attempt, by their callers."""
        statement = self._statements.delayed if delayed else self._statements.waiting
        rows = await self._fetch(statement, text_of(method), most)
        return {text_from(caller): number for caller, number in rows}

    async def waiting_methods(self) -> Mapping[str, int]:
        """Returns how many operations wait for an attempt, by their methods."""
        rows = await self._fetch(self._statements.waiting_methods)
        return {text_from(method): number for method, number in rows}

    async def leased(self, *, until: int | None = None) -> Sequence[Leased]:
        """Returns the operations that an attempt holds."""
        end = END_OF_TIME if until is None else until
        asked = (end, _MOST_LEASED, self._table.set_aside())
        rows = await self._fetch(self._statements.leased, *asked)
        return [Leased(text_from(name), attempt) for name, attempt in rows]

    async def held_of_key(self, method: str, concurrency_key: str, most: int) -> int:
        """Returns how many operations of a method that have a key an attempt holds."""
        values = (text_of(method), text_of(concurrency_key), most)
        ((number,),) = await self._fetch(self._statements.held_of_key, *values)
        return int(number)

    async def expired(self, limit: int, *, to_undo: bool = False) -> Sequence[str]:
        """Returns operations that time changes now."""
        set_aside = self._table.set_aside()
        rows = await self._fetch(self._statements.expired, self.now(), to_undo, limit, set_aside)
        return [text_from(name) for (name,) in rows]

    async def take_completions(self, limit: int, lease: int) -> Sequence[Completion]:
        """Takes completions that are due."""
        with self._telling():
            return await self._table.take_completions(self._pool, limit, lease, self.now())

    async def settle_completions(self, settlements: Sequence[Settlement]) -> None:
        """Settles completions that were taken."""
        with self._telling():
            await self._table.settle_completions(self._pool, settlements)

    async def read_completion(self, name: str, create_time: int) -> Completion | None:
        """Returns the completion of an operation, without its event."""
        with self._telling():
            return await self._table.read_completion(self._pool, name, create_time)

    async def pending_completions(self, most: int = MOST_PENDING) -> int:
        """Returns how many completions wait to be told."""
        with self._telling():
            return await self._counting.pending_completions(most)

    async def _fetch(self, statement: str, *arguments: object) -> Sequence[Row]:
        with self._telling():
            return await self._pool.fetch(statement, *arguments)

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Surrounds a read that fails by itself: the log says why, and the caller gets no more."""
        try:
            yield
        except RefusedError as error:
            outage = unavailable(error.public)
            self._lines.say(logging.ERROR, f"{outage.message} ({error})")
            raise outage from error
        except UnavailableError as outage:
            if outage.__cause__ is not None:
                self._lines.say(logging.WARNING, in_full(outage))
            raise

    async def _changed(self, versions: Mapping[str, int]) -> Look:
        """Returns those operations that have changed since others saw these versions of them."""
        changed = await self._table.changed_since(self._pool, versions)
        seen = {
            name: Seen(GONE, None) if known is None else Seen(known.version, known.record)
            for name, known in changed.known.items()
        }
        return Look(seen, changed.left)

    def _time_on(self, on: Fetching) -> StoreTime:
        """Returns the time as it is measured by way of some connection."""
        if self._given_now is not None:
            return given_time(self._given_now)

        async def read() -> int:
            ((time,),) = await on.fetch(TIME_QUERY)
            return int(time)

        return database_time(read)
