"""Removes the sensitive fields of a message, as far as its proto says which these are.

A field is sensitive if its proto marks it ``debug_redact``, protobuf's own option for what no
output for people may show, or INPUT_ONLY (AIP-203), which an API takes and never gives back. It is
removed wherever it stands: in a nested message, in the values of a map, and in an ``Any`` whose
type this process knows. What cannot be judged is removed, too: unknown fields, extensions, and the
content of an ``Any`` of a type that is unknown or not annotated. Texts and the keys of maps are not
looked into.

**No mark is no promise.** Proto-plus classes, as vendors' packages have them, are made without
field options: a password looks like any other text in them. A type is **annotated** if each package
of the messages that it is made of marks at least one of their fields, with one of those two options
and whatever value; other options, such as ``packed`` and ``deprecated``, say nothing of secrets. Of
a type that is not, nobody knows. Packages of common values have no marks by themselves: what a
``google.protobuf.Struct`` holds is for the field to say that it stands in.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, TypeVar

from google.api import field_behavior_pb2
from google.protobuf import any_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from lro_grpc import _anys

M = TypeVar("M", bound=Message)

_MOST_DEPTH = 100
"""The messages that may stand in each other, as those of one serialized message may; an ``Any``
could have as many more. What is deeper is removed."""


_OF_VALUES = frozenset({"google.protobuf", "google.type"})
"""The packages of common values."""


@functools.cache
def is_annotated(kind: Descriptor) -> bool:
    """Returns whether the protos of a message tell which of its fields are sensitive."""
    own = kind.file.package
    packages: dict[str, bool] = {}
    for one in _reachable(kind):
        package = one.file.package
        if package == own or package not in _OF_VALUES:
            is_marked = packages.get(package, False) or any(map(_is_marked, one.fields))
            packages[package] = is_marked
    return all(packages.values())


def redacted(message: M) -> M:
    """Returns a copy of a message without its sensitive fields."""
    copy = type(message)()
    copy.CopyFrom(message)
    copy.DiscardUnknownFields()
    _redact(copy, _MOST_DEPTH)
    return copy


def _redact(message: Message, depth: int) -> None:
    if not _may_hide(message.DESCRIPTOR):
        return
    if depth == 0:
        message.Clear()
        return
    if isinstance(message, any_pb2.Any):
        _redact_any(message, depth - 1)
        return
    for field, value in message.ListFields():
        if field.is_extension:  # whoever has made it may not mark anything
            message.ClearExtension(field)  # type: ignore[arg-type]
        elif _is_sensitive(field):
            message.ClearField(field.name)
        elif field.message_type is None:
            pass
        elif field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for one in value.values():
                    _redact(one, depth - 1)
        elif field.is_repeated:
            for one in value:
                _redact(one, depth - 1)
        else:
            _redact(value, depth - 1)


def _redact_any(envelope: any_pb2.Any, depth: int) -> None:
    content = _anys.unpack(envelope)
    if content is None or not (
        isinstance(content, any_pb2.Any) or is_annotated(content.DESCRIPTOR)
    ):
        envelope.value = b""
        return
    content.DiscardUnknownFields()
    _redact(content, depth)
    envelope.value = content.SerializeToString()


def _is_marked(field: FieldDescriptor) -> bool:
    options: Any = field.GetOptions()
    behaviors = options.Extensions[field_behavior_pb2.field_behavior]
    return options.HasField("debug_redact") or bool(behaviors)


def _is_sensitive(field: FieldDescriptor) -> bool:
    options: Any = field.GetOptions()
    behaviors = options.Extensions[field_behavior_pb2.field_behavior]
    return bool(options.debug_redact) or field_behavior_pb2.INPUT_ONLY in behaviors


@functools.cache
def _may_hide(kind: Descriptor) -> bool:
    """Returns whether a message of a type may have something to remove, at whatever depth."""
    return any(
        one.full_name == any_pb2.Any.DESCRIPTOR.full_name
        or one.is_extendable
        or any(map(_is_sensitive, one.fields))
        for one in _reachable(kind)
    )


def _reachable(kind: Descriptor) -> Iterator[Descriptor]:
    """Yields a type and the types of its fields, at whatever depth."""
    seen, waiting = {kind.full_name}, [kind]
    while waiting:
        one = waiting.pop()
        yield one
        for field in one.fields:
            other = field.message_type
            if other is not None and other.full_name not in seen:
                seen.add(other.full_name)
                waiting.append(other)
