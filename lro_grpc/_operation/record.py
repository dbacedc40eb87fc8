"""The record of an operation: the one table of its fields.

The annotation of a field holds its type and a ``Field``: how the value may change, and under
which names metadata and filters show it. Everything that needs a list of fields derives it from
here:

* the columns of SQLite's table, and the statements that write them (``sqlite/schema``, ``commit``);
* the columns that Postgres reads and writes in portions, by their bytes (``postgres/rows``);
* the conventional metadata (``metadata``) and the fields of filters (``_filtering/fields``);
* the view that dialects are made of (``_dialects/view``);
* the invariants that tests check (``_testing/invariants``).

So a new field is one line and its docstring. A field that a new record may leave unset stands
behind ``create_time`` and has a default. All times are microseconds since 1970 UTC; 0 is unset.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from operator import itemgetter
from typing import Annotated, Any, NamedTuple, get_args, get_type_hints

from lro_grpc._operation.states import CANCELLING, JOB, QUEUED


class Mutability(enum.Enum):
    """The way in which a value may change while its operation lives."""

    FOREVER = "never"
    ONCE = "from unset to a value, and never again"
    CLEARED = "from a value to unset, and never again"
    KEPT = "once it is set, never to unset"
    RISING = "never back"
    FREE = "in any way"


class Kind(enum.Enum):
    """The type of a conventional field of metadata."""

    TEXT, FLAG, NUMBER, TIME, STATE, BATCH = range(6)


FOREVER, ONCE, CLEARED, KEPT, RISING, FREE = Mutability
TEXT, FLAG, NUMBER, TIME, STATE, BATCH = Kind


class Field:
    """The properties of a record's field; its annotation holds them, next to its type."""

    name = ""
    """Of the field, and of its column."""
    type: type = object

    def __init__(
        self,
        change: Mutability,
        kind: Kind | None = None,
        *shown_as: str,
        viewed: bool = False,
        large: bool = False,
    ) -> None:
        self.change = change
        self.kind = kind
        self.shown_as = shown_as
        """The conventional names in metadata messages and in filters."""
        self.viewed = viewed or bool(shown_as)
        """Whether a view of the operation has it."""
        self.large = large
        """Whether a caller or a handler may make it megabytes long."""


MOST_PRIORITY = 10
"""The highest priority, and below 0 the lowest."""

CLAIMABLE_STATES = frozenset({QUEUED, CANCELLING})
"""The states in which a record without a lease waits for an attempt."""

_DONE_STATES = frozenset(number for number, state in JOB.states.items() if state.terminal)


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
    request: Annotated[bytes, Field(FOREVER, large=True)]
    """The request message as it came over the wire."""
    request_id: Annotated[str, Field(FOREVER, viewed=True)]
    """The caller's idempotency key; empty for none."""
    fingerprint: Annotated[bytes, Field(FOREVER)]
    """A hash of the request: another request under the same ``request_id`` has another one."""
    metadata_type: Annotated[str, Field(KEPT)]
    """The full name of the metadata message; another one once a later release has adopted it."""
    target: Annotated[str, Field(FOREVER, TEXT, "target")]
    """The resource that the operation is about."""
    verb: Annotated[str, Field(FOREVER, TEXT, "verb")]
    """The action on the target, such as ``create``."""
    api_version: Annotated[str, Field(FOREVER, TEXT, "api_version")]
    """The version of the API that the operation was started with, such as ``v1``."""
    caller: Annotated[str, Field(FOREVER, viewed=True)]
    """The caller that started it, as the service's ``identify`` names it; empty for unknown."""
    trace_context: Annotated[str, Field(FOREVER)]
    """The trace of its start: a W3C ``traceparent``, and after a space its ``tracestate``."""
    max_attempts: Annotated[int, Field(FOREVER)]
    """The number of attempts that may fail, lose their lease or get stuck before it fails."""
    pausable: Annotated[bool, Field(FOREVER)]
    """Whether its handler can pause."""
    exclusive_target: Annotated[str, Field(CLEARED)]
    """The target that it has for itself (S6); empty for none, and when it is done."""
    retention: Annotated[int, Field(FOREVER)]
    """The time that it is kept once it is done, in microseconds."""
    deadline_time: Annotated[int, Field(FOREVER)]
    """The end of its method's own time limit; 0 for none."""
    create_time: Annotated[int, Field(FOREVER, TIME, "create_time")]
    """The time of its start."""
    request_understood: Annotated[bool, Field(FOREVER)] = False
    """Whether the server that stored it knew every field of its request."""
    source_operation: Annotated[str, Field(FOREVER)] = ""
    """The operation that it runs again; empty for none."""
    notify: Annotated[bool, Field(FOREVER)] = False
    """Whether its end is to be told to the server's ``on_done``; see ``completion``."""
    labels: Annotated[str, Field(FOREVER)] = ""
    """Its labels, as ``labels.packed`` writes them; empty for none."""
    delayed_until: Annotated[int, Field(FOREVER, TIME, "schedule_time")] = 0
    """The time before which its first attempt does not begin; 0 for none."""
    priority: Annotated[int, Field(FOREVER)] = 0
    """The minutes by which it is ahead of those that were started with it; below 0, behind."""
    queue_order: Annotated[int, Field(FOREVER)] = 0
    """The time that says its turn among those that are ready; 0, but not with a key, for that of
    its start."""
    concurrency_key: Annotated[str, Field(FOREVER)] = ""
    """The operations of its method with which it shares a number of attempts at a time, and a turn
    among those of other keys; empty for none."""
    start_time: Annotated[int, Field(ONCE, TIME, "start_time")] = 0
    """The beginning of its first attempt."""
    update_time: Annotated[int, Field(RISING, TIME, "update_time")] = 0
    """The time of the last change that Get shows."""
    end_time: Annotated[int, Field(ONCE, TIME, "end_time")] = 0
    """The time at which it was done."""
    expire_time: Annotated[int, Field(ONCE, TIME, "expire_time")] = 0
    """The end of its retention, after which it is removed; 0 until it is done."""
    state: Annotated[int, Field(FREE, STATE, "state")] = JOB.initial.number
    """A ``lro.v1.JobState``."""
    attempt: Annotated[int, Field(RISING, NUMBER, "attempt")] = 0
    """The number of the latest attempt: the fencing token. 0 before the first claim."""
    failed_attempts: Annotated[int, Field(RISING)] = 0
    """The number of attempts that ended with an error to retry, lost their lease or got stuck."""
    lease_expire_time: Annotated[int, Field(FREE)] = 0
    """The end of the latest attempt's lease; 0 while no attempt holds the operation."""
    scheduled_time: Annotated[int, Field(FREE)] = 0
    """The time before which no attempt begins; 0 for none, and once it has come."""
    cancel_requested: Annotated[
        bool, Field(RISING, FLAG, "cancel_requested", "requested_cancellation")
    ] = False
    """Whether a caller has asked to cancel it."""
    pause_requested: Annotated[bool, Field(FREE, FLAG, "pause_requested")] = False
    """Whether a caller has asked to pause it, and its handler has not yet paused."""
    deleted: Annotated[bool, Field(RISING)] = False
    """Whether a caller has deleted it: it is hidden, and still runs to its end."""
    progress_percent: Annotated[int, Field(RISING, NUMBER, "progress_percent")] = 0
    """0 to 100; never goes back."""
    status_detail: Annotated[
        str, Field(FREE, TEXT, "status_detail", "status_message", large=True)
    ] = ""
    """The handler's latest words on its progress."""
    handler_metadata: Annotated[bytes, Field(FREE, large=True)] = b""
    """The handler's own metadata fields: a serialized message of ``metadata_type``."""
    checkpoint: Annotated[bytes, Field(KEPT, large=True)] = b""
    """The ``Any`` of the state from which the next attempt resumes; empty for none."""
    batch: Annotated[bytes, Field(KEPT, BATCH, "batch_create_instances_metadata", large=True)] = b""
    """The batch's targets and states: a ``lro.v1.BatchCreateInstancesMetadata``; empty for none."""
    batch_error: Annotated[bytes, Field(KEPT, large=True)] = b""
    """The ``google.rpc.Status`` of the batch's first failure; empty for none."""
    error_code: Annotated[int, Field(ONCE)] = 0
    """The code of its error; 0 for none."""
    response_type: Annotated[str, Field(ONCE)] = ""
    """The full name of its response's message; empty for none."""
    operator: Annotated[str, Field(KEPT)] = ""
    """The caller that had it run again, or that terminated it; empty for none, and for unknown."""
    worker: Annotated[str, Field(FREE)] = ""
    """The process that runs, or ran, the attempt ``attempt_number``; empty for unknown."""
    attempt_number: Annotated[int, Field(RISING)] = 0
    """The attempt of which these fields tell; less than ``attempt`` if a release without them has
    begun that one, and 0 if none tells of any."""
    attempt_start_time: Annotated[int, Field(FREE)] = 0
    """The beginning of that attempt; 0 for unknown."""
    attempt_end_time: Annotated[int, Field(FREE)] = 0
    """The end of that attempt; 0 while it runs, and for unknown."""
    attempt_outcome: Annotated[int, Field(FREE)] = 0
    """A ``lro.v1.OperationAttempt.Outcome``; 0 while it runs, and for unknown."""
    attempt_error: Annotated[bytes, Field(FREE)] = b""
    """The ``google.rpc.Status`` with which that attempt ended, cut; empty for none."""
    operation: Annotated[bytes, Field(FREE, large=True)] = b""
    """The ``google.longrunning.Operation`` that Get answers with, byte for byte."""

    def values_with(self, changes: Mapping[str, Any]) -> list[Any]:
        """Returns the values of a record that differs from this one by some changes."""
        values = list(self)
        for name, value in changes.items():
            values[_POSITIONS[name]] = value
        return values

    @property
    def large_bytes(self) -> int:
        """The bytes of all that may be large in it; of its texts the characters."""
        return sum(map(len, _large_of(self)))

    def without_large(self) -> Record:
        """Returns the record with nothing in the fields that may be large."""
        return self._replace(**{name: FIELDS[name].type() for name in LARGE})

    @property
    def done(self) -> bool:
        """Whether the operation has its outcome; from then on nothing changes."""
        return self.state in _DONE_STATES

    @property
    def claimable(self) -> bool:
        """Whether it waits for an attempt, to run it or to undo it; perhaps for later."""
        return self.state in CLAIMABLE_STATES and not self.lease_expire_time

    @property
    def is_delayed_start(self) -> bool:
        """Whether it waits for the time of its first attempt."""
        return self.scheduled_time > 0 and not self.attempt and self.claimable

    def rest_of_delay(self, now: int) -> int:
        """Returns the time before which its first attempt must not begin yet; 0 for none."""
        return self.delayed_until if not self.attempt and self.delayed_until > now else 0

    @property
    def has_remains(self) -> bool:
        """Whether earlier attempts may have left something: targets of its batch, a checkpoint."""
        return self.attempt > 0 and bool(self.batch or self.checkpoint)

    @property
    def is_to_undo(self) -> bool:
        """Whether what earlier attempts may have left has to be undone if it ends now."""
        return self.has_remains and bool(self.batch or self.state == CANCELLING)

    @property
    def is_ready(self) -> bool:
        """Whether an attempt may begin: it waits, and not for a later time."""
        return not self.scheduled_time and self.claimable

    @property
    def queue_time(self) -> int:
        """The time that says its turn among those that are ready: the earliest is claimed first."""
        return self.queue_order or self.create_time

    def is_ready_since(self, before: int | None, now: int) -> bool:
        """Whether an attempt may begin, and has had leave to since before a time.

        One that seems to be ready only after now counts, too: the clock has been set back.

        Args:
            before: The time; None for any.
            now: The present time.
        """
        return self.is_ready and (before is None or not before <= self.update_time <= now)

    def has_rested(self, now: int, waited_for: int = 0) -> bool:
        """Whether the time has come that it has waited for.

        Args:
            now: The time.
            waited_for: The ``scheduled_time`` that has come by a monotonic clock; 0 for none.
        """
        has_come = self.scheduled_time <= now or self.scheduled_time == waited_for
        return self.scheduled_time > 0 and has_come and self.claimable

    def is_overdue(self, now: int) -> bool:
        """Whether its method's time limit is over."""
        return 0 < self.deadline_time <= now

    def has_expired(self, now: int, *, is_unserved: bool = False) -> bool:
        """Whether ``TimePassed`` ends or removes it: its time limit, or its retention, is over.

        What an attempt holds or has to undo does not expire here: the attempt ends it.

        Args:
            now: The time.
            is_unserved: Whether no attempt will begin, so that nothing can be undone.
        """
        if self.done:
            return 0 < self.expire_time <= now and not self.deleted
        gets_attempt = self.claimable and self.is_to_undo and not is_unserved
        return self.is_overdue(now) and not (self.lease_expire_time or gets_attempt)


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


LARGE = tuple(field.name for field in FIELDS.values() if field.large)
"""The names of the fields that are large. Texts of a request, such as its ``request_id``, are no
longer than ``request``, and not among them."""

_POSITIONS = {name: position for position, name in enumerate(Record._fields)}

_large_of = itemgetter(*(tuple(FIELDS).index(name) for name in LARGE))


def that_change(*changes: Mutability) -> tuple[str, ...]:
    """Returns the names of the fields that may change in one of these ways."""
    return tuple(field.name for field in FIELDS.values() if field.change in changes)
