"""The commands that ask for something to happen to operations: cancel, pause, delete and more."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from lro_grpc._cli.command import connecting
from lro_grpc._cli.commands.wait import wait_for
from lro_grpc._cli.connected_server import ConnectedServer
from lro_grpc._cli.descriptions import Descriptions
from lro_grpc._cli.exit_codes import Exit
from lro_grpc._cli.names import for_each
from lro_grpc._cli.output import print_message
from lro_grpc._cli.parameters import (
    CallTimeout,
    DryRun,
    Filter,
    FilterLimit,
    FilterParent,
    Names,
    NamesOrFilter,
    Poll,
    UnfinishedNames,
    UnfinishedNamesOrFilter,
    Yes,
)
from lro_grpc._cli.selection import SHOWN, Question, Selection
from lro_grpc._cli.terminal_text import printable_summary
from lro_grpc._client.plan import RPC_TIMEOUT
from lro_grpc._errors import Code, LroError
from lro_grpc._inspection.description import read_description
from lro_grpc._inspection.summary import Summary
from lro_grpc._operation.batch_states import BEGUN
from lro_grpc._operation.names import ANY_PARENT
from lro_grpc._operation.states import BATCH_INSTANCE
from lro_grpc._wire.plain_text import one_line

if TYPE_CHECKING:
    from lro.v1.operation_description_pb2 import DescribeOperationResponse

_STANDING = {BATCH_INSTANCE.name_of(state) for state in BEGUN}
"""The states of a batch's target that exists, or may exist."""

_MOST_ASKED = 100
"""Operations of which a server is asked what one may do with them."""

_LEFT_AS_IT_IS = (
    "nothing of it is undone, and a handler that does not stop may work on its target for a while"
    " beside the next operation; `lro cancel` first, which undoes a batch"
)


@connecting
def cancel(
    server: ConnectedServer,
    names: UnfinishedNames,
    waits: Annotated[
        bool, typer.Option("--wait", help="Wait until they are done, and exit with the outcome.")
    ] = False,
    timeout: CallTimeout = None,
    poll: Poll = False,
) -> Exit:
    """Requests the cancellation of operations, and may wait for their ends."""

    def cancel_one(name: str) -> Exit:
        seen = _summary_if_seen(server, name, timeout)
        ended = seen.state if seen is not None and seen.done else ""
        if not ended:
            server.client.cancel(name, timeout=timeout or RPC_TIMEOUT)
        if waits:
            return wait_for(server, name, polls=poll)
        if ended:
            return _print_done(f"{{}} is done already, {ended}; there is nothing to cancel", name)
        return _print_done("asked to cancel {}; `lro wait {}` tells what comes of it", name)

    return for_each(server, names, cancel_one)


def _summary_if_seen(
    server: ConnectedServer, name: str, timeout: timedelta | None
) -> Summary | None:
    """Returns what is known of an operation, unless one may not see it.

    Who may cancel or terminate an operation need not be one who may see it.
    """
    try:
        operation = server.client.get(name, timeout=timeout or RPC_TIMEOUT)
    except LroError as error:
        if error.code is not Code.PERMISSION_DENIED:
            raise
        return None
    return printable_summary(operation, server.types)


@connecting
def pause(server: ConnectedServer, names: UnfinishedNames, timeout: CallTimeout = None) -> Exit:
    """Requests pauses of operations."""

    def pause_one(name: str) -> Exit:
        operation = server.client.pause(name, timeout=timeout or RPC_TIMEOUT)
        if printable_summary(operation, server.types).state == "PAUSED":
            return _print_done("paused {}; `lro resume {}` lets it go on", name)
        return _print_done("asked to pause {}; `lro get {}` tells whether it has", name)

    return for_each(server, names, pause_one)


@connecting
def resume(server: ConnectedServer, names: UnfinishedNames, timeout: CallTimeout = None) -> Exit:
    """Lets paused operations go on."""

    def resume_one(name: str) -> Exit:
        server.client.resume(name, timeout=timeout or RPC_TIMEOUT)
        return _print_done("resumed {}; `lro watch {}` shows how it goes on", name)

    return for_each(server, names, resume_one)


@connecting
def terminate(
    server: ConnectedServer,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why; all who see the operation see it.")
    ],
    names: UnfinishedNamesOrFilter = None,
    filter_text: Filter = None,
    parent: FilterParent = ANY_PARENT,
    limit: FilterLimit = 100,
    dry_run: DryRun = False,
    yes: Yes = False,
    timeout: CallTimeout = None,
) -> Exit:
    """Ends operations by force, and asks first where that leaves targets of a batch behind."""
    selection = Selection(
        names=names or (),
        filter=filter_text,
        parent=parent,
        limit=limit,
        yes=yes,
        timeout=timeout,
    )

    rehearsal = _Rehearsal(server, timeout)

    def terminate_one(name: str) -> Exit:
        if dry_run:
            return rehearsal.terminate(name)
        if selection.filter is None and not yes:
            standing = _standing_targets(_summary_if_seen(server, name, timeout))
            asked = f"{standing}\n{_LEFT_AS_IT_IS}\nterminate {one_line(name)}?"
            left = f"{one_line(name)} was not terminated"
            if standing and (refused := selection.ask(asked, otherwise=left)):
                return refused
        server.client.terminate(name, reason, timeout=timeout or RPC_TIMEOUT)
        return _print_done("terminated {}; what it has done was not undone", name)

    question = Question("terminate {} operations?", note=_LEFT_AS_IT_IS, warn=_standing_targets)
    return selection.for_each(
        server, terminate_one, among="done = false", question=None if dry_run else question
    )


class _Rehearsal:
    """Tells what a terminate would do.

    Whether one may terminate an operation is asked for the first of many: a server asks its
    ``authorize`` about each action for that.

    Args:
        server: The server.
        timeout: The deadline of each call.
    """

    def __init__(self, server: ConnectedServer, timeout: timedelta | None) -> None:
        self._server = server
        self._timeout = timeout or RPC_TIMEOUT
        self._descriptions = Descriptions(server, timeout)
        self._asked = 0
        self._said = False

    def terminate(self, name: str) -> Exit:
        """Prints what would become of an operation; FAILED if one may not terminate it."""
        description = self._description(name)
        if description is None:
            operation = self._server.client.get(name, timeout=self._timeout)
        else:
            operation = description.operation
        state = printable_summary(operation, self._server.types).state
        if operation.done:
            return _print_done(
                f"{{}} is done already, {state}; there is nothing to terminate", name
            )
        if description is not None and "terminate" not in read_description(description).actions:
            _print_done(f"would not terminate {{}}, which is {state}: you may not", name)
            return Exit.FAILED
        return _print_done(f"would terminate {{}}, which is {state}", name)

    def _description(self, name: str) -> DescribeOperationResponse | None:
        if self._asked == _MOST_ASKED:
            self._say(f"whether you may was asked for the first {_MOST_ASKED} alone")
            return None
        self._asked += 1
        found = self._descriptions.of(name)
        if found is None and self._descriptions.why_not:
            self._say(f"whether you may terminate them is not known: {self._descriptions.why_not}")
        return found

    def _say(self, text: str) -> None:
        if not self._said:
            print_message(text)
        self._said = True


def _standing_targets(one: Summary | None) -> str:
    """Returns a line on the targets of a batch that exist, or may; empty if there are none."""
    if one is None or one.done:
        return ""
    standing = [target.name for target in one.batch if target.state in _STANDING]
    if not standing:
        return ""
    more = f" and {len(standing) - SHOWN} more" if len(standing) > SHOWN else ""
    return f"{one_line(one.name)} leaves what it has made: {', '.join(standing[:SHOWN])}{more}"


@connecting
def rerun(
    server: ConnectedServer,
    names: NamesOrFilter = None,
    filter_text: Filter = None,
    parent: FilterParent = ANY_PARENT,
    limit: FilterLimit = 100,
    dry_run: DryRun = False,
    yes: Yes = False,
    timeout: CallTimeout = None,
) -> Exit:
    """Runs operations again that are done; of those that a filter finds, what has not succeeded."""
    selection = Selection(
        names=names or (),
        filter=filter_text,
        parent=parent,
        limit=limit,
        yes=yes,
        timeout=timeout,
    )

    def rerun_one(name: str) -> Exit:
        new = server.client.rerun(name, validate_only=dry_run, timeout=timeout or RPC_TIMEOUT).name
        if dry_run:
            return _print_done("would run {} again", name)
        said = f"run {{}} again as {one_line(new)}; `lro wait {one_line(new)}`"
        return _print_done(f"{said} tells what comes of it", name)

    among = "done = true AND NOT state = SUCCEEDED"
    question = None if dry_run else Question("run {} operations again?")
    return selection.for_each(server, rerun_one, among=among, question=question)


@connecting
def delete(server: ConnectedServer, names: Names, timeout: CallTimeout = None) -> Exit:
    """Deletes operations, which does not cancel them."""

    def delete_one(name: str) -> Exit:
        server.client.delete(name, timeout=timeout or RPC_TIMEOUT)
        return _print_done("deleted {}", name)

    return for_each(server, names, delete_one)


def _print_done(sentence: str, name: str) -> Exit:
    print(sentence.replace("{}", one_line(name)), flush=True)
    return Exit.SUCCEEDED
