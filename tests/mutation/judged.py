"""Mutants that survive and may: those that change nothing, and those that harm nobody.

One is an entry of ``judged.txt``: its file, the line as it is and as it would be, and the judgement
with its reason. A line that is changed in the module is judged anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mutants import Mutant

JUDGED = Path(__file__).parent / "judged.txt"
JUDGEMENTS = ("equivalent", "harmless")
"""It can do nothing but what the module does; or it does, and no promise is broken."""

Key = tuple[str, str, str]
"""The file, the line as it is, the line as it would be."""


def key(mutant: Mutant) -> Key:
    return mutant.path, mutant.old, mutant.new


def entry(mutant: Mutant, judgement: str) -> str:
    """Returns the lines of an entry."""
    return f"{mutant.path}\n- {mutant.old}\n+ {mutant.new}\n{judgement}\n"


def read(path: Path = JUDGED) -> dict[Key, str]:
    """Returns the judgements in a file.

    Raises:
        ValueError: If an entry is none.
    """
    entries = path.read_text().strip().split("\n\n") if path.exists() else []
    return dict(_parsed(one) for one in entries if one)


def _parsed(text: str) -> tuple[Key, str]:
    lines = text.split("\n")
    if len(lines) != 4 or (lines[1][:2], lines[2][:2]) != ("- ", "+ "):
        raise ValueError(f"not an entry of judged mutants: {text}")
    return (lines[0], lines[1][2:], lines[2][2:]), lines[3]


def unknown(judgements: Iterable[str]) -> list[str]:
    """Returns those that are no judgement with a reason."""
    known = tuple(f"{word}: " for word in JUDGEMENTS)
    return [one for one in judgements if not one.startswith(known)]
