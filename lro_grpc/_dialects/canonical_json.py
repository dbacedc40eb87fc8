"""Protobuf's canonical JSON, also of messages with parts that have none.

JSON has no NaN in a ``Struct``, no ``Duration`` of 30,000 years, and no ``Any`` whose type is not
known here. Such a part is shown as ``@type`` and ``value``, its bytes in base64: one value that
cannot be shown hides nothing else, and no reader is refused for it.

Most messages have no such part, and are converted as they are. Otherwise the message is taken
apart, and each piece of it is converted once: its plain fields together, and each message in it by
itself. So the time grows with the message, however its parts are nested.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable, Iterator
from typing import Any, cast

from google.protobuf import any_pb2, json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from lro_grpc import _anys

Unpack = Callable[[any_pb2.Any], Message | None]
"""Returns the message in an ``Any``; None if its type is not known, or its bytes are broken."""

MOST_DEPTH = 100
"""The depth below which messages are shown by their bytes: protobuf's own limit for one message."""

_NO_JSON = (
    json_format.Error,
    DecodeError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)

_RAISED_BY_PARSER = (
    *(json_format.Error, ArithmeticError, AttributeError, LookupError, RecursionError),
    *(SystemError, TypeError, ValueError),
)
"""The errors of protobuf's parser: it relies on types where it does not check them, such as that of
``@type``, and its native part is surprised by half a surrogate pair."""

_ANY = any_pb2.Any.DESCRIPTOR.full_name

_WHOLE = frozenset(
    f"google.protobuf.{name}"
    for name in (
        *("Timestamp", "Duration", "FieldMask", "Struct", "Value", "ListValue", "StringValue"),
        *("BytesValue", "BoolValue", "Int32Value", "UInt32Value", "Int64Value", "UInt64Value"),
        *("FloatValue", "DoubleValue"),
    )
)
"""Messages with a JSON of their own: they have it as a whole, or not at all."""


def to_json(message: Message, unpack: Unpack = _anys.unpack) -> dict[str, Any]:
    """Returns the JSON of a message, as a mapping; see the module.

    Args:
        message: Any message.
        unpack: Opens each ``Any`` of a type that this process does not know.
    """
    try:
        shown: dict[str, Any] = json_format.MessageToDict(message)
    except _NO_JSON:
        shown = _Pieces(unpack).of(message, 0)
    return shown


def parse(value: Any, message: Message, *, intact: bool = True, lenient: bool = False) -> None:
    """Sets the fields of a message that its JSON has.

    Args:
        value: The JSON.
        message: The message.
        intact: Whether the value has to stay as it is; the parser takes it apart.
        lenient: Whether fields that the message lacks are left out.

    Raises:
        ValueError: If it is not the JSON of such a message.
    """
    try:
        json_format.ParseDict(
            copy.deepcopy(value) if intact else value, message, ignore_unknown_fields=lenient
        )
    except _RAISED_BY_PARSER as cause:
        raise ValueError(str(cause)) from cause


def messages_in(message: Message) -> Iterator[Message]:
    """Yields the messages that are values of a message's fields, of repeated ones and maps too."""
    for field, value in message.ListFields():
        if not _has_messages(field):
            continue
        if _is_map(field):
            yield from value.values()
        elif field.is_repeated:
            yield from value
        else:
            yield value


class _Pieces:
    """Converts a message piece by piece."""

    def __init__(self, unpack: Unpack) -> None:
        self._unpack = unpack

    def of(self, message: Message, depth: int) -> Any:
        """Returns the JSON of a message; of one that has none, its type and bytes."""
        if depth > MOST_DEPTH:
            return _as_bytes(message)
        try:
            if message.DESCRIPTOR.full_name == _ANY:
                return self._any(cast("any_pb2.Any", message), depth)
            return self._json(message, depth)
        except _NO_JSON:
            return _as_bytes(message)

    def _json(self, message: Message, depth: int) -> Any:
        if message.DESCRIPTOR.full_name in _WHOLE:
            return json_format.MessageToDict(message)
        return self._fields(message, depth)

    def _any(self, packed: any_pb2.Any, depth: int) -> dict[str, Any]:
        if not packed.ListFields():
            return {}
        inside = self._unpack(packed)
        if inside is None:
            return _as_bytes(packed)
        if inside.DESCRIPTOR.full_name == _ANY:
            return {"@type": packed.type_url, "value": self.of(inside, depth + 1)}
        shown = self._json(inside, depth + 1)
        if inside.DESCRIPTOR.full_name in _WHOLE:
            return {"@type": packed.type_url, "value": shown}
        return {"@type": packed.type_url, **shown}

    def _fields(self, message: Message, depth: int) -> dict[str, Any]:
        """Returns the JSON of a message's fields; the messages in it may be shown by their bytes.

        Raises:
            Exception: One of ``_NO_JSON``, if a plain field has no JSON.
        """
        plain = type(message)()
        shown: dict[str, Any] = {}
        for field, value in message.ListFields():
            shown[field.json_name] = None  # in the order of the fields
            if field.is_extension:
                raise TypeError(f"{field.full_name} is an extension")
            if not _has_messages(field):
                _copy(field, value, plain)
            elif _is_map(field):
                shown[field.json_name] = {
                    _key(key): self.of(one, depth + 1) for key, one in value.items()
                }
            elif field.is_repeated:
                shown[field.json_name] = [self.of(one, depth + 1) for one in value]
            else:
                shown[field.json_name] = self.of(value, depth + 1)
        return {**shown, **json_format.MessageToDict(plain)}


def _as_bytes(message: Message) -> dict[str, Any]:
    if message.DESCRIPTOR.full_name == _ANY:
        packed = cast("any_pb2.Any", message)
    else:
        packed = _anys.pack(message)
    return {"@type": packed.type_url, "value": base64.b64encode(packed.value).decode()}


def _is_map(field: FieldDescriptor) -> bool:
    kind = field.message_type
    return kind is not None and bool(kind.GetOptions().map_entry)


def _has_messages(field: FieldDescriptor) -> bool:
    kind = field.message_type
    if kind is None:
        return False
    return not _is_map(field) or kind.fields_by_name["value"].message_type is not None


def _copy(field: FieldDescriptor, value: Any, message: Message) -> None:
    """Sets a plain field of another message of the same type."""
    if _is_map(field):
        getattr(message, field.name).update(value)
    elif field.is_repeated:
        getattr(message, field.name).extend(value)
    else:
        setattr(message, field.name, value)


def _key(key: Any) -> str:
    """Returns the key of a map as JSON has it."""
    return str(key).lower() if isinstance(key, bool) else str(key)
