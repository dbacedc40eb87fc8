"""One measured figure, its baseline and its goals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    what: str
    ours: float
    baseline: float
    unit: str
    goal: str
    meets: Callable[[float, float], bool]
    """Whether the figure and its ratio to the baseline are good enough."""

    @property
    def ratio(self) -> float:
        return self.ours / self.baseline

    @property
    def is_met(self) -> bool:
        return self.meets(self.ours, self.ratio)

    def row(self) -> str:
        verdict = self.goal + ("" if self.is_met else " **missed**")
        return (
            f"| {self.what} | {self.ours:,.6g} {self.unit} | {self.baseline:,.6g} {self.unit}"
            f" | {self.ratio:.2f} | {verdict} |"
        )
