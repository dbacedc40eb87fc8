"""Message types as a service declares them: protobuf's own classes, or proto-plus classes.

A proto-plus class, as the Google Cloud packages have them, wraps a message of protobuf's own. It
is recognized by its methods, so that proto-plus itself is not needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard

from google.protobuf.message import Message

from lro_grpc._errors import ConfigurationError


def protobuf_class(declared: type[Any]) -> type[Message]:
    """Returns the protobuf class of a declared type: itself, or the one that it wraps.

    Raises:
        ConfigurationError: If it is neither.
    """
    if _is_protobuf(declared):
        return declared
    wrapped: Any = declared.pb() if _is_proto_plus(declared) else None
    if wrapped is None:
        raise ConfigurationError(
            f"{declared!r} is not a message type; give a protobuf message class, or a proto-plus"
            " class all of whose modules were imported"
        )
    return wrapped  # type: ignore[no-any-return]


def parser_of(declared: type[Any]) -> Callable[[bytes], Any]:
    """Returns a function that makes an object of a declared type from its serialized message.

    Raises:
        ConfigurationError: If it is no message type.
    """
    parse = protobuf_class(declared).FromString
    return parse if _is_protobuf(declared) else lambda serialized: declared.wrap(parse(serialized))


def as_declared(message: Message, declared: type[Any]) -> Any:
    """Returns a message as an object of its declared type, around the very same message.

    A message of another type is returned as it is.
    """
    if isinstance(message, declared) or not isinstance(message, protobuf_class(declared)):
        return message
    return declared.wrap(message)


def protobuf_message(value: Any) -> Any:
    """Returns the message that a proto-plus object wraps; any other object as it is."""
    kind = type(value)
    return kind.pb(value) if not isinstance(value, Message) and _is_proto_plus(kind) else value


def _is_protobuf(kind: Any) -> TypeGuard[type[Message]]:
    return isinstance(kind, type) and issubclass(kind, Message)


def _is_proto_plus(kind: Any) -> bool:
    return isinstance(kind, type) and all(hasattr(kind, part) for part in ("meta", "pb", "wrap"))
