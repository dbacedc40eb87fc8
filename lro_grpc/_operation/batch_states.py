"""The states of a batch's targets: an ``lro.v1.BatchCreateInstancesMetadata`` and its moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from google.rpc import status_pb2

from lro.v1 import batch_create_instances_pb2
from lro_grpc._errors import cut
from lro_grpc._operation.states import BATCH_INSTANCE
from lro_grpc._wire.plain_text import is_text

Status = batch_create_instances_pb2.BatchCreateInstanceStatus
Message = batch_create_instances_pb2.BatchCreateInstancesMetadata

UNBEGUN = frozenset({Status.STATE_UNSPECIFIED, Status.PENDING_CREATE})
"""The states of a target that waits."""

BEGUN = frozenset({Status.CREATING, Status.READY, Status.DELETING})
"""The states of a target that exists, or may exist: a rollback deletes it."""

CODE_BYTES = 6
"""The most bytes by which a target grows that fails with nothing but a code."""

_MOST_COPIED = 100_000
"""The most bytes of an operation's error, in all the targets that are abandoned with it, unless
they get its code alone."""


def has_begun(stored: bytes) -> bool:
    """Tells whether any target of a batch was begun.

    Args:
        stored: The serialized message; empty if there is no batch.
    """
    states = BatchStates(stored)
    return len(states.among(UNBEGUN)) < len(states.targets)


def fault_in(targets: Any) -> str:
    """Returns what is wrong with the targets of a batch, after their value; empty if nothing is.

    They are a list, for whoever goes on with the batch needs the same order: a set has another one
    in each process.
    """
    is_list = isinstance(targets, Sequence) and not isinstance(targets, str)
    if not is_list or not all(map(is_text, targets)):
        return "give a list of resource names"
    return "" if len(set(targets)) == len(targets) else "they must differ from each other"


class BatchStates:
    """The state of each target, in the order of the request.

    Args:
        stored: The serialized message.
    """

    def __init__(self, stored: bytes) -> None:
        self._message = Message.FromString(stored)

    @classmethod
    def begin(cls, targets: Sequence[str]) -> BatchStates:
        """Returns the states of a new batch: each target waits."""
        message = Message(instance_targets=targets)
        for target in targets:
            message.instance_statuses[target].state = Status.PENDING_CREATE
        return cls(message.SerializeToString())

    def serialized(self) -> bytes:
        """Returns the message, serialized for the record."""
        return self._message.SerializeToString(deterministic=True)

    @property
    def targets(self) -> list[str]:
        """The targets, in the order of the request."""
        return list(self._message.instance_targets)

    def of(self, target: str) -> Status.State.ValueType:
        """Returns a target's state."""
        return self._message.instance_statuses[target].state

    def error_of(self, target: str) -> status_pb2.Status:
        """Returns a target's error; an empty one if it has none."""
        return self._message.instance_statuses[target].error

    def among(self, states: frozenset[Status.State.ValueType]) -> list[str]:
        """Returns the targets that are in one of these states."""
        return [target for target in self.targets if self.of(target) in states]

    def move(
        self, target: str, *path: Status.State.ValueType, error: status_pb2.Status | None = None
    ) -> None:
        """Walks a target through its lifecycle.

        Args:
            target: The target.
            path: The states to walk through, the last of which is the new one.
            error: Why it failed, when it has.

        Raises:
            IllegalTransitionError: If the lifecycle lacks one of the steps; nothing has changed.
        """
        status = self._message.instance_statuses[target]
        BATCH_INSTANCE.check(status.state, *path)
        status.state = path[-1]
        if error is not None:
            status.error.CopyFrom(error)
            status.error_msg = error.message

    def shorten_errors(self) -> None:
        """Leaves of each target's error the code and the beginning of its message."""
        self._cut_errors(_brief)

    def leave_codes(self) -> None:
        """Leaves of each target's error the code alone."""
        self._cut_errors(_bare)

    def _cut_errors(self, cut_one: Callable[[status_pb2.Status], status_pb2.Status]) -> None:
        for target in self.targets:
            status = self._message.instance_statuses[target]
            if status.HasField("error"):
                status.error.CopyFrom(cut_one(status.error))
                status.error_msg = status.error.message

    def abandon(self, error: status_pb2.Status) -> None:
        """Fails every target that has not ended, for no attempt will go on with it."""
        left = len(self.among(UNBEGUN | BEGUN))
        if 2 * left * error.ByteSize() > _MOST_COPIED:  # its message stands there twice
            error = _brief(error)
        if 2 * left * error.ByteSize() > _MOST_COPIED:
            error = _bare(error)
        for target in self.among(UNBEGUN | {Status.CREATING, Status.DELETING}):
            self.move(target, Status.FAILED, error=error)
        for target in self.among(frozenset({Status.READY})):
            self.move(target, Status.DELETING, Status.FAILED, error=error)


def _brief(error: status_pb2.Status) -> status_pb2.Status:
    """Returns the code of an error, and the beginning of its message."""
    return status_pb2.Status(code=error.code, message=cut(error.message))


def _bare(error: status_pb2.Status) -> status_pb2.Status:
    """Returns the code of an error."""
    return status_pb2.Status(code=error.code)
