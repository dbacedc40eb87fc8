"""The view of an operation, whatever its dialect: each dialect is made from it, and leads back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf import any_pb2, empty_pb2
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2

from lro_grpc import _anys
from lro_grpc._errors import LIBRARY_DOMAIN, Code, InvalidArgumentError, LroError
from lro_grpc._operation import metadata
from lro_grpc._operation.record import FIELDS, Record
from lro_grpc._operation.states import (
    CANCELLING,
    JOB,
    PARTIALLY_SUCCEEDED,
    RUNNING,
    SUCCEEDED,
    UPDATING,
    Lifecycle,
    state_of,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationView:
    """All that is known of an operation, whatever dialect it came in.

    Times are microseconds since 1970 UTC. 0 stands for a time that is unset or not known, and so
    does an empty text. The names are those of a record.
    """

    name: str
    state: int
    """A ``lro.v1.JobState``; derived from the rest if the operation does not have it."""
    method: str = ""
    """``/pkg.Service/Method``. Only the server that has the operation knows it."""
    caller: str = ""
    """The caller that started it. Only the server that has the operation knows it."""
    request_id: str = ""
    """The caller's idempotency key. Only the server that has the operation knows it."""
    target: str = ""
    verb: str = ""
    api_version: str = ""
    create_time: int = 0
    start_time: int = 0
    update_time: int = 0
    end_time: int = 0
    expire_time: int = 0
    delayed_until: int = 0
    """The time before which its first attempt does not begin."""
    attempt: int = 0
    cancel_requested: bool = False
    pause_requested: bool = False
    progress_percent: int | None = None
    """0 to 100; None if it is not known."""
    status_detail: str = ""
    batch: bytes = b""
    """A serialized ``lro.v1.BatchCreateInstancesMetadata``; empty for none."""
    partial_failures: tuple[status_pb2.Status, ...] = ()
    """Failures of parts that do not fail the whole."""
    error: status_pb2.Status | None = None
    response: any_pb2.Any | None = None

    @property
    def done(self) -> bool:
        """Whether the operation has its outcome."""
        return JOB.is_terminal(self.state)

    @property
    def started(self) -> bool:
        """Whether an attempt has ever begun, as far as is known."""
        return bool(self.start_time) or self.state in STARTED_STATES

    @classmethod
    def of_record(cls, record: Record) -> OperationView:
        """Returns the view of a server on its own operation."""
        operation = operations_pb2.Operation.FromString(record.operation)
        # Failures of parts are in the handler's own metadata, and most handlers have none.
        own = _anys.unpack(operation.metadata) if record.handler_metadata else None
        return cls(
            **{name: getattr(record, name) for name, field in FIELDS.items() if field.viewed},
            partial_failures=metadata.partial_failures(own) if own else (),
            error=_error(operation),
            response=_response(operation),
        )

    @classmethod
    def of_operation(cls, operation: operations_pb2.Operation) -> OperationView:
        """Returns the view of a client: the result, and the conventional fields of the metadata.

        Of metadata whose type is not known here, nothing is read. A value that no view can have,
        such as a time after 9999, is not known either.
        """
        message = _anys.unpack(operation.metadata)
        values = _read(message)
        known = {name: _plain(value) for name, value in values.items()}
        failures = metadata.partial_failures(message) if message else ()
        known["state"] = _state(operation, values, partial=bool(failures))
        return cls(
            name=operation.name,
            partial_failures=failures,
            error=_error(operation),
            response=_response(operation),
            **known,
        )


STARTED_STATES = frozenset({RUNNING, UPDATING, CANCELLING})
"""The states that an operation is in only after an attempt has begun."""


def job_state_of(lifecycle: Lifecycle, number: int) -> int:
    """Returns the first ``JobState`` that a state of another dialect represents.

    Args:
        lifecycle: The states of that dialect.
        number: The state's number.

    Raises:
        InvalidArgumentError: If no state has that number.
    """
    if number not in lifecycle.states:
        names = ", ".join(state.name for state in lifecycle.states.values())
        raise InvalidArgumentError(
            f"{number} is no status of {lifecycle.name}; expected one of {names}",
            metadata={"status": str(number)},
        )
    return lifecycle.states[number].represents[0]


def empty_response() -> any_pb2.Any:
    """Returns an Empty: the response where a dialect shows only that there was one."""
    return _anys.pack(empty_pb2.Empty())


def does_not_apply(view: OperationView, dialect: str, why: str) -> LroError:
    """Returns the error for an operation that a dialect cannot show."""
    return LroError(
        f"{view.name} cannot be shown as {dialect}: {why}",
        code=Code.FAILED_PRECONDITION,
        reason="DIALECT_DOES_NOT_APPLY",
        domain=LIBRARY_DOMAIN,
        metadata={"operation": view.name, "dialect": dialect},
    )


def _state(operation: operations_pb2.Operation, values: Mapping[str, Any], *, partial: bool) -> int:
    """Returns the state in the metadata, or else the one that the rest stands for."""
    state = state_of(operation, values)
    is_derived = state != values.get("state")
    return PARTIALLY_SUCCEEDED if partial and is_derived and state == SUCCEEDED else state


def _read(message: Message | None) -> Mapping[str, Any]:
    return {} if message is None else metadata.read(message)


def _plain(value: Any) -> Any:
    if isinstance(value, Timestamp):
        try:
            return value.ToMicroseconds()
        except ValueError:  # beyond the years 1 to 9999
            return 0
    if isinstance(value, Message):
        return value.SerializeToString(deterministic=True)
    return value


def _error(operation: operations_pb2.Operation) -> status_pb2.Status | None:
    return operation.error if operation.done and operation.HasField("error") else None


def _response(operation: operations_pb2.Operation) -> any_pb2.Any | None:
    return operation.response if operation.done and operation.HasField("response") else None
