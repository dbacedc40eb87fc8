"""Reads operations of another server from a file: one a line, as JSON.

A line is an operation in protobuf's JSON form, as ``lro list --output json`` prints it::

    {"name": "operations/7", "done": true, "response": {"@type": "…", …}}

or an object around one, with what is known of its start; there the operation, and the request, may
also be protobuf's bytes in base64::

    {"operation": "Cgw…", "method": "/pkg.Service/Method", "request": "CgV…", "caller": "ada"}

An ``Any`` of a type that is not known here is ``@type`` and ``value``, its bytes in base64.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from google.longrunning import operations_pb2
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from lro_grpc._anys import find_class
from lro_grpc._dialects import canonical_json
from lro_grpc._errors import cut
from lro_grpc._operation.old_operation import OldOperation

MOST_LINE_BYTES = 16 * 1024 * 1024
"""The most bytes of a line: several times those of the largest operation that a store takes."""

_TYPE_URL = re.compile(r"\S*/[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_AROUND = frozenset({"operation", "method", "request", "caller"})
_OPERATION = frozenset({"name", "metadata", "done", "error", "response"})


class LineError(ValueError):
    """A line has no operation; the text says why."""


class Line(NamedTuple):
    """A line of a file."""

    number: int
    text: bytes
    """Its bytes; the beginning of them if it is too long."""

    @property
    def is_too_long(self) -> bool:
        """Whether it has more bytes than are read."""
        return len(self.text) > MOST_LINE_BYTES


def lines_of(file: BinaryIO) -> Iterator[Line]:
    """Yields the lines of a file that are not empty."""
    number = 0
    while text := file.readline(MOST_LINE_BYTES + 2):
        number += 1
        rest = text
        while len(rest) > MOST_LINE_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(MOST_LINE_BYTES + 2)
        text = text.removesuffix(b"\n").removesuffix(b"\r")[: MOST_LINE_BYTES + 1]
        if len(text) <= MOST_LINE_BYTES:
            text = text.removeprefix(b"\xef\xbb\xbf").strip()
        if text:
            yield Line(number, text)


def parse(line: Line) -> OldOperation:
    """Returns the operation that a line has.

    Raises:
        LineError: If it has none.
    """
    if line.is_too_long:
        raise LineError(f"it has more than {MOST_LINE_BYTES:,} bytes")
    try:
        return _old_operation(_object(line.text))
    except LineError:
        raise
    except ValueError as cause:  # of protobuf's parser
        raise LineError(str(cause)) from cause


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = canonical_json.load(text.decode())
    except RecursionError as cause:
        raise LineError("its JSON is nested too deep; give the operation in base64") from cause
    except (json.JSONDecodeError, UnicodeDecodeError) as cause:
        raise LineError(f"it is no JSON ({cause}); is the file cut off?") from cause
    except ValueError as cause:
        raise LineError(f"it is no JSON: {cause}") from cause
    if not isinstance(value, dict):
        raise LineError(f"it is {cut(repr(value))}; give an object")
    _check_readable(value)
    return value


def _check_readable(value: Any) -> None:
    """Refuses what ``lro list`` could not write as JSON: read by its type, it would be another."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, list):
            left += one
        elif isinstance(one, dict):
            left += one.values()
            type_url = one.get("@type")
            if isinstance(type_url, str) and type_url.endswith(canonical_json.UNREADABLE):
                raise LineError(
                    f"{cut(repr(type_url))} marks bytes that have no JSON;"
                    " give the operation in base64"
                )


def _old_operation(value: dict[str, Any]) -> OldOperation:
    if "operation" not in value:
        return OldOperation(_operation(value))
    _check_keys(value, _AROUND)
    operation, request = value["operation"], value.get("request", "")
    return OldOperation(
        operation=_parsed(_bytes(operation))
        if isinstance(operation, str)
        else _operation(operation),
        method=_text(value, "method"),
        request=_bytes(request) if isinstance(request, str) else _any(request).value,
        caller=_text(value, "caller"),
    )


def _operation(value: Any) -> operations_pb2.Operation:
    """Reads an operation in protobuf's JSON form.

    Its own fields are read here, one by one: protobuf's parser refuses a message with an ``Any``
    whose type it does not know.
    """
    if not isinstance(value, dict):
        raise LineError(f"its operation is {cut(repr(value))}; give an object, or base64")
    _check_keys(value, _OPERATION)
    value = {key: part for key, part in value.items() if part is not None}
    operation = operations_pb2.Operation()
    plain = {key: part for key, part in value.items() if key in ("name", "done")}
    canonical_json.parse(plain, operation)
    if "metadata" in value:
        operation.metadata.CopyFrom(_any(value["metadata"]))
    if "error" in value and "response" in value:
        raise LineError("it has an error, and a response; give one of them")
    if "error" in value:
        operation.error.CopyFrom(_status(value["error"]))
    if "response" in value:
        operation.response.CopyFrom(_any(value["response"]))
    return operation


def _status(value: Any) -> status_pb2.Status:
    details = value.get("details", []) if isinstance(value, dict) else None
    if not isinstance(details, list):
        raise LineError(f"its error is {cut(repr(value))}; give a google.rpc.Status")
    status = status_pb2.Status()
    canonical_json.parse({key: value[key] for key in value if key != "details"}, status)
    status.details.extend(map(_any, details))
    return status


def _any(value: Any) -> any_pb2.Any:
    """Reads an ``Any``: by the type that it names, or as its bytes."""
    packed = any_pb2.Any()
    if not isinstance(value, dict):
        raise LineError(f"{cut(repr(value))} is no message with its @type")
    type_url = value.get("@type", "")
    has_bytes = isinstance(type_url, str) and value.keys() == {"@type", "value"}
    is_known = isinstance(type_url, str) and find_class(type_url.rpartition("/")[2]) is not None
    try:
        if is_known or not value:
            canonical_json.parse(value, packed)
            return packed
    except ValueError:
        if not has_bytes:
            raise
    if not has_bytes:
        raise LineError(
            f"the type {cut(repr(type_url))} is not known here, so that its fields cannot be"
            " written; name the module that defines it with --types, or give its value in base64"
        )
    if type_url and not _TYPE_URL.fullmatch(type_url):
        raise LineError(
            f"{cut(repr(type_url))} is no type URL, such as type.googleapis.com/pkg.Message;"
            " correct it, or give the operation in base64"
        )
    packed.type_url = type_url
    packed.value = _bytes(value["value"])
    return packed


def _parsed(serialized: bytes) -> operations_pb2.Operation:
    try:
        return operations_pb2.Operation.FromString(serialized)
    except DecodeError as cause:
        raise LineError("its operation does not parse as google.longrunning.Operation") from cause


def _bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (ValueError, TypeError) as cause:
        raise LineError(f"{cut(repr(value))} is no base64") from cause


def _text(value: dict[str, Any], key: str) -> str:
    text = value.get(key, "")
    if not isinstance(text, str):
        raise LineError(f"its {key} is {cut(repr(text))}; give a text")
    return text


def _check_keys(value: dict[str, Any], known: frozenset[str]) -> None:
    if unknown := value.keys() - known:
        raise LineError(f"it has {cut(repr(min(unknown)))}; known are {', '.join(sorted(known))}")
