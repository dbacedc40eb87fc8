"""The totals of a run, or of several."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Totals:
    seeds: int = 0
    seconds: float = 0.0
    """Virtual ones."""
    started: int = 0
    """Operations whose start was answered."""
    lost: int = 0
    """Of these, how many are not there."""
    doubled: int = 0
    """How many ``request_id`` have started more than one."""
    changes: int = 0
    """Changes of a record that were checked."""
    faults: Counter[str] = field(default_factory=Counter)

    def add(self, other: Totals) -> None:
        for name in ("seeds", "seconds", "started", "lost", "doubled", "changes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.faults += other.faults

    def __str__(self) -> str:
        faults = ", ".join(f"{number} {fault}" for fault, number in self.faults.most_common())
        return (
            f"{self.seeds} seeds, {self.seconds:.0f} virtual seconds, {self.started} operations"
            f" started, {self.lost} lost, {self.doubled} doubled, {self.changes} changes checked,"
            f" {sum(self.faults.values())} faults: {faults}"
        )
