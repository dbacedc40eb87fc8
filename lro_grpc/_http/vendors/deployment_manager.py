"""The HTTP API of Cloud Deployment Manager v2.

``GET /deploymentmanager/v2/projects/{project}/global/operations/{operation}`` answers with an
operation of the parent ``projects/{project}/locations/global``, and the path without its last part
with a page of them. A method that starts operations below ``/deploymentmanager/v2``, by its
``google.api.http`` rule, answers with the operation in this dialect.

**List.** ``maxResults`` (0 to 500), ``pageToken``, and ``filter``: that of google.longrunning, see
:mod:`lro_grpc._filtering.parser`, with this dialect's names in place of some fields. The order is
``creationTimestamp desc``, whether ``orderBy`` is that or unset.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from google.longrunning import operations_pb2
from google.rpc import status_pb2
from starlette.responses import Response
from starlette.types import ASGIApp

from lro_grpc._dialects import deployment_manager
from lro_grpc._dialects.view import OperationView
from lro_grpc._errors import InvalidArgumentError, OperationNotFoundError, cut
from lro_grpc._http.backend import LIST_OPERATIONS, Backend
from lro_grpc._http.request import HttpRequest, single_values
from lro_grpc._http.responses import dumped, json_response
from lro_grpc._http.routing import Route, Template
from lro_grpc._operation import names

_MAX_RESULTS = 500
_ORDER = "creationTimestamp desc"
_PARAMETERS = ("filter", "maxResults", "orderBy", "pageToken", "returnPartialSuccess")


class DeploymentManager:
    """The routes of Deployment Manager.

    Args:
        backend: The operations.
        public_url: The beginning of links; they are relative to the server if it is empty.
    """

    prefix = "/deploymentmanager/v2"

    def __init__(self, backend: Backend, public_url: str) -> None:
        self._backend = backend
        self._public_url = public_url

    def routes(self) -> Iterator[Route]:
        """Returns the routes."""
        collection = f"{self.prefix}/projects/{{project}}/global/operations"
        yield Route("GET", Template(collection), self._list)
        yield Route("GET", Template(f"{collection}/{{operation}}"), self._get)

    def error_body(self, status: status_pb2.Status) -> dict[str, Any]:
        """Returns the JSON body of an error response."""
        return deployment_manager.error_body(status)

    async def started(self, operation: bytes) -> Response:
        """Returns the operation; an empty object, if the request was only validated."""
        made = operations_pb2.Operation.FromString(operation)
        if not made.name:
            return json_response(b"{}")
        return json_response(dumped(self._json(await self._backend.view(made))))

    async def _get(self, http_request: HttpRequest, variables: Mapping[str, str]) -> ASGIApp:
        single_values(http_request.query, ("header.bypassBillingFilter",))
        parent = _parent(variables["project"])
        name = names.operation_name(parent, variables["operation"])
        return json_response(dumped(self._json(await self._backend.get(name, http_request.caller))))

    async def _list(self, http_request: HttpRequest, variables: Mapping[str, str]) -> ASGIApp:
        parameters = single_values(http_request.query, (*_PARAMETERS, "header.bypassBillingFilter"))
        order = parameters.get("orderBy", "")
        if order not in (_ORDER, ""):
            raise InvalidArgumentError(
                f"orderBy is {cut(order)!r}; the one order that there is is {_ORDER!r}"
            )
        parent = _parent(variables["project"])
        request = operations_pb2.ListOperationsRequest(
            name=parent,
            filter=_translated(parameters.get("filter", ""), parent),
            page_size=_page_size(parameters.get("maxResults", "")),
            page_token=parameters.get("pageToken", ""),
        )
        answer = await self._backend.call(
            LIST_OPERATIONS, request.SerializeToString(), http_request.caller
        )
        page = operations_pb2.ListOperationsResponse.FromString(answer.body)
        shown = []
        for operation in page.operations:
            try:
                shown.append(self._json(await self._backend.view(operation)))
            except OperationNotFoundError:
                continue  # it has gone since the page was made
        body: dict[str, Any] = {"operations": shown}
        if page.next_page_token:
            body["nextPageToken"] = page.next_page_token
        return json_response(dumped(body))

    def _json(self, view: OperationView) -> dict[str, Any]:
        operation = deployment_manager.from_view(view, public_url=self._public_url)
        return deployment_manager.to_json(operation)


def _parent(project: str) -> str:
    if "/" in project:  # it was percent-encoded: the parent of another project, or of none
        raise InvalidArgumentError(f"project is {cut(project)!r}; give its id")
    return deployment_manager.parent_of(project)


def _page_size(text: str) -> int:
    if not text:
        return _MAX_RESULTS
    if not (text.isascii() and text.isdecimal() and int(text[:5]) <= _MAX_RESULTS):
        raise InvalidArgumentError(
            f"maxResults is {cut(text)!r}; give a number of 0 to {_MAX_RESULTS}"
        )
    return int(text)


_FIELDS = {
    "operationType": "verb",
    "statusMessage": "status_detail",
    "insertTime": "create_time",
    "startTime": "start_time",
    "endTime": "end_time",
}

_OPERATORS = {"eq": "=", "ne": "!="}

_STATUS = {
    "DONE": "done = true",
    "RUNNING": "(done = false AND start_time:* OR state = CANCELLING)",
    "PENDING": "(done = false AND NOT start_time:* AND NOT state = CANCELLING)",
}

_STRING = r'"(?:\\.|[^"\\])*"' + "|" + r"'(?:\\.|[^'\\])*'"
_COMPARISON = re.compile(
    rf"(?P<text>{_STRING})|"
    rf"(?<![\w.])(?P<field>name|status|{'|'.join(_FIELDS)})"
    r"(?:\s*(?P<operator>!=|<=|>=|=|<|>|:)\s*|\s+(?P<word>eq|ne)\s+)"
    rf"(?P<value>{_STRING}|[^\s()\"']+)"
)


def _translated(text: str, parent: str) -> str:
    """Returns a filter over this dialect's fields as one of google.longrunning.

    All else stays as it is: the list knows it, or refuses it.

    Args:
        text: The filter.
        parent: The parent of the operations.
    """

    def translate(found: re.Match[str]) -> str:
        if found["text"]:
            return found[0]
        field, value = found["field"], found["value"]
        sign = found["operator"] or _OPERATORS[found["word"]]
        bare = value.strip("\"'")
        if field in _FIELDS:
            return f"{_FIELDS[field]} {sign} {value}"
        if field == "name" and sign != ":":
            return f'name {sign} "{names.operation_name(parent, bare)}"'
        if field == "status" and bare in _STATUS and sign in ("=", "!="):
            return f"NOT {_STATUS[bare]}" if sign == "!=" else _STATUS[bare]
        return found[0]

    return _COMPARISON.sub(translate, text)
