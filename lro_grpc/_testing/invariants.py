"""Checks what is true of every record, and of every change of one, while a store is used.

Watch a store from its beginning, use it in any way, and verify at the end::

    invariants = Invariants()
    store.subscribe(invariants.check)
    ...
    invariants.verify()
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from google.longrunning import operations_pb2

from lro_grpc import _anys
from lro_grpc._errors import Code
from lro_grpc._operation import metadata, record
from lro_grpc._operation.record import CLAIMABLE_STATES, Record
from lro_grpc._operation.states import CANCELLED, CANCELLING, JOB, PENDING, RUNNING, UPDATING

HELD_STATES = frozenset({PENDING, RUNNING, UPDATING})
"""The states in which an attempt holds an operation."""

_MAY_BE_HELD = HELD_STATES | {CANCELLING}
"""The states in which an attempt may hold an operation."""

_REACHABLE = {state: JOB.reachable_from(state) for state in JOB.states}
"""Each state's successors, by however many steps, and itself."""

_FOREVER = record.that_change(record.FOREVER)
_ONCE = record.that_change(record.ONCE)
_KEPT = record.that_change(record.KEPT)
_RISING = record.that_change(record.RISING)


@dataclass(frozen=True, slots=True)
class Violation:
    """A change that breaks an invariant."""

    what: str
    """The invariant that it breaks."""
    before: Record | None
    """The record before the change; None for one that is seen for the first time."""
    after: Record
    """The record after the change."""

    def __str__(self) -> str:
        """Returns it with both records."""
        return f"{self.after.name}: {self.what}\n  before: {self.before}\n  after:  {self.after}"


class Invariants:
    """Checks each change that a store announces, and keeps what was wrong."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        """The records after their latest changes, with those that are deleted and still run."""
        self.violations: list[Violation] = []
        self._owners: dict[tuple[str, ...], str] = {}

    def check(self, before: Record | None, after: Record) -> None:
        """Checks a change; subscribe it to a store before anything is in it.

        Args:
            before: The record before the change; None for a new one.
            after: The record after it.
        """
        if before != self.records.get(after.name):
            wrong = "its change does not begin where the one before it has ended"
            self.violations.append(Violation(wrong, before, after))
        self._keep(before, after, violations(before, after))

    def catch_up(self, record: Record) -> None:
        """Checks a record that may have changed in ways that were not announced."""
        before = self.records.get(record.name)
        self._keep(before, record, violations(before, record, missed=True))

    def forget(self, name: str) -> None:
        """Lets go of an operation whose removal was not announced."""
        for one in _owned(self.records.pop(name)):
            self._owners.pop(one, None)

    def verify(self) -> None:
        """Raises if anything was wrong so far.

        Raises:
            AssertionError: With every violation.
        """
        if self.violations:
            raise AssertionError("\n".join(map(str, self.violations)))

    def _keep(self, before: Record | None, record: Record, wrong: list[str]) -> None:
        wrong += self._own(before, record)
        self.violations += [Violation(what, before, record) for what in wrong]
        if record.deleted and record.done:
            self.records.pop(record.name, None)
        else:
            self.records[record.name] = record

    def _own(self, before: Record | None, after: Record) -> Iterator[str]:
        """Notes what one operation at a time may have; yields what two of them have."""
        owned = _owned(after)
        for one in _owned(before) - owned if before else ():
            self._owners.pop(one, None)
        for one in owned:
            owner = self._owners.setdefault(one, after.name)
            if owner != after.name:
                yield f"it has {one}, and so has {owner}"


def violations(before: Record | None, after: Record, *, missed: bool = False) -> list[str]:
    """Returns what is wrong with a record, and with its change.

    Args:
        before: The record before the change; None if that is not known.
        after: The record after it.
        missed: Whether there may have been other changes between the two.
    """
    wrong = [*_of_record(after), *_of_served(after)]
    if before is not None:
        wrong += _of_change(before, after)
        if not missed:
            wrong += _of_step(before, after)
    return wrong


def _owned(record: Record) -> set[tuple[str, ...]]:
    """Returns the keys that no other operation may have as long as this one has them."""
    owned: set[tuple[str, ...]] = set()
    if record.deleted and record.done:
        return owned
    if record.request_id:
        owner = (record.method, record.parent, record.caller)
        owned.add(("request_id", *owner, record.request_id))
    if record.exclusive_target:
        owned.add(("target", record.exclusive_target))
    return owned


def _of_record(record: Record) -> Iterator[str]:
    state = JOB.spoken(record.state)
    held = record.lease_expire_time != 0
    if record.state in HELD_STATES and not held:
        yield f"it is {state}, and no attempt holds it"
    if held and record.state not in _MAY_BE_HELD:
        yield f"it is {state}, and attempt {record.attempt} holds it"
    if held and not record.attempt:
        yield "it is held, and was never claimed"
    if record.scheduled_time and (held or record.state not in CLAIMABLE_STATES):
        yield f"it is {state}, and waits to be ready"
    if record.pause_requested and not (held and record.pausable and record.state in HELD_STATES):
        yield f"it is {state}, and is to pause"
    if record.state in (CANCELLING, CANCELLED) and not record.cancel_requested:
        yield f"it is {state}, and nobody has asked to cancel it"
    if record.cancel_requested and not record.done and record.state != CANCELLING:
        yield f"it is {state}, and someone has asked to cancel it"
    if record.done and record.exclusive_target:
        yield f"it is {state}, and keeps its target"
    if (record.attempt != 0) != (record.start_time != 0):
        yield f"its attempt is {record.attempt}, and its start_time is {record.start_time}"
    if not 0 <= record.progress_percent <= 100:
        yield f"its progress is {record.progress_percent} percent"
    if record.failed_attempts > record.attempt:
        yield f"{record.failed_attempts} of its {record.attempt} attempts have failed"
    if record.failed_attempts >= record.max_attempts and not record.done:
        yield f"it is {state}, and has no attempts left"
    yield from _of_times(record)


def _of_times(record: Record) -> Iterator[str]:
    if record.done != (record.end_time != 0):
        yield f"it is {JOB.spoken(record.state)}, and its end_time is {record.end_time}"
    if record.expire_time != (record.end_time + record.retention if record.done else 0):
        yield f"its expire_time is {record.expire_time}, of {record.end_time} + {record.retention}"
    times = [record.create_time, record.start_time, record.end_time, record.update_time]
    if [one for one in times if one] != sorted(one for one in times if one):
        yield f"create, start, end and update_time are not in order: {times}"


def _of_served(record: Record) -> Iterator[str]:
    """Compares the bytes that Get answers with to the record."""
    operation = operations_pb2.Operation.FromString(record.operation)
    if operation.name != record.name:
        yield f"Get shows the name {operation.name!r}"
    if operation.done != record.done:
        yield f"Get shows done={operation.done} of an operation that is {record.state}"
    result = operation.WhichOneof("result")
    if (result is not None) != record.done:
        yield f"Get shows the result {result} of an operation that is {record.state}"
    if record.done and (result == "error") != (JOB.states[record.state].code != 0):
        yield f"Get shows the result {result} of an operation that is {record.state}"
    if (operation.error.code == Code.CANCELLED) != (record.state == CANCELLED):
        yield f"Get shows the code {operation.error.code} of an operation that is {record.state}"
    if operation.error.code != record.error_code:
        yield f"Get shows the code {operation.error.code}, and it has {record.error_code}"
    if operation.response.TypeName() != record.response_type:
        yield f"Get shows a {operation.response.TypeName()}, and it has a {record.response_type}"
    if operation.metadata.type_url != _anys.TYPE_URL_PREFIX + record.metadata_type:
        yield f"Get shows metadata of the type {operation.metadata.type_url!r}"
        return
    kind = _anys.find_class(record.metadata_type)
    if kind is None:
        return  # of another release, which alone knows the type
    shown = _anys.unpack_as(kind, operation.metadata)
    expected = kind()
    expected.CopyFrom(shown)
    metadata.fill(expected, record)
    if shown != expected:
        yield f"Get shows the metadata {{{shown}}}, which should be {{{expected}}}"


def _of_change(before: Record, after: Record) -> Iterator[str]:
    for field in _FOREVER:
        if getattr(before, field) != getattr(after, field):
            yield f"{field} has changed"
    for field in _ONCE:
        if getattr(before, field) and getattr(before, field) != getattr(after, field):
            yield f"{field} has changed"
    for field in _KEPT:
        if getattr(before, field) and not getattr(after, field):
            yield f"{field} is gone"
    for field in _RISING:
        if getattr(before, field) > getattr(after, field):
            yield f"{field} has gone back"
    if before.done and before != after._replace(deleted=before.deleted):
        yield "it was done, and has changed"
    if after.state not in _REACHABLE[before.state]:
        yield f"no steps lead from {JOB.spoken(before.state)} to {JOB.spoken(after.state)}"
    undoes = after.batch or after.checkpoint
    if before.cancel_requested and after.attempt > before.attempt and not undoes:
        yield "it was cancelled with nothing to undo, and has a new attempt"


def _of_step(before: Record, after: Record) -> Iterator[str]:
    """Checks a single step, with no other change in between."""
    if after.attempt > before.attempt + 1:
        yield f"its attempt has gone from {before.attempt} to {after.attempt}"
    if after.attempt > before.attempt and before.lease_expire_time:
        yield f"attempt {after.attempt} has begun while attempt {before.attempt} held it"
    if after.attempt > before.attempt and not after.lease_expire_time:
        yield f"attempt {after.attempt} has begun without a lease"
    if after.attempt > before.attempt and before.scheduled_time > after.update_time:
        yield f"attempt {after.attempt} has begun before it was ready"
    if after.attempt == before.attempt and after.lease_expire_time and not before.lease_expire_time:
        yield f"attempt {after.attempt} holds it again, after it was let go"
    if after.failed_attempts > before.failed_attempts + 1:
        yield f"its failed_attempts are {after.failed_attempts}, after {before.failed_attempts}"
    if after.failed_attempts > before.failed_attempts and after.lease_expire_time:
        yield f"attempt {after.attempt} has failed, and still holds it"
