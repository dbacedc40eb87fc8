"""The protocol of a dialect."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from google.longrunning import operations_pb2

from lro_grpc._dialects.view import OperationView

Shown = TypeVar("Shown")
"""An operation as a dialect shows it: a protobuf message, or the mapping that its JSON is of."""


class Dialect(Protocol[Shown]):
    """One vendor's documented way to show an operation.

    Every dialect is a module with these functions. Some take more, all of it optional. None does
    I/O or needs gRPC.
    """

    NAME: str
    """The one word for the dialect: that of its module, of ``lro get --as`` and of its errors."""

    def from_view(self, view: OperationView) -> Shown:
        """Returns the operation as the dialect shows it.

        Raises:
            LroError: FAILED_PRECONDITION if the dialect cannot show this operation.
        """
        ...

    def to_operation(self, shown: Shown, /) -> operations_pb2.Operation:
        """Returns the operation again, as far as the dialect can carry it.

        Raises:
            InvalidArgumentError: If it is no operation of this dialect.
        """
        ...

    def to_json(self, shown: Shown, /) -> dict[str, Any]:
        """Returns the JSON that the vendor's own clients read."""
        ...
