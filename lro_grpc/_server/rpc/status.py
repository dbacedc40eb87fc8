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
from lro_grpc._wire.rpc_errors import code_of, status_in

_MAX_STATUS_BYTES = 4096
"""A Status that is larger travels with its ErrorInfo alone: peers limit the size of trailers."""

_MAX_MESSAGE = 1000
"""Characters of such a Status' message."""


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
        return error.code, error.details, error.trailers
    status = _trimmed(failure_status(error, method, domain))
    return (
        grpc.StatusCode[Code(status.code).name],
        status.message,
        ((headers.STATUS_DETAILS, status.SerializeToString()),),
    )


def _trimmed(status: status_pb2.Status) -> status_pb2.Status:
    """Returns a Status that is small enough for trailing metadata."""
    if status.ByteSize() > _MAX_STATUS_BYTES:
        status.message = status.message[:_MAX_MESSAGE]
        del status.details[1:]  # the first one is the ErrorInfo
    if status.ByteSize() > _MAX_STATUS_BYTES:
        del status.details[:]
    return status
