"""Completes the names of commands and of options from a list, so that a TAB loads neither.

A command has its options when its module is loaded, with gRPC and all that it needs; and to look at
the words that are there already, Typer loads what converts them. The list is ``listed.json``, which
``make generate`` writes. Whatever else is typed, such as a value, Typer completes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

LIST = Path(__file__).with_name("listed.json")
"""Of the program: its ``commands``, by name; of each, its ``help`` and its ``options``, or its own
``commands``. An option has ``names``, its ``help``, and whether ``many`` may be given."""

VARIABLE = "_LRO_COMPLETE"
"""The variable by which a shell asks for proposals, as of Typer's own scripts."""

_SHELLS = {
    "bash": "BashComplete",
    "fish": "FishComplete",
    "powershell": "PowerShellComplete",
    "pwsh": "PowerShellComplete",
    "zsh": "ZshComplete",
}
"""Typer's classes for them."""


class _UnlistedError(Exception):
    """The word is the name of no command, and of no option."""


def complete() -> bool:
    """Prints the proposals for the word that is typed, in the words of the shell that asks.

    Returns:
        Whether it has; False if nothing is asked for, or what the list does not have.
    """
    instruction, _, shell = os.environ.get(VARIABLE, "").partition("_")
    if instruction != "complete" or shell not in _SHELLS:
        return False
    try:
        from typer import _completion_classes as shells

        kind: Any = getattr(shells, _SHELLS[shell])
    except (ImportError, AttributeError):  # they are Typer's own, and may move: it completes all
        return False

    class Listed(kind):  # type: ignore[misc]  # Typer has a class for each
        def get_completions(self, args: list[str], incomplete: str) -> list[Any]:
            found = proposals(args, incomplete)
            if found is None:
                raise _UnlistedError
            return found

    try:
        text = Listed(None, {}, "lro", VARIABLE).complete()
    except _UnlistedError:
        return False
    print(text)
    return True


def proposals(words: Sequence[str], incomplete: str) -> list[Any] | None:
    """Returns the names that the next word may be, with their help; None if it may be another word.

    Args:
        words: The words after ``lro``.
        incomplete: The beginning of the next one.
    """
    known: Any = json.loads(LIST.read_text(encoding="utf-8"))
    given = list(words)
    while given and "commands" in known:
        known = known["commands"].get(given.pop(0))
        if known is None:
            return None
    is_option = incomplete.startswith("-")
    if "commands" in known:
        return None if is_option else _named(known["commands"], incomplete)
    if not is_option or "=" in incomplete or "--" in given:
        return None
    there = {word.partition("=")[0] for word in given}
    left = [one for one in known["options"] if one["many"] or there.isdisjoint(one["names"])]
    return _named({name: one for one in left for name in one["names"]}, incomplete)


def _named(known: dict[str, Any], incomplete: str) -> list[Any]:
    return [
        SimpleNamespace(value=name, help=one["help"])
        for name, one in known.items()
        if name.startswith(incomplete)
    ]
