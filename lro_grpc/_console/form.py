"""An operation in another form: as the JSON of a dialect, or as the request that started it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from lro_grpc._console.block import JSON_BYTES, block_of, size_text
from lro_grpc._console.markup import Budget, cut
from lro_grpc._dialects import canonical_json, longrunning
from lro_grpc._dialects.registry import DIALECTS, to_json
from lro_grpc._errors import LroError

if TYPE_CHECKING:
    from google.longrunning import operations_pb2

    from lro.v1.operation_description_pb2 import DescribeOperationResponse
    from lro_grpc._dialects.canonical_json import Unpack

FORMS = tuple(DIALECTS)
"""The names of the forms, and of the dialects."""

REQUEST = "request"
"""The name of one more form: the request that started the operation."""


@dataclass(frozen=True, slots=True)
class Form:
    """An operation in another form."""

    operation: str
    """The operation's name."""
    name: str
    json: Markup | None
    note: str
    """The reason why there is no JSON; empty if there is."""


def form_of(operation: operations_pb2.Operation, dialect: str, unpack: Unpack) -> Form:
    """Returns an operation as the JSON of a dialect.

    Args:
        operation: The operation.
        dialect: One of ``FORMS``.
        unpack: As in ``operation_page``.
    """
    name = operation.name
    if operation.ByteSize() > JSON_BYTES:
        note = f"{size_text(operation.ByteSize())}: the JSON file has all of it"
        return Form(name, dialect, None, note)
    try:
        if dialect == longrunning.NAME:
            value = canonical_json.to_json(operation, unpack)
        else:
            value = to_json(operation, dialect)
    except LroError as error:
        return Form(name, dialect, None, cut(error.message, 1_000))
    return Form(name, dialect, Budget().take_json(value), "")


def request_form(description: DescribeOperationResponse, unpack: Unpack) -> Form:
    """Returns the request that started an operation.

    Args:
        description: The description in the FULL view.
        unpack: As in ``operation_page``.
    """
    name = description.operation.name
    if not description.HasField("request"):
        note = "The server does not show it: it is too large, or may hold what nobody is to see."
        return Form(name, REQUEST, None, note)
    block = block_of("", description.request, unpack, Budget())
    return Form(name, REQUEST, block.json, block.note)
