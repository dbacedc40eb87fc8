"""The error of an operation as its page shows it: facts, links, and all other details as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2

from lro_grpc._console.block import Block, block_of
from lro_grpc._console.markup import Budget

if TYPE_CHECKING:
    from google.protobuf import any_pb2
    from google.rpc import status_pb2

    from lro_grpc._dialects.canonical_json import Unpack

_LONG_TEXT = 4_000
_DETAILS = 20
_INFO = 20
_LINKS = 10
_ADDRESS_BYTES = 2_000


@dataclass(frozen=True, slots=True)
class ShownError:
    """An error with its details."""

    code: str
    number: int
    message: str
    facts: tuple[tuple[str, str], ...]
    """Labels and texts of an ErrorInfo."""
    links: tuple[tuple[str, str], ...]
    """Texts and addresses of a Help; each address is HTTPS."""
    details: tuple[Block, ...]
    left_out: int
    """The number of details that are not shown."""


def shown_error(status: status_pb2.Status, unpack: Unpack, budget: Budget) -> ShownError:
    """Returns an error with its details.

    Args:
        status: The error.
        unpack: Opens each ``Any``; it does no input or output, and does not raise.
        budget: The bytes that its page has left.
    """
    number = status.code or code_pb2.UNKNOWN
    known = number in code_pb2.Code.values()
    message = budget.take(status.message, _LONG_TEXT, keep="\n")
    facts: list[tuple[str, str]] = []
    links: list[tuple[str, str]] = []
    details: list[Block] = []
    for packed in status.details[:_DETAILS]:
        if (info := _as(error_details_pb2.ErrorInfo, packed)) and not facts:
            facts.extend(_info_facts(info, budget))
        elif (helped := _as(error_details_pb2.Help, packed)) and not links:
            links.extend(_help_links(helped, budget))
        else:
            details.append(block_of("", packed, unpack, budget))
    return ShownError(
        code=code_pb2.Code.Name(number) if known else str(number),
        number=number,
        message=message,
        facts=tuple(facts),
        links=tuple(links),
        details=tuple(details),
        left_out=max(0, len(status.details) - _DETAILS),
    )


def _as(kind: Any, packed: any_pb2.Any) -> Any:
    """Returns the message in an ``Any``; None if it is of another type, empty or broken."""
    if packed.TypeName() != kind.DESCRIPTOR.full_name:
        return None
    try:
        message = kind.FromString(packed.value)
    except DecodeError:
        return None
    return message if message.ListFields() else None


def _info_facts(info: error_details_pb2.ErrorInfo, budget: Budget) -> Iterator[tuple[str, str]]:
    named = [("Reason", info.reason), ("Domain", info.domain), *sorted(info.metadata.items())]
    for label, text in named[:_INFO]:
        if text:
            yield budget.take(label, 80), budget.take(text)
    if len(named) > _INFO:
        yield "And", f"{len(named) - _INFO:,} more, in the JSON file"


def _help_links(message: error_details_pb2.Help, budget: Budget) -> Iterator[tuple[str, str]]:
    for link in message.links[:_LINKS]:
        if _is_web_address(link.url):
            text = budget.take(link.description or link.url, 200)
            yield text, link.url
        else:
            yield budget.take(f"{link.description} {link.url}".strip(), 300), ""


def _is_web_address(url: str) -> bool:
    """Whether a browser may be sent to an address: it is HTTPS, and plain to see."""
    if not (url.startswith("https://") and url.isascii() and url.isprintable()):
        return False
    try:
        return bool(urlsplit(url).hostname) and len(url) <= _ADDRESS_BYTES
    except ValueError:
        return False
