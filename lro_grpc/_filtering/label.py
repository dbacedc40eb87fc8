"""A label of a record, whose value is compared."""

from __future__ import annotations

from dataclasses import dataclass

from lro_grpc._filtering.in_message import Read, Test
from lro_grpc._operation import labels
from lro_grpc._operation.record import Record


@dataclass(frozen=True, slots=True)
class Label:
    """A label; true of no record without it."""

    key: str
    """Its key, which is one: ``labels.is_key``."""
    test: Test | None = None
    """The condition on its value; None if any will do."""

    def matches(self, record: Record) -> bool:
        """Whether it is true of a record."""
        value = labels.value_in(record.labels, self.key)
        if value is None:
            return False
        return self.test is None or self.test.matches(Read(value))
