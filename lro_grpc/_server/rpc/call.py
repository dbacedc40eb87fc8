"""An RPC in progress, as the service sees it, whichever kind of server it has come to.

The service is given a :class:`Call` in place of gRPC's context, of which there are two kinds; the
gateway's calls bring a third. It offers the few things that a service needs: the metadata, the
deadline, initial metadata to answer with, and the two that follow.

**Places.** A Wait or a Watch stays open for as long as an operation takes, and each of them costs
its server something: a ``grpc.server`` one of its few threads, ``grpc.aio`` memory. So they are
counted (:class:`Waiters`). A call takes a place when it begins to wait, not when it arrives: a Wait
for an operation that is done needs none. It gives its place back at its end, whatever that is.
Without a free place a Wait answers at once, as it always may (P9); a Watch is refused.

**prepare**, and a fallback servicer's methods, run on behalf of a call, with a context that is sync
or async as the function itself is, not as the server is: any service runs on either kind.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Sequence,
)
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from lro_grpc._errors import LimitReachedError, LroError, MalformedRequestError
from lro_grpc._operation.record import Record
from lro_grpc._operation.telemetry import NO_TELEMETRY, Telemetry
from lro_grpc._runtime.interrupts import only_errors
from lro_grpc._runtime.repeated_lines import PROCESS
from lro_grpc._runtime.threads import BoundedThreads
from lro_grpc._server.hooks import result_of
from lro_grpc._server.limits import Share
from lro_grpc._server.rpc.hook_context import Aborted, AsyncHookContext, HookContext, Trailers

EMPTY = b""
"""A serialized ``google.protobuf.Empty``."""

M = TypeVar("M", bound=Message)


def parse(kind: type[M], body: bytes) -> M:
    """Parses a request's body.

    Raises:
        MalformedRequestError: If the body is not such a message.
    """
    try:
        return kind.FromString(body)
    except DecodeError as cause:
        raise MalformedRequestError(
            f"the body of {len(body)} bytes is not a {kind.DESCRIPTOR.full_name}: {cause}",
            metadata={"type": kind.DESCRIPTOR.full_name},
        ) from cause


class Waiters:
    """Counts the RPCs that stay open to wait.

    Args:
        most: The most that may stay open at a time.
        telemetry: Counts them, too.
        per_caller: The largest part of them that one caller may have.
    """

    def __init__(
        self, most: int, telemetry: Telemetry = NO_TELEMETRY, per_caller: float = 1
    ) -> None:
        self._most = most
        self._free = most
        self._telemetry = telemetry
        self._share = Share(most, per_caller)

    def enter(self, caller: str) -> bool:
        """Takes a place if one is free for a caller. Called on the event loop only."""
        if self._free <= 0 or self._share.is_taken(caller):
            return False
        self._free -= 1
        self._share.take(caller)
        self._telemetry.waiting(1)
        return True

    def leave(self, caller: str) -> None:
        """Gives a place of a caller back. Called on the event loop only."""
        self._free += 1
        self._share.give_back(caller)
        self._telemetry.waiting(-1)

    def refusal(self, caller: str, method: str) -> LimitReachedError:
        """Returns the error for a call that has found no place."""
        if self._free > 0:
            return self._share.refusal(caller, "calls that stay open")
        return LimitReachedError(
            f"{self._most} calls stay open at this server, and no more may;"
            " get the operation now and then, or try again later",
            subject=method,
        )


class Call:
    """An RPC, as the service sees it.

    Args:
        context: gRPC's own context, sync or async.
        method: The full name of the RPC's method.
        waiters: Counts the calls that stay open.
        caller: The caller, if they have been identified.
        is_trusted: Whether it is no RPC but a call by code of this process.
    """

    def __init__(
        self,
        context: Any,
        method: str,
        waiters: Waiters,
        caller: str | None = None,
        *,
        is_trusted: bool = False,
    ) -> None:
        self.context = context
        self.method = method
        self.is_trusted = is_trusted
        """Whether the guard lets it in without a question."""
        self.is_identified = caller is not None
        """Whether ``identify`` was asked."""
        self.caller = caller or ""
        """The caller, as ``identify`` returned it; empty without one, and before the guard."""
        self.check_again: Callable[[], Awaitable[None]] | None = None
        """Lets the RPC in once more, as ``Admitted`` does; None until the guard has let it in."""
        self.headers: list[tuple[str, str | bytes]] = []
        """Initial metadata to answer with."""
        self.trailers: Trailers = ()
        """Trailing metadata to answer with."""
        self.record: Record | None = None
        """The record of the operation that the RPC is answered with, where it was at hand."""
        self._waiters = waiters
        self._waits = False
        self._at_end: list[Callable[[], None]] = []
        self._has_ended = False

    def metadata(self) -> Iterable[tuple[str, str | bytes]]:
        """Returns the metadata that the caller has sent along."""
        sent: Iterable[tuple[str, str | bytes]] = self.context.invocation_metadata() or ()
        return sent

    def time_remaining(self) -> float | None:
        """Returns the seconds until the caller's deadline; None if there is none."""
        remaining: float | None = self.context.time_remaining()
        return remaining

    def may_wait(self) -> bool:
        """Returns whether the RPC may stay open for long; takes a place the first time."""
        self._waits = self._waits or self._waiters.enter(self.caller)
        return self._waits

    def stay_open(self) -> None:
        """Takes a place to stay open for long, as ``may_wait``.

        Raises:
            LimitReachedError: If none is free.
        """
        if not self.may_wait():
            raise self._waiters.refusal(self.caller, self.method)

    def end(self) -> None:
        """Gives back the place of the RPC, if it has one, and calls what is to be called then."""
        self.check_again = None  # it refers to this call
        self._has_ended = True
        if self._waits:
            self._waiters.leave(self.caller)
        while self._at_end:
            callback = self._at_end.pop()
            try:
                with only_errors("a callback of the RPC's context"):
                    callback()
            except Exception as error:  # noqa: BLE001 - the log has it
                text = f"a callback of the context of {self.method} has failed"
                PROCESS.say(logging.ERROR, text, error=error)

    def at_end(self, callback: Callable[[], None]) -> bool:
        """Has a function called at the end of the RPC; returns False if that has come."""
        if self._has_ended:
            return False
        self._at_end.append(callback)
        return True

    def take_headers(self) -> Sequence[tuple[str, str | bytes]]:
        """Returns the initial metadata to send now: once."""
        taken, self.headers = self.headers, []
        return taken

    async def run(
        self,
        what: str,
        function: Callable[[Any, Any], Any],
        request: Any,
        threads: BoundedThreads,
    ) -> Any:
        """Calls a function of the service's own with the request and the RPC's context.

        Args:
            what: The function, for the log.
            function: A function, or a coroutine function.
            request: The request.
            threads: Where a ``def`` runs.

        Raises:
            LimitReachedError: If as many calls wait for such a thread as may.
            Aborted: If it has refused the request through the context.
        """
        is_async = inspect.iscoroutinefunction(function)
        if not is_async and threads.is_full:
            raise LimitReachedError(
                f"{threads.most} threads run {what}, and as many calls wait for one as may;"
                " try again later",
                subject=self.method,
            )
        context = (AsyncHookContext if is_async else HookContext)(self)

        def call() -> Any:
            with only_errors(what):
                return function(request, context)

        try:
            if is_async:
                answer = await result_of(function(request, context), what)
            else:
                answer = await threads.run(f"lro-{what}", call)
        except (LroError, Aborted):
            raise
        except Exception:
            context.raise_if_refused()  # as gRPC's generated methods set UNIMPLEMENTED, and raise
            raise
        finally:
            context.is_over = True
        context.raise_if_refused()
        self.trailers = context.trailers
        return answer


Behavior = Callable[[bytes, Call], Coroutine[Any, Any, bytes]]
"""One method of a service: the request's bytes in, the answer's out; raises ``LroError``."""

StreamBehavior = Callable[[bytes, Call], AsyncGenerator[bytes, None]]
"""One method of a service that answers with a stream; each message is made when it can be sent."""

BidiBehavior = Callable[[AsyncIterator[bytes], Call], AsyncGenerator[bytes, None]]
"""One method of a service that is sent a stream, too; each request is read when it comes for it."""
