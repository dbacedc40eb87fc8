"""Quirks of grpcio: behavior of its client side that its documentation does not mention.

Each stands here once, with the reason why this package cares. All were seen with grpcio 1.76.0,
the lowest version that this package takes, and with 1.85.3.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import grpc
import grpc.aio

from lro_grpc._durations import Duration, as_timeout
from lro_grpc._errors import LIBRARY_DOMAIN, Code, LroError
from lro_grpc._wire.rpc_errors import RpcFailure, derived, from_rpc_error

_LONGEST_DEADLINE = 1e9
"""Some thirty years, in seconds."""

_CLOSED_DURING_CALL = "it was closed during the call"


def deadline(timeout: Duration | None) -> float | None:
    """Returns a timeout in seconds, as gRPC takes it.

    A deadline some 300 years away, such as that of ``timedelta.max``, overflows: the call ends
    with DEADLINE_EXCEEDED at once. So a longer one is cut to thirty years.
    """
    limit = as_timeout(timeout)
    return None if limit is None else min(limit.total_seconds(), _LONGEST_DEADLINE)


def check_channel(channel: object, *, is_async: bool) -> None:
    """Checks that a channel is of the kind that a client is for.

    A channel of any other class, as tests and wrappers have it, may be of either kind.

    Raises:
        TypeError: If it is of the other kind.
    """
    wrong: type = grpc.Channel if is_async else grpc.aio.Channel
    if isinstance(channel, wrong):
        wanted = "a grpc.aio.Channel" if is_async else "a grpc.Channel"
        there = "without Async before its name" if is_async else "with Async before its name"
        raise TypeError(
            f"this client is for {wanted}, and was given {channel!r};"
            f" give it one, or take the client {there}"
        )


def may_block(channel: grpc.Channel) -> bool:
    """Whether a call's ``future()`` may block the thread that makes it.

    On a plain channel it never does. On one of ``grpc.intercept_channel`` the interceptors run
    first, in the same thread, and may wait for the call that they intercept. No public attribute
    says which kind a channel is, but the module of its class does. A channel of any other class,
    as tests and wrappers have it, is taken for one that blocks.
    """
    return type(channel).__module__ != "grpc._channel"


def result_of(call: Any) -> Any:
    """Returns the message of a future that has ended; raises the error that the call ended with.

    A future that somebody else has cancelled, say an interceptor, raises a
    ``FutureCancelledError``, which is no ``RpcError``.
    """
    try:
        return call.result()
    except grpc.FutureCancelledError:
        raise ValueError(_CLOSED_DURING_CALL) from None


async def await_call(call: Awaitable[Any]) -> Any:
    """Awaits a call of ``grpc.aio``, or one read of a stream, and returns the message.

    Two outcomes of such a call look like something else, and become errors here. Closing the
    channel cancels the call, which looks to the task that awaits it as if it were cancelled
    itself. Bytes that are no message of the declared type come as None; a ``grpc.Channel``
    raises an ``RpcError`` with INTERNAL.

    Raises:
        UsageError: If the channel was closed meanwhile.
        RpcError: The error that the call ended with, or that its answer is no message.
    """
    calling = asyncio.ensure_future(call)
    try:
        await asyncio.wait([calling])
    except asyncio.CancelledError:
        calling.cancel()
        raise
    if calling.cancelled():
        raise grpc.aio.UsageError(_CLOSED_DURING_CALL)
    if (message := calling.result()) is None:
        empty = grpc.aio.Metadata()
        text = "the server's answer is no message of its type"
        raise grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, empty, empty, text)
    return message


def cancel_stream(stream: Any) -> None:
    """Cancels a stream of a ``grpc.Channel``, if it can be cancelled.

    An interceptor may return any iterator in place of the call, such as a generator, which has no
    ``cancel``: it ends by itself, or with the next message.
    """
    if hasattr(stream, "cancel"):
        stream.cancel()


def error_of_call(error: Exception, operation: str = "") -> LroError:
    """Returns the LroError for an exception that a call raised as it began, or ended.

    * An ``RpcError`` has a code only if it comes from gRPC itself; the class, which interceptors
      raise as well, has none. Whoever expects an ``RpcError`` gets one in either case.
    * On a closed channel a call cannot begin: a ``grpc.Channel`` raises a ``ValueError``,
      ``grpc.aio`` a ``UsageError``. Both classes stand for other mistakes, too, and only the text
      says that the channel "is closed".
    * Anything else comes from an interceptor, or from metadata that gRPC refuses.

    Args:
        error: The exception.
        operation: The operation that the call was about, if it was about one.
    """
    if isinstance(error, grpc.RpcError) and hasattr(error, "code"):
        return from_rpc_error(error, operation)
    if isinstance(error, (ValueError, grpc.aio.UsageError)) and "closed" in str(error):
        found = LroError(
            f"the channel of this client cannot be used any more: {error}",
            code=Code.FAILED_PRECONDITION,
            reason="CHANNEL_CLOSED",
            domain=LIBRARY_DOMAIN,
        )
    else:
        found = LroError(f"the channel, or its interceptor, raised {error!r}", code=Code.UNKNOWN)
        if isinstance(error, grpc.RpcError):
            found = derived(found, RpcFailure, grpc.RpcError)
    found.operation_name = operation
    found.__cause__ = error
    return found
