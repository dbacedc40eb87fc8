"""Reads a description of an operation into a few plain values, for people.

As in ``summary``, the texts are as the server has sent them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lro_grpc._inspection.summary import error_text, time_of

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

    from lro.v1.operation_description_pb2 import (
        CompletionDelivery,
        DescribeOperationResponse,
        OperationAttempt,
    )


@dataclass(frozen=True, slots=True)
class AttemptSummary:
    """One attempt; a missing value is empty or None."""

    number: int
    worker: str
    start_time: datetime | None
    end_time: datetime | None
    outcome: str
    """Such as RETRIED; empty while it runs, and if its end is not known."""
    error: str
    """The code and the message."""


@dataclass(frozen=True, slots=True)
class DeliverySummary:
    """The progress of telling of its end; a missing value is empty or None."""

    state: str
    """Such as PENDING."""
    attempts: int
    next_attempt_time: datetime | None
    error: str
    """The code and the message."""


@dataclass(frozen=True, slots=True)
class Description:
    """All that an operation itself does not have; a missing value is empty or None."""

    method: str
    caller: str
    labels: tuple[tuple[str, str], ...]
    """Keys and values, in the order of the keys."""
    wait_reasons: tuple[str, ...]
    """Such as SCHEDULED."""
    schedule_time: datetime | None
    failed_attempts: int
    max_attempts: int
    lease_expire_time: datetime | None
    deadline_time: datetime | None
    exclusive_target: str
    priority: int
    concurrency_key: str
    source_operation: str
    rerun_operation: str
    operator_caller: str
    request_size_bytes: int
    actions: tuple[str, ...]
    """The caller's, such as ``cancel``."""
    attempts: tuple[AttemptSummary, ...]
    delivery: DeliverySummary | None
    """None if its end is not to be told."""

    @property
    def worker(self) -> str:
        """The process of the latest attempt."""
        return self.attempts[-1].worker if self.attempts else ""


def read_description(message: DescribeOperationResponse) -> Description:
    """Returns the plain values of a description."""
    return Description(
        method=message.method,
        caller=message.caller,
        labels=tuple(sorted(message.labels.items())),
        wait_reasons=_names(message.DESCRIPTOR, "WaitReason", message.wait_reasons),
        schedule_time=_time(message, "schedule_time"),
        failed_attempts=message.failed_attempt_count,
        max_attempts=message.max_attempts,
        lease_expire_time=_time(message, "lease_expire_time"),
        deadline_time=_time(message, "deadline_time"),
        exclusive_target=message.exclusive_target,
        priority=message.priority,
        concurrency_key=message.concurrency_key,
        source_operation=message.source_operation,
        rerun_operation=message.rerun_operation,
        operator_caller=message.operator_caller,
        request_size_bytes=message.request_size_bytes,
        actions=tuple(
            name.lower() for name in _names(message.DESCRIPTOR, "Action", message.actions)
        ),
        attempts=tuple(map(_attempt, message.attempts)),
        delivery=_delivery(message.delivery) if message.HasField("delivery") else None,
    )


def _delivery(message: CompletionDelivery) -> DeliverySummary:
    return DeliverySummary(
        state="".join(_names(message.DESCRIPTOR, "State", [message.state])),
        attempts=message.attempt_count,
        next_attempt_time=_time(message, "next_attempt_time"),
        error=error_text(message.error) if message.HasField("error") else "",
    )


def _attempt(message: OperationAttempt) -> AttemptSummary:
    outcome = [message.outcome] if message.outcome else []
    return AttemptSummary(
        number=message.number,
        worker=message.worker,
        start_time=_time(message, "start_time"),
        end_time=_time(message, "end_time"),
        outcome="".join(_names(message.DESCRIPTOR, "Outcome", outcome)),
        error=error_text(message.error) if message.HasField("error") else "",
    )


def _names(descriptor: Descriptor, enum: str, numbers: Iterable[int]) -> tuple[str, ...]:
    """Returns the names of an enum's values; those of a later release are numbers."""
    values = descriptor.enum_types_by_name[enum].values_by_number
    return tuple(values[one].name if one in values else str(one) for one in numbers)


def _time(message: Message, field: str) -> datetime | None:
    return time_of(getattr(message, field)) if message.HasField(field) else None
