"""Requests that start operations and are large: read in a thread, and bounded by their bytes.

protobuf reads a message in one step for the interpreter, at some ten milliseconds for a megabyte of
small values, and a start takes several such steps: whether each field is known, what its digest is.
On the event loop, those of all requests that come at once would be one pause for everything else.
In a thread the loop has its turn after each step. There is one such thread for a server, for two
would only share the interpreter.

A request has its bytes in memory as it came and as a message, until its operation is stored. It is
counted once its call is let in. What is small is read at once, and not counted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar, cast

from lro_grpc._errors import LimitReachedError
from lro_grpc._operation.size import READ_AT_ONCE
from lro_grpc._runtime.threads import BoundedThreads
from lro_grpc._server.limits import CallerTurns, Share

T = TypeVar("T")

_ANY = 2**31
"""More calls than wait for the thread: each caller has one there before it is let in, and the bound
in bytes is for those behind the guard."""

_NOT_COUNTED = contextlib.nullcontext()
"""The context of a small request; one for all, for it keeps nothing."""


class LargeRequests:
    """The large requests of one server; see the module. Used on its event loop.

    Args:
        most: The bytes of requests from which on another one is refused.
        per_caller: The largest part of them for one caller.
    """

    def __init__(self, most: int, per_caller: float = 1) -> None:
        self._most = most
        self._share = Share(most, per_caller)
        self._thread = BoundedThreads(1, waiting=_ANY)
        self._turns = CallerTurns()

    def entry(
        self, body: bytes, caller: str, method: str
    ) -> contextlib.AbstractContextManager[None]:
        """Returns a context that counts a request while it lasts, and is entered once.

        Raises:
            LimitReachedError: When it is entered, if there are as many bytes of others as may be,
                in all or of the caller.
        """
        if len(body) <= READ_AT_ONCE:
            return _NOT_COUNTED
        return self._counted(len(body), caller, method)

    @contextlib.contextmanager
    def _counted(self, size: int, caller: str, method: str) -> Iterator[None]:
        if self._share.is_taken(caller) and self._share.most < self._most:
            raise self._share.refusal(caller, "bytes of requests that are being stored")
        if self._share.taken >= self._most:
            raise LimitReachedError(
                f"{self._share.taken} bytes of requests are being stored, and the limit is"
                f" {self._most}; try again later",
                subject=method,
            )
        self._share.take(caller, size)
        try:
            yield
        finally:
            self._share.take(caller, -size)

    async def read_first(
        self, body: bytes, caller: str, function: Callable[..., T], *arguments: object
    ) -> T:
        """Does as ``read``, for a call that is not let in yet.

        One request of each caller is read at a time; the others of that caller wait. They have no
        bound, which would tell a caller without rights how much there is.
        """
        if len(body) <= READ_AT_ONCE:
            return function(*arguments)
        async with self._turns.of(caller, lambda: None):
            return await self.read(body, function, *arguments)

    async def read(self, body: bytes, function: Callable[..., T], *arguments: object) -> T:
        """Returns what a function makes of a request: in the thread, if that is large.

        Args:
            body: The request, as it came.
            function: The function; one that does not look at what the event loop changes.
            *arguments: Its arguments.
        """
        if len(body) <= READ_AT_ONCE:
            return function(*arguments)
        return cast(T, await self._thread.run("lro-large-requests", function, *arguments))
