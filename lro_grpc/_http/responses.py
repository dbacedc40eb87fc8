"""What the gateway answers: JSON."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from google.longrunning import operations_pb2
from starlette.responses import Response

from lro_grpc._dialects import longrunning

_MAX_KEPT = 8 * 1024
"""Bytes of an operation whose JSON is kept."""

_HEADERS = {"cache-control": "no-store"}


def json_response(
    body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Returns a response.

    Args:
        body: JSON.
        status: The HTTP status.
        headers: Headers besides those of any response.
    """
    return Response(
        body, status, {**_HEADERS, **headers} if headers else _HEADERS, "application/json"
    )


def dumped(value: Any) -> bytes:
    """Returns a mapping as JSON, on one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def operation_json(operation: bytes) -> bytes:
    """Returns the JSON of a serialized Operation, on one line.

    An operation is asked for again and again while nothing changes: so what was made is kept.
    """
    return _kept(operation) if len(operation) <= _MAX_KEPT else _made(operation)


def _made(operation: bytes) -> bytes:
    return dumped(longrunning.to_json(operations_pb2.Operation.FromString(operation)))


_kept = functools.lru_cache(maxsize=1024)(_made)
