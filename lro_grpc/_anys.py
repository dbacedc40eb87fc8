"""Packs messages into ``google.protobuf.Any``, and opens them by the types this process knows.

It stands below the errors and raises none of the package's own: whoever opens an ``Any`` decides
what a type that is not known, or bytes that are no message, mean there.
"""

from __future__ import annotations

from typing import TypeVar

from google.protobuf import any_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

MessageT = TypeVar("MessageT", bound=Message)

TYPE_URL_PREFIX = "type.googleapis.com/"
"""The text before a message's full name in ``Any.type_url``."""


def pack(message: Message) -> any_pb2.Any:
    """Returns an ``Any`` that holds a message; an ``Any`` as it is."""
    if isinstance(message, any_pb2.Any):
        return message
    return any_pb2.Any(
        type_url=TYPE_URL_PREFIX + message.DESCRIPTOR.full_name, value=message.SerializeToString()
    )


def packed_bytes(message: Message) -> bytes:
    """Returns the serialized ``Any`` that holds a message."""
    return pack(message).SerializeToString()


def unpack(envelope: any_pb2.Any) -> Message | None:
    """Returns the message in an ``Any``; None if its type is not known, or its bytes are broken."""
    kind = find_class(envelope.TypeName())
    if kind is None:
        return None
    try:
        return unpack_as(kind, envelope)
    except DecodeError:
        return None


def unpack_as(kind: type[MessageT], envelope: any_pb2.Any) -> MessageT:
    """Returns the message in an ``Any`` whose type the caller has checked.

    Raises:
        DecodeError: If its bytes are broken.
    """
    return kind.FromString(envelope.value)


def find_class(full_name: str) -> type[Message] | None:
    """Returns the class of a message type; None if no module that was imported defines it."""
    try:
        descriptor = descriptor_pool.Default().FindMessageTypeByName(full_name)
    except KeyError:
        return None
    return message_factory.GetMessageClass(descriptor)
