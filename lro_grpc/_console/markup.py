"""Strangers' texts made fit for a page, and JSON as markup: the only place that makes any.

A page shows texts of whoever has started an operation, and of whatever server answers. Jinja
escapes each of them; what is left to do is to show what would not be seen, or would turn the line
around, and to keep a page within its bytes, which a ``Budget`` counts.
"""

from __future__ import annotations

import html
import json
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import Markup

ROW_TEXT = 400
"""The most characters of a text in a row."""

BLOCK_BYTES = 64 * 1024
"""The most bytes of one block of JSON, as markup."""

PAGE_BYTES = 320 * 1024
"""The most bytes of all texts and blocks of a page: with what stands around them it has at most
512 KiB."""

_PAGE_MESSAGES = 2 << 20
"""The most bytes of all messages that a page makes into JSON: that takes time, however little of it
is shown."""

_STRING = 2_000
_ITEMS = 500
_DEPTH = 200
_FILLERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters, by their category, that nobody sees."""

_LEFT_OUT = Markup("<em>… the rest is in the JSON file</em>")


def visible(text: str, *, keep: str = "") -> str:
    """Returns a text with each character shown that would not be seen, or turns the line around.

    U+202E, for example, becomes ``⟨U+202E⟩``; any space becomes a plain one.

    Args:
        text: The text.
        keep: Characters that stay as they are, such as line breaks.
    """
    if text.isprintable() and _FILLERS.isdisjoint(text):
        return text
    return "".join(one if one in keep else _shown(one) for one in text)


def _shown(character: str) -> str:
    if character.isprintable() and character not in _FILLERS:
        return character
    if unicodedata.category(character) == "Zs":
        return " "
    return f"⟨U+{ord(character):04X}⟩"


def cut(text: str, most: int = ROW_TEXT, *, keep: str = "") -> str:
    """Returns a text as ``visible`` does, in at most so many characters and a note of its length.

    Args:
        text: The text.
        most: The number.
        keep: Characters that stay as they are.
    """
    shown = visible(text[:most], keep=keep)
    if len(text) <= most and len(shown) <= most:
        return shown
    return f"{shown[:most]}… ({len(text):,} characters)"


def middle(text: str, tail: int = 8) -> tuple[str, str]:
    """Returns a text in two parts: CSS may cut the first one off, and the second is always seen."""
    text = cut(text)
    return (text, "") if len(text) <= tail * 2 else (text[:-tail], text[-tail:])


class Budget:
    """The bytes of markup that a page has left for what others have written.

    Args:
        left: Their number at the start.
    """

    def __init__(self, left: int = PAGE_BYTES) -> None:
        self.left = left
        self._messages_left = _PAGE_MESSAGES

    def spend_message(self, size: int) -> bool:
        """Takes the bytes of a message that is to be made into JSON; False if that is too much."""
        if size > self._messages_left:
            return False
        self._messages_left -= size
        return True

    def spend(self, *texts: str) -> bool:
        """Takes the bytes of texts together, as they are; False, and nothing, once it is full."""
        size = sum(len(html.escape(text).encode()) for text in texts)
        if size > self.left:
            return False
        self.left -= size
        return True

    def take(self, text: str, most: int = ROW_TEXT, *, keep: str = "") -> str:
        """Returns a text as ``cut`` does, or an ellipsis once the page is full."""
        shown = cut(text, most, keep=keep)
        return shown if self.spend(shown) else "…"

    def take_json(self, value: Any) -> Markup:
        """Returns JSON as markup: names, texts, numbers and words, each in a span of its kind.

        Long texts and lists are shortened, and it ends where the block or the page is full.

        Args:
            value: What ``json.loads`` may return.
        """
        left = min(self.left, BLOCK_BYTES)
        pieces: list[str] = []
        is_whole = True
        for piece in _pieces(value, "", 0):
            left -= len(piece.encode())
            if left < 0:
                is_whole = False
                break
            pieces.append(piece)
            self.left -= len(piece.encode())
        shown = Markup("".join(pieces))  # noqa: S704 - each piece is escaped in _span
        return shown if is_whole else shown + Markup("\n") + _LEFT_OUT


def _pieces(value: Any, indent: str, depth: int) -> Iterator[str]:
    """Yields the markup of a JSON value."""
    if depth > _DEPTH:
        yield "…"
    elif isinstance(value, Mapping):
        yield from _collection("{", "}", _members(value, indent, depth), len(value), indent)
    elif isinstance(value, (list, tuple)):
        items = (_pieces(one, f"{indent}  ", depth + 1) for one in value)
        yield from _collection("[", "]", items, len(value), indent)
    elif isinstance(value, str):
        yield _span("s", _quoted(value))
    elif value is None or isinstance(value, bool):
        yield _span("w", json.dumps(value))
    else:
        yield _span("n", cut(str(value)))


def _members(value: Mapping[str, Any], indent: str, depth: int) -> Iterator[Iterator[str]]:
    for key, one in value.items():
        yield _member(str(key), one, indent, depth)


def _member(key: str, value: Any, indent: str, depth: int) -> Iterator[str]:
    yield f"{_span('k', _quoted(key))}: "
    yield from _pieces(value, f"{indent}  ", depth + 1)


def _collection(
    begin: str, end: str, items: Iterator[Iterator[str]], size: int, indent: str
) -> Iterator[str]:
    if not size:
        yield begin + end
        return
    yield begin
    for number, item in enumerate(items):
        yield f"{',' if number else ''}\n{indent}  "
        if number == _ITEMS:
            yield f"<em>… {size - _ITEMS:,} more</em>"
            break
        yield from item
    yield f"\n{indent}{end}"


def _quoted(text: str) -> str:
    more = f"… ({len(text):,} characters)" if len(text) > _STRING else ""
    return visible(json.dumps(text[:_STRING], ensure_ascii=False)) + more


def _span(kind: str, text: str) -> str:
    return f'<span class="{kind}">{html.escape(text, quote=False)}</span>'
