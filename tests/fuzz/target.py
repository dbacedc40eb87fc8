"""Targets: functions that give a stranger's bytes to the package, and check what always holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

KEPT = Path(__file__).parent / "kept"
"""A folder for each target, with the inputs that have failed once."""


@dataclass(frozen=True)
class Target:
    """A check of what the package does with any bytes."""

    name: str
    check: Callable[[bytes], None]
    """Raises anything if a property does not hold of an input."""
    seeds: tuple[bytes, ...]
    """Inputs to begin with; all of them pass."""
    words: tuple[bytes, ...]
    """Parts of inputs that mean something."""
    most: int
    """The most bytes of an input."""

    @property
    def kept(self) -> list[Path]:
        """The files of the inputs that have failed once."""
        return sorted((KEPT / self.name).glob("*"))


TARGETS: dict[str, Target] = {}
"""All targets whose modules are imported, by their names."""


def target(
    *seeds: bytes | str, words: Iterable[bytes | str] = (), most: int = 4096
) -> Callable[[Callable[[bytes], None]], Callable[[bytes], None]]:
    """Makes a target of a function, under its name."""

    def add(check: Callable[[bytes], None]) -> Callable[[bytes], None]:
        name = check.__name__
        TARGETS[name] = Target(name, check, _bytes(seeds), _bytes(words), most)
        return check

    return add


def text_of(data: bytes) -> str:
    """The text of an input, as it would come from a request: without half surrogate pairs."""
    return data.decode(errors="replace")


def lines_of(data: bytes, count: int) -> list[str]:
    """The input as that many texts, one a line; the last has all the rest."""
    lines = text_of(data).split("\n", count - 1)
    return lines + [""] * (count - len(lines))


def _bytes(texts: Iterable[bytes | str]) -> tuple[bytes, ...]:
    return tuple(one.encode() if isinstance(one, str) else one for one in texts)
