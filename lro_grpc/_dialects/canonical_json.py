"""Protobuf's canonical JSON, also of messages with parts that have none.

JSON has no NaN in a ``Struct``, no ``Duration`` of 30,000 years, and no ``Any`` whose type is not
known here. Such a part is shown as ``@type`` and ``value``, its bytes in base64: one value that
cannot be shown hides nothing else, and no reader is refused for it.

Most messages have no such part, and are converted as they are. Otherwise the message is taken
apart, and each piece of it is converted once: its plain fields together, and each message in it by
itself. So the time grows with the message, however its parts are nested.

Read is what protobuf writes in any language: some releases for Go and for JavaScript put the fields
of an ``Empty``, or of another type of ``google.protobuf``, into the ``value`` of an ``Any``.
"""

from __future__ import annotations

import base64
import copy
import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from google.protobuf import (
    any_pb2,
    duration_pb2,
    field_mask_pb2,
    json_format,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from lro_grpc import _anys
from lro_grpc._errors import cut

Unpack = Callable[[any_pb2.Any], Message | None]
"""Returns the message in an ``Any``; None if its type is not known, or its bytes are broken."""

UNREADABLE = " (unreadable)"
"""Stands after a type whose bytes are shown because they have no JSON, or are not of that type."""

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

WHOLE = frozenset(
    kind.DESCRIPTOR.full_name
    for kind in (
        *(timestamp_pb2.Timestamp, duration_pb2.Duration, field_mask_pb2.FieldMask),
        *(struct_pb2.Struct, struct_pb2.Value, struct_pb2.ListValue),
        *(wrappers_pb2.StringValue, wrappers_pb2.BytesValue, wrappers_pb2.BoolValue),
        *(wrappers_pb2.Int32Value, wrappers_pb2.UInt32Value, wrappers_pb2.Int64Value),
        *(wrappers_pb2.UInt64Value, wrappers_pb2.FloatValue, wrappers_pb2.DoubleValue),
    )
)
"""Messages with a JSON of their own: they have it as a whole, or not at all."""


def to_json(message: Message, unpack: Unpack = _anys.unpack, *, mark: str = "") -> dict[str, Any]:
    """Returns the JSON of a message, as a mapping; see the module.

    Args:
        message: Any message.
        unpack: Opens each ``Any`` of a type that this process does not know.
        mark: Stands after the type of what is shown by its bytes though it has been opened: its
            ``value`` could be taken for the JSON of that type.
    """
    try:
        shown: dict[str, Any] = json_format.MessageToDict(message)
    except _NO_JSON:
        shown = _Pieces(unpack, mark).of(message, 0)
    return shown


def field_to_json(message: Message, name: str) -> Any:
    """Returns the JSON of one field of a message; of one that is not set, its default, or None.

    Args:
        message: A message that has no JSON of its own kind.
        name: The field's name in the proto.
    """
    field = message.DESCRIPTOR.fields_by_name[name]
    alone = copy.copy(message)
    for other, _ in message.ListFields():
        if other.name != name:
            alone.ClearField(other.name)
    shown = to_json(alone)
    if field.json_name in shown:
        return shown[field.json_name]
    unset = type(message)()
    defaults = json_format.MessageToDict(unset, always_print_fields_with_no_presence=True)
    return defaults.get(field.json_name)


def load(text: str) -> Any:
    """Returns the value that a text is the JSON of, each key of an object once.

    Raises:
        RecursionError: If it is nested too deep.
        ValueError: If it is no JSON.
    """
    return json.loads(
        text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant, parse_float=_finite
    )


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{cut(text)} is too large a number")
    return number


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


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
        if intact:
            value = copy.deepcopy(value)
        _prepare(value, message.DESCRIPTOR)
        json_format.ParseDict(value, message, ignore_unknown_fields=lenient)
    except _RAISED_BY_PARSER as cause:
        raise ValueError(str(cause)) from cause


def _prepare(value: Any, kind: Any) -> None:
    """Makes the JSON of each ``Any`` in a message one that protobuf's parser takes for its type.

    All else is left for the parser to refuse.

    Args:
        value: The JSON of the message; it is changed.
        kind: The message's descriptor.

    Raises:
        ValueError: If an ``Any`` lacks the value that its type has.
    """
    if not isinstance(value, dict):
        return
    if kind.full_name == _ANY:
        _prepare_any(value)
        return
    fields = _fields_with_any(kind)
    for name in value.keys() & fields.keys():
        field, part = fields[name], value[name]
        inside: Any = field.message_type
        if _is_map(field):
            inside = inside.fields_by_name["value"].message_type
            parts = list(part.values()) if isinstance(part, dict) else []
        else:
            parts = part if isinstance(part, list) else [part]
        for one in parts:
            _prepare(one, inside)


def _prepare_any(value: dict[str, Any]) -> None:
    type_url = value.get("@type")
    if type_url is not None and not isinstance(type_url, str):
        raise ValueError(f'"@type" is {cut(str(type_url))}; give the URL of a type, in quotes')
    kind = _anys.find_class(type_url.rpartition("/")[2]) if isinstance(type_url, str) else None
    if kind is None:
        return
    descriptor = kind.DESCRIPTOR
    if descriptor.full_name == _ANY or descriptor.full_name in WHOLE:
        if "value" not in value:
            raise ValueError(f'an Any with a {descriptor.full_name} has no "value"; give one')
        _prepare(value["value"], descriptor)
        return
    if descriptor.file.package == "google.protobuf" and "value" not in descriptor.fields_by_name:
        inside = value.get("value")
        if isinstance(inside, dict) and len(value) == 2:
            del value["value"]
            value.update({**inside, **value})
    _prepare(value, descriptor)


@functools.lru_cache(maxsize=1024)
def _fields_with_any(kind: Any) -> Mapping[str, FieldDescriptor]:
    """Returns the fields of a message in which an ``Any`` may be, by each of their names."""
    return {
        name: field
        for field in kind.fields
        if field.message_type is not None and _may_have_any(field.message_type)
        for name in (field.name, field.json_name)
    }


def _may_have_any(kind: Any) -> bool:
    seen: set[str] = set()
    left = [kind]
    while left:
        one = left.pop()
        if one.full_name == _ANY:
            return True
        if one.full_name not in seen:
            seen.add(one.full_name)
            left += (field.message_type for field in one.fields if field.message_type is not None)
    return False


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

    def __init__(self, unpack: Unpack, mark: str) -> None:
        self._unpack = unpack
        self._mark = mark

    def of(self, message: Message, depth: int) -> Any:
        """Returns the JSON of a message; of one that has none, its type and bytes."""
        if depth > MOST_DEPTH:
            return _as_bytes(message, self._mark)
        try:
            if message.DESCRIPTOR.full_name == _ANY:
                return self._any(cast("any_pb2.Any", message), depth)
            return self._json(message, depth)
        except _NO_JSON:
            return _as_bytes(message, self._mark)

    def _json(self, message: Message, depth: int) -> Any:
        if message.DESCRIPTOR.full_name in WHOLE:
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
        if inside.DESCRIPTOR.full_name in WHOLE:
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


def _as_bytes(message: Message, mark: str = "") -> dict[str, Any]:
    if message.DESCRIPTOR.full_name == _ANY:
        packed = cast("any_pb2.Any", message)
    else:
        packed = _anys.pack(message)
    return {"@type": packed.type_url + mark, "value": base64.b64encode(packed.value).decode()}


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
