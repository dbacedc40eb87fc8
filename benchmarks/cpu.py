"""The CPU time that processes have taken, in seconds."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Sequence
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def own() -> float:
    """Returns that of this process."""
    return _used(resource.RUSAGE_SELF)


def ended_children() -> float:
    """Returns that of the processes that this one has started, and that have ended."""
    return _used(resource.RUSAGE_CHILDREN)


def of(pid: int) -> float:
    """Returns that of a process."""
    return sum(_stat(Path("/proc", str(pid)))[11:13]) / _TICKS


def of_family(pid: int) -> float:
    """Returns that of a process and of its children: those that are gone, too."""
    total = sum(_stat(Path("/proc", str(pid)))[11:15])
    for child in children(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += sum(_stat(Path("/proc", str(child)))[11:13])
    return total / _TICKS


def parent(pid: int) -> int:
    """Returns the process that is the parent of another one."""
    return _stat(Path("/proc", str(pid)))[1]


def children(pid: int) -> Sequence[int]:
    """Returns the processes of which a process is the parent."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if _stat(folder)[1] == pid:
                found.append(int(folder.name))
    return found


def _stat(folder: Path) -> list[int]:
    """Returns the numbers of a process, from its state on; that is 0, for it is a letter."""
    _, *fields = (folder / "stat").read_text().rpartition(")")[2].split()
    return [0, *map(int, fields)]


def _used(whose: int) -> float:
    used = resource.getrusage(whose)
    return used.ru_utime + used.ru_stime
