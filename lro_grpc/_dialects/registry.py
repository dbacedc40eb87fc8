"""The dialects by their names."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from google.longrunning import operations_pb2

from lro_grpc._dialects import alloydb, azure_face, deployment_manager, longrunning, vertex_ai
from lro_grpc._dialects.dialect import Dialect
from lro_grpc._dialects.view import OperationView
from lro_grpc._errors import InvalidArgumentError, cut

_ALL: tuple[Dialect[Any], ...] = (
    longrunning,
    alloydb,
    vertex_ai,
    azure_face,
    deployment_manager,
)

DIALECTS: Mapping[str, Dialect[Any]] = MappingProxyType({one.NAME: one for one in _ALL})
"""Every dialect by its name."""


def to_json(operation: operations_pb2.Operation, dialect: str) -> dict[str, Any]:
    """Returns an operation as the JSON of a dialect.

    Args:
        operation: The operation, as Get answers with it.
        dialect: One of :data:`DIALECTS`.

    Raises:
        InvalidArgumentError: If there is no such dialect.
        LroError: FAILED_PRECONDITION if the dialect cannot show this operation: it is no batch, or
            its metadata lacks what the dialect cannot do without.
    """
    chosen = DIALECTS.get(dialect)
    if chosen is None:
        raise InvalidArgumentError(
            f"{cut(dialect)!r} is no dialect of operations; expected one of {', '.join(DIALECTS)}",
            metadata={"dialect": cut(dialect)},
        )
    if dialect == longrunning.NAME:
        return longrunning.to_json(operation)  # its metadata keeps its own type
    return chosen.to_json(chosen.from_view(OperationView.of_operation(operation)))
