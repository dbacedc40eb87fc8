"""Texts of others, made fit for where they go: a line, a header, the message of an RPC's error."""

from __future__ import annotations

_HEADER_LENGTH = 500


def one_line(text: str) -> str:
    """Returns a text without line breaks, tabs, and all else that commands or shows nothing."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def header_text(text: str) -> str:
    """Returns a text as the value of a header may be: printable ASCII, and short."""
    return "".join(c if " " <= c <= "~" else "?" for c in text[:_HEADER_LENGTH]).strip()


def encoded_size(text: str) -> int:
    """Returns the bytes of an RPC's message on the wire, where it is percent-encoded."""
    return sum(map(_encoded_size, text))


def cut_encoded(text: str, most: int) -> str:
    """Returns a text, or the beginning of it, with at most so many bytes on the wire."""
    if encoded_size(text) <= most:
        return text
    left = most - 3
    for index, character in enumerate(text):
        left -= _encoded_size(character)
        if left < 0:
            return f"{text[:index]}..."
    return text


def _encoded_size(character: str) -> int:
    if " " <= character <= "~" and character != "%":
        return 1
    return 3 * len(character.encode(errors="replace"))


def is_text(value: object) -> bool:
    """Tells whether a value is a text, and one that a protobuf string can have.

    Half a surrogate pair is no character.
    """
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False
