"""Calls of the served methods within their own process, for protocols other than gRPC."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lro_grpc._errors import LIBRARY_DOMAIN, Code, LroError, from_status
from lro_grpc._server.rpc.call import Call, Waiters
from lro_grpc._server.rpc.handlers import RpcMethod, StreamMethod, UnaryMethod, status_of_failure


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a call."""

    body: bytes
    """The serialized message."""
    headers: Sequence[tuple[str, str]] = ()
    """Its initial metadata."""


class LocalCalls:
    """Calls methods on the loop of the operations; raises the errors that a gRPC caller would see.

    Args:
        find: Returns the method of a name; None if it is not served.
        waiters: Counts the calls that stay open to give one answer later.
        streams: Counts those that stay open to give many.
    """

    def __init__(
        self, find: Callable[[str], RpcMethod | None], waiters: Waiters, streams: Waiters
    ) -> None:
        self._find = find
        self._waiters = waiters
        self._streams = streams

    async def call(self, method: str, body: bytes, context: Any) -> Answer:
        """Calls a method that gives one answer.

        Args:
            method: ``/pkg.Service/Method``.
            body: The serialized request.
            context: Stands in for the RPC's ServicerContext.

        Raises:
            LroError: Whatever the method raises, as its caller may see it.
        """
        served = self._served(method, UnaryMethod)
        call = Call(context, method, self._waiters)
        try:
            return Answer(await served.behavior(body, call), call.headers)
        except Exception as error:
            raise _public(error, served) from error
        finally:
            call.end()

    async def stream(self, method: str, body: bytes, context: Any) -> AsyncGenerator[bytes, None]:
        """Calls a method that gives a stream of answers; see :meth:`call`."""
        served = self._served(method, StreamMethod)
        call = Call(context, method, self._streams)
        try:
            async with contextlib.aclosing(served.behavior(body, call)) as messages:
                async for message in messages:
                    yield message
        except Exception as error:
            raise _public(error, served) from error
        finally:
            call.end()

    def _served(self, method: str, kind: type[Any]) -> Any:
        served = self._find(method)
        if isinstance(served, kind):
            return served
        raise LroError(
            f"{method} is not served here",
            code=Code.UNIMPLEMENTED,
            domain=LIBRARY_DOMAIN,
            metadata={"method": method},
        )


def _public(error: Exception, served: RpcMethod) -> LroError:
    """Returns an error of a method as its caller may see it."""
    return from_status(status_of_failure(error, served.name, served.error_domain))
