"""The HTTP API of Cloud Deployment Manager v2.

``GET /deploymentmanager/v2/projects/{project}/global/operations/{operation}`` answers with an
operation of the parent ``projects/{project}/locations/global``, and the path without its last part
with a page of them. A method that starts operations below ``/deploymentmanager/v2``, by its
``google.api.http`` rule, answers with the operation in this dialect.

**List.** ``maxResults`` (0 to 500), ``pageToken``, and ``filter``, see ``deployment_filter``.
``orderBy`` is ``name``, the default, or ``creationTimestamp desc``; of a server behind a channel,
which lists in no other order, it is the latter alone.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from google.longrunning import operations_pb2
from google.rpc import status_pb2
from starlette.responses import Response
from starlette.types import ASGIApp

from lro.v1 import deployment_operation_pb2
from lro_grpc._dialects import deployment_manager
from lro_grpc._dialects.view import OperationView
from lro_grpc._errors import InvalidArgumentError, cut
from lro_grpc._http.backend import Backend, ListRequest, view_of
from lro_grpc._http.conversion import converted
from lro_grpc._http.described import RETRY_AFTER, Described, Shown
from lro_grpc._http.request import HttpRequest, single_values
from lro_grpc._http.responses import dumped, json_response, poll_headers
from lro_grpc._http.routing import Route, Template
from lro_grpc._http.vendors import deployment_filter
from lro_grpc._operation import names
from lro_grpc._runtime.repeated_lines import PROCESS
from lro_grpc._server.rpc.local_calls import Answer
from lro_grpc._stores.store import Order

_MOST_RESULTS = 500
_ORDERS = {"": None, "name": Order.BY_NAME, "creationTimestamp desc": Order.NEWEST_FIRST}
_PARAMETERS = ("filter", "maxResults", "orderBy", "pageToken", "returnPartialSuccess")
_IGNORED = "header.bypassBillingFilter"


_OPERATION = Shown(
    "The operation; an empty object, if a start was only validated.",
    deployment_operation_pb2.DeploymentOperation,
    headers=RETRY_AFTER,
)
_GET = Described(
    tag=deployment_manager.NAME,
    name="GetOperation",
    answers=(_OPERATION,),
    parameters={_IGNORED: {"type": "boolean", "description": "Has no effect."}},
    text="An operation of the parent `projects/{project}/locations/global`, as Deployment Manager"
    " has it.",
)
_TEXT = {"type": "string"}
_LIST = Described(
    tag=deployment_manager.NAME,
    name="ListOperations",
    answers=(
        Shown(
            "A page of operations.",
            deployment_operation_pb2.DeploymentOperation,
            member="operations",
        ),
    ),
    parameters={
        "filter": _TEXT,
        "maxResults": {"type": "integer", "minimum": 0, "maximum": _MOST_RESULTS},
        "orderBy": {"type": "string", "enum": list(_ORDERS)},
        "pageToken": _TEXT,
        "returnPartialSuccess": {"type": "boolean", "description": "Has no effect."},
    },
)
_ERROR = Shown(
    "An error.",
    name="deployment-manager-error",
    schema={
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message", "errors", "status"],
                "properties": {
                    "code": {"type": "integer"},
                    "message": _TEXT,
                    "errors": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {"message": _TEXT, "domain": _TEXT, "reason": _TEXT},
                        },
                    },
                    "status": _TEXT,
                },
            }
        },
    },
)


class DeploymentManager:
    """The routes of Deployment Manager.

    Args:
        backend: The operations.
        public_url: The beginning of links; they are relative to the server if it is empty.
    """

    prefix = "/deploymentmanager/v2"
    dialect = deployment_manager.NAME

    def __init__(self, backend: Backend, public_url: str) -> None:
        self._backend = backend
        self._public_url = public_url

    def routes(self) -> Iterator[Route]:
        """Returns the routes."""
        collection = f"{self.prefix}/projects/{{project}}/global/operations"
        yield Route("GET", Template(collection), self._list, described=_LIST)
        one = Template(f"{collection}/{{operation}}")
        yield Route("GET", one, self._get, described=_GET)

    def error_body(self, status: status_pb2.Status) -> dict[str, Any]:
        """Returns the JSON body of an error response."""
        return deployment_manager.error_body(status)

    @property
    def start(self) -> Shown:
        """The operation, in this dialect."""
        return _OPERATION

    @property
    def error(self) -> Shown:
        """The error of Google's older APIs."""
        return _ERROR

    async def started(self, answer: Answer) -> Response:
        """Returns the operation; an empty object, if the request was only validated."""
        view = view_of(answer)
        return self._shown(view, answer) if view.name else json_response(b"{}")

    async def _get(self, http_request: HttpRequest, variables: Mapping[str, str]) -> ASGIApp:
        parent = _parent(variables["project"])
        name = names.operation_name(parent, variables["operation"])
        answer = await self._backend.get(
            name, http_request.caller, lambda: single_values(http_request.query, (_IGNORED,))
        )
        return self._shown(view_of(answer), answer)

    async def _list(self, http_request: HttpRequest, variables: Mapping[str, str]) -> ASGIApp:
        parent = _parent(variables["project"])
        answers, next_page_token = await self._backend.list(
            parent, lambda: _list_request(http_request.query, parent), http_request.caller
        )
        size = sum(len(answer.body) for answer in answers)
        shown = await converted(size, self._page_json, answers, next_page_token)
        return json_response(shown)

    def _shown(self, view: OperationView, answer: Answer) -> Response:
        return json_response(dumped(self._json(view)), headers=poll_headers(answer.headers))

    def _page_json(self, answers: Sequence[Answer], next_page_token: str) -> bytes:
        shown = []
        for answer in answers:
            view = view_of(answer)
            with _spoiling_nothing(view.name):
                shown.append(self._json(view))
        body: dict[str, Any] = {"operations": shown}
        if next_page_token:
            body["nextPageToken"] = next_page_token
        return dumped(body)

    def _json(self, view: OperationView) -> dict[str, Any]:
        operation = deployment_manager.from_view(view, public_url=self._public_url)
        return deployment_manager.to_json(operation)


@contextlib.contextmanager
def _spoiling_nothing(name: str) -> Iterator[None]:
    """Leaves an operation out of a list of others if it cannot be shown."""
    try:
        yield
    except (InvalidArgumentError, ValueError) as error:
        text = f"{name} is left out of a list: {error}"
        PROCESS.say(logging.WARNING, text, kind="left out", extra={"operation": name})


def _parent(project: str) -> str:
    if "/" in project:  # it was percent-encoded: the parent of another project, or of none
        raise InvalidArgumentError(f"project is {cut(project)!r}; give its id")
    return deployment_manager.parent_of(project)


def _list_request(query: Sequence[tuple[str, str]], parent: str) -> ListRequest:
    """Returns the request for a page, of the query's parameters.

    Raises:
        InvalidArgumentError: If a parameter is not known, or malformed.
    """
    parameters = single_values(query, (*_PARAMETERS, _IGNORED))
    order = parameters.get("orderBy", "")
    if order not in _ORDERS:
        raise InvalidArgumentError(
            f"orderBy is {cut(order)!r}; give 'name' or 'creationTimestamp desc'"
        )
    page = operations_pb2.ListOperationsRequest(
        name=parent,
        filter=deployment_filter.translated(parameters.get("filter", ""), parent),
        page_size=_page_size(parameters.get("maxResults", "")),
        page_token=parameters.get("pageToken", ""),
    )
    return ListRequest(page, _ORDERS[order])


def _page_size(text: str) -> int:
    if not text:
        return _MOST_RESULTS
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and int(text) <= _MOST_RESULTS):
        raise InvalidArgumentError(
            f"maxResults is {cut(text)!r}; give a number of 0 to {_MOST_RESULTS}"
        )
    return int(text)
