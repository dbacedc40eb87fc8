"""Text from a server, made fit for a line of output."""

from __future__ import annotations


def one_line(text: str) -> str:
    """Returns a text without line breaks, tabs and what else could command a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)
