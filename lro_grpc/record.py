"""The stored operation: an immutable value, and the bytes that it is served as.

All times are microseconds since 1970 UTC; 0 stands for unset.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from google.longrunning import operations_pb2

from lro.v1 import state_pb2
from lro_grpc import metadata, names
from lro_grpc.errors import ConfigurationError, OperationNotFoundError
from lro_grpc.lifecycle import JOB

QUEUED = state_pb2.JOB_STATE_QUEUED
PENDING = state_pb2.JOB_STATE_PENDING
RUNNING = state_pb2.JOB_STATE_RUNNING
UPDATING = state_pb2.JOB_STATE_UPDATING
PAUSED = state_pb2.JOB_STATE_PAUSED
CANCELLING = state_pb2.JOB_STATE_CANCELLING
CANCELLED = state_pb2.JOB_STATE_CANCELLED
SUCCEEDED = state_pb2.JOB_STATE_SUCCEEDED
PARTIALLY_SUCCEEDED = state_pb2.JOB_STATE_PARTIALLY_SUCCEEDED
FAILED = state_pb2.JOB_STATE_FAILED
EXPIRED = state_pb2.JOB_STATE_EXPIRED

DEFAULT_RETENTION = 30 * 24 * 3600 * 1_000_000
"""For how long a done operation is kept unless its method says otherwise: 30 days (S7)."""

LAST_TIME = 253_402_300_799_999_999
"""The end of the year 9999, after which a ``Timestamp`` shows nothing; 64 bits hold it, too."""


class Record(NamedTuple):
    """One operation, all of it.

    A named tuple, for it goes to and from a table's row as it is.
    """

    name: str
    """``[{parent}/]operations/{id}``."""
    parent: str
    """The part of the name before ``/operations/``; empty for none."""
    method: str
    """The full name of the gRPC method that started it: ``/pkg.Service/Method``."""
    request: bytes
    """The request message as it came over the wire."""
    request_id: str
    """The caller's idempotency key; empty for none, and once the operation is deleted."""
    fingerprint: bytes
    """A hash of the request, by which another one under the same key is told apart."""
    metadata_type: str
    """The full name of the metadata message."""
    target: str
    """The resource that the operation is about."""
    verb: str
    """What is done to the target, such as ``create``."""
    api_version: str
    """The version of the API that the operation was started with, such as ``v1``."""
    caller: str
    """Who started it, by the service's own account; empty if that is not known."""
    trace_context: str
    """What its attempts belong to: a W3C ``traceparent``, and after a space its ``tracestate``."""
    max_attempts: int
    """How many attempts may fail, be lost or get stuck before the operation fails."""
    pausable: bool
    """Whether its handler can pause."""
    exclusive_target: str
    """The target that no other operation may have meanwhile (S6); empty for none, and when done."""
    retention: int
    """For how long it is kept once it is done, in microseconds."""
    deadline_time: int
    """When its method's own time limit is over; 0 for none."""
    create_time: int
    """When it was started."""
    start_time: int
    """When its first attempt began; never moves."""
    update_time: int
    """When anything that Get shows last changed."""
    end_time: int
    """When it was done."""
    expire_time: int
    """From when on it may be removed; 0 until it is done."""
    state: int
    """A ``lro.v1.JobState``."""
    attempt: int
    """The number of the latest attempt: the fencing token. 0 before the first claim."""
    failed_attempts: int
    """How many attempts ended with an error to retry, without a worker, or stuck."""
    lease_time: int
    """Until when the latest attempt holds the operation; 0 while no attempt does."""
    ready_time: int
    """Before when no attempt may begin; 0 for no such time."""
    cancel_requested: bool
    """Whether someone asked to cancel it."""
    pause_requested: bool
    """Whether someone asked to pause it, and it has not come to where it can."""
    deleted: bool
    """Whether someone deleted it while it was not done: hidden, but still run to its end."""
    progress_percent: int
    """0 to 100; never goes back."""
    status_detail: str
    """What the handler last said about its progress."""
    custom: bytes
    """The handler's own metadata fields: a serialized message of ``metadata_type``."""
    checkpoint: bytes
    """The ``Any`` of the state that a handler goes on from; empty for none."""
    batch: bytes
    """The batch's targets and states: a ``lro.v1.BatchCreateInstancesMetadata``; empty for none."""
    batch_error: bytes
    """The ``google.rpc.Status`` of the batch's first failure; empty for none."""
    error_code: int
    """The code of its error; 0 for none."""
    response_type: str
    """The full name of its response's message; empty for none."""
    operation: bytes
    """The ``google.longrunning.Operation`` that Get answers with, byte for byte."""

    @property
    def done(self) -> bool:
        """Whether the operation has its outcome; from then on nothing changes."""
        return JOB.is_terminal(self.state)

    @property
    def claimable(self) -> bool:
        """Whether it waits to be run, or to be undone; ``is_ready`` tells from when on it may."""
        return self.state in CLAIMABLE_STATES and not self.lease_time

    @property
    def is_to_undo(self) -> bool:
        """Whether an attempt has left behind what has to be undone, should it end now."""
        return bool(self.batch or (self.checkpoint and self.state == CANCELLING))

    def is_ready(self, now: int) -> bool:
        """Whether an attempt may begin."""
        return self.claimable and self.ready_time <= now and not self.is_due(now)

    def is_overdue(self, now: int) -> bool:
        """Whether its method's time limit is over."""
        return 0 < self.deadline_time <= now

    def is_due(self, now: int) -> bool:
        """Whether ``Elapse`` changes it: it is to be removed, or to expire and nobody has it."""
        if self.done:
            return 0 < self.expire_time <= now and not self.deleted
        is_seen_to = self.lease_time or (self.claimable and self.is_to_undo)
        return self.is_overdue(now) and not is_seen_to


CLAIMABLE_STATES = frozenset({QUEUED, CANCELLING})
"""The states in which a record without a lease waits for an attempt."""


def create(
    *,
    parent: str,
    operation_id: str,
    method: str,
    request: bytes,
    metadata_type: str,
    now: int,
    request_id: str = "",
    fingerprint: bytes = b"",
    target: str = "",
    verb: str = "",
    api_version: str = "",
    caller: str = "",
    trace_context: str = "",
    max_attempts: int = 10,
    pausable: bool = False,
    exclusive: bool = False,
    retention: int = DEFAULT_RETENTION,
    timeout: int = 0,
    custom: bytes = b"",
) -> Record:
    """Returns a new record, QUEUED and not yet stored.

    With ``exclusive`` no other operation may have the target meanwhile (S6). ``timeout`` is how
    long it may take from now on, in microseconds; 0 stands for any time. ``custom`` is what the
    handler's own metadata fields are to begin with.
    """
    record = Record(
        name=names.operation_name(parent, operation_id),
        parent=parent,
        method=method,
        request=request,
        request_id=request_id,
        fingerprint=fingerprint,
        metadata_type=metadata_type,
        target=target,
        verb=verb,
        api_version=api_version,
        caller=caller,
        trace_context=trace_context,
        max_attempts=max_attempts,
        pausable=pausable,
        exclusive_target=target if exclusive else "",
        retention=min(retention, LAST_TIME),
        deadline_time=min(now + timeout, LAST_TIME) if timeout else 0,
        create_time=now,
        start_time=0,
        update_time=now,
        end_time=0,
        expire_time=0,
        state=JOB.initial.number,
        attempt=0,
        failed_attempts=0,
        lease_time=0,
        ready_time=0,
        cancel_requested=False,
        pause_requested=False,
        deleted=False,
        progress_percent=0,
        status_detail="",
        custom=custom,
        checkpoint=b"",
        batch=b"",
        batch_error=b"",
        error_code=0,
        response_type="",
        operation=b"",
    )
    return published(record, now)


def not_found(name: str) -> OperationNotFoundError:
    """Returns the error for a name that no operation has."""
    return OperationNotFoundError(f"operation {name!r} not found", metadata={"name": name})


def published(
    record: Record,
    now: int,
    result: operations_pb2.Operation | None = None,
    *,
    path: tuple[int, ...] = (),
    **changes: Any,
) -> Record:
    """Returns the changed record, with the bytes that Get answers with made anew.

    Args:
        record: The record to change.
        now: The time of the change.
        result: An Operation with the outcome and nothing else; ends the operation.
        path: The states to walk through, the last of which is the new one.
        **changes: The fields to change besides.

    Raises:
        IllegalTransitionError: If the lifecycle lacks one of the steps.
    """
    if path:
        if record.state == UPDATING and path[0] != RUNNING:
            path = (RUNNING, *path)  # what comes while it is updating comes right after it
        JOB.check(record.state, *path)
        changes["state"] = path[-1]
    now = max(now, record.update_time)  # a clock that is set back must not be seen in a record
    changes["update_time"] = now
    if result is not None:
        changes.update(
            end_time=now,
            expire_time=min(now + record.retention, LAST_TIME),
            lease_time=0,
            ready_time=0,
            pause_requested=False,
            exclusive_target="",
            error_code=result.error.code,
            response_type=result.response.type_url.rpartition("/")[2],
        )
    record = record._replace(**changes)
    operation = operations_pb2.Operation(name=record.name, done=result is not None)
    operation.metadata.type_url = metadata.TYPE_URL_PREFIX + record.metadata_type
    operation.metadata.value = _metadata(record)
    if result is not None:
        operation.MergeFrom(result)
    return record._replace(operation=operation.SerializeToString())


def _metadata(record: Record) -> bytes:
    """Returns the metadata message, serialized; as it was if its type has gone from the service."""
    try:
        kind = metadata.message_class(record.metadata_type)
    except ConfigurationError:
        return operations_pb2.Operation.FromString(record.operation).metadata.value
    message = kind.FromString(record.custom) if record.custom else kind()
    metadata.fill(message, record, clear=bool(record.custom))
    return message.SerializeToString()
