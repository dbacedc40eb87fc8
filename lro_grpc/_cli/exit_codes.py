"""How a command ends: its exit code, and one line for an error."""

from __future__ import annotations

import enum
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from google.longrunning import operations_pb2

from lro_grpc._cli.terminal_text import one_line
from lro_grpc._errors import Code, LroError, OperationTimeoutError

if TYPE_CHECKING:
    from lro_grpc._cli.connection import Connection


if TYPE_CHECKING:
    from lro_grpc._cli.connection import Connection
    from lro_grpc._errors import LroError

_OF_CODE = {
    Code.NOT_FOUND: "try `lro list PARENT`; names without a parent are under `operations`",
    Code.UNAUTHENTICATED: "try --metadata 'authorization=Bearer …'",
    Code.PERMISSION_DENIED: "try as someone else, with --metadata or --cert",
    Code.DEADLINE_EXCEEDED: "try a longer --timeout",
}


def hint(error: LroError, connection: Connection) -> str:
    """Returns what to look at or to try; empty if the error says it all."""
    if error.code is Code.UNAVAILABLE:
        return _unavailable(error.message, connection)
    if error.code is Code.UNIMPLEMENTED:
        return f"the server at {connection.target} does not offer this"
    return _OF_CODE.get(error.code, "")


def _unavailable(message: str, connection: Connection) -> str:
    """Tells by gRPC's own words, which change, what stands in the way of a connection."""
    listening = f"is a server listening on {connection.target}?"
    if "http1.x" in message:
        return f"what listens on {connection.target} does not speak gRPC"
    dropped = "Socket closed" in message or "reset by peer" in message
    if not connection.is_secure:
        return f"{listening} if it expects TLS, give --tls" if dropped else listening
    if dropped and connection.cert is None:
        return f"{listening} if it expects a certificate, give --cert and --key"
    if dropped:
        return f"{listening} if so, it may not accept --cert"
    if "WRONG_VERSION_NUMBER" in message:
        return "the server does not speak TLS: leave out the TLS options"
    if "security handshaker" in message or "empty address list" in message:
        return "are --ca-cert, --cert and --key PEM files, the last two a pair?"
    if "Hostname Verification" in message or "not in peer certificate" in message:
        return "the certificate is for another name: give --server-name"
    if "certificate" in message.lower():
        return "the certificate is not by an authority that is trusted: give --ca-cert"
    return listening


class Exit(enum.IntEnum):
    """The exit codes of ``lro``."""

    SUCCEEDED = 0
    """The command did what it was asked to; the operation that it waited for succeeded."""
    FAILED = 1
    """The server refused, or is not there; the operation failed."""
    USAGE = 2
    """The command line is wrong; or a server calls a name or a filter INVALID_ARGUMENT."""
    CANCELLED = 3
    """The operation was cancelled."""
    TIMED_OUT = 4
    """The time is over: the operation goes on."""
    INTERRUPTED = 130
    """Ctrl-C."""
    PIPE_CLOSED = 141
    """Nobody reads the output any more."""


def outcome(operation: operations_pb2.Operation) -> Exit:
    """Returns how a command ends that has waited for this operation, which is done."""
    if not operation.HasField("error"):
        return Exit.SUCCEEDED
    return Exit.CANCELLED if operation.error.code == Code.CANCELLED else Exit.FAILED


def end(work: Callable[[], Exit], connection: Connection) -> Exit:
    """Does the work of a command; an error becomes a line on stderr, and never a traceback."""
    try:
        how = work()
        sys.stdout.flush()
    except LroError as error:
        return tell(error, connection)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except OSError as error:
        # What is left in the buffer would be written, and fail, when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return Exit.PIPE_CLOSED
        say(str(error))
        return Exit.FAILED
    return how


def tell(error: LroError, connection: Connection) -> Exit:
    """Prints an error with what may help, and returns the exit code for it."""
    if isinstance(error, OperationTimeoutError):
        say(error.message)
        return Exit.TIMED_OUT
    advice = hint(error, connection)
    say(f"{error.code.name}: {error.message}{advice and f' ({advice})'}")
    if error.code is Code.DEADLINE_EXCEEDED:
        return Exit.TIMED_OUT
    return Exit.USAGE if error.code is Code.INVALID_ARGUMENT else Exit.FAILED


def say(message: str) -> None:
    """Prints a line on stderr, in the name of the command."""
    print(f"lro: {one_line(message)}", file=sys.stderr)
