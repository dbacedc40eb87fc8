"""Errors of Google's clients, turned into errors of this package."""

from __future__ import annotations

import contextlib
import json
import traceback
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import grpc
import requests
from google.api_core import exceptions
from google.auth.exceptions import (
    GoogleAuthError,
    ResponseError,
    TimeoutError,  # noqa: A004 - it is theirs that is meant
    TransportError,
)
from google.protobuf import any_pb2, json_format, struct_pb2
from google.protobuf.message import Message
from google.rpc import status_pb2

from lro_grpc import _anys
from lro_grpc._dialects import canonical_json, http_status
from lro_grpc._errors import Code, LroError, from_status
from lro_grpc._wire.retry_delays import add_retry_info
from lro_grpc._wire.rpc_errors import code_of, derived, from_rpc_error

_FIRST_REFUSAL = 400
"""The first HTTP status that refuses a call."""


def from_api_error(error: BaseException, operation: str = "") -> LroError:
    """Turns any exception that a call through a Google client raised into an LroError.

    Args:
        error: The exception.
        operation: The operation that the call was about.

    Returns:
        An error with code, reason, domain, metadata and details, as the server has sent them over
        gRPC or as JSON; a detail in JSON whose type is not known here is a ``Struct``, and the
        delay of a ``Retry-After`` is a ``RetryInfo``. The code is that of the HTTP status if the
        body is no error of Google's; UNAVAILABLE if the server could not be reached, or its answer
        breaks off; DEADLINE_EXCEEDED if the client gave up repeating its call; UNAUTHENTICATED if
        it has no credentials; and UNKNOWN for an exception that says nothing of the kind. If the
        exception is one of google-api-core for the RPC's status, such as ``NotFound``, so is the
        error.
    """
    found = _error_of(error, operation)
    found.operation_name = operation
    if (response := _refusal(error)) is not None:
        add_retry_info(found, response.headers.items(), now=datetime.now(timezone.utc))
    found.__cause__ = error
    return found


def _error_of(error: BaseException, operation: str) -> LroError:
    match error:
        case grpc.RpcError():
            return from_rpc_error(error, operation)
        case exceptions.GoogleAPICallError(response=grpc.RpcError() as rpc_error):
            return from_rpc_error(rpc_error, operation, also=(ApiFailure, type(error)))
        case exceptions.GoogleAPICallError():
            details = [_packed(detail) for detail in error.details]
            status = status_pb2.Status(code=_code(error), message=error.message, details=details)
            return derived(from_status(status), ApiFailure, type(error))
        case exceptions.RetryError():
            return LroError(str(error), code=Code.DEADLINE_EXCEEDED)
        case _ if _is_unanswered(error):
            return LroError(str(error), code=Code.UNAVAILABLE)
        case _ if (response := _refusal(error)) is not None:
            status = response.status_code
            code = http_status.code_of_response(status)
            return LroError(f"HTTP {status}, and the client raised {error!r}", code=code)
        case _ if _breaks_off(error):
            return LroError(f"the answer breaks off: {error}", code=Code.UNAVAILABLE)
        case GoogleAuthError():
            code = Code.UNAVAILABLE if error.retryable else Code.UNAUTHENTICATED
            return LroError(str(error), code=code)
    return LroError(f"the Google client raised {error!r}", code=Code.UNKNOWN)


class ApiFailure:
    """The attributes of a ``GoogleAPICallError``: those of an LroError, and the rest of its cause.

    google-api-core computes them all of constructor arguments that an LroError does not have.
    """

    @property
    def reason(self) -> str:
        """The error's reason."""
        return str(vars(self)["reason"])

    @property
    def domain(self) -> str:
        """The reason's domain."""
        return str(vars(self)["domain"])

    @property
    def metadata(self) -> Mapping[str, str]:
        """The values that the message speaks of."""
        values: Mapping[str, str] = vars(self)["metadata"]
        return values

    @property
    def errors(self) -> Sequence[Any]:
        """The errors below it; none of an error that was pickled."""
        return getattr(_cause(self), "errors", ())

    @property
    def response(self) -> Any:
        """The response, or the call; None of an error that was pickled."""
        return getattr(_cause(self), "response", None)


def _cause(error: Any) -> BaseException | None:
    cause: BaseException | None = error.__cause__
    return cause


def _code(error: exceptions.GoogleAPICallError) -> Code:
    if isinstance(error.grpc_status_code, grpc.StatusCode):
        return code_of(error.grpc_status_code)
    return http_status.code_of_response(error.code or 0)


def _refusal(error: BaseException) -> Any:
    """Returns the HTTP response, sync or async, by which a server refused the call; else None.

    google-api-core makes an error of a response only if its body is what Google's servers send. It
    stumbles over any other body, and then its exception says nothing of the response. But the
    frames where it stumbled have it still, whatever they call it.
    """
    if isinstance(error, exceptions.GoogleAPICallError):
        return error.response if hasattr(error.response, "headers") else None
    if _is_unanswered(error):
        return None  # a frame may have the response of an earlier call, as before a new token
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if str(frame.f_globals.get("__name__")).startswith("google."):
            for value in frame.f_locals.values():
                if _refuses(value):
                    return value
    return None


def _is_unanswered(error: BaseException) -> bool:
    """Whether there is no answer to the call: the server was not reached, or was too late."""
    unanswered = (requests.ConnectionError, requests.Timeout, TransportError, TimeoutError)
    return isinstance(error, unanswered)


def _refuses(value: Any) -> bool:
    """Whether a value is an HTTP response, of any library, that refuses a call."""
    with contextlib.suppress(Exception):  # it may be anything, and do anything when it is asked
        status = value.status_code
        return isinstance(status, int) and status >= _FIRST_REFUSAL and hasattr(value, "headers")
    return False


def _breaks_off(error: BaseException) -> bool:
    """Whether the body of an answer came to an end too soon, as the transport or its JSON shows."""
    match error:
        case (
            requests.exceptions.ChunkedEncodingError()
            | requests.exceptions.ContentDecodingError()
            | ResponseError()
        ):
            return True
        case json.JSONDecodeError():
            text = error.doc.strip()
            return not text or (
                text.startswith("{") and (error.pos >= len(text) or text[-1] != "}")
            )
        case UnicodeDecodeError():
            return error.end >= len(error.object)
        case json_format.ParseError(__cause__=ValueError() as cause):
            return _breaks_off(cause)
    # aiohttp's, whose package is not there if the client is sync
    return type(error).__name__ == "ClientPayloadError"


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
