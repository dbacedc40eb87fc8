"""Converts between JSON and messages: what is small at once, what is large in a thread.

protobuf's JSON is made, and read, in Python, at some microseconds a value; a body of a few
megabytes may have a million. On the event loop everything else would stand still meanwhile,
heartbeats too. In a thread they share the interpreter with the conversion, so there is one such
thread in a process, and few conversions may wait for it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from lro_grpc._http import responses

T = TypeVar("T")

_SMALL = 16 * 1024
"""The most bytes of a message that are converted at once; it takes some 20 milliseconds."""

_BYTES_OF_A_VALUE = 16
"""The bytes of a message that take as long to convert as a value."""

_PIECE = 64 * 1024
"""The bytes of a text that are looked at without giving other threads their turn."""

_MOST_WAITING = 32
"""The most conversions that wait for the thread, or are in it."""

_THREAD = ThreadPoolExecutor(1, "lro-json")
_WAITING = threading.BoundedSemaphore(_MOST_WAITING)


async def converted(size: int, function: Callable[..., T], *arguments: Any) -> T:
    """Returns what a conversion makes of its arguments.

    Args:
        size: The bytes that there are to convert, or what costs as much.
        function: The conversion; one that does not look at what the event loop changes.
        *arguments: Its arguments.

    Raises:
        HttpError: If too many conversions wait.
    """
    if size <= _SMALL:
        return function(*arguments)
    if not _WAITING.acquire(blocking=False):
        raise responses.busy(f"{_MOST_WAITING} large bodies wait to be converted")
    try:
        return await asyncio.get_running_loop().run_in_executor(
            _THREAD, _without_stop, function, *arguments
        )
    finally:
        _WAITING.release()


def _without_stop(function: Callable[..., T], *arguments: Any) -> T:
    """Calls a function; its StopIteration, which a future cannot have, becomes a RuntimeError."""
    try:
        return function(*arguments)
    except StopIteration as cause:
        raise RuntimeError("a conversion raised StopIteration") from cause


def cost_of(text: bytes) -> int:
    """Returns the bytes of a JSON text, or for a small one of many values what these cost."""
    size = len(text)
    return size if size > _SMALL else max(size, _BYTES_OF_A_VALUE * _separators(text))


def has_more_values(text: bytes, most: int) -> bool:
    """Returns whether a JSON text has more values and names than that.

    The text is not parsed, which would take longer: what separates values is counted where it is
    not in a string. That goes by pieces, between which other threads have their turn.

    Args:
        text: The text.
        most: The number.
    """
    found, in_string, begin = 1, False, 0
    while begin < len(text) and found <= most:
        end = begin + _PIECE
        while text[end - 1 : end] == b"\\":  # what it escapes belongs to the same piece
            end += 1
        piece = text[begin:end].replace(rb"\\", b"").replace(rb"\"", b"")
        parts = piece.split(b'"')
        found += _separators(b"".join(parts[in_string::2]))
        in_string ^= len(parts) % 2 == 0
        begin = end
    return found > most


def _separators(text: bytes) -> int:
    return sum(map(text.count, (b",", b":", b"[", b"{")))
