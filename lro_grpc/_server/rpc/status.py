"""The status with which an RPC fails: an error as gRPC's code, message and trailing metadata.

An ``LroError`` is shown as it is, with its details. A refusal through the context of a ``prepare``
is carried out as it was made. Anything else is INTERNAL, with the id of the incident by which the
log explains it.
"""

from __future__ import annotations

import grpc
from google.rpc import status_pb2

from lro_grpc._errors import Code, LroError, to_status
from lro_grpc._runtime.public_error import status_of
from lro_grpc._server.rpc.hook_context import Aborted, Trailers
from lro_grpc._wire import headers
from lro_grpc._wire.plain_text import cut_encoded, encoded_size
from lro_grpc._wire.rpc_errors import code_of, status_in

_MOST = 6000
"""Bytes of an error on the wire: of its message and of all its trailing metadata. Peers drop at
random the trailers of an RPC above 8 KiB, all of them together, and it fails otherwise then."""

_MOST_OF_MESSAGE = 1500
"""Bytes of the message of an error that is cut."""

_OVERHEAD = 32
"""Bytes that each entry of metadata counts beside its key and value (HTTP/2)."""


def failure_status(error: Exception, method: str, domain: str) -> status_pb2.Status:
    """Returns the Status by which a caller sees an error.

    Args:
        error: The error that was raised.
        method: The method that raised it, for the log.
        domain: ``ErrorInfo.domain`` of an error that names none.
    """
    if not isinstance(error, Aborted):
        return status_of(error, method, domain=domain)
    code = code_of(error.code)
    status = status_in(error.trailers, code)
    return status or to_status(LroError(error.details, code=code), domain=domain)


def abort_arguments(
    error: Exception, method: str, domain: str
) -> tuple[grpc.StatusCode, str, Trailers]:
    """Returns the code, the message and the trailing metadata of an RPC that ends with an error.

    Args:
        error: The error that was raised.
        method: The method that raised it, for the log.
        domain: ``ErrorInfo.domain`` of an error that names none.
    """
    if isinstance(error, Aborted):
        return (error.code, *_fitting(error.details, error.trailers))
    status = _trimmed(failure_status(error, method, domain))
    return (
        grpc.StatusCode[Code(status.code).name],
        status.message,
        ((headers.STATUS_DETAILS, status.SerializeToString()),),
    )


def _trimmed(status: status_pb2.Status) -> status_pb2.Status:
    """Returns a Status that is small enough for trailing metadata, with its message beside it."""
    if _size(status) > _MOST:
        status.message = cut_encoded(status.message, _MOST_OF_MESSAGE)
        del status.details[1:]  # the first one is the ErrorInfo
    if _size(status) > _MOST:
        del status.details[:]
    return status


def _size(status: status_pb2.Status) -> int:
    return encoded_size(status.message) + _base64_size(status.ByteSize())


def _fitting(details: str, trailers: Trailers) -> tuple[str, Trailers]:
    """Returns the message and the trailing metadata of an abort, as far as they fit."""
    left = _MOST - _MOST_OF_MESSAGE
    kept: list[tuple[str, str | bytes]] = []
    for key, value in trailers:
        size = _base64_size(len(value)) if isinstance(value, bytes) else len(value)
        size += len(key) + _OVERHEAD
        if size <= left:
            kept.append((key, value))
            left -= size
    return cut_encoded(details, left + _MOST_OF_MESSAGE), tuple(kept)


def _base64_size(size: int) -> int:
    return -(-size // 3) * 4
