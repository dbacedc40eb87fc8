"""The one place that turns an error of an RPC into an error of this package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from lro_grpc._errors import LroError, from_status

if TYPE_CHECKING:
    import grpc

_DETAILS_KEY = "grpc-status-details-bin"


def from_rpc_error(error: grpc.RpcError) -> LroError:
    """Turns what a call on a channel, sync or async, raised into an LroError.

    Args:
        error: An error of a finished call: it has ``code()``, ``details()`` and
            ``trailing_metadata()``.

    Returns:
        An error with the RPC's code, and with reason, domain, metadata and details of the
        ``google.rpc.Status`` in the trailing metadata (AIP-193). Without a Status, or with one
        that is broken or contradicts the RPC's code, the reason is the code's name.
    """
    found = _error_of(error)
    found.__cause__ = error
    return found


def _error_of(error: grpc.RpcError) -> LroError:
    code = error.code().value[0]
    trailing: Any = error.trailing_metadata() or ()
    for key, value in trailing:
        if key != _DETAILS_KEY:
            continue
        try:
            status = status_pb2.Status.FromString(value)
        except DecodeError:
            continue
        if status.code == code:
            return from_status(status)
    return LroError(error.details() or "the server gave no message", code=code)
