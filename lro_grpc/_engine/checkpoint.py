"""A handler's checkpoint, as it is stored: a message or bytes, in the bytes of an ``Any``."""

from __future__ import annotations

from typing import Any

from google.protobuf import any_pb2, wrappers_pb2
from google.protobuf.message import Message

from lro_grpc import _anys
from lro_grpc._operation.metadata import message_class

_BYTES = wrappers_pb2.BytesValue


def pack(state: Message | bytes) -> bytes:
    """Returns a state as it is stored.

    Raises:
        TypeError: If it is neither a message nor bytes.
    """
    if isinstance(state, bytes):
        return _anys.packed_bytes(_BYTES(value=state))
    if not isinstance(state, Message):
        raise TypeError(f"the checkpoint is {state!r}; give a protobuf message, or bytes")
    return _anys.packed_bytes(state)


def unpack(stored: bytes) -> Any:
    """Returns the state that was stored: a message or bytes; None for none.

    Raises:
        ConfigurationError: If it is a message of a type that no imported module defines.
    """
    if not stored:
        return None
    envelope = any_pb2.Any.FromString(stored)
    state: Any = _anys.unpack_as(message_class(envelope.TypeName()), envelope)
    return state.value if isinstance(state, _BYTES) else state
