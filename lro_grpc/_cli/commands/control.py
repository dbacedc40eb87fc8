"""The commands that ask for something to happen to operations: cancel, pause, delete and more."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from lro_grpc._cli.commands.wait import wait_for
from lro_grpc._cli.exit_codes import Exit
from lro_grpc._cli.names import for_each
from lro_grpc._cli.parameters import CallTimeout, Names, Poll, UnfinishedNames
from lro_grpc._cli.session import CommandSession
from lro_grpc._cli.terminal_text import printable_summary
from lro_grpc._client.plan import RPC_TIMEOUT
from lro_grpc._errors import Code, LroError
from lro_grpc._wire.plain_text import one_line


def cancel(
    session: CommandSession,
    names: UnfinishedNames,
    waits: Annotated[
        bool, typer.Option("--wait", help="Wait until they are done, and exit with the outcome.")
    ] = False,
    timeout: CallTimeout = None,
    poll: Poll = False,
) -> Exit:
    """Requests the cancellation of operations, and may wait for their ends."""

    def cancel_one(name: str) -> Exit:
        ended = _state_at_end(session, name, timeout)
        if not ended:
            session.client.cancel(name, timeout=timeout or RPC_TIMEOUT)
        if waits:
            return wait_for(session, name, polls=poll)
        if ended:
            return _print_done(f"{{}} is done already, {ended}; there is nothing to cancel", name)
        return _print_done("asked to cancel {}; `lro wait {}` tells what comes of it", name)

    return for_each(session, names, cancel_one)


def _state_at_end(session: CommandSession, name: str, timeout: timedelta | None) -> str:
    """Returns the state of an operation that is done; empty if it goes on, as far as one can see.

    Who may cancel an operation need not be one who may see it.
    """
    try:
        operation = session.client.get(name, timeout=timeout or RPC_TIMEOUT)
    except LroError as error:
        if error.code is not Code.PERMISSION_DENIED:
            raise
        return ""
    return printable_summary(operation, session.types).state if operation.done else ""


def pause(session: CommandSession, names: UnfinishedNames, timeout: CallTimeout = None) -> Exit:
    """Requests pauses of operations."""

    def pause_one(name: str) -> Exit:
        operation = session.client.pause(name, timeout=timeout or RPC_TIMEOUT)
        if printable_summary(operation, session.types).state == "PAUSED":
            return _print_done("paused {}; `lro resume {}` lets it go on", name)
        return _print_done("asked to pause {}; `lro get {}` tells whether it has", name)

    return for_each(session, names, pause_one)


def resume(session: CommandSession, names: UnfinishedNames, timeout: CallTimeout = None) -> Exit:
    """Lets paused operations go on."""

    def resume_one(name: str) -> Exit:
        session.client.resume(name, timeout=timeout or RPC_TIMEOUT)
        return _print_done("resumed {}; `lro watch {}` shows how it goes on", name)

    return for_each(session, names, resume_one)


def terminate(
    session: CommandSession,
    names: UnfinishedNames,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why; all who see the operation see it.")
    ],
    timeout: CallTimeout = None,
) -> Exit:
    """Ends operations by force."""

    def terminate_one(name: str) -> Exit:
        session.client.terminate(name, reason, timeout=timeout or RPC_TIMEOUT)
        return _print_done("terminated {}; what it has done was not undone", name)

    return for_each(session, names, terminate_one)


def delete(session: CommandSession, names: Names, timeout: CallTimeout = None) -> Exit:
    """Deletes operations, which does not cancel them."""

    def delete_one(name: str) -> Exit:
        session.client.delete(name, timeout=timeout or RPC_TIMEOUT)
        return _print_done("deleted {}", name)

    return for_each(session, names, delete_one)


def _print_done(sentence: str, name: str) -> Exit:
    print(sentence.replace("{}", one_line(name)), flush=True)
    return Exit.SUCCEEDED
