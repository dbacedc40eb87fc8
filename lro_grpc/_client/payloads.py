"""The messages inside an operation's ``Any`` fields, as the declared types."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from google.protobuf import any_pb2
from google.protobuf.message import DecodeError, Message

from lro_grpc import _anys
from lro_grpc._errors import Code, OperationCancelledError, OperationFailedError, WrongTypeError

if TYPE_CHECKING:
    from google.longrunning import operations_pb2
    from typing_extensions import TypeVar

    # The default (PEP 696) is for futures without declared types. Python has it from 3.13 on,
    # type checkers have it for every version.
    ResponseT = TypeVar("ResponseT", bound=Message, default=Message)
    MetadataT = TypeVar("MetadataT", bound=Message, default=Message)
    MessageT = TypeVar("MessageT", bound=Message)
else:
    from typing import TypeVar

    ResponseT = TypeVar("ResponseT", bound=Message)
    MetadataT = TypeVar("MetadataT", bound=Message)


def outcome(
    operation: operations_pb2.Operation, response: type[ResponseT] | None
) -> ResponseT | None:
    """Returns the response of an operation that is done, or raises its error.

    Args:
        operation: An operation that is done.
        response: The declared type; None to go by the type URL.

    Returns:
        The response; None if the server provides neither response nor error (P2).

    Raises:
        OperationCancelledError: If the operation was cancelled: ``error.code`` is 1 (P8).
        OperationFailedError: If it failed with another code.
        WrongTypeError: If the response is not a message of the declared type.
    """
    result = operation.WhichOneof("result")
    if result == "error":
        kind = OperationCancelledError if is_cancelled(operation) else OperationFailedError
        raise kind(operation)
    if result is None:
        return None
    return unpack(operation, "response", response)


def is_cancelled(operation: operations_pb2.Operation) -> bool:
    """Whether the operation ended by being cancelled (P8)."""
    return bool(operation.done and operation.error.code == Code.CANCELLED)


def unpack(
    operation: operations_pb2.Operation, field: str, declared: type[MessageT] | None
) -> MessageT:
    """Returns the message inside ``Operation.response`` or ``Operation.metadata``.

    Args:
        operation: The operation.
        field: ``response`` or ``metadata``; it is set.
        declared: The type that it must have; None for the one that its type URL names.

    Raises:
        WrongTypeError: If it has another type, a type that no imported module defines, or bytes
            that are not a message of its type.
    """
    packed: any_pb2.Any = getattr(operation, field)
    actual = packed.TypeName()
    kind = declared or _anys.find_class(actual)
    where = f"the {field} of {operation.name}"
    if kind is None:
        raise WrongTypeError(
            f"{where} is a {actual!r}, which is not known here; import the module that defines it",
            metadata={"operation": operation.name, "actual": actual},
        )
    expected = kind.DESCRIPTOR.full_name
    values = {"operation": operation.name, "expected": expected, "actual": actual}
    if actual != expected:
        raise WrongTypeError(f"{where} is a {actual!r}, not a {expected!r}", metadata=values)
    try:
        return cast("MessageT", kind.FromString(packed.value))
    except DecodeError as error:
        raise WrongTypeError(
            f"the bytes in {where} are not a {expected!r}: {error}", metadata=values
        ) from error
