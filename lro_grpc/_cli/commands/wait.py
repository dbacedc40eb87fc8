"""``lro wait``: waits until an operation is done, for ``lro cancel --wait``, too."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from lro_grpc._cli.command import connecting
from lro_grpc._cli.connected_server import ConnectedServer
from lro_grpc._cli.exit_codes import Exit, outcome
from lro_grpc._cli.names import STDIN, for_each
from lro_grpc._cli.output import Output, print_message, print_unserved
from lro_grpc._cli.parameters import Format, Poll, UnfinishedName, WaitTimeout
from lro_grpc._cli.report import show
from lro_grpc._client.plan import RPC_TIMEOUT
from lro_grpc._wire.plain_text import one_line

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from lro_grpc._client.future import OperationFuture


@connecting
def wait(
    server: ConnectedServer,
    name: UnfinishedName,
    output: Format = Output.TABLE,
    timeout: WaitTimeout = None,
    poll: Poll = False,
) -> Exit:
    """Waits for an operation, prints it, and returns its outcome."""

    def wait_for_one(one: str) -> Exit:
        return wait_for(server, one, output, timeout, polls=poll, is_one_of_many=name == STDIN)

    return for_each(server, [name], wait_for_one)


def wait_for(
    server: ConnectedServer,
    name: str,
    output: Output = Output.TABLE,
    timeout: timedelta | None = None,
    *,
    polls: bool = False,
    is_one_of_many: bool = False,
) -> Exit:
    """Waits for one operation, prints it, and returns its outcome."""
    with open_future(server, name, timeout, polls=polls) as future:
        future.exception(timeout)
        show(future.operation, server.types, output, is_one_of_many=is_one_of_many)
        return outcome(future.operation)


@contextlib.contextmanager
def open_future(
    server: ConnectedServer, name: str, timeout: timedelta | None, *, polls: bool
) -> Iterator[OperationFuture[Message, Message]]:
    """Gives the future of an operation; if the user interrupts, says that the operation goes on.

    A future waits for a server that is away. Where there is none in the first place, and for a
    wrong name, a command fails at once: hence the Get.
    """
    client = server.polling_client if polls else server.client
    first = client.get(name, timeout=min(timeout or RPC_TIMEOUT, RPC_TIMEOUT))
    print_unserved(name, server.unserved)
    try:
        yield client.future(first)
    except KeyboardInterrupt:
        name = one_line(name)
        print_message(f"{name} goes on; see `lro watch {name}`, or end it with `lro cancel {name}`")
        raise
