"""The canonical codes as HTTP has them: a status number, and its phrase."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType

from lro_grpc._errors import Code

OF_CODE: Mapping[Code, int] = MappingProxyType(
    {
        Code.OK: 200,
        Code.CANCELLED: 499,
        Code.UNKNOWN: 500,
        Code.INVALID_ARGUMENT: 400,
        Code.DEADLINE_EXCEEDED: 504,
        Code.NOT_FOUND: 404,
        Code.ALREADY_EXISTS: 409,
        Code.PERMISSION_DENIED: 403,
        Code.RESOURCE_EXHAUSTED: 429,
        Code.FAILED_PRECONDITION: 400,
        Code.ABORTED: 409,
        Code.OUT_OF_RANGE: 400,
        Code.UNIMPLEMENTED: 501,
        Code.INTERNAL: 500,
        Code.UNAVAILABLE: 503,
        Code.DATA_LOSS: 500,
        Code.UNAUTHENTICATED: 401,
    }
)
"""The HTTP status of each code, as ``google/rpc/code.proto`` lists it."""


def canonical(code: int) -> Code:
    """Returns an error's code; UNKNOWN for 0, and for a number that is no canonical code."""
    return Code(code) if code and code in OF_CODE else Code.UNKNOWN


def code_of(status: int) -> Code:
    """Returns the first code that has this HTTP status; UNKNOWN if no error's code has it."""
    return canonical(next((code for code, one in OF_CODE.items() if one == status), Code.UNKNOWN))


def code_of_response(status: int) -> Code:
    """Returns the code for the HTTP status of a response that names none itself.

    Where several codes have the status, it is the one that a client can expect: INTERNAL for 500,
    and ABORTED for 409. Gateways answer 408 and 502 by themselves.
    """
    fallback = {4: Code.FAILED_PRECONDITION, 5: Code.INTERNAL}.get(status // 100, Code.UNKNOWN)
    return _OF_RESPONSE.get(status, fallback)


def phrase(status: int) -> str:
    """Returns the words of an HTTP status, such as ``Not Found``."""
    return _CANCELLED if status == OF_CODE[Code.CANCELLED] else HTTPStatus(status).phrase


_CANCELLED = "Client Closed Request"
"""The words of 499, which is not in the standard and so not in ``http.HTTPStatus`` either."""

_OF_RESPONSE: Mapping[int, Code] = {
    **{status: code_of(status) for code, status in OF_CODE.items() if code != Code.OK},
    408: Code.DEADLINE_EXCEEDED,
    409: Code.ABORTED,
    500: Code.INTERNAL,
    502: Code.UNAVAILABLE,
}
