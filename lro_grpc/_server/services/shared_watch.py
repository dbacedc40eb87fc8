"""WatchOperations: one stream on which a caller watches many operations.

A thousand Watches are a thousand calls, each with a task and its buffers, or a thread. Here one
loop serves all operations of a stream, and an operation costs a small object. Nothing is queued: of
an operation it is only noted that it may have changed, and it is read when its state can be sent.
So whoever reads slowly is sent fewer states, as in a Watch.

**When an operation is read.** At once when it was added, and when it ends, or the server does.
Other changes are held back until ``_PAUSE_SECONDS`` have passed since the last round of them. And
each is read, and its access checked again, at the interval at which a Watch repeats a state (R9,
S19); but a state is sent once: an empty message shows that the stream is alive.

**What is bounded.** A stream takes a place as any call that stays open, and each operation that it
watches one of those for waiters, of which a caller has a share. A request is read only when all
that the one before it has added was answered: so a caller that adds and drops for ever has one
message at a time in memory, and is as slow as the answers. A stream that watches nothing is ended.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from datetime import timedelta

from google.longrunning import operations_pb2
from google.rpc import status_pb2

from lro.v1 import operation_control_service_pb2
from lro_grpc._errors import LIBRARY_DOMAIN, InvalidArgumentError, UnavailableError
from lro_grpc._server.guarded_store import Admitted, GuardedStore
from lro_grpc._server.rpc.call import BidiBehavior, Call, Waiters, parse
from lro_grpc._server.rpc.status import failure_status
from lro_grpc._stores.notifier import POLL_SECONDS, Notifier, Subscription
from lro_grpc._wire import encoding

_PAUSE_SECONDS = 0.1
"""The least time between two reads of an operation, unless it has ended."""

_UNUSED_SECONDS = 60.0
"""The time after which a stream that watches nothing is ended."""

_MOST_NAMES = 1000
"""The most names that one request may add, and drop."""

_FIRST_READ_AT_ONCE = 4
"""The operations of a stream that are read at the same time at first, whatever their size."""

_MOST_READ_AT_ONCE = 32
"""The most operations of a stream that are read at the same time."""

_MOST_KEPT_BYTES = 1024 * 1024
"""The bytes of operations that were read after which the others are read again later, and fewer of
them at the same time."""

_MESSAGE_BYTES = 64 * 1024
"""The bytes of a message beyond which nothing is added to it."""

_Found = bytes | status_pb2.Status
"""An answer about an operation: its served bytes, or the error with which it is left."""

_operation = encoding.message(1)
_unwatched = encoding.message(2)
"""The fields of a response."""


class SharedWatchService:
    """Watching many operations on one stream.

    Args:
        store: The operations, behind the guard.
        notifier: Tells of changes.
        waiters: Counts the operations that are watched on all streams.
        watch_resend: The interval at which a stream on which nothing happens is sent something,
            and operations are read anyway.
    """

    def __init__(
        self,
        store: GuardedStore,
        notifier: Notifier,
        waiters: Waiters,
        *,
        watch_resend: timedelta,
    ) -> None:
        self._store = store
        self._notifier = notifier
        self._waiters = waiters
        self._resend = watch_resend.total_seconds()

    def bidis(self) -> Mapping[str, BidiBehavior]:
        """Returns the methods that stream both ways, by their full names."""
        return {"/lro.v1.OperationControlService/WatchOperations": self.watch}

    async def watch(
        self, requests: AsyncIterator[bytes], call: Call
    ) -> AsyncGenerator[bytes, None]:
        """Streams the states of what a caller adds; see the module."""
        await self._store.identify(call)
        call.stay_open()
        stream = _Stream(self._store, self._notifier, self._waiters, self._resend, call)
        reading = asyncio.create_task(stream.read(requests))
        try:
            with self._notifier.telling_of_drain(stream):
                while (messages := await stream.next()) is not None:
                    for message in messages:
                        yield message
        finally:
            reading.cancel()
            stream.close()


class _Watched:
    """An operation that a stream watches; a subscriber of its changes."""

    __slots__ = ("_stream", "admitted", "digest", "ends_only", "name", "read_at")

    def __init__(self, stream: _Stream, name: str, *, ends_only: bool) -> None:
        self._stream = stream
        self.name = name
        """Its name, as the caller has sent it."""
        self.ends_only = ends_only
        """Whether no change but the end is sent."""
        self.admitted: Admitted | None = None
        """Lets it be read; None until the guard was asked for the first time."""
        self.digest = b""
        """Stands for the state that was sent; empty before, and where only the end matters."""
        self.read_at = asyncio.get_running_loop().time()
        """When it was last to be read anyway."""

    def notify(self, *, urgent: bool) -> None:
        """Notes that the operation has changed."""
        self._stream.flag(self, urgent=urgent)


class _Stream:
    """The operations of one stream, and what of them is to be read.

    Args:
        store: The operations, behind the guard.
        notifier: Tells of changes.
        waiters: Counts the operations that are watched.
        resend: The seconds after which something is sent, and each operation read anyway.
        call: The RPC; its caller is identified.
    """

    def __init__(
        self, store: GuardedStore, notifier: Notifier, waiters: Waiters, resend: float, call: Call
    ) -> None:
        self._store = store
        self._notifier = notifier
        self._waiters = waiters
        self._resend = max(resend, _PAUSE_SECONDS)
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._watched: OrderedDict[str, _Watched] = OrderedDict()
        """By their names, in the order in which they are to be read anyway."""
        self._due: dict[str, None] = {}
        """The names of those to read now."""
        self._changed: dict[str, None] = {}
        """The names of those to read in the next round."""
        self._next_round = 0.0
        self._read_at_once = _FIRST_READ_AT_ONCE
        """The most operations that are read next at the same time."""
        self._used_at = self._sent_at = self._loop.time()
        """When something was watched, and when something was sent."""
        self._waker = Subscription()
        self._is_answered = asyncio.Event()
        """Set while nothing is due."""
        self._has_all_requests = False
        self._failure: Exception | None = None
        """The error in a request, which ends the stream."""

    async def read(self, requests: AsyncIterator[bytes]) -> None:
        """Reads what the caller sends, each request when the one before it is answered."""
        try:
            async for body in requests:
                request = parse(operation_control_service_pb2.WatchOperationsRequest, body)
                _check(request)
                self._is_answered.clear()
                for name in request.dropped_names:
                    self._drop(name)
                for name in request.names:
                    self._drop(name)
                    self._watched[name] = _Watched(self, name, ends_only=request.ends_only)
                    self._due[name] = None
                self._waker.notify(urgent=True)
                await self._is_answered.wait()
            self._has_all_requests = True
        except Exception as error:  # noqa: BLE001 - it is raised where the stream is answered
            self._failure = error
        self._waker.notify(urgent=True)

    def notify(self, *, urgent: bool) -> None:
        """Notes that the server goes down, whether anything is watched or not."""
        self._waker.notify(urgent=urgent)

    def flag(self, watched: _Watched, *, urgent: bool) -> None:
        """Notes that an operation is to be read: now, or in the next round."""
        (self._due if urgent else self._changed)[watched.name] = None
        self._waker.notify(urgent=urgent)

    async def next(self) -> Sequence[bytes] | None:
        """Returns messages to send as soon as there are any; None at the end of the stream.

        Raises:
            UnavailableError: If the server goes down.
            LroError: What is wrong with a request.
        """
        while True:
            while self._due:
                if messages := await self._answer(self._take()):
                    self._sent_at = self._loop.time()
                    return messages
            self._is_answered.set()
            if self._is_over():
                return None
            now = self._loop.time()
            if now >= self._sent_at + self._resend:
                self._sent_at = now
                return [b""]
            until = min(self._sent_at + self._resend, self._next_read())
            if self._changed:  # and something urgent has ended the wait for the next round
                until = min(until, self._next_round)
            await self._waker.wait(until - now, pause=self._next_round - now)
            self._move_due()

    def close(self) -> None:
        """Watches nothing more."""
        for name in [*self._watched]:
            self._drop(name)

    def _is_over(self) -> bool:
        """Whether the stream ends now, when nothing is due; see :meth:`next`."""
        if self._failure is not None:
            raise self._failure
        drains, now = self._notifier.draining, self._loop.time()  # all is due when that begins
        if not self._watched:
            return drains or self._has_all_requests or now >= self._used_at + _UNUSED_SECONDS
        if drains:
            raise UnavailableError(
                f"the server goes down, and operations that are watched are not done:"
                f" {len(self._watched)}; watch them again"
            )
        self._used_at = now
        return False

    def _move_due(self) -> None:
        """Has all read whose time has come."""
        now = self._loop.time()
        if self._changed and now >= self._next_round:
            self._due.update(self._changed)
            self._changed.clear()
            self._next_round = now + _PAUSE_SECONDS
        while self._watched and self._next_read() <= now:
            name, watched = next(iter(self._watched.items()))
            watched.read_at = now
            self._watched.move_to_end(name)
            self._due[name] = None

    def _next_read(self) -> float:
        """Returns when an operation is to be read anyway."""
        for watched in self._watched.values():
            return watched.read_at + min(self._resend, POLL_SECONDS)
        return self._used_at + _UNUSED_SECONDS

    def _take(self) -> Sequence[_Watched]:
        """Returns some of what is due, which is not due any more."""
        taken: list[_Watched] = []
        while self._due and len(taken) < self._read_at_once:
            name = next(iter(self._due))
            del self._due[name]
            if name in self._watched:
                taken.append(self._watched[name])
        return taken

    async def _answer(self, watched: Sequence[_Watched]) -> Sequence[bytes]:
        """Reads operations, and returns the messages to send of them."""
        found = await asyncio.gather(*map(self._find, watched))
        read = sum(len(state) for state in found if isinstance(state, bytes))
        if read > _MOST_KEPT_BYTES:
            self._read_at_once = max(1, len(watched) * _MOST_KEPT_BYTES // read)
        else:
            self._read_at_once = min(2 * self._read_at_once, _MOST_READ_AT_ONCE)
        fields, kept = [], 0
        for one, state in zip(watched, found, strict=True):
            if self._watched.get(one.name) is not one:
                continue  # it was dropped meanwhile, and perhaps added anew
            if kept > _MOST_KEPT_BYTES:
                self._due[one.name] = None
                continue
            field = self._taken_in(one, state)
            kept += len(field)
            fields.append(field)
        return [*_packed(fields)]

    async def _find(self, watched: _Watched) -> _Found:
        """Reads an operation that the caller may see; its error is what was found otherwise."""
        try:
            admitted = watched.admitted or await self._admit(watched)
            await admitted.check_again()
            return await admitted.operation(watched.name)
        except Exception as error:  # noqa: BLE001 - the caller sees it
            return failure_status(error, self._call.method, LIBRARY_DOMAIN)

    async def _admit(self, watched: _Watched) -> Admitted:
        """Lets an operation be read, and has its changes told from now on."""
        name, call = watched.name, self._call
        request = operation_control_service_pb2.WatchOperationsRequest(names=[name])
        admitted = await self._store.admit("operations.watch", name, request, call)
        admitted.known = None  # it may be large, and the call long
        call.check_again = None  # it would be that of one operation alone
        if self._watched.get(name) is watched:  # it may have been dropped meanwhile
            if not self._waiters.enter(call.caller):
                raise self._waiters.refusal(call.caller, call.method)
            watched.admitted = admitted
            self._notifier.subscribe(name, watched, ends_only=watched.ends_only)
        return admitted

    def _taken_in(self, watched: _Watched, state: _Found) -> bytes:
        """Returns the field of a message that says what was found; empty for nothing new."""
        if isinstance(state, status_pb2.Status):
            self._drop(watched.name)
            unwatched = operation_control_service_pb2.UnwatchedOperation(
                name=watched.name, error=state
            )
            return _unwatched(unwatched.SerializeToString())
        if operations_pb2.Operation.FromString(state).done:
            self._drop(watched.name)
            return _operation(state)
        digest = _ONCE if watched.ends_only else hashlib.blake2b(state, digest_size=16).digest()
        if watched.digest == digest:
            return b""
        watched.digest = digest
        return _operation(state)

    def _drop(self, name: str) -> None:
        """Watches an operation no more, if it is watched."""
        watched = self._watched.pop(name, None)
        self._changed.pop(name, None)
        self._due.pop(name, None)
        if watched is not None and watched.admitted is not None:
            self._notifier.unsubscribe(name, watched, ends_only=watched.ends_only)
            self._waiters.leave(self._call.caller)


_ONCE = b"once"
"""Stands for any state of an operation of which only the end is sent."""


def _check(request: operation_control_service_pb2.WatchOperationsRequest) -> None:
    for field in ("names", "dropped_names"):
        count = len(getattr(request, field))
        if count > _MOST_NAMES:
            raise InvalidArgumentError(
                f"{field} has {count} names; give at most {_MOST_NAMES:,} in each request"
            )


def _packed(fields: Sequence[bytes]) -> Iterator[bytes]:
    """Yields messages of these fields, none of which grows large by what is added to it."""
    message: list[bytes] = []
    size = 0
    for field in fields:
        if size and size + len(field) > _MESSAGE_BYTES:
            yield b"".join(message)
            message, size = [], 0
        message.append(field)
        size += len(field)
    if size:
        yield b"".join(message)
