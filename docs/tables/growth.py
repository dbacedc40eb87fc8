"""The table of growth, from the file that ``make bench-plots`` writes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tables.markdown import table

DATA = Path(__file__).resolve().parents[1] / "design" / "benchmarks" / "growth.json"

GOAL = 0.1
"""The most that the exponent of a call may be, but for List."""


def exponent(sizes: Mapping[str, Sequence[float]]) -> float:
    """Returns the power of the size with which a time grows: the least squares of the logarithms.

    Args:
        sizes: The median, and what else there is, of each size.
    """
    points = [(math.log(int(size)), math.log(times[0])) for size, times in sizes.items()]
    middle = [sum(values) / len(points) for values in zip(*points, strict=True)]
    slope = sum((x - middle[0]) * (y - middle[1]) for x, y in points)
    return slope / sum((x - middle[0]) ** 2 for x, _ in points)


def _growth() -> str:
    data: dict[str, Any] = json.loads(DATA.read_text(encoding="utf-8"))
    when = f"Of {data['date']}: {data['machine']}."
    parts = [f"{when} Microseconds of a call, the median, and the quartiles."]
    for axis in ("stored", "running"):
        rows = []
        for store, axes in data["microseconds"].items():
            for call, sizes in axes[axis].items():
                power = exponent(sizes)
                missed = " **missed**" if call != "List" and power > GOAL else ""
                figures = [
                    f"{median:,.0f} ({low:,.0f}–{high:,.0f})"
                    for median, low, high in sizes.values()
                ]
                rows.append([store, call, *figures, f"{power:.3f}{missed}"])
        heads = [f"{int(size):,} {axis}" for size in next(iter(axes[axis].values()))]
        parts.append(table(["store", "call", *heads, "exponent"], rows))
    return "\n\n".join(parts)


BLOCKS = {"growth": _growth}
