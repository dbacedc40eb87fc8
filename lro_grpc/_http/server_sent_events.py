"""Server-sent events: the states of an operation for a browser's ``EventSource``.

Each state is a ``message`` event whose data is the JSON of the Operation. The terminal one has the
id ``done``: an ``EventSource`` that connects again sends it, and 204 makes it stop. A failure in
between is a ``status`` event, its data the JSON body of an error response. A comment now and then
shows that the connection is alive.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any

from google.rpc import status_pb2
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from lro.v1 import operation_control_service_pb2
from lro_grpc._http import responses
from lro_grpc._http.conversion import converted
from lro_grpc._http.request import HttpRequest
from lro_grpc._http.responses import dumped, operation_json

ErrorBody = Callable[[status_pb2.Status], "dict[str, Any]"]
"""Returns the JSON body of an error response."""

_LAST_ID = "done"

_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-store"),
        (b"x-accel-buffering", b"no"),
    ],
}


async def event_stream(
    messages: AsyncGenerator[bytes, None], http_request: HttpRequest, error_body: ErrorBody
) -> ASGIApp:
    """Returns a response that sends each state as an event, and ends after the terminal one.

    Args:
        messages: Serialized ``lro.v1.WatchOperationResponse`` messages.
        http_request: The request.
        error_body: Makes the data of a ``status`` event.

    Raises:
        LroError: If the stream fails before its first message.
    """
    if http_request.headers.get("last-event-id") == _LAST_ID:
        return Response(status_code=204)
    first = await http_request.unless_gone(_next(messages))

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        async with contextlib.aclosing(messages):
            await send(_START)
            if scope["method"] != "HEAD":
                async with contextlib.aclosing(_events(first, messages, error_body)) as events:
                    await http_request.unless_gone(_send_all(events, send))
        await send({"type": "http.response.body"})

    return respond


async def _next(messages: AsyncGenerator[bytes, None]) -> bytes | None:
    return await anext(messages, None)


async def _events(
    message: bytes | None, messages: AsyncGenerator[bytes, None], error_body: ErrorBody
) -> AsyncGenerator[bytes, None]:
    sent = None
    try:
        while message is not None:
            if message == sent:
                yield b": unchanged\n\n"
            else:
                yield await converted(len(message), _event, message)
            sent, message = message, await _next(messages)
    except Exception as error:  # noqa: BLE001 - the client sees it
        *_, status = responses.http_error(error, "server-sent events")
        yield b"event: status\ndata: " + dumped(error_body(status)) + b"\n\n"


def _event(message: bytes) -> bytes:
    operation = operation_control_service_pb2.WatchOperationResponse.FromString(message).operation
    last = f"id: {_LAST_ID}\n".encode() if operation.done else b""
    return last + b"data: " + operation_json(operation.SerializeToString()) + b"\n\n"


async def _send_all(events: AsyncGenerator[bytes, None], send: Send) -> None:
    async for event in events:
        await send({"type": "http.response.body", "body": event, "more_body": True})
