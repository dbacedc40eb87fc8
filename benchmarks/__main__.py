"""Runs every benchmark, prints the table and keeps it in ``benchmarks/results/``.

``python -m benchmarks get million`` runs these two, and keeps nothing.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from benchmarks.figure import HEAD, NOTE, Figure
from benchmarks.needed import NeededError
from benchmarks.parts import PARTS, Common

RESULTS = Path(__file__).parent / "results" / "latest.md"


class Done(NamedTuple):
    """A part that was measured."""

    name: str
    figures: Sequence[Figure]
    seconds: float
    load: float
    """The load average at its end: more than the number of cores, and others had to wait."""
    missing: str = ""
    """The thing that it needs, and this machine has not."""

    def row(self) -> str:
        said = f"not measured, for it needs {self.missing}" if self.missing else ""
        return f"| {self.name} | {self.seconds:.0f} | {self.load:.1f} | {said} |"


def main() -> None:
    """Runs the parts that the command line names, or all of them."""
    chosen = sys.argv[1:] or list(PARTS)
    if unknown := set(chosen) - set(PARTS):
        sys.exit(f"{', '.join(sorted(unknown))}: no such part; there are {', '.join(PARTS)}")
    done = []
    with Common() as common:
        for name in chosen:
            done.append(_measured(name, common))
            print(done[-1].row(), *(one.row() for one in done[-1].figures), sep="\n", flush=True)
    text = "\n".join(_page(done))
    print(f"\n{text}")
    if not sys.argv[1:]:
        RESULTS.write_text(f"{text}\n", encoding="utf-8")
    if not all(figure.is_met for part in done for figure in part.figures):
        sys.exit("a goal is missed")


def _measured(name: str, common: Common) -> Done:
    begin, figures, missing = time.monotonic(), [], ""
    try:
        figures = PARTS[name](common)
    except NeededError as error:
        missing = str(error)
    return Done(name, figures, time.monotonic() - begin, os.getloadavg()[0], missing)


def _page(done: Sequence[Done]) -> list[str]:
    """Returns the lines of the table, and of that of the parts."""
    today = datetime.now(timezone.utc).date()
    packages = ", ".join(f"{name} {version(name)}" for name in ("grpcio", "protobuf"))
    where = f"Python {platform.python_version()}, {packages}, {platform.machine()}"
    return [
        "# One run of the benchmarks",
        "",
        f"{today}, {where}, {os.cpu_count()} cores. {NOTE}",
        "Of a rate there is also the CPU time that an operation takes, and by whose it is.",
        "[What each means](../../docs/design/benchmarks/index.md).",
        "",
        *HEAD,
        *(figure.row() for part in done for figure in part.figures),
        "",
        f"It took {sum(part.seconds for part in done) / 60:.1f} minutes. A load average above the"
        " number of cores says that something else had the machine besides.",
        "",
        "| part | seconds | load average | |",
        "|---|---|---|---|",
        *(part.row() for part in done),
    ]


if __name__ == "__main__":
    main()
