"""A message of any type as a block of JSON on a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from lro_grpc._console.markup import Budget
from lro_grpc._dialects import canonical_json

if TYPE_CHECKING:
    from google.protobuf import any_pb2

    from lro_grpc._dialects.canonical_json import Unpack

JSON_BYTES = 1 << 20
"""The most bytes of a message that is made into JSON, to show 64 KiB of it."""


@dataclass(frozen=True, slots=True)
class Block:
    """A message as JSON."""

    title: str
    type: str
    json: Markup | None
    note: str
    """The reason why there is no JSON; empty if there is."""


def block_of(title: str, packed: any_pb2.Any, unpack: Unpack, budget: Budget) -> Block:
    """Returns a message as JSON, or the reason why there is none.

    Args:
        title: Its title.
        packed: The message.
        unpack: Opens each ``Any``; it does no input or output, and does not raise.
        budget: The bytes that its page has left.
    """
    kind = budget.take(packed.TypeName(), 200) or "no type"
    size = len(packed.value)
    if size > JSON_BYTES or not budget.spend_message(size):
        return Block(title, kind, None, f"{size_text(size)}: the JSON file has all of it")
    message = unpack(packed)
    if message is None:
        what = "no bytes" if not size else f"{size_text(size)}, which cannot be read as this type"
        return Block(title, kind, None, what)
    return Block(title, kind, budget.take_json(canonical_json.to_json(message, unpack)), "")


def size_text(number: int) -> str:
    """Returns a number of bytes for people."""
    return "1 byte" if number == 1 else f"{number:,} bytes"
