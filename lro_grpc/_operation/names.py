"""Operation names: ``[{parent}/]operations/{id}``."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable

from lro_grpc._errors import InvalidNameError, cut

COLLECTION = "operations"
"""The collection's id: the last but one segment of a name, and the parent of names without one."""

ANY_PARENT = "-"
"""In a list: the operations of all parents, and those without one."""

_CHARACTERS = "234567abcdefghijklmnopqrstuvwxyz"
"""One for each number of 5 bits, in their order."""
_OF_BYTES = 8 * _CHARACTERS.encode()
"""A character for each byte; each of them stands for as many."""
_TIME_SHIFTS = range(45, -1, -5)
_RANDOM_LENGTH = 16

_LOCATION = re.compile(r"projects/[^/]+/locations/[^/]+(?=/|$)")
_MOST_LENGTH = 1024
_ID_RULE = "an id of 1 to 128 characters of A-Z a-z 0-9 . _ ~ -"
_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._~-]{1,128}")
# The characters of a URI path segment (RFC 3986 pchar), and at least one that is not a dot.
_SEGMENT = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._~%!$&'()*+,;=:@-]{1,255}")
_WILDCARDS = frozenset({"-", "*", "**"})


def new_id(time: int, random_bytes: Callable[[int], bytes]) -> str:
    """Makes an operation id: ``op-``, 10 characters of a time, and 16 of 5 random bits each.

    Ids have the order of their times. So what is started together stands together in the indexes
    of a store, and is written in few of their pages.

    Args:
        time: In microseconds since 1970 UTC; the id has its milliseconds.
        random_bytes: A source of so many random bytes, such as ``os.urandom``.
    """
    random = random_bytes(_RANDOM_LENGTH).translate(_OF_BYTES).decode("ascii")
    return f"op-{_time_in_id(time // 1000)}{random}"


@functools.lru_cache(maxsize=16)
def _time_in_id(milliseconds: int) -> str:
    return "".join(_CHARACTERS[milliseconds >> shift & 31] for shift in _TIME_SHIFTS)


def operation_name(parent: str, operation_id: str, collection: str = COLLECTION) -> str:
    """Joins a parent (empty for none) and an id to a name."""
    return f"{parent}/{collection}/{operation_id}" if parent else f"{collection}/{operation_id}"


def split(name: str, collection: str = COLLECTION) -> tuple[str, str]:
    """Splits an operation's name into its parent (empty for none) and its id.

    Args:
        name: The name.
        collection: What stands in it before the id.

    Raises:
        InvalidNameError: If the text is not such a name.
    """
    parent, slash, operation_id = name.rpartition("/")
    parent, _, found = parent.rpartition("/") if slash else ("", "", "")
    if found != collection or not _ID.fullmatch(operation_id) or name.startswith("/"):
        what = "an operation's name" if collection == COLLECTION else f"a name in {collection}"
        raise InvalidNameError(
            f"{cut(name)!r} is not {what}; expected [{{parent}}/]{collection}/{{id}}"
            f" with {_ID_RULE}",
            metadata={"name": cut(name)},
        )
    if parent:
        check_parent(parent)
    return parent, operation_id


def check_id(operation_id: str) -> None:
    """Checks that a text can be an operation's id: the last segment of its name.

    Raises:
        InvalidNameError: If it is empty, too long, ``.``, ``..``, ``operations``, at which lists
            are, or has other characters.
    """
    if not _ID.fullmatch(operation_id) or operation_id == COLLECTION:
        raise InvalidNameError(
            f"{cut(operation_id)!r} is not an operation's id; expected {_ID_RULE}, other than"
            f" {COLLECTION}",
            metadata={"id": cut(operation_id)},
        )


@functools.lru_cache(maxsize=1000)
def check_parent(parent: str) -> None:
    """Checks that a text can stand before ``/operations``.

    Raises:
        InvalidNameError: If it is empty, too long, ``operations``, or has a segment that is
            empty, ``.``, ``..`` or not of URI path characters.
    """
    if (
        len(parent) > _MOST_LENGTH
        or parent == COLLECTION
        or not all(map(_SEGMENT.fullmatch, parent.split("/")))
    ):
        raise InvalidNameError(
            f"{cut(parent)!r} is not a parent's name; expected segments like"
            f" projects/p/locations/l, of at most {_MOST_LENGTH} characters in all",
            metadata={"parent": cut(parent)},
        )


def is_segment(text: str) -> bool:
    """Returns whether a text can stand between two slashes of a name."""
    return text not in _WILDCARDS and _SEGMENT.fullmatch(text) is not None


def check_one(resource: str) -> None:
    """Checks that a resource's name has no wildcard: that would stand for several (AIP-159).

    Raises:
        InvalidNameError: If a segment of it is ``-``, ``*`` or ``**``.
    """
    segments = resource.split("/")
    if not _WILDCARDS.isdisjoint(segments):
        wildcard = next(one for one in segments if one in _WILDCARDS)
        raise InvalidNameError(
            f"{cut(resource)!r} stands for several resources by its segment {wildcard!r}; an"
            " operation belongs to one: give its name",
            metadata={"name": cut(resource)},
        )


@functools.lru_cache(maxsize=1000)
def check_one_parent(parent: str) -> None:
    """Checks that a text can stand before ``/operations`` in the name of an operation.

    Raises:
        InvalidNameError: If it cannot (``check_parent``), or has a wildcard (``check_one``).
    """
    check_parent(parent)
    check_one(parent)


def parent_of(candidates: Iterable[str]) -> str:
    """Returns the ``projects/*/locations/*`` that the first candidate which has one begins with."""
    for candidate in candidates:
        found = _LOCATION.match(candidate) if candidate else None
        if found:
            return found.group()
    return ""
