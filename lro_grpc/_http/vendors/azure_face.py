"""The HTTP API of Azure Face.

``GET /face/v1.0/operations/{id}`` answers with the status of an operation, found by its id alone. A
method that starts operations at ``/face/v1.0/…``, by its ``google.api.http`` rule, answers with 202
and ``Operation-Location`` in place of the operation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from google.longrunning import operations_pb2
from google.rpc import status_pb2
from starlette.responses import Response
from starlette.types import ASGIApp

from lro.v1 import operation_status_pb2
from lro_grpc._dialects import azure_face
from lro_grpc._errors import PermissionDeniedError, cut
from lro_grpc._http.backend import Backend, view_of
from lro_grpc._http.described import RETRY_AFTER, Described, Shown
from lro_grpc._http.request import HttpRequest, single_values
from lro_grpc._http.responses import dumped, json_response, poll_headers
from lro_grpc._http.routing import Route, Template
from lro_grpc._operation import names
from lro_grpc._server.rpc.local_calls import Answer

_DESCRIBED = Described(
    tag=azure_face.NAME,
    name="GetOperationStatus",
    text="The status of an operation, by its id alone, as Azure Face has it.",
    answers=(Shown("The status.", operation_status_pb2.OperationStatus, headers=RETRY_AFTER),),
)
_START = Shown(
    "The operation has started; without the header the request was only validated.",
    status=202,
    headers={"Operation-Location": "The URL of its status.", **RETRY_AFTER},
)
_ERROR = Shown(
    "An error.",
    name="azure-face-error",
    schema={
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
            }
        },
    },
)


class AzureFace:
    """The routes of Azure Face.

    Args:
        backend: The operations.
        public_url: The beginning of links; they are relative to the server if it is empty.
    """

    prefix = "/face/v1.0"
    dialect = azure_face.NAME

    def __init__(self, backend: Backend, public_url: str) -> None:
        self._backend = backend
        self._public_url = public_url.rstrip("/")

    def routes(self) -> Iterator[Route]:
        """Returns the routes."""
        template = Template(f"{self.prefix}/operations/{{operation_id}}")
        yield Route("GET", template, self._get, described=_DESCRIBED)

    def error_body(self, status: status_pb2.Status) -> dict[str, Any]:
        """Returns the JSON body of an error response."""
        return azure_face.error_body(status)

    @property
    def start(self) -> Shown:
        """No body: a header leads to the status."""
        return _START

    @property
    def error(self) -> Shown:
        """The error of the vendor."""
        return _ERROR

    async def started(self, answer: Answer) -> Response:
        """Returns 202 with the URL of the status; with none if the request was only validated."""
        name = operations_pb2.Operation.FromString(answer.body).name
        headers = dict(poll_headers(answer.headers))
        if name:
            operation_id = quote(name.rpartition("/")[2], safe="~")  # a server may be another one's
            location = f"{self._public_url}{self.prefix}/operations/{operation_id}"
            headers["operation-location"] = location
        return Response(status_code=202, headers=headers)

    async def _get(self, http_request: HttpRequest, variables: Mapping[str, str]) -> ASGIApp:
        operation_id = variables["operation_id"]
        name = await self._backend.find(operation_id)
        try:
            answer = await self._backend.get(
                name, http_request.caller, lambda: single_values(http_request.query, ())
            )
        except PermissionDeniedError as cause:
            raise _denied(operation_id) from cause
        status = azure_face.from_view(view_of(answer), public_url=self._public_url)
        shown = dumped(azure_face.to_json(status))
        return json_response(shown, headers=poll_headers(answer.headers))


def _denied(operation_id: str) -> PermissionDeniedError:
    """Returns an error without the full name, which would show that the operation exists (S19)."""
    name = names.operation_name("", operation_id)
    return PermissionDeniedError(
        f"Permission 'operations.get' denied on resource '{cut(name)}' (or it might not exist)."
    )
