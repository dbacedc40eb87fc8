"""A notice: the text that one NOTIFY carries to the other processes of a store.

It names operations and methods by hashes: so a text of any length is twelve characters, and whoever
may listen to the channel learns no name. A hearer looks the hashes up among the names that it
follows. Two names of one hash cost a read.

``lro1.{sender}.{0 or 1}.{hashes of methods}.{hashes of names}``

Whatever else is on the channel is not for this release: a stranger's, or a later release's.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple

_HASH_LENGTH = 12

_FORMAT = re.compile(
    r"lro1\.([0-9a-f]{12})\.([01])\.((?:[0-9a-f]{12})*)\.((?:[0-9a-f]{12})*)", re.ASCII
)

_MOST_REMEMBERED = 2000

MOST_HASHES = 650
"""The most hashes in one notice: Postgres takes a payload of less than 8,000 bytes."""


class Notice(NamedTuple):
    """A message of one process to the others; an empty one proves that it is heard."""

    sender: str
    """A hash, of which each process has its own."""
    everything: bool = False
    """Whether so much has changed that the others are to look at all they follow."""
    methods: Sequence[str] = ()
    """The hashes of the methods of which operations wait for another process."""
    names: Sequence[str] = ()
    """The hashes of the names of operations that have changed."""

    def encoded(self) -> str:
        """Returns the payload of the NOTIFY, in ASCII."""
        methods, names = "".join(self.methods), "".join(self.names)
        return f"lro1.{self.sender}.{self.everything:d}.{methods}.{names}"


def decoded(payload: str) -> Notice | None:
    """Returns the notice of a payload; None if it is none of this release."""
    found = _FORMAT.fullmatch(payload)
    if found is None:
        return None
    sender, everything, methods, names = found.groups()
    return Notice(sender, everything == "1", _hashes(methods), _hashes(names))


@functools.lru_cache(_MOST_REMEMBERED)
def hash_of(text: str) -> str:
    """Returns the hash that stands for a text in notices.

    It is asked for several times of an operation that this process runs, and not after.
    """
    octets = text.encode("utf-8", "surrogatepass")  # whoever follows it may have made it up
    return hashlib.blake2b(octets, digest_size=_HASH_LENGTH // 2).hexdigest()


def channel_of(schema: str) -> str:
    """Returns the channel on which the processes of a schema hear each other.

    Channels belong to a database, whatever the schema. Their names end at 63 bytes, as those of
    schemas do: so this one has a hash.
    """
    return f"lro_{hash_of(schema)}"


def _hashes(joined: str) -> Sequence[str]:
    return [joined[n : n + _HASH_LENGTH] for n in range(0, len(joined), _HASH_LENGTH)]
