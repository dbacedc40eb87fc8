"""The commands that make a call for each operation: get, cancel, pause, resume and delete."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

from lro_grpc._cli.commands.wait import wait
from lro_grpc._cli.exit_codes import Exit, tell
from lro_grpc._cli.output import Output, print_value
from lro_grpc._cli.report import show
from lro_grpc._cli.terminal_text import one_line
from lro_grpc._dialects.registry import to_json
from lro_grpc._errors import LroError

if TYPE_CHECKING:
    from lro_grpc._cli.session import Session


def get(
    session: Session, name: str, timeout: timedelta, output: Output, dialect: str | None
) -> Exit:
    """Prints an operation, in a dialect if one is given."""
    operation = session.client.get(name, timeout=timeout)
    if dialect is None:
        show(operation, session.types, output)
    else:
        print_value(to_json(operation, dialect), output)
    return Exit.SUCCEEDED


def cancel(session: Session, names: Iterable[str], timeout: timedelta, *, waits: bool) -> Exit:
    """Asks to cancel operations, and waits for what comes of it if that is wished."""

    def one(name: str) -> Exit:
        session.client.cancel(name, timeout=timeout)
        if waits:
            return wait(session, name, None, Output.TABLE)
        return _say("asked to cancel {}; `lro wait {}` tells what comes of it", name)

    return _each(session, names, one)


def pause(session: Session, names: Iterable[str], timeout: timedelta) -> Exit:
    """Asks to pause operations."""

    def one(name: str) -> Exit:
        session.client.pause(name, timeout=timeout)
        return _say("asked to pause {}; `lro get {}` tells whether it has", name)

    return _each(session, names, one)


def resume(session: Session, names: Iterable[str], timeout: timedelta) -> Exit:
    """Lets paused operations go on."""

    def one(name: str) -> Exit:
        session.client.resume(name, timeout=timeout)
        return _say("resumed {}; `lro watch {}` shows how it goes on", name)

    return _each(session, names, one)


def delete(session: Session, names: Iterable[str], timeout: timedelta) -> Exit:
    """Deletes operations, which does not cancel them."""

    def one(name: str) -> Exit:
        session.client.delete(name, timeout=timeout)
        return _say("deleted {}", name)

    return _each(session, names, one)


def _each(session: Session, names: Iterable[str], one: Callable[[str], Exit]) -> Exit:
    """Deals with every name, whatever comes of the others; returns the highest exit code."""
    codes = []
    for name in names:
        try:
            codes.append(one(name))
        except LroError as error:
            codes.append(tell(error, session.connection))
    return max(codes)


def _say(sentence: str, name: str) -> Exit:
    print(sentence.replace("{}", one_line(name)), flush=True)
    return Exit.SUCCEEDED
