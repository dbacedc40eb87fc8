"""The forms by the names under which a user asks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from google.longrunning import operations_pb2

from lro_grpc._dialects import alloydb, azure_face, deployment_manager, longrunning, vertex_ai
from lro_grpc._dialects.view import OperationView
from lro_grpc._errors import InvalidArgumentError, cut


def to_json(operation: operations_pb2.Operation, form: str) -> dict[str, Any]:
    """Returns the JSON that an operation is in one of the forms.

    Args:
        operation: The operation, as Get answers with it.
        form: One of :data:`FORMS`.

    Raises:
        InvalidArgumentError: If there is no such form.
        LroError: FAILED_PRECONDITION if the operation does not have this form: it is no batch, or
            does not tell what the form cannot do without.
    """
    if form not in _MAKERS:
        raise InvalidArgumentError(
            f"{cut(form)!r} is no form of an operation; expected one of {', '.join(FORMS)}",
            metadata={"form": cut(form)},
        )
    return _MAKERS[form](operation)


def _operation_status(operation: operations_pb2.Operation) -> dict[str, Any]:
    status = azure_face.from_view(OperationView.of_operation(operation))
    return azure_face.to_json(status)


def _deployment_manager(operation: operations_pb2.Operation) -> dict[str, Any]:
    deployment = deployment_manager.from_view(OperationView.of_operation(operation))
    return deployment_manager.to_json(deployment)


def _batch(operation: operations_pb2.Operation) -> dict[str, Any]:
    batch = alloydb.from_view(OperationView.of_operation(operation))
    return alloydb.to_json(batch)


def _job(operation: operations_pb2.Operation) -> dict[str, Any]:
    return vertex_ai.to_json(vertex_ai.from_view(OperationView.of_operation(operation)))


_MAKERS: Mapping[str, Callable[[operations_pb2.Operation], dict[str, Any]]] = {
    "longrunning": longrunning.to_json,
    "job": _job,
    "operation-status": _operation_status,
    "deployment-manager": _deployment_manager,
    "batch": _batch,
}

FORMS = tuple(_MAKERS)
"""The names of the forms."""
