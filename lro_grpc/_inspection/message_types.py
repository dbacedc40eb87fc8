"""Opens ``Any`` by the message types of this process, or else by those of the server.

The server's types are in a pool of their own, because its ``google/rpc/status.proto``, for example,
may differ from that of this process. The server is never asked for a type that is known here.

``_TypeSteps`` has the plans, which look up types by calls to the reflection service.
``MessageTypes`` and ``AsyncMessageTypes`` drive them, and have the same methods.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

from google.protobuf import any_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message

from lro_grpc import _anys
from lro_grpc._dialects import canonical_json
from lro_grpc._inspection.reflection import (
    AsyncReflection,
    ReflectedFiles,
    ReflectionCall,
    Reply,
    Steps,
)
from lro_grpc._runtime.steps import async_drive, drive

if TYPE_CHECKING:
    from google.protobuf.descriptor_pool import DescriptorPool

_ANY = any_pb2.Any.DESCRIPTOR.full_name

Note = Callable[[str], None]
"""Receives a sentence for the user."""


class Reflects(Protocol):
    """A server's reflection service, as ``Reflection`` has it."""

    def perform(self, call: ReflectionCall) -> Reply:
        """Makes a call, and returns the reply to it."""
        ...


class MessageTypes:
    """The message types that a server uses, looked up by calls that block.

    It may be used in several threads at once.

    Args:
        reflection: The server's reflection service.
        note: Receives each reason, once, why a message can be shown as bytes only.
    """

    def __init__(self, reflection: Reflects, note: Note) -> None:
        self._reflection = reflection
        self._steps = _TypeSteps(note)

    def unpack(self, packed: any_pb2.Any) -> Message | None:
        """Returns the message inside of an ``Any``.

        Returns:
            None if its type is not known or its bytes are broken, which is noted.
        """
        return drive(self._steps.unpack(packed), self._reflection.perform)

    def to_dict(self, message: Message) -> dict[str, Any]:
        """Returns a message as protobuf JSON, each ``Any`` in it with its fields.

        One that cannot be read has its bytes, in base64, as ``value``, and so has whatever has no
        JSON form, such as a time after 9999; "(unreadable)" stands after the type of these, so that
        nobody takes the bytes for its JSON.
        """
        return drive(self._steps.to_dict(message), self._reflection.perform)


class AsyncMessageTypes:
    """The message types that a server uses, on a ``grpc.aio`` channel.

    Args:
        reflection: The server's reflection service.
        note: Receives each reason, once, why a message can be shown as bytes only.
    """

    def __init__(self, reflection: AsyncReflection, note: Note) -> None:
        self._reflection = reflection
        self._steps = _TypeSteps(note)

    async def unpack(self, packed: any_pb2.Any) -> Message | None:
        """Returns the message inside of an ``Any``, as ``MessageTypes.unpack`` does."""
        return await async_drive(self._steps.unpack(packed), self._reflection.perform)

    async def to_dict(self, message: Message) -> dict[str, Any]:
        """Returns a message as protobuf JSON, as ``MessageTypes.to_dict`` does."""
        return await async_drive(self._steps.to_dict(message), self._reflection.perform)


class _TypeSteps:
    """The plans that both twins drive, and the types that these have found so far."""

    def __init__(self, note: Note) -> None:
        self._note = note
        self._noted: set[str] = set()
        self._files = ReflectedFiles()
        self._found: dict[str, Descriptor | None] = {}

    def unpack(self, packed: any_pb2.Any) -> Steps[Message | None]:
        descriptor = yield from self._find(packed.TypeName())
        inside = self._open(packed)
        if descriptor is not None and inside is None:
            self._note_once(
                f"what is sent as a {packed.TypeName()} is not one: it is shown as bytes"
            )
        return inside

    def to_dict(self, message: Message) -> Steps[dict[str, Any]]:
        shown = type(message)()
        shown.CopyFrom(message)
        yield from self._find_all(shown)
        return canonical_json.to_json(shown, self._open_or_mark, mark=canonical_json.UNREADABLE)

    def _find_all(self, message: Message) -> Steps[None]:
        """Looks for the type of each ``Any`` in a message.

        What is packed deeper than JSON shows it is not looked at.
        """
        left = deque([(message, 0)])
        while left:
            one, depth = left.popleft()
            if one.DESCRIPTOR.full_name != _ANY:
                left.extend((inner, depth + 1) for inner in canonical_json.messages_in(one))
                continue
            inside = yield from self.unpack(cast("any_pb2.Any", one))
            if inside is not None and depth < canonical_json.MOST_DEPTH:
                left.append((inside, depth + 1))

    def _open(self, packed: any_pb2.Any) -> Message | None:
        """Returns the message inside of an ``Any`` whose type has been looked for."""
        descriptor = self._found.get(packed.TypeName())
        if descriptor is None:
            return None
        try:
            return _anys.unpack_as(message_factory.GetMessageClass(descriptor), packed)
        except DecodeError:
            return None

    def _open_or_mark(self, packed: any_pb2.Any) -> Message | None:
        """Opens an ``Any`` of a message that is ours; one that is not of its type, it marks."""
        inside = self._open(packed)
        if inside is None and self._found.get(packed.TypeName()) is not None:
            packed.type_url += canonical_json.UNREADABLE
        return inside

    def _find(self, name: str) -> Steps[Descriptor | None]:
        if name not in self._found:
            known = _find_in(descriptor_pool.Default(), name)
            self._found[name] = known or (yield from self._fetch(name))
        return self._found[name]

    def _fetch(self, name: str) -> Steps[Descriptor | None]:
        if not name:
            return None
        found = _find_in(self._files.pool, name)
        if found is None:
            yield from self._files.fetch(name)
            found = _find_in(self._files.pool, name)
        if found is None:
            why = self._files.trouble or "nor to the server's reflection service"
            self._note_once(f"{name} is not known here, {why}: it is shown as bytes")
        return found

    def _note_once(self, text: str) -> None:
        if text not in self._noted:
            self._noted.add(text)
            self._note(text)


def _find_in(pool: DescriptorPool, name: str) -> Descriptor | None:
    try:
        return pool.FindMessageTypeByName(name)
    except KeyError:
        return None
