"""``lro watch``: shows an operation as it goes on: a live view, or a line for each change."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lro_grpc._cli.command import connecting
from lro_grpc._cli.commands.wait import open_future
from lro_grpc._cli.connected_server import ConnectedServer
from lro_grpc._cli.exit_codes import Exit, outcome
from lro_grpc._cli.names import for_each
from lro_grpc._cli.output import Output, print_next
from lro_grpc._cli.parameters import Format, Poll, UnfinishedName, WaitTimeout
from lro_grpc._cli.style import (
    Terminal,
    instance_table,
    keeps_cursor,
    percent,
    short_name,
    state_text,
)
from lro_grpc._cli.terminal_text import printable_summary
from lro_grpc._inspection.summary import Summary

_BAR_WIDTH = 40
_REFRESH_PER_SECOND = 10


@connecting
def watch(
    server: ConnectedServer,
    name: UnfinishedName,
    output: Format = Output.TABLE,
    timeout: WaitTimeout = None,
    poll: Poll = False,
) -> Exit:
    """Shows an operation as it goes on, and returns its outcome."""

    def watch_one(each: str) -> Exit:
        with open_future(server, each, timeout, polls=poll) as future:
            updates = (future.operation for _ in future.updates(timeout))
            if output is Output.TABLE:
                show_updates(Terminal(), (printable_summary(one, server.types) for one in updates))
            else:
                for operation in updates:
                    print_next(operation, server.types, output)
            return outcome(future.operation)

    return for_each(server, [name], watch_one)


def show_updates(terminal: Terminal, summaries: Iterator[Summary]) -> None:
    """Shows an operation until its updates end: in place on a terminal, else line by line."""
    if not terminal.is_live:
        _print_changes(summaries)
        return
    first = next(summaries)
    view = _View(first)
    terminal.line(Text(first.name, style="bold"))
    if first.verb or first.target:
        terminal.line(f"{first.verb} {first.target}".strip())
    with (
        keeps_cursor(terminal),
        Live(view, console=terminal, refresh_per_second=_REFRESH_PER_SECOND),
    ):
        for view.summary in summaries:
            pass


def _print_changes(summaries: Iterator[Summary]) -> None:
    """Prints a line for each change, of the operation and of the instances of a batch."""
    before: set[str] = set()
    for summary in summaries:
        batch = (f"  {short_name(one)}  {one.state}  {one.error}".rstrip() for one in summary.batch)
        progress = "" if summary.progress is None else percent(summary.progress)
        parts = (summary.state, progress, *_notes(summary), summary.error or summary.detail)
        now = dict.fromkeys(itertools.chain(batch, ["  ".join(filter(None, parts))]))
        for line in now:
            if line not in before:
                print(line, flush=True)
        before = set(now)


class _View:
    """The latest summary; each refresh draws it anew, so that its clock runs between updates."""

    def __init__(self, summary: Summary) -> None:
        self.summary = summary
        self._since = datetime.now(timezone.utc)

    def __rich__(self) -> RenderableType:
        summary = self.summary
        bar = ProgressBar(
            completed=summary.progress or 0, width=_BAR_WIDTH, pulse=summary.progress is None
        )
        line = Table.grid(padding=(0, 2, 0, 0))
        line.add_row(
            *(state_text(summary.state), bar, percent(summary.progress)),
            *(self._elapsed(), *_notes(summary)),
        )
        batch = [instance_table(summary.batch)] if summary.batch else []
        return Group(line, Text(summary.error or summary.detail), *batch)

    def _elapsed(self) -> str:
        """Returns how long the operation has taken, or the watch if its start is not known."""
        begin = self.summary.create_time or self._since
        end = self.summary.end_time if self.summary.done else None  # else it is an expected one
        time = (end or datetime.now(timezone.utc)) - begin
        return str(timedelta(seconds=max(int(time.total_seconds()), 0)))


def _notes(summary: Summary) -> Iterator[str]:
    """Yields the exceptional: a second attempt, an open request."""
    if summary.attempt is not None and summary.attempt > 1:
        yield f"attempt {summary.attempt}"
    for request in summary.requested:
        yield f"{request} requested"
