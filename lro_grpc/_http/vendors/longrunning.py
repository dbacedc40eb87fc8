"""The HTTP API of google.longrunning, and more routes of the same kind (P14).

========================================  =========================================================
``GET {prefix}/{name}``                   the operation
``GET {prefix}/{parent}/operations``      a page of them; ``filter``, ``pageSize``, ``pageToken``,
                                          ``returnPartialSuccess``
``POST {prefix}/{name}:cancel``
``DELETE {prefix}/{name}``
``GET|POST {prefix}/{name}:wait``         the operation when it is done, or at the ``timeout``
``GET {prefix}/{name}:watch``             server-sent events; see ``server_sent_events``
``POST {prefix}/{name}:pause``            and ``:resume``; the operation as it is then
``POST {prefix}/{name}:terminate``        with a ``reason``; likewise
``POST {prefix}/{name}:rerun``            the operation that runs it again
``GET {prefix}/{name}:describe``          all that is known of it; ``view``
``GET {prefix}/{parent}:summarizeOperations``
                                          how many there are; ``filter``
========================================  =========================================================
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

from google.api import http_pb2
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2
from google.protobuf.message import Message
from google.rpc import status_pb2
from starlette.responses import Response
from starlette.types import ASGIApp

from lro.v1 import operation_control_service_pb2 as _control
from lro.v1.operation_description_pb2 import DescribeOperationResponse
from lro.v1.operation_summary_pb2 import SummarizeOperationsResponse
from lro_grpc._dialects import canonical_json, longrunning
from lro_grpc._http import transcoding
from lro_grpc._http.backend import GET_OPERATION, LIST_OPERATIONS, Backend
from lro_grpc._http.conversion import converted
from lro_grpc._http.described import RETRY_AFTER, Shown
from lro_grpc._http.request import HttpRequest
from lro_grpc._http.responses import dumped, json_response, operation_json, poll_headers
from lro_grpc._http.routing import Route
from lro_grpc._http.server_sent_events import event_stream
from lro_grpc._server.rpc.local_calls import Answer

_OPERATIONS = "/google.longrunning.Operations/"
_CONTROL = "/lro.v1.OperationControlService/"
SERVICES = frozenset({_OPERATIONS.strip("/"), _CONTROL.strip("/")})
"""The services whose methods these routes are."""

_OPERATION = Shown("The operation.", operations_pb2.Operation, headers=RETRY_AFTER)
_NOTHING = Shown("An empty object.", empty_pb2.Empty)
_EVENTS = (
    Shown(
        "Server-sent events: the data of each `message` is the JSON of the operation, and the"
        " terminal one has the id `done`. A failure in between is a `status` event, its data the"
        " body of an error.",
        schema={"type": "string"},
        media_type="text/event-stream",
    ),
    Shown("To a browser that connects again once it has had the terminal event.", status=204),
)

ERROR = Shown(
    "An error: a `google.rpc.Status`, with the HTTP status as its code.",
    name="longrunning-error",
    schema={
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message", "status"],
                "properties": {
                    "code": {"type": "integer"},
                    "message": {"type": "string"},
                    "status": {"type": "string"},
                    "details": {"type": "array", "items": {"type": "object"}},
                },
            }
        },
    },
)

_NAME = "{name=**/operations/*}"
_LONG_NAME = "{name=**/operations/*/**}"


class Longrunning:
    """The routes of google.longrunning.

    Args:
        backend: The operations.
        prefix: The beginning of the paths, such as ``/v1``.
    """

    dialect = longrunning.NAME

    def __init__(self, backend: Backend, prefix: str) -> None:
        self.prefix = prefix
        self._backend = backend

    def routes(self) -> Iterator[Route]:
        """Returns the routes."""
        # The path of the proto, and that of Google's own client, which takes "operations" for a
        # parent like any other. The lists come first: a parent may end in "operations", and no id
        # is that.
        yield from map(_unsaid, self._list("{name=operations}"))
        yield from map(_unsaid, self._list("{name=operations}/operations"))
        yield from self._list("{name=**}/operations")
        yield from self._summarize()
        yield from self._named(_NAME)

    def routes_of_long_names(self) -> Iterator[Route]:
        """Returns the routes of names with several segments for an id, as other servers have them.

        They match paths that may be other methods', and so come after all of those.
        """
        yield from map(_unsaid, self._named(_LONG_NAME))

    def error_body(self, status: status_pb2.Status) -> dict[str, Any]:
        """Returns the JSON body of an error response."""
        return longrunning.error_body(status)

    async def started(self, answer: Answer) -> Response:
        """Returns the operation, as the response of the method that has started it."""
        return await _shown(answer)

    @property
    def start(self) -> Shown:
        """The operation, which goes on."""
        return _OPERATION

    @property
    def error(self) -> Shown:
        """A ``google.rpc.Status``, as Google's APIs have it over HTTP."""
        return ERROR

    def _list(self, path: str) -> Iterator[Route]:
        rule = http_pb2.HttpRule(get=f"{self.prefix}/{path}")

        async def respond(body: bytes, http_request: HttpRequest) -> ASGIApp:
            page = await self._backend.call(LIST_OPERATIONS, body, http_request.caller)
            return json_response(await converted(len(page.body), _page_json, page.body))

        kind = operations_pb2.ListOperationsRequest
        shown = Shown("A page of operations.", operations_pb2.ListOperationsResponse)
        return self._routes(LIST_OPERATIONS, rule, kind, respond, shown)

    def _named(self, name: str) -> Iterator[Route]:
        """Yields the routes of one operation, by the template of its name."""
        yield from self._get(name)
        yield from self._delete(name)
        yield from self._cancel(name)
        for verb, request, response in (
            ("pause", _control.PauseOperationRequest, _control.PauseOperationResponse),
            ("resume", _control.ResumeOperationRequest, _control.ResumeOperationResponse),
            ("terminate", _control.TerminateOperationRequest, _control.TerminateOperationResponse),
            ("rerun", _control.RerunOperationRequest, _control.RerunOperationResponse),
        ):
            yield from self._control(verb, name, request, response)
        yield from self._describe(name)
        yield from self._wait(name)
        yield from self._watch(name)

    def _cancel(self, name: str) -> Iterator[Route]:
        rule = http_pb2.HttpRule(post=f"{self.prefix}/{name}:cancel", body="*")
        kind = operations_pb2.CancelOperationRequest
        method = f"{_OPERATIONS}CancelOperation"
        return self._routes(method, rule, kind, self._respond_empty(method), _NOTHING)

    def _control(
        self, verb: str, name: str, request: type[Message], response: type[Message]
    ) -> Iterator[Route]:
        """Yields the route of a method that answers with the operation as it is then."""
        method = f"{_CONTROL}{verb.title()}Operation"

        def show(body: bytes) -> bytes:
            return dumped(canonical_json.to_json(response.FromString(body)))

        async def respond(body: bytes, http_request: HttpRequest) -> ASGIApp:
            found = await self._backend.call(method, body, http_request.caller)
            shown = await converted(len(found.body), show, found.body)
            return json_response(shown, headers=poll_headers(found.headers))

        rule = http_pb2.HttpRule(post=f"{self.prefix}/{name}:{verb}", body="*")
        shown = Shown("The operation as it is then.", response, headers=RETRY_AFTER)
        return self._routes(method, rule, request, respond, shown)

    def _describe(self, name: str) -> Iterator[Route]:
        rule = http_pb2.HttpRule(get=f"{self.prefix}/{name}:describe")
        request, response = _control.DescribeOperationRequest, DescribeOperationResponse
        return self._read("DescribeOperation", rule, request, response)

    def _summarize(self) -> Iterator[Route]:
        rule = http_pb2.HttpRule(get=f"{self.prefix}/{{parent=**}}:summarizeOperations")
        request, response = _control.SummarizeOperationsRequest, SummarizeOperationsResponse
        return self._read("SummarizeOperations", rule, request, response)

    def _read(
        self, name: str, rule: http_pb2.HttpRule, request: type[Message], response: type[Message]
    ) -> Iterator[Route]:
        """Yields the route of a method that changes nothing, and answers with its own message."""
        method = f"{_CONTROL}{name}"

        def show(body: bytes) -> bytes:
            return dumped(canonical_json.to_json(response.FromString(body)))

        async def respond(body: bytes, http_request: HttpRequest) -> ASGIApp:
            found = await self._backend.call(method, body, http_request.caller)
            return json_response(await converted(len(found.body), show, found.body))

        return self._routes(method, rule, request, respond, Shown("OK.", response))

    def _delete(self, name: str) -> Iterator[Route]:
        rule = http_pb2.HttpRule(delete=f"{self.prefix}/{name}")
        kind = operations_pb2.DeleteOperationRequest
        method = f"{_OPERATIONS}DeleteOperation"
        return self._routes(method, rule, kind, self._respond_empty(method), _NOTHING)

    def _respond_empty(self, method: str) -> transcoding.Respond:
        async def respond(body: bytes, http_request: HttpRequest) -> ASGIApp:
            await self._backend.call(method, body, http_request.caller)
            return json_response(b"{}")

        return respond

    def _get(self, name: str) -> Iterator[Route]:
        async def respond(body: bytes, http_request: HttpRequest) -> ASGIApp:
            found = await self._backend.call(GET_OPERATION, body, http_request.caller)
            return await _shown(found)

        rule = http_pb2.HttpRule(get=f"{self.prefix}/{name}")
        kind = operations_pb2.GetOperationRequest
        return self._routes(GET_OPERATION, rule, kind, respond, _OPERATION)

    def _wait(self, name: str) -> Iterator[Route]:
        method = f"{_OPERATIONS}WaitOperation"

        async def respond(body: bytes, http_request: HttpRequest) -> ASGIApp:
            waiting = self._backend.call(method, body, http_request.caller, waits=True)
            return await _shown(await http_request.unless_gone(waiting))

        rule = http_pb2.HttpRule(post=f"{self.prefix}/{name}:wait", body="*")
        rule.additional_bindings.add(get=f"{self.prefix}/{name}:wait")
        shown = dataclasses.replace(
            _OPERATION, text="The operation when it is done, or as it is at the `timeout`."
        )
        return self._routes(method, rule, operations_pb2.WaitOperationRequest, respond, shown)

    def _watch(self, name: str) -> Iterator[Route]:
        method = f"{_CONTROL}WatchOperation"

        async def respond(body: bytes, http_request: HttpRequest) -> ASGIApp:
            states = self._backend.stream(method, body, http_request.caller)
            return await event_stream(states, http_request, self.error_body)

        rule = http_pb2.HttpRule(get=f"{self.prefix}/{name}:watch")
        return self._routes(method, rule, _control.WatchOperationRequest, respond, *_EVENTS)

    def _routes(
        self,
        method: str,
        rule: http_pb2.HttpRule,
        request: type[Message],
        respond: transcoding.Respond,
        *answers: Shown,
    ) -> Iterator[Route]:
        identify = functools.partial(self._backend.identify, method)
        for binding in transcoding.bindings(rule, request):
            described = transcoding.describe(method, binding, *answers)
            yield transcoding.route(binding, identify, respond, described)


def _unsaid(route: Route) -> Route:
    """Returns a route that the document of the API leaves out: another one says the same."""
    return dataclasses.replace(route, described=None)


async def _shown(answer: Answer) -> Response:
    """Returns the response with the operation that a call has answered with."""
    shown = await converted(len(answer.body), operation_json, answer.body)
    return json_response(shown, headers=poll_headers(answer.headers))


def _page_json(page: bytes) -> bytes:
    """Returns the JSON of a serialized ListOperationsResponse, on one line."""
    message = operations_pb2.ListOperationsResponse.FromString(page)
    shown = [canonical_json.to_json(one) for one in message.operations]
    del message.operations[:]
    rest = canonical_json.to_json(message)
    return dumped({"operations": shown, **rest} if shown else rest)
