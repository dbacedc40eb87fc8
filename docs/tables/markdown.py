"""Tables in Markdown, of texts as docstrings have them."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import inspect
import re
from collections.abc import Iterable
from typing import Any

_RULES = re.compile(r" \([PSDCR]\d+(?:, [PSDCR]\d+)*\)")
_ROLE = re.compile(r":\w+:`~?([^`]+)`")


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """Returns a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def prose(docstring: str) -> str:
    """Returns a text of a docstring as a cell has it: in one line, without numbers of rules."""
    text = _RULES.sub("", " ".join(docstring.split()))
    text = _ROLE.sub(r"`\1`", text.replace("``", "`"))
    return text.replace("|", r"\|")


def sections(docstring: str) -> dict[str, dict[str, str]]:
    """Returns the entries of the sections of a docstring, such as Args, by the section."""
    found: dict[str, dict[str, str]] = {}
    entries: dict[str, str] | None = None
    name = ""
    for line in inspect.cleandoc(docstring).splitlines():
        if section := re.fullmatch(r"(Args|Attributes|Raises|Returns):", line):
            entries = found.setdefault(section[1], {})
        elif entries is not None and (entry := re.fullmatch(r"    (\**\w+): (.*)", line)):
            name = entry[1]
            entries[name] = entry[2]
        elif entries and line.startswith("        "):
            entries[name] += f" {line.strip()}"
        elif line and not line.startswith(" "):
            entries = None
    return found


def default(value: Any) -> str:
    """Returns a default as people write it."""
    if value is inspect.Parameter.empty:
        return "to be given"
    if isinstance(value, datetime.timedelta):
        return duration(value)
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, bool):
        return f"`{value}`"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        shown = ((one.name, getattr(value, one.name)) for one in dataclasses.fields(value))
        return ", ".join(f"{name} {default(one)}" for name, one in shown)
    if isinstance(value, frozenset):
        return ", ".join(sorted(map(default, value)))
    if (not value and value != 0) or repr(value) == "<factory>":
        return "none"
    if callable(value):
        return "its own"
    return f'`"{value}"`' if isinstance(value, str) else f"{value:,}"


def duration(value: datetime.timedelta) -> str:
    """Returns a duration in the largest unit of which it is a whole number."""
    seconds = value.total_seconds()
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= size and seconds % size == 0:
            number = int(seconds // size)
            return f"{number} {unit}{'s' if number > 1 else ''}"
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1000:g} ms"
