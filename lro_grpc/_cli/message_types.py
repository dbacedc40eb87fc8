"""The message types inside of ``Any``: those of this process, else those of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from google.protobuf import any_pb2, descriptor_pool, json_format, message_factory, wrappers_pb2
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message

from lro_grpc._cli import exit_codes
from lro_grpc._dialects.canonical_json import messages_in
from lro_grpc._errors import Code, LroError

if TYPE_CHECKING:
    from google.protobuf.descriptor_pool import DescriptorPool

    from lro_grpc._cli.reflection import Reflection

_ANY = any_pb2.Any.DESCRIPTOR.full_name
_BYTES = wrappers_pb2.BytesValue


class MessageTypes:
    """Finds message types by name.

    The server's types are in a pool of their own: what it calls ``google/rpc/status.proto`` need
    not be what this process calls so. A type that is known here is never asked for.

    Args:
        reflection: The server's files.
    """

    def __init__(self, reflection: Reflection) -> None:
        self._reflection = reflection
        self._remote = descriptor_pool.DescriptorPool(reflection)
        self._found: dict[str, Descriptor | None] = {}
        self._noted: set[str] = set()

    def unpack(self, packed: any_pb2.Any) -> Message | None:
        """Returns the message inside of an ``Any``.

        Returns:
            None if its type is not known, which is said once on stderr, or its bytes are broken.
        """
        descriptor = self._find(packed.TypeName())
        if descriptor is None:
            return None
        try:
            return message_factory.GetMessageClass(descriptor).FromString(packed.value)
        except DecodeError:
            self._note(f"what is sent as a {packed.TypeName()} is not one: it is shown as bytes")
            return None

    def to_dict(self, message: Message) -> dict[str, Any]:
        """Returns a message as protobuf JSON, each ``Any`` in it with its fields.

        One that cannot be read has its bytes, in base64, as ``value``.

        Raises:
            LroError: If it holds a value that has no JSON form, such as a time after 9999.
        """
        shown = type(message)()
        shown.CopyFrom(message)
        self._wrap_unreadable(shown)
        try:
            found: dict[str, Any] = json_format.MessageToDict(
                shown, descriptor_pool=cast("DescriptorPool", _Readable(self._found))
            )
        except (json_format.Error, ValueError, RecursionError) as cause:
            raise LroError(f"this has no JSON form: {cause}", code=Code.DATA_LOSS) from cause
        return found

    def _wrap_unreadable(self, message: Message) -> None:
        """Makes each ``Any`` that cannot be read hold the ``BytesValue`` of its bytes."""
        if message.DESCRIPTOR.full_name != _ANY:
            for child in messages_in(message):
                self._wrap_unreadable(child)
            return
        packed = cast("any_pb2.Any", message)
        inside = self.unpack(packed)
        if inside is not None:
            self._wrap_unreadable(inside)
        else:
            inside = _BYTES(value=packed.value)
            if self._found[packed.TypeName()] is not None:
                packed.type_url += " (unreadable)"
        packed.value = inside.SerializeToString()

    def _find(self, name: str) -> Descriptor | None:
        if name not in self._found:
            self._found[name] = _of(descriptor_pool.Default(), name) or self._ask(name)
        return self._found[name]

    def _ask(self, name: str) -> Descriptor | None:
        found = _of(self._remote, name) if name else None
        if found is None and name:
            why = self._reflection.trouble or "nor to the server's reflection service"
            self._note(f"{name} is not known here, {why}: it is shown as bytes")
        return found

    def _note(self, text: str) -> None:
        """Prints a line, once."""
        if text not in self._noted:
            self._noted.add(text)
            exit_codes.say(text)


class _Readable:
    """Stands for a pool that has every type that was looked for; if not found, as bytes."""

    def __init__(self, found: dict[str, Descriptor | None]) -> None:
        self._found = found

    def FindMessageTypeByName(self, name: str) -> Descriptor:  # noqa: N802 - the pool's name
        return self._found.get(name) or _BYTES.DESCRIPTOR


def _of(pool: DescriptorPool, name: str) -> Descriptor | None:
    try:
        return pool.FindMessageTypeByName(name)
    except (KeyError, TypeError, DecodeError):  # or the files that define it are not in order
        return None
