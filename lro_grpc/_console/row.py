"""An operation as a row of a list: the operation at a glance.

It is pure, and nothing that an operation may hold raises.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

from google.protobuf.message import DecodeError, EncodeError

from lro_grpc._console.looks import Look, look_of
from lro_grpc._console.markup import ROW_TEXT, cut
from lro_grpc._console.texts import seconds_between
from lro_grpc._inspection.summary import Summary, read_summary

if TYPE_CHECKING:
    from google.longrunning import operations_pb2
    from google.protobuf import any_pb2
    from google.protobuf.message import Message

    from lro_grpc._dialects.canonical_json import Unpack

NAME_BYTES = 2_000
"""The most bytes of a name in an address: those on the way cut or refuse longer ones."""

_NOT_IN_FORMS = frozenset("\0\r\n")
"""Characters that a browser changes in the fields of a form."""


@dataclass(frozen=True, slots=True)
class Row:
    """An operation at a glance."""

    name: str
    key: str
    """The ``id`` of its row: made of the name, whatever that holds."""
    can_open: bool
    """Whether an address can hold its name."""
    can_act: bool
    """Whether a form can, too."""
    id: str
    """The last part of its name."""
    verb: str
    subject: str
    """The last part of its target, or of its name."""
    state: str
    """Such as RUNNING."""
    look: Look
    done: bool
    progress: int | None
    """In percent, from 0 to 100."""
    code: str
    """The code of its error; empty if it has none."""
    note: str
    """The message of its error, or else the detail of its state."""
    create_time: datetime | None
    begin_time: datetime | None
    """The time from which its duration counts: its start, or else its creation."""
    seconds: float | None
    """Its duration; None as long as it is not done."""

    @property
    def address(self) -> str:
        """Its name, for addresses and fields; empty if neither can hold it."""
        return self.name if self.can_open else ""

    @property
    def shows_bar(self) -> bool:
        """Whether progress is worth a bar: of what moves, and of what has ended half-way."""
        if not self.done:
            return self.look.colour != "waiting" or bool(self.progress)
        return self.look.colour in ("failed", "cancelled") and self.progress not in (None, 0, 100)


def row_of(operation: operations_pb2.Operation, unpack: Unpack) -> Row:
    """Returns the row of an operation.

    Args:
        operation: The operation.
        unpack: Opens its metadata; it does no input or output, and does not raise.
    """
    metadata = unpack(operation.metadata)
    return row_of_summary(summary_of(operation, metadata), verb_of_type(operation.metadata))


def summary_of(operation: operations_pb2.Operation, metadata: Message | None) -> Summary:
    """Returns the summary of an operation, whatever its metadata hold.

    Args:
        operation: The operation.
        metadata: The message inside of its metadata; None if it cannot be read.
    """
    try:
        return read_summary(operation, metadata)
    except (ValueError, DecodeError, EncodeError):  # a type of the server's own, broken inside
        return read_summary(operation, None)


def row_of_summary(summary: Summary, type_verb: str) -> Row:
    """Returns the row of an operation.

    Args:
        summary: Its summary.
        type_verb: The verb if it has none.
    """
    name = summary.name
    own_id = name.rpartition("/")[2] or name
    target = summary.target.rpartition("/")[2]
    code, _, message = summary.error.partition(": ")
    begin_time = summary.start_time or summary.create_time
    can_open = 0 < len(name) <= NAME_BYTES and len(quote_plus(name, safe="/")) <= NAME_BYTES
    progress = summary.progress
    return Row(
        name=name,
        key=f"r-{hashlib.blake2b(name.encode(), digest_size=8).hexdigest()}",
        can_open=can_open,
        can_act=can_open and _NOT_IN_FORMS.isdisjoint(name),
        id=cut(own_id, 100) or "without a name",
        verb=cut(summary.verb or type_verb, 60),
        subject=cut(target or own_id, 100) or "without a name",
        state=summary.state,
        look=look_of(summary.state),
        done=summary.done,
        progress=None if progress is None else max(0, min(100, progress)),
        code=cut(code, 40),
        note=cut(message if summary.error else summary.detail, ROW_TEXT),
        create_time=summary.create_time,
        begin_time=begin_time,
        seconds=seconds_between(begin_time, summary.end_time) if summary.done else None,
    )


def verb_of_type(metadata: any_pb2.Any) -> str:
    """Returns a verb for an operation that has none: CreateModel of a CreateModelMetadata."""
    own = metadata.TypeName().rpartition(".")[2]
    for end in ("OperationMetadata", "Metadata"):
        own = own.removesuffix(end)
    return own or "operation"
