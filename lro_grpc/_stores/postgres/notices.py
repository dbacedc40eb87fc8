"""Notices between the processes of a store: NOTIFY and LISTEN, on one connection of their own.

A notice makes others look sooner, and proves nothing: the store is what it was without them. So one
may be lost, late, double, or made up by a stranger, and no writer ever waits for one.

**No NOTIFY is in the commit of a change.** It takes a lock of the whole database, and keeps it till
its commit is on the disk: changes would wait for each other, and lose most of their speed. Here it
is a transaction of its own that does not wait for the disk (``synchronous_commit=off``). The first
is sent at once, and then one each 5 ms for all that has come up meanwhile (``notice_queue``).

**A process that hears** looks hashes up among the names that it follows (``followers``), and reads
these, thousands in one statement, and only the rows whose version it has not seen. It remembers the
other hashes for a while: what is followed only now, such as an operation whose claim has just been
answered, is read once if a notice of it has come before.

**A process that is deaf** looks by itself. A connection can be dead without an error, and LISTEN
through pgbouncer is without effect, and without an error, too. So hearing is proved: each second a
process notifies, and hears itself among the others. It is deaf until it has; and again when three
seconds in a row have passed without it, or when its connection fails. Then it connects anew, and
until it hears it looks, each second, at all that it follows, and has its engine look for work. When
it hears again, it looks once more, at what it may have missed in between::

             own notice heard: look at all
     deaf  ------------------------------->  hears
    (looks each second)  <----------------
             3 pings unheard, or an error

A failure of the database is a failure of the notices alone here: it is logged, and tried again.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from functools import partial
from typing import Any, Protocol

from lro_grpc._errors import UnavailableError
from lro_grpc._operation.record import Record
from lro_grpc._runtime.repeated_lines import RepeatedLines
from lro_grpc._stores.postgres.failures import said
from lro_grpc._stores.postgres.followers import Follower, Followers, Look
from lro_grpc._stores.postgres.notice import Notice, channel_of, decoded, hash_of
from lro_grpc._stores.postgres.notice_queue import NoticeQueue
from lro_grpc._stores.postgres.statements import MOST_CHANGED

_log = logging.getLogger("lro_grpc")

_NOTIFY = "SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)"

_NOTICE_SECONDS = 0.005
"""The pause after a notice."""

_PING_SECONDS = 1.0
"""The time between two proofs of hearing, and between two looks of a deaf process."""

_MOST_UNHEARD = 3

_CALL_SECONDS = 2.0
"""The most time for a call of the driver: a network that is cut answers none."""

_RETRY_SECONDS = 0.25

_LONGEST_SECONDS = 60.0

_LAST_SECONDS = 1.0
"""The time in which the last notice may be sent when the store is closed."""

_MOST_ASKED = 5000
"""The most operations that one read asks for. It answers with ``MOST_CHANGED`` of them at most."""

_PORTION_SECONDS = 0.1
"""The pause of a deaf process between two reads of so many that it follows."""


class Connection(Protocol):
    """A connection of asyncpg, as far as notices need one."""

    async def add_listener(self, channel: str, callback: Callable[..., None]) -> None:
        """Listens to a channel: ``callback(connection, pid, channel, payload)``."""
        ...

    async def execute(self, query: str, *args: object, timeout: float) -> str:
        """Executes a statement."""
        ...

    def terminate(self) -> None:
        """Drops the connection at once."""
        ...


class Notices:
    """Tells other processes of this one's changes, and this one of theirs; see the module.

    Args:
        schema: The schema of the store: the processes of one hear each other.
        connect: Opens a connection, of which nobody else has the use, within a time of its own.
        read: Looks for those of some operations whose version is not the one that was seen.
        listens: Whether a LISTEN on such a connection is of any use: not through pgbouncer.
        ping: Seconds between two proofs of hearing, and between two looks of a deaf process.
    """

    def __init__(
        self,
        schema: str,
        connect: Callable[[], Awaitable[Connection]],
        read: Callable[[Mapping[str, int]], Awaitable[Look]],
        *,
        listens: bool = True,
        ping: float = _PING_SECONDS,
    ) -> None:
        self.is_deaf = True
        """Whether others' notices may be missed, so that this process looks by itself."""
        self._channel = channel_of(schema)
        self._connect = connect
        self._read = read
        self._listens = listens
        self._ping = ping
        self._connection: Connection | None = None
        self._unheard = 0
        """The pings since this process last heard itself."""
        self._followers = Followers()
        self._me = hash_of(os.urandom(16).hex())
        self._speak = asyncio.Event()
        self._unsent: Notice | None = None
        """The notice that was under way when a connection failed; it may have been sent."""
        self._queue = NoticeQueue(self._me, self._followers.has_room, self._speak.set)
        self._look = asyncio.Event()
        self._to_read: dict[str, None] = {}
        """The names whose operations have changed."""
        self._looks_at_all = False
        self._all_at = 0.0
        """The time before which not all is looked at again."""
        self._is_closing = False
        self._has_met_stranger = False
        self._lines = RepeatedLines(_log)

    def start(self) -> None:
        """Begins to hear and to be heard; the first connection is made meanwhile."""
        self._loop = asyncio.get_running_loop()
        self._speaking = asyncio.create_task(self._forever(self._hold_connection))
        self._looking = asyncio.create_task(self._forever(self._look_around))

    async def close(self) -> None:
        """Sends the last notice, if that is possible soon, and ends."""
        self._is_closing = True
        self._speak.set()
        await asyncio.wait([self._speaking], timeout=_LAST_SECONDS)
        for task in (self._speaking, self._looking):
            task.cancel()
        await asyncio.gather(self._speaking, self._looking, return_exceptions=True)
        self._lines.close()

    def note(self, before: Record | None, after: Record) -> None:
        """Takes a durable change that this process has made: a ``Listener`` of its store."""
        self._queue.note(before, after)

    def follow(self, name: str, follower: Follower) -> Callable[[], None]:
        """Tells of what other processes make of an operation; see ``Store.follow``."""
        if self._followers.has_missed(name):
            self._to_read[name] = None
            self._look.set()
        return self._followers.follow(name, follower)

    def follow_work(
        self, has_room: Callable[[str], bool], follower: Callable[[str], None]
    ) -> Callable[[], None]:
        """Tells of methods that other processes have left work of; see ``Store.follow_work``."""
        return self._followers.follow_work(has_room, follower)

    def add_methods(self, methods: Iterable[str]) -> None:
        """Takes methods that this process claims: of no others it is told."""
        self._followers.add_methods(methods)

    def tell_work(self, method: str) -> None:
        """Tells this process, too, of a method of which another one may leave something."""
        self._followers.tell_work([method])

    async def _forever(self, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Does something until this is closed, whatever it raises."""
        while not self._is_closing:
            try:
                await act()
            except Exception as error:  # noqa: BLE001 - an outage, and of the notices alone
                self._lines.say(logging.WARNING, f"no notices for now: {said(error)}; trying again")
                await asyncio.sleep(_RETRY_SECONDS)

    async def _hold_connection(self) -> None:
        """Notifies and listens on one connection, until it fails."""
        connection = self._connection = await self._connect()
        try:
            if self._listens:
                on_notice = partial(self._on_notice, connection)
                listening = connection.add_listener(self._channel, on_notice)
                await asyncio.wait_for(listening, _CALL_SECONDS)
            await self._notify(connection)
        finally:
            self._connection = None
            self.is_deaf = True
            self._look.set()
            connection.terminate()

    async def _notify(self, connection: Connection) -> None:
        self._unheard = 0
        ping_at = 0.0 if self._listens else math.inf
        while not self._is_closing or self._queue.due() < math.inf:
            now, due = self._loop.time(), self._queue.due()
            if now >= ping_at:
                self._count_ping()
                ping_at = now + self._ping
            elif now < due:
                self._speak.clear()
                await _wait(self._speak, min(ping_at, due) - now)
                continue
            self._unsent = self._unsent or self._queue.take(now)
            payload = self._unsent.encoded()
            await connection.execute(_NOTIFY, self._channel, payload, timeout=_CALL_SECONDS)
            self._unsent = None
            await asyncio.sleep(_NOTICE_SECONDS)

    def _count_ping(self) -> None:
        if self._unheard >= _MOST_UNHEARD:
            raise UnavailableError(
                f"{self._unheard} notices to oneself on {self._channel} were not heard",
                reason="STORE_UNAVAILABLE",
            )
        self._unheard += 1

    def _on_notice(
        self, heard_on: Connection, _connection: object, _pid: int, _channel: str, payload: str
    ) -> None:
        notice = decoded(payload)
        if notice is None:
            self._meet_stranger(payload)
        elif notice.sender == self._me:
            if heard_on is self._connection:  # and not late, of one that was lost
                self._hear_oneself()
        else:
            self._looks_at_all = self._looks_at_all or notice.everything
            self._to_read.update(dict.fromkeys(self._followers.names_of(notice.names)))
            self._followers.tell_work(self._followers.methods_of(notice.methods))
            if self._to_read or self._looks_at_all:
                self._look.set()

    def _hear_oneself(self) -> None:
        self._unheard = 0
        if self.is_deaf:
            _log.info("hears the other processes of its store, on the channel %s", self._channel)
            self.is_deaf = False
            self._looks_at_all = True
            self._look.set()

    def _meet_stranger(self, payload: str) -> None:
        if not self._has_met_stranger:
            self._has_met_stranger = True
            _log.warning(
                "a notice on the channel %s is none of this release's, and such are passed over:"
                " it begins with %r; see whether another program notifies there",
                self._channel,
                payload[:40],
            )

    async def _look_around(self) -> None:
        """Reads what has changed, and while deaf all that is followed, each second."""
        while not self._is_closing:
            self._look.clear()
            if (self.is_deaf or self._looks_at_all) and self._loop.time() >= self._all_at:
                self._all_at = self._loop.time() + self._ping
                self._looks_at_all = False
                self._followers.tell_work(self._followers.methods)
                self._to_read.update(dict.fromkeys(self._followers.versions()))
            await self._read_changed()
            is_due = self.is_deaf or self._looks_at_all
            await _wait(self._look, self._all_at - self._loop.time() if is_due else math.inf)

    async def _read_changed(self) -> None:
        most = _MOST_ASKED
        while self._to_read and not self._is_closing:
            names = list(itertools.islice(self._to_read, most))
            for name in names:
                del self._to_read[name]
            try:
                look = await self._read(self._followers.versions(names))
            except BaseException:
                self._to_read.update(dict.fromkeys(names))
                raise
            for name, seen in look.seen.items():
                self._followers.tell(name, seen)
            if look.left:
                most = MOST_CHANGED
                self._to_read = dict.fromkeys(look.left) | self._to_read
                continue
            most = _MOST_ASKED
            if self.is_deaf and self._to_read:
                await asyncio.sleep(_PORTION_SECONDS)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Returns when an event is set, as it is after that many seconds, or a minute, at the latest.

    ``asyncio.wait_for`` would cost a task, and before Python 3.12 it loses a cancellation that
    comes with the event.
    """
    timer = asyncio.get_running_loop().call_later(min(seconds, _LONGEST_SECONDS), event.set)
    try:
        await event.wait()
    finally:
        timer.cancel()
