"""Colours and tables on a terminal. For a file or a pipe, rich leaves the colours out."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from lro_grpc._inspection.summary import InstanceSummary

_STYLES = {
    "RUNNING": "cyan",
    "UPDATING": "cyan",
    "CREATING": "cyan",
    "PAUSED": "magenta",
    "SUCCEEDED": "green",
    "READY": "green",
    "PARTIALLY_SUCCEEDED": "yellow",
    "CANCELLING": "yellow",
    "CANCELLED": "yellow",
    "DELETING": "yellow",
    "ROLLED_BACK": "yellow",
    "FAILED": "red",
    "EXPIRED": "red",
}

_UNLIMITED = 1 << 16

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


class Terminal(Console):
    """Stdout, as rich sees it; as wide as need be where it is a file or a pipe."""

    def __init__(self) -> None:
        self.is_live: bool = sys.stdout.isatty()
        """Whether it is a terminal, and not a file or a pipe."""
        width = None if self.is_live else _UNLIMITED
        super().__init__(highlight=False, markup=False, emoji=False, width=width)

    def line(self, *parts: Any) -> None:
        """Prints parts side by side, as one line however long it is."""
        self.print(*parts, soft_wrap=True)

    def table(self, table: Table, indent: int = 0) -> None:
        """Prints a table; in a file or a pipe without the spaces at the ends of its rows."""
        indented = Padding(table, (0, 0, 0, indent), expand=False)
        if self.is_live:
            self.print(indented)
            return
        with self.capture() as captured:
            self.print(indented)
        for line in captured.get().splitlines():
            self.line(line.rstrip())

    def on_broken_pipe(self) -> NoReturn:
        """Raises an error, which ends the command; rich would exit itself."""
        raise BrokenPipeError


def state_text(state: str) -> Text:
    """Returns a state's name in its colour."""
    return Text(state, style=_STYLES.get(state, ""))


def percent(progress: int | None) -> str:
    """Returns a progress as text."""
    return "-" if progress is None else f"{progress}%"


def utc(time: datetime | None) -> str:
    """Returns a time as text; nothing for none."""
    return f"{time.replace(tzinfo=None).isoformat(' ', 'seconds')} UTC" if time else ""


def age(time: datetime | None, now: datetime) -> str:
    """Returns how long ago that was, in the largest unit that makes 2 or more of it."""
    if time is None:
        return "-"
    seconds = max(int((now - time).total_seconds()), 0)
    size, unit = next((u for u in _UNITS if seconds >= 2 * u[0]), _UNITS[-1])
    return f"{seconds // size} {unit}"


def short_name(instance: InstanceSummary) -> str:
    """Returns the last part of an instance's name."""
    return instance.name.rpartition("/")[2]


def instance_table(batch: Iterable[InstanceSummary]) -> Table:
    """Returns the instances of a batch, their states and errors."""
    table = Table("instance", "state", "error", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for one in batch:
        table.add_row(Text(short_name(one)), state_text(one.state), Text(one.error))
    return table


@contextlib.contextmanager
def keeps_cursor(terminal: Terminal) -> Iterator[None]:
    """Shows the cursor again, which the view hides, whatever ends it: SIGTERM, too.

    The view does so itself, but not for a signal that comes while it begins.
    """

    def leave(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        terminal.show_cursor()
