"""The ``Operation`` of Cloud Deployment Manager v2.

The operations of its project P are those of the parent ``projects/P/locations/global``. Its names
are only the last part of ours; its links hold all of it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from google.longrunning import operations_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from lro.v1 import deployment_operation_pb2
from lro_grpc import _anys
from lro_grpc._dialects import canonical_json, http_status, longrunning, times
from lro_grpc._dialects.links import link_to
from lro_grpc._dialects.view import OperationView, empty_response, job_state_of
from lro_grpc._errors import Code, from_status
from lro_grpc._operation import names
from lro_grpc._operation.batch_states import BatchStates, Status
from lro_grpc._operation.states import (
    CANCELLED,
    DEPLOYMENT_OPERATION,
    PARTIALLY_SUCCEEDED,
    ended_with,
)

NAME: str = "deployment_manager"

Operation = deployment_operation_pb2.DeploymentOperation

_BASE = "/deploymentmanager/v2/"
"""The part of a link between the server and the name."""

_CODE_KEY = "code"
"""The key of the failure's code among the data of its warning."""


def parent_of(project: str) -> str:
    """Returns the parent of a project's operations."""
    return f"projects/{project}/locations/global"


def number_of(name: str) -> int:
    """Returns the number of a resource: the first 63 bits of the SHA-256 of its name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def from_view(view: OperationView, *, public_url: str = "") -> Operation:
    """Returns the operation as Deployment Manager shows it.

    Args:
        view: The operation.
        public_url: The beginning of all links, such as ``https://example.com``. Unless it is
            given, links are relative to the server.
    """
    word = DEPLOYMENT_OPERATION.state_for(view.state, started=view.started)
    operation = Operation(
        kind="deploymentmanager#operation",
        id=number_of(view.name),
        name=view.name.rpartition("/")[2],
        operation_type=view.verb,
        status=Operation.Status.Value(word.name),
        status_message=view.status_detail,
        user=view.caller,
        progress=100 if view.done else view.progress_percent,
        insert_time=times.with_offset(view.create_time),
        start_time=times.with_offset(view.start_time),
        end_time=times.with_offset(view.end_time),
        warnings=map(_warning, view.partial_failures),
        client_operation_id=view.request_id,
        self_link=_link(public_url, view.name),
    )
    if view.target:
        operation.target_id = number_of(view.target)
        operation.target_link = _link(public_url, view.target)
    if view.error is not None:
        operation.error.errors.extend(_errors(view.error, BatchStates(view.batch)))
        code = http_status.OF_CODE[http_status.canonical(view.error.code)]
        operation.http_error_status_code = code
        operation.http_error_message = http_status.phrase(code).upper()
    return operation


def to_operation(operation: Operation) -> operations_pb2.Operation:
    """Returns the operation of a Deployment Manager operation.

    Raises:
        InvalidArgumentError: If its status or a time is not a valid one.
    """
    state = job_state_of(DEPLOYMENT_OPERATION, operation.status)
    done = DEPLOYMENT_OPERATION.is_terminal(operation.status)
    error = _status(operation) if done and operation.error.errors else None
    if error is not None:
        state = ended_with(operations_pb2.Operation(error=error))
    elif any(one.code == Operation.Warning.PARTIAL_SUCCESS for one in operation.warnings) and done:
        state = PARTIALLY_SUCCEEDED
    end_time = times.parsed("end_time", operation.end_time)
    view = OperationView(
        name=_name(operation.self_link) or names.operation_name("", operation.name),
        state=state,
        target=_name(operation.target_link),
        verb=operation.operation_type,
        create_time=times.parsed("insert_time", operation.insert_time),
        start_time=times.parsed("start_time", operation.start_time),
        update_time=end_time,
        end_time=end_time,
        cancel_requested=state == CANCELLED,
        progress_percent=operation.progress,
        status_detail=operation.status_message,
        partial_failures=tuple(map(_partial_failure, operation.warnings)),
        error=error,
        response=empty_response() if done and error is None else None,
    )
    return longrunning.from_view(view)


def to_json(operation: Operation) -> dict[str, Any]:
    """Returns the operation as JSON."""
    return canonical_json.to_json(operation)


def error_body(error: status_pb2.Status) -> dict[str, Any]:
    """Returns the JSON body of an error response."""
    code = http_status.canonical(error.code)
    entry = {"message": error.message, "domain": "global", "reason": code.name}
    return {
        "error": {
            "code": http_status.OF_CODE[code],
            "message": error.message,
            "errors": [entry],
            "status": code.name,
        }
    }


def _link(public_url: str, name: str) -> str:
    path = re.sub(r"^(projects/[^/]+)/locations/global/", r"\1/global/", name)
    return link_to(path, f"{public_url.rstrip('/')}{_BASE}")


def _name(link: str) -> str:
    """Returns the name of the resource that a link leads to; a link elsewhere is its own name."""
    _, is_ours, path = link.partition(_BASE)
    if not is_ours:
        return link
    return re.sub(r"^(projects/[^/]+)/global/", r"\1/locations/global/", unquote(path))


def _errors(error: status_pb2.Status, batch: BatchStates) -> Iterator[Operation.ErrorEntry]:
    """Yields the error that ended the operation, then those of the instances that failed."""
    failed = [(one, batch.error_of(one)) for one in batch.among(frozenset({Status.FAILED}))]
    first = next((target for target, own in failed if own == error), "")
    yield _entry(error, first)
    for target, own in failed:
        if target != first:
            yield _entry(own, target)


def _entry(error: status_pb2.Status, location: str) -> Operation.ErrorEntry:
    code = http_status.canonical(error.code)
    entry = Operation.ErrorEntry(code=code.name, location=location, message=error.message)
    for detail in from_status(error).details:
        if isinstance(detail, error_details_pb2.ErrorInfo):
            info = Operation.ErrorInfo(
                reason=detail.reason, domain=detail.domain, metadatas=detail.metadata
            )
            entry.error_details.add(error_info=info)
        elif isinstance(detail, error_details_pb2.Help):
            entry.error_details.add(help=detail)
        elif isinstance(detail, error_details_pb2.LocalizedMessage):
            entry.error_details.add(localized_message=detail)
        elif isinstance(detail, error_details_pb2.DebugInfo):
            entry.debug_info.CopyFrom(detail)
    return entry


def _status(operation: Operation) -> status_pb2.Status:
    """Returns the first error, with the others among its details."""
    first, *others = (_of_entry(one, operation) for one in operation.error.errors)
    first.details.extend(map(_anys.pack, others))
    return first


def _of_entry(entry: Operation.ErrorEntry, operation: Operation) -> status_pb2.Status:
    code = _code(entry.code) or http_status.code_of(operation.http_error_status_code)
    return status_pb2.Status(
        code=code, message=entry.message, details=map(_anys.pack, _details(entry))
    )


def _details(entry: Operation.ErrorEntry) -> Iterator[Message]:
    for detail in entry.error_details:
        if detail.HasField("error_info"):
            info = detail.error_info
            yield error_details_pb2.ErrorInfo(
                reason=info.reason, domain=info.domain, metadata=info.metadatas
            )
        if detail.HasField("help"):
            yield detail.help
        if detail.HasField("localized_message"):
            yield detail.localized_message
    if entry.HasField("debug_info"):
        yield entry.debug_info


def _warning(failure: status_pb2.Status) -> Operation.Warning:
    name = http_status.canonical(failure.code).name
    datum = Operation.Warning.Datum(key=_CODE_KEY, value=name)
    return Operation.Warning(
        code=Operation.Warning.PARTIAL_SUCCESS, message=failure.message, data=[datum]
    )


def _partial_failure(warning: Operation.Warning) -> status_pb2.Status:
    codes = (_code(datum.value) for datum in warning.data if datum.key == _CODE_KEY)
    return status_pb2.Status(code=next(codes, None) or Code.UNKNOWN, message=warning.message)


def _code(name: str) -> Code | None:
    return Code[name] if name in Code.__members__ and name != Code.OK.name else None
