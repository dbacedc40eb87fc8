"""Plots of growth: of each call one, whose bytes depend on the figures alone."""

from __future__ import annotations

import hashlib
import json
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tables.growth import exponent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = {"SQLite": "#1f5fbf", "Postgres": "#c2571a"}
MARKERS = {"SQLite": "o", "Postgres": "s"}


def draw(data: Path, folder: Path) -> None:
    """Writes a plot of each call into a folder; it needs the group `bench`."""
    import matplotlib

    text = data.read_text(encoding="utf-8")
    stores = json.loads(text)["microseconds"]
    settings = {"svg.hashsalt": "lro-grpc", "svg.fonttype": "none", "font.size": 9}
    with matplotlib.rc_context(settings):
        for call in next(iter(stores.values()))["stored"]:
            figure = _figure(call, stores)
            name = folder / f"growth-{call.lower()}.svg"
            figure.savefig(
                name,
                # The page's test compares it with the figures.
                metadata={"Date": None, "Description": hashlib.sha256(text.encode()).hexdigest()},
            )
            # Lines that end with a space are no error of whoever commits them.
            lines = name.read_text(encoding="utf-8").splitlines()
            name.write_text("\n".join(map(str.rstrip, lines)) + "\n", encoding="utf-8")


def _figure(call: str, stores: dict[str, Any]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 2.9), layout="constrained", facecolor="white")
    both = figure.subplots(1, 2, sharey=True)
    for axis, plot in zip(("stored", "running"), both, strict=True):
        for store, axes in stores.items():
            sizes = axes[axis][call]
            numbers = [int(size) for size in sizes]
            medians, lows, highs = zip(*sizes.values(), strict=True)
            plot.plot(
                numbers,
                medians,
                color=COLORS[store],
                marker=MARKERS[store],
                label=f"{store}: exponent {exponent(sizes):.2f}",
            )
            plot.fill_between(numbers, lows, highs, color=COLORS[store], alpha=0.15, linewidth=0)
        plot.set(xscale="log", yscale="log", xlabel=f"operations {axis}")
        plot.grid(which="major", color="#dddddd", linewidth=0.6)
        plot.legend(frameon=False)
    both[0].set_ylabel(f"{call}, µs")
    times = [each[call].values() for axes in stores.values() for each in axes.values()]
    lows, highs = zip(*((low, high) for _, low, high in chain(*times)), strict=True)
    both[0].set_ylim(min(lows) / 3, max(highs) * 5)  # above is room for the legend
    return figure
