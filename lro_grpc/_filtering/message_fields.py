"""The fields of a service's own messages that filters compare, each as its type has it.

They are looked up, when a filter is read, in the types that the operations of a list may have. A
field that several of them have is compared in each as it is there, and in those alone in which the
value can be one of the field.
"""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from google.protobuf import wrappers_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from lro_grpc._errors import cut
from lro_grpc._filtering import kinds
from lro_grpc._filtering.expression import And, Compare, Expression, Matches, Or
from lro_grpc._filtering.in_message import VALUE, InMessage, Source, Step, Test
from lro_grpc._filtering.kinds import FieldKind, Value
from lro_grpc._filtering.patterns import Pattern
from lro_grpc._operation import metadata

MOST_STEPS = 50
"""The most fields on the way to a value."""

_SHOWN = 10
"""The most types that an error names."""

_NAMED = 100
"""The most fields of a type that may be meant by a name that is none."""

_Reader = Callable[[Any], Any]


def _as_it_is(value: Any) -> Any:
    return value


def _text(value: Any) -> str:
    """Returns a text; in a type of proto2 a field of texts may hold bytes that are none."""
    if not isinstance(value, str):
        raise DecodeError("a field of texts has bytes that are no UTF-8")
    return value


def _microseconds(time: Any) -> int:
    return int(time.seconds) * 1_000_000 + int(time.nanos) // 1000


def _nanoseconds(duration: Any) -> int:
    return int(duration.seconds) * 1_000_000_000 + int(duration.nanos)


def _read_whole(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,20}", text):
        raise ValueError(f"{cut(text)!r} is not a whole number of 64 bits")
    return int(text)


def _read_double(text: str) -> float:
    if not re.fullmatch(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?", text):
        raise ValueError(f"{cut(text)!r} is not a number such as 1.5 or -2e3")
    return float(text)


def _read_float(text: str) -> float:
    """Returns the number of 32 bits that is nearest, as a field of them has it."""
    try:
        nearest: float = struct.unpack("<f", struct.pack("<f", _read_double(text)))[0]
    except OverflowError as cause:
        raise ValueError(f"{cut(text)!r} is beyond the numbers of 32 bits") from cause
    return nearest


def _read_duration(text: str) -> int:
    found = re.fullmatch(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,9}))?s", text)
    if found is None:
        raise ValueError(f"{cut(text)!r} is not a duration in seconds such as 90s or 1.5s")
    sign, seconds, fraction = found.groups()
    value = int(seconds) * 1_000_000_000 + int((fraction or "").ljust(9, "0"))
    return -value if sign else value


@functools.cache
def _enum_kind(descriptor: EnumDescriptor) -> FieldKind:
    """Returns the kind of an enum: compared by names, with or without what begins them all."""
    prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", descriptor.name).upper() + "_"
    numbers = {one.name.removeprefix(prefix): one.number for one in descriptor.values}
    numbers.update({one.name: one.number for one in descriptor.values})

    def read(text: str) -> int:
        if text not in numbers:
            names = cut(", ".join(one.name for one in descriptor.values), 300)
            raise ValueError(f"{cut(text)!r} is no {descriptor.name}; give one of {names}")
        return numbers[text]

    return FieldKind(kinds.EQUALITY, kinds.reading(read))


_WHOLE = FieldKind(kinds.ORDER, kinds.reading(_read_whole))
_DOUBLE = FieldKind(kinds.ORDER, kinds.reading(_read_double))
_FLOAT = FieldKind(kinds.ORDER, kinds.reading(_read_float))
_DURATION = FieldKind(kinds.ORDER, kinds.reading(_read_duration))

_KINDS: Mapping[int, FieldKind] = {
    **dict.fromkeys(
        (
            FieldDescriptor.TYPE_INT32,
            FieldDescriptor.TYPE_INT64,
            FieldDescriptor.TYPE_UINT32,
            FieldDescriptor.TYPE_UINT64,
            FieldDescriptor.TYPE_SINT32,
            FieldDescriptor.TYPE_SINT64,
            FieldDescriptor.TYPE_FIXED32,
            FieldDescriptor.TYPE_FIXED64,
            FieldDescriptor.TYPE_SFIXED32,
            FieldDescriptor.TYPE_SFIXED64,
        ),
        _WHOLE,
    ),
    FieldDescriptor.TYPE_DOUBLE: _DOUBLE,
    FieldDescriptor.TYPE_FLOAT: _FLOAT,
    FieldDescriptor.TYPE_BOOL: kinds.FLAG,
    FieldDescriptor.TYPE_STRING: kinds.TEXT,
    FieldDescriptor.TYPE_BYTES: kinds.message(b""),
}

_WELL_KNOWN: Mapping[str, tuple[FieldKind, _Reader]] = {
    "google.protobuf.Timestamp": (kinds.TIME, _microseconds),
    "google.protobuf.Duration": (_DURATION, _nanoseconds),
}
_WRAPPERS = frozenset(
    one.full_name for one in wrappers_pb2.DESCRIPTOR.message_types_by_name.values()
)
_SCALARS = {*_WELL_KNOWN, *_WRAPPERS}
"""Messages that are one value."""


class _Leaf(NamedTuple):
    """A field of a type, or of a message in it, with the way to it."""

    steps: tuple[Step, ...]
    kind: FieldKind
    read: _Reader
    present: Test | None
    """The condition that it is set; None if it has a value only then."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A type in which a field was found."""

    guard: Compare
    """The condition that a record has a message of the type."""
    source: Source
    type: type[Message]
    leaf: _Leaf

    def restrict(self, comparator: str, value: Value) -> Expression:
        kind = self.leaf.kind
        if comparator == ":" and value.is_any:
            return self._where(self.leaf.present)
        kind.check(comparator)
        return self._where(kind.meaning(VALUE, comparator, value))

    def matching(self, pattern: Pattern) -> Expression:
        return self._where(Matches(VALUE, pattern))

    def _where(self, test: Any) -> Expression:
        leaf = self.leaf
        return And((self.guard, InMessage(self.source, self.type, leaf.steps, leaf.read, test)))


@dataclass(frozen=True, slots=True)
class MessageField:
    """A field inside messages that a filter may name."""

    places: tuple[_Place, ...]
    """The types in which it was found; one at least."""

    @property
    def size(self) -> int:
        """The number of comparisons that one with it is."""
        return len(self.places)

    @property
    def is_flag(self) -> bool:
        """Whether it is true or false."""
        return all(one.leaf.kind is kinds.FLAG for one in self.places)

    @property
    def is_text(self) -> bool:
        """Whether it is a text, in one of the types at least."""
        return any(one.leaf.kind is kinds.TEXT for one in self.places)

    def restrict(self, comparator: str, value: Value) -> Expression:
        """Returns the meaning of a restriction; a ValueError describes the mistake in it."""
        found: list[Expression] = []
        mistakes: list[ValueError] = []
        for place in self.places:
            try:
                found.append(place.restrict(comparator, value))
            except ValueError as mistake:
                mistakes.append(mistake)
        if not found:
            raise mistakes[0]
        return found[0] if len(found) == 1 else Or(tuple(found))

    def matching(self, pattern: Pattern) -> Expression:
        """Returns the restriction to records in which a regular expression matches the text."""
        texts = (one for one in self.places if one.leaf.kind is kinds.TEXT)
        found = tuple(one.matching(pattern) for one in texts)
        return found[0] if len(found) == 1 else Or(found)


@dataclass(frozen=True, slots=True)
class MetadataTypes:
    """The types of metadata whose fields a filter may name."""

    types: Collection[type[Message]] = ()
    prefix: str = "metadata."
    """The text before the name of a field; empty where the metadata is what is listed."""

    def __str__(self) -> str:
        """Returns the names of the types, a few of many."""
        first, others = [*self.types][:_SHOWN], len(self.types) - _SHOWN
        names = ", ".join(one.DESCRIPTOR.full_name for one in first)
        return f"{names} and {others} more" if others > 0 else names

    def names(self) -> list[str]:
        """Returns fields that a filter may name, a few of many."""
        shown = [_descriptor(one).fields_by_name for one in [*self.types][:_SHOWN]]
        return [f"{self.prefix}{name}" for fields in shown for name in [*fields][:_NAMED]]

    def find(self, name: str) -> MessageField | None:
        """Returns a field; None if no type has it. A ValueError tells why it is not compared."""
        if not name.startswith(self.prefix):
            return None
        path = name.removeprefix(self.prefix).split(".")
        if len(path) > MOST_STEPS:
            raise ValueError(f"this field is {len(path)} deep; give {MOST_STEPS} fields at most")
        found: list[_Place] = []
        mistakes: list[ValueError] = []
        for kind in self.types:
            try:
                leaf = _leaf(_descriptor(kind), path)
            except ValueError as mistake:
                mistakes.append(mistake)
                continue
            if leaf is not None:
                guard = Compare("metadata_type", "=", kind.DESCRIPTOR.full_name)
                is_filled = metadata.is_filled(_descriptor(kind), path[0])
                source = Source.METADATA if is_filled else Source.HANDLER
                found.append(_Place(guard, source, kind, leaf))
        if mistakes and not found:
            raise mistakes[0]
        return MessageField(tuple(found)) if found else None


def field_in(guard: Compare, source: Source, kind: type[Message], *path: str) -> MessageField:
    """Returns a field of a message that every record has for which something is true."""
    leaf = _leaf(_descriptor(kind), path)
    assert leaf is not None
    return MessageField((_Place(guard, source, kind, leaf),))


def _descriptor(kind: type[Message]) -> Any:
    return kind.DESCRIPTOR


def _leaf(descriptor: Descriptor, path: Sequence[str]) -> _Leaf | None:
    """Returns a field of a type; None if it has none of that name."""
    steps: list[Step] = []
    field = None
    for place, name in enumerate(path):
        if field is not None:
            if field.message_type is None or field.message_type.full_name in _SCALARS:
                raise ValueError(f"{'.'.join(path[:place])} is a value, and has no fields")
            descriptor = field.message_type
        field = descriptor.fields_by_name.get(name)
        if field is None:
            return None
        if field.is_repeated:
            raise ValueError(
                f"{'.'.join(path[: place + 1])} holds several values; only a field that holds one"
                " is compared"
            )
        steps.append(Step(name, field.has_presence))
    assert field is not None
    is_tracked = field.has_presence
    read: _Reader = _as_it_is
    if field.message_type is not None:
        full_name = field.message_type.full_name
        if full_name in _WRAPPERS:
            field = field.message_type.fields_by_name["value"]
            steps.append(Step("value", is_tracked=False))
            kind = _KINDS[field.type]
        else:
            kind, read = _WELL_KNOWN.get(full_name, (kinds.message(0), _as_it_is))
    elif field.enum_type is not None:
        kind = _enum_kind(field.enum_type)
    else:
        kind = _KINDS[field.type]
        read = _text if kind is kinds.TEXT else _as_it_is
    present = None if is_tracked else Compare(VALUE, "!=", kind.default)
    return _Leaf(tuple(steps), kind, read, present)
