"""One measured figure, its baseline and its goals."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Values = float | Sequence[float]
"""One value, or those of all rounds, or of all calls."""

_MANY = 20
"""More values than these are those of calls, of which a few are always far off."""


@dataclass(frozen=True)
class Figure:
    """One thing that was measured, of ours and of the baseline; of several values, the median."""

    what: str
    ours: Values
    baseline: Values
    unit: str
    goal: str
    meets: Callable[[float, float], bool]
    """Whether the figure and its ratio to the baseline are good enough."""
    cpu: Mapping[str, tuple[Values, Values]] = field(default_factory=dict)
    """By whose it is, the CPU microseconds for an operation: of ours, and of the baseline."""

    @property
    def value(self) -> float:
        return middle(self.ours)

    @property
    def ratio(self) -> float:
        return self.value / middle(self.baseline)

    @property
    def is_met(self) -> bool:
        return self.meets(self.value, self.ratio)

    def row(self) -> str:
        cpu = "; ".join(
            f"{whose} {_number(middle(ours))}, {_number(middle(baseline))}"
            for whose, (ours, baseline) in self.cpu.items()
        )
        verdict = self.goal + ("" if self.is_met else " **missed**")
        return (
            f"| {self.what} | {_shown(self.ours, self.unit)} | {_shown(self.baseline, self.unit)}"
            f" | {self.ratio:.2f} | {cpu} | {verdict} |"
        )


HEAD = (
    "| what | lro-grpc | baseline | ratio | CPU µs an operation, and the baseline's | goal |",
    "|---|---|---|---|---|---|",
)

NOTE = (
    "A figure is a median. Behind it is how far its rounds lie apart, the lowest and the highest;"
    f" of more than {_MANY} values, which are those of single calls, the quartiles."
)


def shown(*_: float) -> bool:
    """Any figure will do: it has no goal."""
    return True


def middle(values: Values) -> float:
    """Returns the median."""
    return values if isinstance(values, (int, float)) else statistics.median(values)


def percentile(values: Sequence[float], percent: float) -> float:
    """Returns the value below which so many of a hundred are."""
    return sorted(values)[int(percent / 100 * (len(values) - 1))]


def _shown(values: Values, unit: str) -> str:
    text = f"{_number(middle(values))} {unit}".strip()
    if isinstance(values, (int, float)) or len(values) == 1:
        return text
    low, high = (percentile(values, 25), percentile(values, 75))
    if len(values) <= _MANY:
        low, high = min(values), max(values)
    return f"{text} ({_number(low)}–{_number(high)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"
