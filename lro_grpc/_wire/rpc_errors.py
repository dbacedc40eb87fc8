"""Errors on their way over gRPC: an RPC's code, its message, and a Status in trailing metadata.

An error that an RPC ended with is an LroError for those who know this package, and an error of
gRPC for those who know gRPC: its class derives from both. ``code`` and ``details`` are values of
the one and methods of the other; so they are values that can be called.
"""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import Iterable
from typing import Any, NamedTuple

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from lro_grpc._errors import Code, LroError, from_status
from lro_grpc._wire import headers
from lro_grpc._wire.retry_delays import add_retry_info


def from_rpc_error(
    error: grpc.RpcError, operation: str = "", *, also: tuple[type, ...] = ()
) -> LroError:
    """Turns the error that a call on a channel, sync or async, raised into an LroError.

    Args:
        error: An error of a finished call: it has ``code()``, ``details()`` and
            ``trailing_metadata()``.
        operation: The operation that the call was about, if it was about one.
        also: More classes that the error is to be an instance of, as for ``derived``.

    Returns:
        An error with the RPC's code, and with reason, domain, metadata and details of the
        ``google.rpc.Status`` in the trailing metadata (AIP-193). Without a Status, or with one
        that is broken or contradicts the RPC's code, the reason is the code's name. A delay that
        the trailing metadata asks for is a ``RetryInfo`` among the details. It is also a
        ``grpc.RpcError``, with the call's metadata; a ``grpc.aio.AioRpcError`` if ``error`` is one.
    """
    code = code_of(error.code())
    trailers: Any = error.trailing_metadata() or ()
    status = status_in(trailers, code)
    if status is None:
        text = error.details() or "the server gave no message"
        status = status_pb2.Status(code=code, message=text.encode(errors="replace").decode())
    base = grpc.aio.AioRpcError if isinstance(error, grpc.aio.AioRpcError) else grpc.RpcError
    found = derived(from_status(status), RpcFailure, base, *also)
    found.operation_name = operation
    _keep_call(found, error)
    add_retry_info(found, trailers)
    found.__cause__ = error
    return found


class Metadatum(NamedTuple):
    """An entry of a call's metadata, with the fields of gRPC's own, which cannot be pickled."""

    key: str
    value: str | bytes


class RpcFailure:
    """The methods of gRPC's own errors, beside ``code`` and ``details``, which every error has."""

    _initial_metadata: Any = None
    _trailing_metadata: Any = None
    _debug_error_string: Any = None

    def initial_metadata(self) -> Any:
        """Returns the metadata that the server sent before its answer."""
        return self._initial_metadata

    def trailing_metadata(self) -> Any:
        """Returns the metadata that the server sent with the error."""
        return self._trailing_metadata

    def debug_error_string(self) -> Any:
        """Returns gRPC's account of the failure, for debugging."""
        return self._debug_error_string


def _keep_call(found: Any, error: Any) -> None:
    found._trailing_metadata = _kept(error.trailing_metadata())
    if hasattr(error, "initial_metadata"):  # an error of an interceptor's own may have none
        found._initial_metadata = _kept(error.initial_metadata())
    # Not its debug_error_string(), which waits for ever if the client itself has ended the call.
    found._debug_error_string = repr(error)


def _kept(metadata: Any) -> Any:
    """Returns metadata in the same form, but so that they can be pickled."""
    return tuple(Metadatum(*one) for one in metadata) if type(metadata) is tuple else metadata


def derived(error: LroError, *bases: type) -> LroError:
    """Returns an error as one of a class that derives from its own, and from others besides.

    Args:
        error: The error.
        *bases: The other classes; none of their constructors is called.
    """
    return _made(type(error), bases, error.args, vars(error))


@functools.cache
def _class(kind: type[LroError], bases: tuple[type, ...]) -> type[LroError]:
    """Makes a class that is called as the one of this package: a traceback shows no other."""

    def reduced(error: LroError) -> tuple[Any, ...]:
        return _made, (kind, bases, error.args, vars(error))

    own = {
        "__doc__": kind.__doc__,
        "__module__": kind.__module__,
        "__reduce__": reduced,
        "__repr__": BaseException.__repr__,
        "__str__": LroError.__str__,  # one line of any class, for it is a stranger's text
    }
    return types.new_class(kind.__name__, (kind, *bases), exec_body=lambda body: body.update(own))


def _made(
    kind: type[LroError], bases: tuple[type, ...], args: tuple[object, ...], state: dict[str, Any]
) -> LroError:
    made = _class(kind, bases)  # type: ignore[arg-type]  # mypy does not hash classes
    error = made.__new__(made)
    error.args = args
    vars(error).update(state)
    return error


def code_of(status_code: grpc.StatusCode) -> Code:
    """Returns gRPC's own constant as a Code: the same number, with the same name."""
    return Code(status_code.value[0])


def status_in(trailers: Iterable[tuple[str, Any]], code: int) -> status_pb2.Status | None:
    """Returns the Status in a call's trailing metadata.

    Args:
        trailers: The trailing metadata.
        code: The call's code.

    Returns:
        The first Status with that code; None if there is none, or if its bytes are broken.
    """
    for key, value in trailers:
        if key == headers.STATUS_DETAILS and isinstance(value, bytes):
            with contextlib.suppress(DecodeError):
                status = status_pb2.Status.FromString(value)
                if status.code == code:
                    return status
    return None
