"""Errors on their way over gRPC: an RPC's code, its message, and a Status in trailing metadata."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from lro_grpc._errors import Code, LroError, from_status
from lro_grpc._wire import headers
from lro_grpc._wire.retry_delays import add_retry_info

if TYPE_CHECKING:
    import grpc


def from_rpc_error(error: grpc.RpcError) -> LroError:
    """Turns the error that a call on a channel, sync or async, raised into an LroError.

    Args:
        error: An error of a finished call: it has ``code()``, ``details()`` and
            ``trailing_metadata()``.

    Returns:
        An error with the RPC's code, and with reason, domain, metadata and details of the
        ``google.rpc.Status`` in the trailing metadata (AIP-193). Without a Status, or with one
        that is broken or contradicts the RPC's code, the reason is the code's name. A delay that
        the trailing metadata asks for is a ``RetryInfo`` among the details.
    """
    code = code_of(error.code())
    trailers: Any = error.trailing_metadata() or ()
    status = status_in(trailers, code)
    if status is not None:
        found = from_status(status)
    else:
        found = LroError(error.details() or "the server gave no message", code=code)
    add_retry_info(found, trailers)
    found.__cause__ = error
    return found


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
