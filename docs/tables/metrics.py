"""The tables of metrics and spans.

The instruments are those that the package makes; the rest is read from the docstring of
``lro_grpc.otel``, which has it in tables of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple
from unittest.mock import Mock

from lro_grpc import otel
from tables.markdown import prose, table

KINDS = {
    "create_counter": "counter",
    "create_up_down_counter": "gauge",
    "create_observable_gauge": "gauge",
    "create_histogram": "histogram",
}
"""Prometheus's words for the instruments."""


class Instrument(NamedTuple):
    """A metric, as the package asks a meter for it."""

    name: str
    kind: str
    unit: str
    description: str

    @property
    def in_prometheus(self) -> str:
        """The name that it has in Prometheus."""
        seconds = "_seconds" if self.unit == "s" else ""
        total = "_total" if self.kind == "counter" else ""
        return self.name.replace(".", "_") + seconds + total


def instruments() -> list[Instrument]:
    """Lists the metrics."""
    provider = Mock()
    otel.OpenTelemetry(meter_provider=provider)
    calls = provider.get_meter.return_value.method_calls
    return [Instrument(args[0], KINDS[name], *args[-2:]) for name, args, _ in calls]


def documented() -> list[list[list[str]]]:
    """Lists the tables of the docstring, each as rows of cells."""
    lines = (otel.__doc__ or "").splitlines()
    bounds = [at for at, line in enumerate(lines) if line.startswith("===")]
    found = []
    for head, first, end in zip(bounds[::3], bounds[1::3], bounds[2::3], strict=True):
        starts = [match.start() for match in re.finditer(r"=+", lines[head])]
        columns = list(zip(starts, [*starts[1:], None], strict=True))
        rows: list[list[str]] = []
        for line in lines[first + 1 : end]:
            cells = [line[start:stop].strip() for start, stop in columns]
            if cells[0]:
                rows.append(cells)
            else:  # the row before goes on
                rows[-1] = [f"{a} {b}".strip() for a, b in zip(rows[-1], cells, strict=True)]
        found.append([[prose(cell) for cell in row] for row in rows])
    return found


def spans() -> str:
    """Returns the table of the spans."""
    return table(["span", "kind", "spans"], documented()[0])


def span_attributes() -> str:
    """Returns the table of the attributes of spans."""
    return table(["attribute", "meaning"], documented()[1])


def metrics() -> str:
    """Returns the table of the metrics."""
    attributes = {name.strip("`"): by for name, _, _, by in documented()[2]}
    return table(
        ["metric, and in Prometheus", "is a", "meaning"],
        (
            [
                f"`{one.name}`, `{one.in_prometheus}`",
                " by ".join(filter(None, [one.kind, attributes[one.name]])),
                prose(one.description),
            ]
            for one in instruments()
        ),
    )


BLOCKS: Mapping[str, Callable[[], str]] = {
    "metrics": metrics,
    "spans": spans,
    "span_attributes": span_attributes,
}
"""The blocks on metrics and spans, by name."""
