"""The shared Watch of a client: one stream, WatchOperations, for all operations that it follows.

A call for each of a thousand operations costs tens of KiB on either side. Here their pollers join
one stream as they come, and leave it as they go: the first that joins opens it, the last that
leaves cancels it. All of it runs on one event loop, as the watchers do.

**One at a time costs nothing new.** The stream is worth its round trips where operations share it.
So it is for pollers that are not alone (``plan.py``); one that is makes calls of its own.

**A stream is no promise.** Whatever ends it, each poller is told, and goes on by its own plan: some
join another stream at once, others make other calls. A server that takes a name and never answers
for it is noticed by the time that takes, as one is that says nothing at all. States of names that
nobody waits for are passed over: of those that have left they may still be under way.

**What is sent.** Names that come and go between two rounds of the event loop are sent together.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice

from google.longrunning import operations_pb2

from lro.v1.operation_control_service_pb2 import WatchOperationsRequest, WatchOperationsResponse
from lro_grpc._client import plan
from lro_grpc._client.connection import Connection, SharedStream
from lro_grpc._client.error_copies import copy_of
from lro_grpc._client.time_limit import ends_within
from lro_grpc._errors import Code, LroError, from_status
from lro_grpc._runtime.clock import Clock

_MOST_NAMES = 1000
"""The most names of one request."""

_logger = logging.getLogger(__name__)


class _Member:
    """An operation of the stream.

    Args:
        name: Its name.
        ends_only: Whether only its end is wanted.
        take: Takes in a state; returns the reply with which the member leaves, if it does.
        joined_at: The time at which it has joined.
    """

    __slots__ = ("ended", "ends_only", "joined_at", "name", "take")

    def __init__(
        self,
        name: str,
        take: Callable[[operations_pb2.Operation], plan.Reply | None],
        joined_at: float,
        *,
        ends_only: bool,
    ) -> None:
        self.name = name
        self.take = take
        self.joined_at = joined_at
        self.ends_only = ends_only
        self.ended: asyncio.Future[plan.Reply] = asyncio.get_running_loop().create_future()
        """The reply with which it leaves."""

    def end(self, reply: plan.Reply) -> None:
        if not self.ended.done():
            self.ended.set_result(reply)


class SharedWatch:
    """The operations that a client follows on one stream.

    Args:
        connection: The server.
        clock: The clock.
    """

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._followed: Counter[str] = Counter()
        """The pollers of each operation that is followed, on the stream or not: mostly one."""
        self._members: dict[str, _Member] = {}
        self._unanswered: dict[str, _Member] = {}
        """Those of which the server has said nothing yet, in the order in which they joined."""
        self._stream: SharedStream | None = None
        self._serving: asyncio.Task[None] | None = None
        self._added: dict[str, _Member] = {}
        """Those whose names are not sent yet."""
        self._dropped: dict[str, None] = {}
        """The names of those that have left, and the server does not know yet."""

    @contextlib.contextmanager
    def following(self, name: str) -> Iterator[None]:
        """Counts an operation that is followed, on the stream or not, while the context lasts."""
        self._followed[name] += 1
        try:
            yield
        finally:
            self._followed[name] -= 1
            if not self._followed[name]:
                del self._followed[name]

    @property
    def is_worth_it(self) -> bool:
        """Whether the client follows several operations."""
        return len(self._followed) > 1

    async def join(
        self,
        name: str,
        *,
        ends_only: bool,
        take: Callable[[operations_pb2.Operation], plan.Reply | None],
    ) -> plan.Reply:
        """Has the states of an operation taken in until it leaves the stream, or that ends.

        Args:
            name: The operation's name.
            ends_only: Whether only its end is wanted.
            take: Takes in a state; returns the reply with which the operation leaves, if it does.

        Returns:
            That reply; or one with the error that the operation, or the stream, has ended with.
        """
        if self._serving is None:
            try:
                self._stream = self._connection.open_shared()
            except LroError as error:
                return plan.Reply(error)
            self._serving = asyncio.get_running_loop().create_task(self._serve(self._stream))
        member = _Member(name, take, self._clock.monotonic(), ends_only=ends_only)
        if name in self._members:  # another poller takes over
            self._leave(self._members[name], plan.Reply())
            self._drop(name)
        self._members[name] = self._unanswered[name] = member
        self._will_send()
        self._added[name] = member
        try:
            return await member.ended
        finally:
            if self._members.get(name) is member:
                self._leave(member, plan.Reply())
                self._drop(name)
                if not self._members:
                    self._close()

    def _leave(self, member: _Member, reply: plan.Reply) -> None:
        del self._members[member.name]
        self._unanswered.pop(member.name, None)
        member.end(reply)

    def _drop(self, name: str) -> None:
        """Has the server watch an operation no more."""
        if self._added.pop(name, None) is None:
            self._will_send()
            self._dropped[name] = None

    def _close(self) -> None:
        """Ends the stream, for nobody needs it."""
        if self._serving is not None:
            self._serving.cancel()
            self._serving = self._stream = None
        self._added.clear()
        self._dropped.clear()

    def _will_send(self) -> None:
        if not self._added and not self._dropped:
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        """Sends the names that have come and gone."""
        for names in _portions(self._dropped):
            self._send_one(WatchOperationsRequest(dropped_names=names))
        for ends_only in (False, True):
            added = [one.name for one in self._added.values() if one.ends_only is ends_only]
            for names in _portions(added):
                self._send_one(WatchOperationsRequest(names=names, ends_only=ends_only))
        self._dropped.clear()
        self._added.clear()

    def _send_one(self, request: WatchOperationsRequest) -> None:
        if self._stream is not None:
            self._stream.send(request)

    async def _serve(self, stream: SharedStream) -> None:
        """Takes in what the server sends, until the stream ends."""
        failure: LroError | None = None
        try:
            await self._read(stream)
        except LroError as error:
            failure = error
        except asyncio.CancelledError:  # by _close(), or say by asyncio.run() at its end
            failure = LroError("the task of the shared Watch was cancelled", code=Code.CANCELLED)
            raise
        except Exception as error:
            _logger.exception("the shared Watch has failed")
            failure = LroError(f"the shared Watch has failed: {error!r}")
            failure.__cause__ = error
        finally:
            if self._serving is asyncio.current_task():
                members = [*self._members.values()]
                self._close()
                for member in members:
                    self._leave(member, plan.Reply(failure and copy_of(failure)))

    async def _read(self, stream: SharedStream) -> None:
        async with contextlib.aclosing(stream.responses) as responses:
            while True:
                reading = asyncio.ensure_future(anext(responses, None))
                if not await ends_within(self._clock, plan.WATCH_IDLE_TIMEOUT, reading):
                    raise _silent()
                if (response := reading.result()) is None:
                    return
                self._take(response)
                self._end_silent()
                if not self._members:
                    self._close()

    def _take(self, response: WatchOperationsResponse) -> None:
        for operation in response.operations:
            member = self._members.get(operation.name)
            if member is None:
                continue
            self._unanswered.pop(member.name, None)
            own = operations_pb2.Operation()
            own.CopyFrom(operation)  # which would keep the whole response in memory
            reply = member.take(own)
            if reply is not None:
                self._leave(member, reply)
                if not own.done:
                    self._drop(member.name)
        for unwatched in response.unwatched_operations:
            member = self._members.get(unwatched.name)
            if member is not None:
                self._leave(member, plan.Reply(from_status(unwatched.error)))

    def _end_silent(self) -> None:
        """Gives up those of which the server has said nothing for too long."""
        latest = self._clock.monotonic() - plan.WATCH_IDLE_TIMEOUT
        for member in [*self._unanswered.values()]:
            if member.joined_at > latest:
                break
            self._leave(member, plan.Reply(_silent()))
            self._drop(member.name)


def _portions(names: dict[str, None] | list[str]) -> Iterator[list[str]]:
    left = iter(names)
    while portion := [*islice(left, _MOST_NAMES)]:
        yield portion


def _silent() -> LroError:
    message = f"the shared Watch was silent for {plan.WATCH_IDLE_TIMEOUT:g} s"
    return LroError(message, code=Code.DEADLINE_EXCEEDED)
