"""A value inside a message of a record: in its metadata, or in what Get answers with."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from google.longrunning import operations_pb2
from google.protobuf.message import DecodeError, Message

from lro_grpc._operation.record import Record


class Source(enum.Enum):
    """The bytes of a record that a message is in."""

    OPERATION = "what Get answers with"
    METADATA = "the metadata in that"
    HANDLER = "the handler's own fields of the metadata: there is less to parse"

    @property
    def column(self) -> str:
        """The field of ``Record`` that has them."""
        return "handler_metadata" if self is Source.HANDLER else "operation"


class Test(Protocol):
    """A condition on a value, which stands in the column ``VALUE`` of what it is asked of."""

    def matches(self, record: object) -> bool:
        """Whether it is true of a value."""
        ...


class Step(NamedTuple):
    """A field on the way to a value."""

    name: str
    is_tracked: bool
    """Whether a message knows if the field is set; if it is not, there is no value."""


class Read(NamedTuple):
    """A value that a test is asked of."""

    value: Any


VALUE = "value"
"""The column that a test compares."""


@dataclass(frozen=True, slots=True)
class InMessage:
    """A value inside a message; true of no record whose message lacks it, or does not parse."""

    source: Source
    kind: type[Message]
    """The type of the message. Of metadata, it has to be known to be that of the record."""
    path: tuple[Step, ...]
    read: Callable[[Any], Any]
    """Makes what is compared of what the last field holds; a DecodeError if that is none."""
    test: Test | None
    """None if any value will do."""

    def matches(self, record: Record) -> bool:
        """Whether it is true of a record."""
        try:
            value = self._value(record)
            read = None if value is None else self.read(value)
        except DecodeError:
            return False
        return read is not None and (self.test is None or self.test.matches(Read(read)))

    def _value(self, record: Record) -> Any:
        """Returns what the last field holds; None if it, or one on the way to it, is not set."""
        if self.source is Source.HANDLER:
            value: Any = self.kind.FromString(record.handler_metadata)
        else:
            value = operations_pb2.Operation.FromString(record.operation)
            if self.source is Source.METADATA:
                value = self.kind.FromString(value.metadata.value)
        for name, is_tracked in self.path:
            if is_tracked and not value.HasField(name):
                return None
            value = getattr(value, name)
        return value
