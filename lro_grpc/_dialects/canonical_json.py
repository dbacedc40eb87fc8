"""Protobuf's canonical JSON, also of messages with an ``Any`` that cannot be unpacked here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf import any_pb2, json_format, wrappers_pb2
from google.protobuf.message import DecodeError, Message

from lro_grpc import _anys
from lro_grpc._errors import InvalidArgumentError

_OPAQUE = "/google.protobuf.BytesValue"
"""A suffix of the type URL of bytes that are not understood; their JSON is without it."""


def to_json(message: Message) -> dict[str, Any]:
    """Returns the JSON of a message, as a mapping.

    An ``Any`` whose type is not known here, or whose bytes are broken, is shown as ``@type`` and
    ``value``, its bytes in base64: one detail that is not understood hides nothing else.

    Raises:
        InvalidArgumentError: If JSON cannot express the message, such as a time that is out of
            range.
    """
    try:
        return _to_dict(message)
    except (TypeError, DecodeError):
        copy = type(message)()
        copy.CopyFrom(message)
        _wrap_opaque(copy)
        shown: dict[str, Any] = _without_opaque(_to_dict(copy))
        return shown


def _to_dict(message: Message) -> dict[str, Any]:
    try:
        shown: dict[str, Any] = json_format.MessageToDict(message)
    except json_format.Error as cause:
        raise InvalidArgumentError(
            f"a {message.DESCRIPTOR.full_name} has no JSON: {cause}"
        ) from cause
    return shown


def _wrap_opaque(message: Message) -> None:
    """Makes each ``Any`` that cannot be unpacked one of a ``BytesValue`` that holds its bytes."""
    if not isinstance(message, any_pb2.Any):
        for inner in messages_in(message):
            _wrap_opaque(inner)
        return
    inside = _anys.unpack(message)
    if inside is None:
        message.type_url += _OPAQUE
        inside = wrappers_pb2.BytesValue(value=message.value)
    else:
        _wrap_opaque(inside)
    message.value = inside.SerializeToString()


def messages_in(message: Message) -> Iterator[Message]:
    """Yields the messages that are values of a message's fields, of repeated ones and maps too."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if not field.is_repeated:
            yield value
        elif not field.message_type.GetOptions().map_entry:
            yield from value
        elif field.message_type.fields_by_name["value"].message_type is not None:
            yield from value.values()


def _without_opaque(shown: Any) -> Any:
    if isinstance(shown, list):
        return [_without_opaque(one) for one in shown]
    if not isinstance(shown, dict):
        return shown
    clean = {key: _without_opaque(value) for key, value in shown.items()}
    type_url = str(clean.get("@type", "")).removesuffix(_OPAQUE)
    if "/" in type_url:
        clean["@type"] = type_url
    return clean
