"""The RPC's context as the service's own functions see it: a refusal is carried out later.

An abort of gRPC's own cannot be taken back. But a request that was sent twice may be refused only
because its first sending was faster; then the answer is the operation that this one has started.

What a context of ``grpc.aio`` and one of a ``grpc.server`` do in different ways is done here, by
the call: either kind of function runs on either kind of server, and behind the gateway.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import grpc.aio

if TYPE_CHECKING:
    from lro_grpc._server.rpc.call import Call

Trailers = tuple[tuple[str, str | bytes], ...]


class Aborted(Exception):  # noqa: N818 - it carries an abort, which a prepare has asked for
    """A ``prepare`` has refused its request through the context.

    Attributes:
        code: The RPC's code.
        details: The RPC's message.
        trailers: The RPC's trailing metadata.
    """

    def __init__(self, code: grpc.StatusCode, details: str, trailers: Trailers) -> None:
        super().__init__(f"{code.name}: {details}")
        self.code = code
        self.details = details
        self.trailers = trailers


class PrepareContext(grpc.ServicerContext):
    """The context of a ``prepare`` that is a ``def``: an RPC's own, with its caller."""

    @property
    @abc.abstractmethod
    def caller(self) -> str:
        """The caller, as ``identify`` returned it; empty without one."""


class AsyncPrepareContext(grpc.aio.ServicerContext[Any, Any]):
    """The context of a ``prepare`` that is an ``async def``: see :class:`PrepareContext`."""

    @property
    @abc.abstractmethod
    def caller(self) -> str:
        """The caller, as ``identify`` returned it; empty without one."""


@PrepareContext.register
class HookContext:
    """A ServicerContext for a ``def``; passes everything on but what refuses the request.

    Args:
        call: The RPC.
    """

    def __init__(self, call: Call) -> None:
        self.caller = call.caller
        """The caller, as ``identify`` returned it; empty without one, or in ``identify``."""
        self.is_over = False
        """Whether nobody waits for the function any more."""
        self._call = call
        self._context = call.context
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self.trailers: Trailers = ()
        """The RPC's trailing metadata, as they were set."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def is_active(self) -> bool:
        """Returns whether the RPC goes on; no context of a ``grpc.aio`` server says so itself."""
        return not self.is_over

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Has a function called when the RPC is over; returns whether it will be."""
        return self._call.at_end(callback)

    def send_initial_metadata(self, initial_metadata: Trailers) -> Any:
        """Adds initial metadata, which are sent with the answer."""
        self._call.headers += initial_metadata

    def set_code(self, code: grpc.StatusCode) -> None:
        """Sets the RPC's code; one other than OK refuses the request."""
        self._code = code

    def set_details(self, details: str) -> None:
        """Sets the RPC's message."""
        self._details = details

    def set_trailing_metadata(self, trailing_metadata: Trailers) -> None:
        """Sets the RPC's trailing metadata."""
        self.trailers = tuple(trailing_metadata)

    def trailing_metadata(self) -> Trailers:
        """Returns the trailing metadata that were set."""
        return self.trailers

    def code(self) -> grpc.StatusCode | None:
        """Returns the code that was set."""
        return self._code

    def details(self) -> str:
        """Returns the message that was set."""
        return self._details

    def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Trailers = ()
    ) -> Any:
        """Refuses the request."""
        self._abort(code, details, trailing_metadata or self.trailers)

    def abort_with_status(self, status: Any) -> Any:
        """Refuses the request with a ``grpc.Status``."""
        self._abort(status.code, status.details, status.trailing_metadata)

    def raise_if_refused(self) -> None:
        """Raises if a code was set that refuses the request."""
        if self._code not in (None, grpc.StatusCode.OK):
            assert self._code is not None
            self._abort(self._code, self._details, self.trailers)

    def _abort(self, code: object, details: str | None, trailers: Trailers | None) -> NoReturn:
        if not isinstance(code, grpc.StatusCode) or code is grpc.StatusCode.OK:
            code = grpc.StatusCode.UNKNOWN  # as a grpc.server makes it: an abort is no answer
        raise Aborted(code, details or "", tuple(trailers or ()))


@AsyncPrepareContext.register
class AsyncHookContext(HookContext):
    """A ServicerContext for an ``async def``: aborting is awaited."""

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Has a function called with the context when the RPC is over; at once if it is."""
        if not self._call.at_end(lambda: callback(self)):
            callback(self)

    def done(self) -> bool:
        """Returns whether the RPC is over."""
        return self.is_over

    def cancelled(self) -> bool:
        """Returns whether the RPC is over while the function runs: its caller is gone."""
        return self.is_over

    async def send_initial_metadata(self, initial_metadata: Trailers) -> None:
        """Adds initial metadata, which are sent with the answer."""
        self._call.headers += initial_metadata

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Trailers = ()
    ) -> NoReturn:
        """Refuses the request."""
        self._abort(code, details, trailing_metadata or self.trailers)

    async def abort_with_status(self, status: Any) -> NoReturn:
        """Refuses the request with a ``grpc.Status``."""
        self._abort(status.code, status.details, status.trailing_metadata)
