"""Errors of Google's clients, turned into errors of this package."""

from __future__ import annotations

import contextlib
from typing import Any

import grpc
import requests
from google.api_core import exceptions
from google.auth.exceptions import GoogleAuthError, TransportError
from google.protobuf import any_pb2, struct_pb2
from google.protobuf.message import Message
from google.rpc import status_pb2

from lro_grpc import _anys
from lro_grpc._dialects import canonical_json, http_status
from lro_grpc._errors import Code, LroError, from_status
from lro_grpc._wire.rpc_errors import code_of, from_rpc_error


def from_api_error(error: BaseException) -> LroError:
    """Turns any exception that a call through a Google client raised into an LroError.

    Args:
        error: The exception.

    Returns:
        An error with code, reason, domain, metadata and details, as the server has sent them over
        gRPC or as JSON; a detail in JSON whose type is not known here is a ``Struct``. The code is
        UNAVAILABLE if the server could not be reached, DEADLINE_EXCEEDED if the client gave up
        repeating its call, UNAUTHENTICATED if it has no credentials, and UNKNOWN for an exception
        that says nothing of the kind.
    """
    found = _error_of(error)
    found.__cause__ = error
    return found


def _error_of(error: BaseException) -> LroError:
    match error:
        case grpc.RpcError():
            return from_rpc_error(error)
        case exceptions.GoogleAPICallError(response=grpc.RpcError() as rpc_error):
            return from_rpc_error(rpc_error)
        case exceptions.GoogleAPICallError():
            details = [_packed(detail) for detail in error.details]
            status = status_pb2.Status(code=_code(error), message=error.message, details=details)
            return from_status(status)
        case exceptions.RetryError():
            return LroError(str(error), code=Code.DEADLINE_EXCEEDED)
        case requests.ConnectionError() | requests.Timeout() | TransportError():
            return LroError(str(error), code=Code.UNAVAILABLE)
        case GoogleAuthError():
            code = Code.UNAVAILABLE if error.retryable else Code.UNAUTHENTICATED
            return LroError(str(error), code=code)
    return LroError(f"the Google client raised {error!r}", code=Code.UNKNOWN)


def _code(error: exceptions.GoogleAPICallError) -> Code:
    if isinstance(error.grpc_status_code, grpc.StatusCode):
        return code_of(error.grpc_status_code)
    return http_status.code_of_response(error.code or 0)


def _packed(detail: Any) -> any_pb2.Any:
    """Returns a detail, as google-api-core has it, as it travels in a Status."""
    if isinstance(detail, Message):
        return _anys.pack(detail)
    packed = any_pb2.Any()
    with contextlib.suppress(ValueError):
        canonical_json.parse(detail, packed, lenient=True)
        return packed
    shown = struct_pb2.Value()
    with contextlib.suppress(ValueError):
        canonical_json.parse(detail, shown)
    return _anys.pack(shown.struct_value if isinstance(detail, dict) else shown)
