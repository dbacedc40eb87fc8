"""The fields that filters compare, whatever the types of the operations' metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Union

from google.longrunning import operations_pb2

from lro_grpc._filtering import kinds
from lro_grpc._filtering.expression import (
    And,
    Compare,
    Expression,
    Label,
    Like,
    Matches,
    Or,
    PartialFailures,
)
from lro_grpc._filtering.in_message import VALUE, Source
from lro_grpc._filtering.kinds import FieldKind, Value
from lro_grpc._filtering.message_fields import MessageField, field_in
from lro_grpc._filtering.patterns import Pattern
from lro_grpc._operation.record import SHOWN, Kind


class FilterField(NamedTuple):
    """A field that a filter may name, and that is a column."""

    kind: FieldKind
    column: str
    """The name of a field of ``Record``, or ``done``."""

    @property
    def size(self) -> int:
        """The number of comparisons that one with it is."""
        return 1

    @property
    def is_flag(self) -> bool:
        """Whether it is true or false."""
        return self.kind is kinds.FLAG

    def restrict(self, comparator: str, value: Value) -> Expression:
        """Returns the meaning of a restriction; a ValueError describes the mistake in it."""
        present = self.present()
        if comparator == ":" and value.is_any:
            return present
        self.kind.check(comparator)
        meant = self.kind.meaning(self.column, comparator, value)
        return And((present, meant)) if self.kind.optional else meant

    @property
    def is_text(self) -> bool:
        """Whether it is a text."""
        return self.kind is kinds.TEXT

    def matching(self, pattern: Pattern) -> Expression:
        """Returns the restriction to records in which a regular expression matches the text."""
        return Matches(self.column, pattern)

    def present(self) -> Expression:
        """Returns the restriction to records with a value other than the default."""
        if self.column == "partial_failures":
            return PartialFailures()
        return Compare(self.column, "!=", self.kind.default)


@dataclass(frozen=True, slots=True)
class LabelField:
    """The label of one key, a text: ``labels.env``."""

    key: str
    size = 1
    is_flag = False
    is_text = True

    def restrict(self, comparator: str, value: Value) -> Expression:
        """Returns the meaning of a restriction; nothing is true of a record without the key."""
        if comparator == ":" and value.is_any:
            return Label(self.key)
        test: Any = kinds.TEXT.meaning(VALUE, comparator, value)
        return Label(self.key, test)

    def matching(self, pattern: Pattern) -> Expression:
        """Returns the restriction to records in which a regular expression matches the label."""
        return Label(self.key, Matches(VALUE, pattern))


Field = Union[FilterField, LabelField, MessageField]  # noqa: UP007 - is evaluated

_BY_KIND = {
    Kind.TIME: kinds.TIME,
    Kind.TEXT: kinds.TEXT,
    Kind.FLAG: kinds.FLAG,
    Kind.NUMBER: kinds.NUMBER,
    Kind.STATE: kinds.STATE,
    Kind.BATCH: kinds.message(b""),
}
_CONVENTIONAL = {
    **{
        shown: FilterField(_BY_KIND[field.kind], field.name)
        for shown, field in SHOWN.items()
        if field.kind is not None
    },
    "partial_failures": FilterField(kinds.message(0), "partial_failures"),
}

_OWN: Mapping[str, Field] = {
    "name": FilterField(kinds.TEXT, "name"),
    "done": FilterField(kinds.FLAG, "done"),
    "error": FilterField(kinds.message(0), "error_code"),
    "error.code": FilterField(kinds.CODE, "error_code"),
    "error.message": field_in(
        Compare("error_code", "!=", 0),
        *(Source.OPERATION, operations_pb2.Operation),
        *("error", "message"),
    ),
    "response": FilterField(kinds.message(""), "response_type"),
    "response.@type": FilterField(kinds.TYPE, "response_type"),
    "response.type_url": FilterField(kinds.TYPE, "response_type"),
    "metadata.@type": FilterField(kinds.TYPE, "metadata_type"),
    "metadata.type_url": FilterField(kinds.TYPE, "metadata_type"),
    "method": FilterField(kinds.METHOD, "method"),
    "caller": FilterField(kinds.TEXT, "caller"),
    "worker": FilterField(kinds.TEXT, "worker"),
    "labels": FilterField(kinds.LABELS, "labels"),
}

RESERVED = frozenset(name.partition(".")[0] for name in _OWN) - {"metadata"}
"""The names before which no field of a message of the service's own comes."""

FIELDS: Mapping[str, Field] = {
    **_OWN,
    **_CONVENTIONAL,
    **{f"metadata.{name}": field for name, field in _CONVENTIONAL.items()},
}
"""The fields by all their names, but for single labels."""

SHORT_NAMES = (*_OWN, *_CONVENTIONAL)
"""The names without a ``metadata.`` that may be left out."""

LABEL = "labels."
"""The text before the key of a label."""


def field_of(name: str) -> Field | None:
    """Returns a field, which may be a label; None if there is none of that name here.

    A ValueError tells why it is no label.
    """
    if name.startswith(LABEL):
        return LabelField(kinds.checked_key(name.removeprefix(LABEL)))
    return FIELDS.get(name)


_SEARCHED = ("name", "target", "verb", "status_detail")
"""The columns in which a value without a field is looked for."""


def search(value: Value) -> Expression:
    """Returns the meaning of a value without a field: one of these texts contains it."""
    return Or(tuple(Like.containing(column, value.parts) for column in _SEARCHED))
