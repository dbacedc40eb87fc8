"""The fields of an operation, each once: type, meaning, how it may change, where else it shows.

Columns, invariants, filters, conventional metadata and views are derived from this table.
"""

from __future__ import annotations

import enum
from typing import Annotated, NamedTuple, get_args, get_type_hints

from lro_grpc._operation.lifecycle import CANCELLING, JOB, QUEUED


class Change(enum.Enum):
    """How a value may change while its operation lives."""

    FOREVER = "never"
    ONCE = "from unset to a value, and never again"
    CLEARED = "from a value to unset, and never again"
    KEPT = "once it is set, never to unset"
    RISING = "never back"
    FREE = "in any way"


class Kind(enum.Enum):
    """What a conventional field of metadata holds."""

    TEXT, FLAG, NUMBER, TIME, STATE, BATCH = range(6)


FOREVER, ONCE, CLEARED, KEPT, RISING, FREE = Change
TEXT, FLAG, NUMBER, TIME, STATE, BATCH = Kind


class Field:
    """What a record's field is besides its type; its annotation carries it."""

    name = ""
    type: type = object

    def __init__(
        self, change: Change, kind: Kind | None = None, *shown_as: str, viewed: bool = False
    ) -> None:
        self.change = change
        self.kind = kind
        self.shown_as = shown_as
        """The conventional names in metadata messages and in filters."""
        self.viewed = viewed or bool(shown_as)
        """Whether a view of the operation has it."""


class Record(NamedTuple):
    """One operation, all of it.

    A named tuple, for it goes to and from a table's row as it is.
    """

    name: Annotated[str, Field(FOREVER, viewed=True)]
    """``[{parent}/]operations/{id}``."""
    parent: Annotated[str, Field(FOREVER)]
    """The part of the name before ``/operations/``; empty for none."""
    method: Annotated[str, Field(FOREVER, viewed=True)]
    """The full name of the gRPC method that started it: ``/pkg.Service/Method``."""
    request: Annotated[bytes, Field(FOREVER)]
    """The request message as it came over the wire."""
    request_id: Annotated[str, Field(CLEARED, viewed=True)]
    """The caller's idempotency key; empty for none, and once the operation is deleted."""
    fingerprint: Annotated[bytes, Field(FOREVER)]
    """A hash of the request, by which another one under the same key is told apart."""
    metadata_type: Annotated[str, Field(FOREVER)]
    """The full name of the metadata message."""
    target: Annotated[str, Field(FOREVER, TEXT, "target")]
    """The resource that the operation is about."""
    verb: Annotated[str, Field(FOREVER, TEXT, "verb")]
    """What is done to the target, such as ``create``."""
    api_version: Annotated[str, Field(FOREVER, TEXT, "api_version")]
    """The version of the API that the operation was started with, such as ``v1``."""
    caller: Annotated[str, Field(FOREVER, viewed=True)]
    """Who started it, by the service's own account; empty if that is not known."""
    trace_context: Annotated[str, Field(FOREVER)]
    """What its attempts belong to: a W3C ``traceparent``, and after a space its ``tracestate``."""
    max_attempts: Annotated[int, Field(FOREVER)]
    """How many attempts may fail, be lost or get stuck before the operation fails."""
    pausable: Annotated[bool, Field(FOREVER)]
    """Whether its handler can pause."""
    exclusive_target: Annotated[str, Field(CLEARED)]
    """The target that no other operation may have meanwhile (S6); empty for none, and when done."""
    retention: Annotated[int, Field(FOREVER)]
    """For how long it is kept once it is done, in microseconds."""
    deadline_time: Annotated[int, Field(FOREVER)]
    """When its method's own time limit is over; 0 for none."""
    create_time: Annotated[int, Field(FOREVER, TIME, "create_time")]
    """When it was started."""
    start_time: Annotated[int, Field(ONCE, TIME, "start_time")]
    """When its first attempt began; never moves."""
    update_time: Annotated[int, Field(RISING, TIME, "update_time")]
    """When anything that Get shows last changed."""
    end_time: Annotated[int, Field(ONCE, TIME, "end_time")]
    """When it was done."""
    expire_time: Annotated[int, Field(ONCE, TIME, "expire_time")]
    """From when on it may be removed; 0 until it is done."""
    state: Annotated[int, Field(FREE, STATE, "state")]
    """A ``lro.v1.JobState``."""
    attempt: Annotated[int, Field(RISING, NUMBER, "attempt")]
    """The number of the latest attempt: the fencing token. 0 before the first claim."""
    failed_attempts: Annotated[int, Field(RISING)]
    """How many attempts ended with an error to retry, without a worker, or stuck."""
    lease_expire_time: Annotated[int, Field(FREE)]
    """Until when the latest attempt holds the operation; 0 while no attempt does."""
    scheduled_time: Annotated[int, Field(FREE)]
    """Before when no attempt may begin; 0 for no such time."""
    cancel_requested: Annotated[
        bool, Field(RISING, FLAG, "cancel_requested", "requested_cancellation")
    ]
    """Whether someone asked to cancel it."""
    pause_requested: Annotated[bool, Field(FREE, FLAG, "pause_requested")]
    """Whether someone asked to pause it, and it has not come to where it can."""
    deleted: Annotated[bool, Field(RISING)]
    """Whether someone deleted it while it was not done: hidden, but still run to its end."""
    progress_percent: Annotated[int, Field(RISING, NUMBER, "progress_percent")]
    """0 to 100; never goes back."""
    status_detail: Annotated[str, Field(FREE, TEXT, "status_detail", "status_message")]
    """What the handler last said about its progress."""
    handler_metadata: Annotated[bytes, Field(FREE)]
    """The handler's own metadata fields: a serialized message of ``metadata_type``."""
    checkpoint: Annotated[bytes, Field(KEPT)]
    """The ``Any`` of the state that a handler goes on from; empty for none."""
    batch: Annotated[bytes, Field(KEPT, BATCH, "batch_create_instances_metadata")]
    """The batch's targets and states: a ``lro.v1.BatchCreateInstancesMetadata``; empty for none."""
    batch_error: Annotated[bytes, Field(KEPT)]
    """The ``google.rpc.Status`` of the batch's first failure; empty for none."""
    error_code: Annotated[int, Field(ONCE)]
    """The code of its error; 0 for none."""
    response_type: Annotated[str, Field(ONCE)]
    """The full name of its response's message; empty for none."""
    operation: Annotated[bytes, Field(FREE)]
    """The ``google.longrunning.Operation`` that Get answers with, byte for byte."""

    @property
    def done(self) -> bool:
        """Whether the operation has its outcome; from then on nothing changes."""
        return JOB.is_terminal(self.state)

    @property
    def claimable(self) -> bool:
        """Whether it waits to be run, or to be undone; ``is_ready`` tells from when on it may."""
        return self.state in CLAIMABLE_STATES and not self.lease_expire_time

    @property
    def is_to_undo(self) -> bool:
        """Whether an attempt has left behind what has to be undone, should it end now."""
        return bool(self.batch or (self.checkpoint and self.state == CANCELLING))

    def is_ready(self, now: int) -> bool:
        """Whether an attempt may begin."""
        return self.claimable and self.scheduled_time <= now and not self.has_expired(now)

    def is_overdue(self, now: int) -> bool:
        """Whether its method's time limit is over."""
        return 0 < self.deadline_time <= now

    def has_expired(self, now: int) -> bool:
        """Whether ``TimePassed`` changes it: it is to be removed, or expires in nobody's hands."""
        if self.done:
            return 0 < self.expire_time <= now and not self.deleted
        is_seen_to = self.lease_expire_time or (self.claimable and self.is_to_undo)
        return self.is_overdue(now) and not is_seen_to


CLAIMABLE_STATES = frozenset({QUEUED, CANCELLING})
"""The states in which a record without a lease waits for an attempt."""


def _fields() -> dict[str, Field]:
    fields: dict[str, Field] = {}
    for name, hint in get_type_hints(Record, include_extras=True).items():
        type_, field = get_args(hint)
        field.name, field.type = name, type_
        fields[name] = field
    return fields


FIELDS = _fields()
"""The fields by their names, in the order of the columns."""

SHOWN = {shown: field for field in FIELDS.values() for shown in field.shown_as}
"""The fields by the names under which metadata and filters have them."""


def that_change(*changes: Change) -> tuple[str, ...]:
    """Returns the names of the fields that may change in one of these ways."""
    return tuple(field.name for field in FIELDS.values() if field.change in changes)
