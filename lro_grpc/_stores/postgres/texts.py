"""Texts of records as PostgreSQL can have them: without NUL characters.

A NUL is written as two characters U+0001, and U+0001 as U+0001 and U+0002. Other texts, which is to
say almost all, are written as they are. Two texts are written in the same order as they have, by
code points, for the first of each pair stands below all other characters: so equality, order and
the beginnings of texts are those of the texts themselves.
"""

from __future__ import annotations

_NUL, _MARK = "\0", "\1"
_NUL_WRITTEN, _MARK_WRITTEN = "\1\1", "\1\2"
PAIRED = ("\1", "\2")
"""The characters that may be half of a pair."""


def text_of(text: str) -> str:
    """Returns a text as its column has it."""
    if _NUL in text or _MARK in text:
        return text.replace(_MARK, _MARK_WRITTEN).replace(_NUL, _NUL_WRITTEN)
    return text


def text_from(column: str) -> str:
    """Returns the text of a column."""
    if _MARK in column:
        # From the left, so that no second half is taken for a first one.
        return column.replace(_NUL_WRITTEN, _NUL).replace(_MARK_WRITTEN, _MARK)
    return column
