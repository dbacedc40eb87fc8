"""``lro list``: prints operations as a table, as names, or as JSON or YAML."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from lro_grpc._cli.command import connecting
from lro_grpc._cli.connected_server import ConnectedServer
from lro_grpc._cli.empty_lists import hint_at_parent
from lro_grpc._cli.exit_codes import Exit
from lro_grpc._cli.output import Output, print_message, print_next
from lro_grpc._cli.parameters import CallTimeout, Format, Parent, with_times
from lro_grpc._cli.style import Terminal, age, percent, state_text, utc
from lro_grpc._cli.terminal_text import printable_summary
from lro_grpc._client.plan import RPC_TIMEOUT
from lro_grpc._filtering.parser import hint_at_operators
from lro_grpc._inspection.summary import Summary
from lro_grpc._operation.names import ANY_PARENT, COLLECTION
from lro_grpc._wire.plain_text import one_line

if TYPE_CHECKING:
    from google.longrunning import operations_pb2

    from lro_grpc._inspection.message_types import MessageTypes

_PAGE_SIZE = 500


@connecting
def list_operations(
    server: ConnectedServer,
    parent: Parent = ANY_PARENT,
    filter_text: Annotated[
        str,
        typer.Option(
            "--filter",
            parser=with_times,
            metavar="TEXT",
            help="Which ones, as in AIP-160: state = RUNNING AND create_time > now-1h.",
        ),
    ] = "",
    limit: Annotated[
        int | None, typer.Option(min=1, help="The most operations to list; all unless given.")
    ] = None,
    page_size: Annotated[
        int | None, typer.Option(min=1, help="The most operations to ask for in one call.")
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print names only, for other commands.")
    ] = False,
    output: Format = Output.TABLE,
    timeout: CallTimeout = None,
) -> Exit:
    """Prints the operations of a parent, in the server's order, as the pages come."""
    size = page_size or min(limit or _PAGE_SIZE, _PAGE_SIZE)
    pager = server.client.list(
        parent, filter=filter_text, page_size=size, timeout=timeout or RPC_TIMEOUT
    )
    operations: Iterator[operations_pb2.Operation] = itertools.islice(pager, limit)
    # The first is fetched now, so that an error comes before anything is printed.
    first = list(itertools.islice(operations, 1))
    operations = itertools.chain(first, operations)
    terminal = Terminal()
    if quiet:
        for operation in operations:
            print(one_line(operation.name), flush=True)
    elif output is not Output.TABLE:
        for operation in operations:
            print_next(operation, server.types, output)
    elif terminal.is_live:
        _print_tables(terminal, parent, _summaries(operations, server.types), size)
    else:
        _print_lines(_summaries(operations, server.types))
    if not first and (
        hint := hint_at_operators(filter_text) if filter_text else hint_at_parent(parent)
    ):
        print_message(hint)
    return Exit.SUCCEEDED


def _summaries(
    operations: Iterable[operations_pb2.Operation], types: MessageTypes
) -> Iterator[Summary]:
    return (printable_summary(operation, types) for operation in operations)


def _print_lines(operations: Iterable[Summary]) -> None:
    """Prints a line for each operation, with tabs between the columns: for other programs."""
    print("NAME", "STATE", "PROGRESS", "VERB", "TARGET", "CREATED", "DETAIL", sep="\t")
    for one in operations:
        created = one.create_time.isoformat() if one.create_time else ""
        columns = (one.state, percent(one.progress), one.verb, one.target, created, _detail(one))
        print(one.name, *(column or "-" for column in columns), sep="\t", flush=True)


def _print_tables(
    terminal: Terminal, parent: str, operations: Iterator[Summary], rows: int
) -> None:
    """Prints a table for every so many rows, below the prefix that all its names share."""
    while chunk := list(itertools.islice(operations, rows)):
        prefix = f"{parent}/{COLLECTION}/"
        if not all(one.name.startswith(prefix) for one in chunk):
            prefix = ""
        else:
            terminal.line(Text(prefix, style="dim"))
        terminal.table(_table(chunk, prefix))


def _table(operations: Iterable[Summary], prefix: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("name", "state"):
        table.add_column(name, no_wrap=True)
    for name in ("%", "age"):
        table.add_column(name, no_wrap=True, justify="right")
    for name in ("what", "detail"):  # these are cut where the terminal is narrow
        table.add_column(name)
    now = datetime.now(timezone.utc)
    parent = prefix.removesuffix(f"/{COLLECTION}/")
    for one in operations:
        target = one.target.removeprefix(parent).removeprefix("/")
        table.add_row(
            Text(one.name.removeprefix(prefix), overflow="fold"),
            state_text(one.state),
            percent(one.progress),
            age(one.create_time, now),
            _cut(f"{one.verb} {target}"),
            _cut(_detail(one)),
        )
    return table


def _cut(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")


def _detail(one: Summary) -> str:
    waits = f"begins not before {utc(one.schedule_time)}" if _is_delayed(one) else ""
    return one.error or one.detail or waits


def _is_delayed(one: Summary) -> bool:
    has_begun = one.done or one.start_time is not None
    return one.schedule_time is not None and not has_begun
