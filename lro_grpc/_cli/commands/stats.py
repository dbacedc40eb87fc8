"""``lro stats``: prints how many operations there are, by method and state, and the oldest ones."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lro_grpc._cli.command import connecting
from lro_grpc._cli.connected_server import ConnectedServer
from lro_grpc._cli.exit_codes import Exit
from lro_grpc._cli.output import Output, print_message, print_value
from lro_grpc._cli.parameters import CallTimeout, Format, Parent, with_times
from lro_grpc._cli.style import Terminal, age, keeps_cursor, state_text, utc
from lro_grpc._client.plan import RPC_TIMEOUT
from lro_grpc._errors import Code, LroError
from lro_grpc._inspection.summary import time_of
from lro_grpc._operation.names import ANY_PARENT
from lro_grpc._operation.states import JOB
from lro_grpc._wire.plain_text import one_line

if TYPE_CHECKING:
    from google.protobuf import timestamp_pb2

    from lro.v1.operation_summary_pb2 import OperationCount, SummarizeOperationsResponse

_REFRESH_SECONDS = 2.0


@connecting
def stats(
    server: ConnectedServer,
    parent: Parent = ANY_PARENT,
    filter_text: Annotated[
        str,
        typer.Option(
            "--filter",
            metavar="TEXT",
            help="Which ones, as in AIP-160: verb = create. They are counted among the newest.",
        ),
    ] = "",
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on, with new numbers every two seconds.")
    ] = False,
    output: Format = Output.TABLE,
    timeout: CallTimeout = None,
) -> Exit:
    """Prints the numbers of a parent's operations, once or again and again."""

    def answers() -> Iterator[SummarizeOperationsResponse]:
        while True:
            filter_now = with_times(filter_text)
            yield server.client.summarize(parent, filter=filter_now, timeout=timeout or RPC_TIMEOUT)
            if not watch:
                return
            time.sleep(_REFRESH_SECONDS)

    try:
        if output is not Output.TABLE:
            for answer in answers():
                print_value(server.types.to_dict(answer), output, is_one_of_many=watch)
        else:
            _show(answers(), Terminal(), is_live=watch)
    except LroError as error:
        if error.code is not Code.UNIMPLEMENTED:
            raise
        print_message("no numbers: this server has no SummarizeOperations")
        return Exit.FAILED
    return Exit.SUCCEEDED


def _show(
    answers: Iterator[SummarizeOperationsResponse], terminal: Terminal, *, is_live: bool
) -> None:
    """Shows numbers: in place on a terminal if they are live, else below each other."""
    first = next(answers)  # an error comes before anything is printed
    if not (is_live and terminal.is_live):
        _print(first, terminal)
        for answer in answers:
            terminal.line()
            _print(answer, terminal)
        return
    with (
        keeps_cursor(terminal),
        Live(_view(first), console=terminal, auto_refresh=False) as live,
    ):
        for answer in answers:
            live.update(_view(answer), refresh=True)


def _print(answer: SummarizeOperationsResponse, terminal: Terminal) -> None:
    if answer.counts:
        terminal.table(_table(answer))
    for line in _lines(answer):
        terminal.line(line)


def _view(answer: SummarizeOperationsResponse) -> RenderableType:
    return Group(*([_table(answer)] if answer.counts else []), *_lines(answer))


def _table(answer: SummarizeOperationsResponse) -> Table:
    """Returns a row for each method, and a column for each state that there is."""
    numbers: dict[str, dict[int, OperationCount]] = {}
    for one in answer.counts:
        numbers.setdefault(one.method, {})[one.state] = one
    states = {one.state for one in answer.counts}
    known = [state for state in JOB.states if state in states]
    columns = [*known, *sorted(states.difference(known))]  # those of a later release come last
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("method")
    for state in columns:
        name = JOB.name_of(state).removeprefix("JOB_STATE_")
        table.add_column(state_text(name), no_wrap=True, justify="right")
    for method, of_method in numbers.items():
        cells = (_number(of_method.get(state)) for state in columns)
        table.add_row(Text(one_line(method), overflow="fold"), *cells)
    return table


def _number(count: OperationCount | None) -> str:
    if count is None:
        return "-"
    return f"{'≥ ' * count.lower_bound}{count.count:,}"


def _lines(answer: SummarizeOperationsResponse) -> Iterator[Text]:
    """Yields what the table does not tell."""
    now = datetime.now(timezone.utc)
    oldest = (
        ("ready longest", answer.oldest_ready_time, answer.oldest_ready_operation),
        ("runs longest", answer.oldest_attempt_start_time, answer.oldest_attempt_operation),
    )
    for label, since, name in oldest:
        if since.ByteSize():
            yield Text(f"{label:15}{one_line(name) or 'a deleted operation'}, {_age(since, now)}")
    if answer.HasField("earliest_examined_create_time"):
        begin = utc(time_of(answer.earliest_examined_create_time))
        yield Text(f"{'counted':15}among the newest {answer.examined_count:,}, since {begin}")
    elif not answer.counts:
        yield Text("no operations")


def _age(since: timestamp_pb2.Timestamp, now: datetime) -> str:
    return f"for {age(time_of(since), now)}"
