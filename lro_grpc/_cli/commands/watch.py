"""``lro watch``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lro_grpc._cli.commands.wait import following
from lro_grpc._cli.exit_codes import Exit, outcome
from lro_grpc._cli.output import Output, print_next
from lro_grpc._cli.style import Terminal, instance_table, percent, short_name, state_text
from lro_grpc._cli.terminal_text import printable_summary
from lro_grpc._inspection.summary import Summary

if TYPE_CHECKING:
    from lro_grpc._cli.session import Session

_BAR_WIDTH = 40
_REFRESH_PER_SECOND = 10


def watch(session: Session, name: str, timeout: timedelta | None, output: Output) -> Exit:
    """Shows an operation as it goes on, and returns its outcome."""
    with following(session, name, timeout) as future:
        states = (future.operation for _ in future.updates(timeout))
        if output is Output.TABLE:
            show_states(Terminal(), (printable_summary(state, session.types) for state in states))
        else:
            for state in states:
                print_next(state, session.types, output)
        return outcome(future.operation)


def show_states(terminal: Terminal, states: Iterator[Summary]) -> None:
    """Shows an operation until its states end: in place where someone looks on, else in lines."""
    if not terminal.is_live:
        _print_changes(states)
        return
    first = next(states)
    view = _View(first)
    terminal.line(Text(first.name, style="bold"))
    if first.verb or first.target:
        terminal.line(f"{first.verb} {first.target}".strip())
    with Live(view, console=terminal, refresh_per_second=_REFRESH_PER_SECOND):
        for view.told in states:
            pass


def _print_changes(states: Iterator[Summary]) -> None:
    """Prints a line for each change, of the operation and of the instances of a batch."""
    before: set[str] = set()
    for told in states:
        batch = (f"  {short_name(one)}  {one.state}  {one.error}".rstrip() for one in told.batch)
        progress = "" if told.progress is None else percent(told.progress)
        parts = (told.state, progress, *_notes(told), told.error or told.detail)
        now = dict.fromkeys(itertools.chain(batch, ["  ".join(filter(None, parts))]))
        for line in now:
            if line not in before:
                print(line, flush=True)
        before = set(now)


class _View:
    """The latest state, drawn anew by each refresh, so that its clock goes on without news."""

    def __init__(self, told: Summary) -> None:
        self.told = told
        self._since = datetime.now(timezone.utc)

    def __rich__(self) -> RenderableType:
        told = self.told
        bar = ProgressBar(
            completed=told.progress or 0, width=_BAR_WIDTH, pulse=told.progress is None
        )
        line = Table.grid(padding=(0, 2, 0, 0))
        line.add_row(
            state_text(told.state), bar, percent(told.progress), self._elapsed(), *_notes(told)
        )
        batch = [instance_table(told.batch)] if told.batch else []
        return Group(line, Text(told.error or told.detail), *batch)

    def _elapsed(self) -> str:
        """Returns how long the operation takes; since it is watched, if its start is not told."""
        told = self.told
        time = (told.end_time or datetime.now(timezone.utc)) - (told.create_time or self._since)
        return str(timedelta(seconds=max(int(time.total_seconds()), 0)))


def _notes(told: Summary) -> Iterator[str]:
    """Yields what is worth a word only if it is so."""
    if told.attempt is not None and told.attempt > 1:
        yield f"attempt {told.attempt}"
    for what in told.requested:
        yield f"{what} requested"
