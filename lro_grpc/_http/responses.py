"""The responses of the gateway: JSON, and errors with their HTTP status."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from google.longrunning import operations_pb2
from google.rpc import error_details_pb2, status_pb2
from starlette.responses import Response

from lro_grpc._dialects import http_status, longrunning
from lro_grpc._errors import LIBRARY_DOMAIN, Code, LimitReachedError, LroError, cut, from_status
from lro_grpc._runtime.public_error import status_of
from lro_grpc._wire.headers import POLL_AFTER


def json_response(
    body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Returns a response.

    Args:
        body: JSON.
        status: The HTTP status.
        headers: More headers than every response has.
    """
    return Response(
        body, status, {**_HEADERS, **headers} if headers else _HEADERS, "application/json"
    )


PAGE_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""Bounds of what a browser does with any page; each has a policy of its own besides."""

_HEADERS = {"cache-control": "no-store"}


def is_known(if_none_match: str, tag: str) -> bool:
    """Whether a client has an answer already, by the ETags that it knows.

    A proxy that packs answers itself makes an ETag a weak one, ``W/"…"``, which is as good here
    (RFC 9110, 13.1.2).

    Args:
        if_none_match: The request's header; empty for none.
        tag: The ETag of the answer, a strong one.
    """
    return tag in [one.strip().removeprefix("W/") for one in if_none_match.split(",")]


def poll_headers(metadata: Iterable[tuple[str, str | bytes]]) -> Mapping[str, str]:
    """Returns the headers of a response with one operation, or a job.

    They have ``Retry-After``, in whole seconds, if the server recommends a pause (P5): while the
    operation is not done.

    Args:
        metadata: The initial metadata of the call's answer.
    """
    millis = str(dict(metadata).get(POLL_AFTER, ""))
    # More digits are more than anyone waits.
    return _retry_after(int(millis[:12]) / 1000) if millis.isdecimal() else {}


def _retry_after(seconds: float) -> Mapping[str, str]:
    """Returns the header that asks for a pause: never for a shorter one, and never for none."""
    return {"retry-after": str(max(1, math.ceil(seconds)))}


def dumped(value: Any) -> bytes:
    """Returns a mapping as JSON, on one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def operation_json(operation: bytes) -> bytes:
    """Returns the JSON of a serialized Operation, on one line.

    Clients poll an operation while nothing changes, so recent JSON is cached.
    """
    return _cached(operation) if len(operation) <= _MOST_CACHED else _uncached(operation)


def _uncached(operation: bytes) -> bytes:
    return dumped(longrunning.to_json(operations_pb2.Operation.FromString(operation)))


_MOST_CACHED = 8 * 1024
"""The most bytes of an operation whose JSON is cached."""


_cached = functools.lru_cache(maxsize=1024)(_uncached)


class HttpError(LroError):
    """An error whose HTTP status is not the one of its code.

    Args:
        message: As of any ``LroError``.
        status: The HTTP status.
        headers: Headers of the response.
        **more: See :class:`lro_grpc.LroError`.
    """

    default_domain = LIBRARY_DOMAIN

    def __init__(
        self, message: str, *, status: int, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(message, **more)
        self.status = status
        self.headers = headers or {}


def http_error(error: Exception, where: str) -> tuple[int, Mapping[str, str], status_pb2.Status]:
    """Returns an error as HTTP has it: the HTTP status, headers, and the Status for the body.

    Args:
        error: The error. If it is no ``LroError``, the log has it, and the client sees an id only.
        where: The place of the error, for the log.
    """
    status = status_of(error, where, domain=LIBRARY_DOMAIN)
    if isinstance(error, HttpError):
        return error.status, error.headers, status
    code = http_status.OF_CODE[http_status.canonical(status.code)]
    return code, _pause_after(code, status), status


def _pause_after(code: int, status: status_pb2.Status) -> Mapping[str, str]:
    """Returns the header with the pause before another try, if that may pass.

    It is the error's own, or that of any 503, and of a limit of this package's servers. Another 429
    may be for good: it need not be one of a rate.
    """
    error = from_status(status)
    for detail in error.details:
        if isinstance(detail, error_details_pb2.RetryInfo) and detail.HasField("retry_delay"):
            return _retry_after(detail.retry_delay.seconds + detail.retry_delay.nanos / 1e9)
    may_pass = code == _UNAVAILABLE or isinstance(error, LimitReachedError)
    return _retry_after(1) if may_pass else {}


_UNAVAILABLE = 503


def no_route(http_method: str, path: str) -> HttpError:
    """Returns the error for a path without a route."""
    return HttpError(
        f"there is nothing at {cut(path)} to {http_method}; see the API's paths",
        status=404,
        code=Code.NOT_FOUND,
        reason="NO_ROUTE",
        metadata={"path": cut(path)},
    )


def wrong_method(http_method: str, path: str, allowed: str) -> HttpError:
    """Returns the error for a path that has other methods.

    Args:
        http_method: The method of the request.
        path: Its path.
        allowed: The methods that the path has, with commas.
    """
    return HttpError(
        f"{cut(path)} has no {cut(http_method)}; use {allowed}",
        status=405,
        headers={"allow": allowed},
        code=Code.UNIMPLEMENTED,
        reason="WRONG_METHOD",
        metadata={"path": cut(path), "method": cut(http_method)},
    )


def not_served(method: str, why: str) -> HttpError:
    """Returns the error for a method of the service that is not reached through the gateway.

    Args:
        method: ``/pkg.Service/Method``.
        why: The reason.
    """
    return HttpError(
        f"{method} is not served over HTTP: {why}; call it over gRPC",
        status=501,
        code=Code.UNIMPLEMENTED,
        reason="NOT_SERVED",
        metadata={"method": method},
    )


def too_large_document(limit: int) -> HttpError:
    """Returns the error for a document of the API that is not shown."""
    return HttpError(
        f"the document of this API has more than {limit} bytes, and is not shown; serve fewer"
        " services in one process",
        status=501,
        code=Code.UNIMPLEMENTED,
        reason="DOCUMENT_TOO_LARGE",
        metadata={"limit": str(limit)},
    )


def too_large(limit: int) -> HttpError:
    """Returns the error for a body above the limit."""
    return HttpError(
        f"the body is larger than {limit} bytes; send less",
        status=413,
        headers={"connection": "close"},
        code=Code.RESOURCE_EXHAUSTED,
        reason="BODY_TOO_LARGE",
        metadata={"limit": str(limit)},
    )


def ambiguous_length() -> HttpError:
    """Returns the error for a request that says in two ways where its body ends."""
    return HttpError(
        "the request has both Content-Length and Transfer-Encoding; send one of them",
        status=400,
        headers={"connection": "close"},
        code=Code.INVALID_ARGUMENT,
        reason="AMBIGUOUS_LENGTH",
    )


def too_slow(seconds: float) -> HttpError:
    """Returns the error for a body that does not arrive in time."""
    return HttpError(
        f"the body has not come within {seconds:g} seconds; send it faster",
        status=408,
        headers={"connection": "close"},
        code=Code.DEADLINE_EXCEEDED,
        reason="BODY_TOO_SLOW",
        metadata={"seconds": f"{seconds:g}"},
    )


def too_many_values(limit: int) -> HttpError:
    """Returns the error for a body with too many values."""
    return HttpError(
        f"the JSON of the body has more than {limit} values; send less at a time",
        status=413,
        code=Code.RESOURCE_EXHAUSTED,
        reason="TOO_MANY_VALUES",
        metadata={"limit": str(limit)},
    )


def busy(why: str) -> HttpError:
    """Returns the error for a request for which there is no room at present."""
    return HttpError(
        f"the server has no room for this at present: {why}; try again later",
        status=503,
        headers={"retry-after": "1", "connection": "close"},
        code=Code.UNAVAILABLE,
        reason="BUSY",
    )


def too_long(limit: int) -> HttpError:
    """Returns the error for a URL above the limit."""
    return HttpError(
        f"the path and the query have more than {limit} bytes; send less",
        status=414,
        code=Code.INVALID_ARGUMENT,
        reason="URL_TOO_LONG",
        metadata={"limit": str(limit)},
    )


def not_json(content_type: str) -> HttpError:
    """Returns the error for a body of another media type, or of none."""
    return HttpError(
        f"the Content-Type of the body is {cut(content_type)!r}; send application/json",
        status=415,
        code=Code.INVALID_ARGUMENT,
        reason="NOT_JSON",
        metadata={"content_type": cut(content_type)},
    )


def unknown_host(host: str) -> HttpError:
    """Returns the error for a request to a host that is not this server's."""
    return HttpError(
        f"the request is for the host {cut(host)!r}, which this server does not answer for;"
        " its operator allows more hosts with allowed_hosts or public_url",
        status=421,
        code=Code.PERMISSION_DENIED,
        reason="UNKNOWN_HOST",
        metadata={"host": cut(host)},
    )


def cross_site(origin: str) -> HttpError:
    """Returns the error for a request that a page of another origin has sent."""
    return HttpError(
        f"a page of {cut(origin)} may not send this; the server's operator allows more origins"
        " with allow_origins",
        status=403,
        code=Code.PERMISSION_DENIED,
        reason="CROSS_SITE",
        metadata={"origin": cut(origin)},
    )
