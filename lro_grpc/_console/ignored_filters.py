"""Finds out a server that ignores filters, by what it answers with."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lro_grpc._console.row import Row

NOTE = "This server ignores filters: what is shown is not what you have asked for."

_PLAIN = re.compile(r'\s*(done|state)\s*=\s*"?(\w+)"?\s*')
"""A filter whose meaning needs no server: that of a chip."""


def contradict(text: str, rows: Iterable[Row]) -> bool:
    """Whether a row is none that a filter lets through, as far as that is plain to see.

    Args:
        text: The filter.
        rows: What the server has answered it with.
    """
    found = _PLAIN.fullmatch(text)
    if found is None:
        return False
    field, wanted = found.groups()
    if field == "done":
        return any(str(row.done).lower() != wanted.lower() for row in rows)
    return any(row.state != wanted.removeprefix("JOB_STATE_") for row in rows)
