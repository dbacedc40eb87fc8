"""Dialect 5 over HTTP: the routes of google.longrunning, and more of the same kind (P14).

========================================  =========================================================
``GET {prefix}/{name}``                   the operation
``GET {prefix}/{parent}/operations``      a page of them; ``filter``, ``pageSize``, ``pageToken``,
                                          ``returnPartialSuccess``
``POST {prefix}/{name}:cancel``
``DELETE {prefix}/{name}``
``GET|POST {prefix}/{name}:wait``         the operation when it is done, or at the ``timeout``
``GET {prefix}/{name}:watch``             server-sent events; see ``server_sent_events``
``POST {prefix}/{name}:pause``            and ``:resume``
========================================  =========================================================
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from google.api import http_pb2
from google.longrunning import operations_pb2
from google.protobuf.message import Message
from google.rpc import status_pb2
from starlette.responses import Response
from starlette.types import ASGIApp

from lro.v1 import operation_control_service_pb2
from lro_grpc._dialects import canonical_json, longrunning
from lro_grpc._http import transcoding
from lro_grpc._http.backend import GET_OPERATION, LIST_OPERATIONS, Backend
from lro_grpc._http.request import HttpRequest
from lro_grpc._http.responses import dumped, json_response, operation_json
from lro_grpc._http.routing import Route
from lro_grpc._http.server_sent_events import event_stream
from lro_grpc._wire.headers import POLL_AFTER

_OPERATIONS = "/google.longrunning.Operations/"
_CONTROL = "/lro.v1.OperationControlService/"
_NAME = "{name=**/operations/*}"


class Longrunning:
    """The dialect of google.longrunning.

    Args:
        backend: What has the operations.
        prefix: What the paths begin with, such as ``/v1``.
    """

    def __init__(self, backend: Backend, prefix: str) -> None:
        self.prefix = prefix
        self._backend = backend

    def routes(self) -> Iterator[Route]:
        """Returns the routes."""
        # By the proto, then by Google's own client, to which "operations" is a parent like others.
        yield from self._listing("{name=operations}", "{name=operations}/operations")
        yield from self._getting()
        yield from self._listing("{name=**}/operations")
        yield from self._deleting()
        for verb in ("cancel", "pause", "resume"):
            yield from self._asking(verb)
        yield from self._waiting()
        yield from self._watching()

    def error_body(self, status: status_pb2.Status) -> dict[str, Any]:
        """Returns the JSON of a refusal."""
        return longrunning.error_body(status)

    async def started(self, operation: bytes) -> Response:
        """Returns the operation, as the answer of the method that has started it."""
        return json_response(operation_json(operation))

    def _listing(self, path: str, *others: str) -> Iterator[Route]:
        rule = http_pb2.HttpRule(get=f"{self.prefix}/{path}")
        for other in others:
            rule.additional_bindings.add(get=f"{self.prefix}/{other}")

        async def answer(body: bytes, http_request: HttpRequest) -> ASGIApp:
            page = await self._backend.call(LIST_OPERATIONS, body, http_request.caller)
            message = operations_pb2.ListOperationsResponse.FromString(page.body)
            return json_response(dumped(canonical_json.to_json(message)))

        return transcoding.routes(rule, operations_pb2.ListOperationsRequest, answer)

    def _asking(self, verb: str) -> Iterator[Route]:
        """Gives the route of what answers with nothing but that it was heard."""
        kind: type[Message] = {
            "cancel": operations_pb2.CancelOperationRequest,
            "pause": operation_control_service_pb2.PauseOperationRequest,
            "resume": operation_control_service_pb2.ResumeOperationRequest,
        }[verb]
        service = _OPERATIONS if verb == "cancel" else _CONTROL
        rule = http_pb2.HttpRule(post=f"{self.prefix}/{_NAME}:{verb}", body="*")
        return transcoding.routes(rule, kind, self._emptily(f"{service}{verb.title()}Operation"))

    def _deleting(self) -> Iterator[Route]:
        rule = http_pb2.HttpRule(delete=f"{self.prefix}/{_NAME}")
        kind = operations_pb2.DeleteOperationRequest
        return transcoding.routes(rule, kind, self._emptily(f"{_OPERATIONS}DeleteOperation"))

    def _emptily(self, method: str) -> transcoding.Answer:
        async def answer(body: bytes, http_request: HttpRequest) -> ASGIApp:
            await self._backend.call(method, body, http_request.caller)
            return json_response(b"{}")

        return answer

    def _getting(self) -> Iterator[Route]:
        async def answer(body: bytes, http_request: HttpRequest) -> ASGIApp:
            found = await self._backend.call(GET_OPERATION, body, http_request.caller)
            hint = dict(found.headers).get(POLL_AFTER, "")
            headers = {"retry-after": _seconds(hint)} if hint.isdecimal() else None
            return json_response(operation_json(found.body), headers=headers)

        rule = http_pb2.HttpRule(get=f"{self.prefix}/{_NAME}")
        return transcoding.routes(rule, operations_pb2.GetOperationRequest, answer)

    def _waiting(self) -> Iterator[Route]:
        async def answer(body: bytes, http_request: HttpRequest) -> ASGIApp:
            method = f"{_OPERATIONS}WaitOperation"
            waiting = self._backend.call(method, body, http_request.caller, waits=True)
            found = await http_request.unless_gone(waiting)
            return json_response(operation_json(found.body))

        rule = http_pb2.HttpRule(post=f"{self.prefix}/{_NAME}:wait", body="*")
        rule.additional_bindings.add(get=f"{self.prefix}/{_NAME}:wait")
        return transcoding.routes(rule, operations_pb2.WaitOperationRequest, answer)

    def _watching(self) -> Iterator[Route]:
        async def answer(body: bytes, http_request: HttpRequest) -> ASGIApp:
            states = self._backend.stream(f"{_CONTROL}WatchOperation", body, http_request.caller)
            return await event_stream(states, http_request, self.error_body)

        rule = http_pb2.HttpRule(get=f"{self.prefix}/{_NAME}:watch")
        return transcoding.routes(rule, operation_control_service_pb2.WatchOperationRequest, answer)


def _seconds(millis: str) -> str:
    """Returns the whole seconds after which so many milliseconds are over."""
    return str(math.ceil(int(millis) / 1000))
