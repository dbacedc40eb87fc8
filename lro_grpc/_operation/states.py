"""The state machines of the schema, read from its ``(lro.v1.state)`` options.

The schema is the one place that says which step is legal: each value of an enum lists the values
that may come right after it, and whether it is initial or terminal. ``JOB`` is the lifecycle of
every operation, ``BATCH_INSTANCE`` that of one target of a batch; their transitions are checked.
The enums of other dialects have fewer states: each of theirs represents several of ``JOB``, and an
operation shows the one that represents its own state (``state_for``).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf.descriptor import EnumDescriptor, EnumValueDescriptor

from lro.v1 import (
    batch_create_instances_pb2,
    deployment_operation_pb2,
    operation_status_pb2,
    state_pb2,
)
from lro_grpc._errors import Code, IllegalTransitionError

STATE_PREFIX = "JOB_STATE_"
"""The beginning of the names of ``JobState``, which people leave out."""


@dataclass(frozen=True, slots=True)
class State:
    """One state of a lifecycle: its ``StateRule``, with names resolved to numbers."""

    name: str
    """The enum value's name."""
    number: int
    """The enum value's number."""
    initial: bool
    """Whether a lifecycle begins here."""
    terminal: bool
    """Whether nothing comes after it."""
    final_when_done: bool
    """Whether it may stand when the operation is done, though more could come after it."""
    next: frozenset[int]
    """The states that may come right after it."""
    code: Code
    """The code of an operation that ends here, unless its error has one of its own."""
    represents: tuple[int, ...]
    """The values of ``JobState`` that a state of another dialect stands for."""

    def __str__(self) -> str:
        return self.name


class Lifecycle:
    """A state machine, as the options of an enum's values describe it.

    Args:
        enum: The enum whose values carry ``(lro.v1.state)``; the zero value is not a state.
    """

    def __init__(self, enum: EnumDescriptor) -> None:
        self.name: str = enum.full_name
        numbers = {value.name: value.number for value in enum.values}
        self.states: Mapping[int, State] = {
            value.number: _state(value, numbers) for value in enum.values if value.number
        }
        self.initial: State = next(state for state in self.states.values() if state.initial)
        """The state in which a lifecycle begins."""
        self._steps = {
            (number, after) for number, state in self.states.items() for after in state.next
        }
        self._by_job_state = {
            job: state for state in self.states.values() for job in state.represents
        }

    def name_of(self, number: int) -> str:
        """Returns a state's name, or its number as text if the schema does not know it."""
        state = self.states.get(number)
        return state.name if state else str(number)

    def spoken(self, number: int) -> str:
        """Returns a state as people read it in messages: ``FAILED``, as filters take it, too."""
        return self.name_of(number).removeprefix(STATE_PREFIX)

    def is_terminal(self, number: int) -> bool:
        """Tells whether nothing comes after this state."""
        return self.states[number].terminal

    def check(self, *path: int) -> None:
        """Checks that each state of the path may follow the one before.

        Raises:
            IllegalTransitionError: At the first step that the schema does not list (S28).
        """
        for current, following in itertools.pairwise(path):
            if (current, following) not in self._steps:
                raise IllegalTransitionError(
                    f"{self.name} has no step from {self.spoken(current)}"
                    f" to {self.spoken(following)}",
                    metadata={"from": self.name_of(current), "to": self.name_of(following)},
                )

    def reachable_from(self, number: int) -> frozenset[int]:
        """Returns a state and every state that may come after it, by however many steps."""
        found = {number}
        while more := {after for one in found for after in self.states[one].next} - found:
            found |= more
        return frozenset(found)

    def state_for(self, job_state: int, *, started: bool) -> State:
        """Returns the state of this dialect that represents a ``JobState``.

        Until an operation is done, it depends only on whether the operation was ever started: so
        it never goes back, neither when the operation is paused nor when it is queued again.

        Args:
            job_state: Any ``JobState`` but the zero value.
            started: Whether the operation has a ``start_time``.
        """
        if not JOB.is_terminal(job_state):
            job_state = state_pb2.JOB_STATE_RUNNING if started else state_pb2.JOB_STATE_QUEUED
        return self._by_job_state[job_state]


def _state(value: EnumValueDescriptor, numbers: Mapping[str, int]) -> State:
    rule = value.GetOptions().Extensions[state_pb2.state]
    return State(
        name=value.name,
        number=value.number,
        initial=rule.initial,
        terminal=rule.terminal,
        final_when_done=rule.final_when_done,
        next=frozenset(_resolved(rule.next, numbers)),
        code=Code(rule.code),
        represents=tuple(rule.represents),
    )


def _resolved(names: Iterable[str], numbers: Mapping[str, int]) -> Iterable[int]:
    return (numbers[name] for name in names)


JOB = Lifecycle(state_pb2.JobState.DESCRIPTOR)
"""``lro.v1.JobState``: the lifecycle of every operation."""

BATCH_INSTANCE = Lifecycle(batch_create_instances_pb2.BatchCreateInstanceStatus.State.DESCRIPTOR)
"""``lro.v1.BatchCreateInstanceStatus.State``: the lifecycle of one target of a batch."""

OPERATION_STATUS = Lifecycle(operation_status_pb2.OperationStatusType.DESCRIPTOR)
"""``lro.v1.OperationStatusType``: notstarted, running, succeeded, failed."""

DEPLOYMENT_OPERATION = Lifecycle(deployment_operation_pb2.DeploymentOperation.Status.DESCRIPTOR)
"""``lro.v1.DeploymentOperation.Status``: PENDING, RUNNING, DONE."""

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


def state_of(operation: operations_pb2.Operation, values: Mapping[str, Any]) -> int:
    """Returns the ``JobState`` of any server's operation: its metadata's, or what the rest says.

    Args:
        operation: The operation.
        values: The conventional values of its metadata, as ``metadata.read`` returns them.
    """
    state: int = values.get("state", 0)
    if fits(state, operation):
        return state
    if operation.done:
        return ended_with(operation)
    if values.get("cancel_requested"):
        return CANCELLING
    # Metadata without a start time say nothing of the start: an operation is taken for started.
    start = values.get("start_time")
    return RUNNING if start is None or start.seconds or start.nanos else QUEUED


def fits(job_state: int, operation: operations_pb2.Operation) -> bool:
    """Whether an operation may be in a ``JobState`` that its metadata names.

    Metadata is the service's own, and may be older than the result, or contradict it.
    """
    state = JOB.states.get(job_state)
    if state is None or state.terminal != operation.done:
        return False
    result = operation.WhichOneof("result") if operation.done else None
    return result is None or (result == "error") == bool(state.code)


def ended_with(operation: operations_pb2.Operation) -> int:
    """Returns the ``JobState`` that the result of a done operation stands for.

    An error is one by its presence: whatever has one has failed, though its code be 0.
    """
    if not operation.HasField("error"):
        return SUCCEEDED
    # No operation has this code but a cancelled one (P8).
    return CANCELLED if operation.error.code == Code.CANCELLED else FAILED
