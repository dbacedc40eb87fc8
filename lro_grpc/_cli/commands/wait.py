"""``lro wait``, and what every command that waits has to say when it is interrupted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from lro_grpc._cli.exit_codes import Exit, outcome, say
from lro_grpc._cli.output import Output
from lro_grpc._cli.report import show
from lro_grpc._cli.terminal_text import one_line
from lro_grpc._client.plan import RPC_TIMEOUT

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from lro_grpc._cli.session import Session
    from lro_grpc._client.future import OperationFuture


def wait(session: Session, name: str, timeout: timedelta | None, output: Output) -> Exit:
    """Waits for an operation, prints it, and returns its outcome."""
    with following(session, name, timeout) as future:
        future.exception(timeout)
        show(future.operation, session.types, output)
        return outcome(future.operation)


@contextlib.contextmanager
def following(
    session: Session, name: str, timeout: timedelta | None
) -> Iterator[OperationFuture[Message, Message]]:
    """Gives the future of an operation; if the user interrupts, says that it goes on.

    A future waits for a server that is away. One that is not there in the first place is an error
    at once, and so is a wrong name: hence the Get.
    """
    first = session.client.get(name, timeout=min(timeout or RPC_TIMEOUT, RPC_TIMEOUT))
    try:
        yield session.client.future(first)
    except KeyboardInterrupt:
        name = one_line(name)
        say(f"{name} goes on; see `lro watch {name}`, or end it with `lro cancel {name}`")
        raise
