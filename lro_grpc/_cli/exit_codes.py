"""Exit codes of commands, with the line that an error prints: its text, and what to try."""

from __future__ import annotations

import enum
import os
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from google.longrunning import operations_pb2

from lro_grpc._cli.output import print_message
from lro_grpc._errors import Code, LroError, OperationTimeoutError

if TYPE_CHECKING:
    from lro_grpc._cli.connected_server import ConnectedServer
    from lro_grpc._cli.connection import ConnectionOptions


class Exit(enum.IntEnum):
    """The exit codes of ``lro``."""

    SUCCEEDED = 0
    """The command has done its work; the operation that it waited for succeeded."""
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
    """Returns the exit code of a command that has waited for this operation, which is done."""
    if not operation.HasField("error"):
        return Exit.SUCCEEDED
    return Exit.CANCELLED if operation.error.code == Code.CANCELLED else Exit.FAILED


def run(work: Callable[[], Exit]) -> Exit:
    """Does the work of a command; an interrupt, or an error of a file, leaves no traceback."""
    try:
        code = work()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except OSError as error:
        # What is left in the buffer would be written, and fail, when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return Exit.PIPE_CLOSED
        print_message(str(error))
        return Exit.FAILED
    return code


def print_error(error: LroError, server: ConnectedServer) -> Exit:
    """Prints an error with a hint, if there is one, and returns the exit code for it."""
    if isinstance(error, OperationTimeoutError):
        print_message(error.message)
        return Exit.TIMED_OUT
    hint = _hint(error, server)
    print_message(f"{error.code.name}: {error.message}{hint and f' ({hint})'}")
    if error.code is Code.DEADLINE_EXCEEDED:
        return Exit.TIMED_OUT
    return Exit.USAGE if error.code is Code.INVALID_ARGUMENT else Exit.FAILED


_UNREACHED = re.compile(
    "failed to connect|resolution failed|handshake|certificate|empty address list|wrong_version",
    re.IGNORECASE,
)
"""gRPC's own words, where it has not reached a server that speaks as it does."""

_HINTS = {
    Code.NOT_FOUND: "`lro list` has the names that there are",
    Code.UNAUTHENTICATED: "try --metadata 'authorization=Bearer …'",
    Code.PERMISSION_DENIED: "try as someone else, with --metadata or --cert",
    Code.DEADLINE_EXCEEDED: "try a longer --timeout",
}


def _hint(error: LroError, server: ConnectedServer) -> str:
    """Returns a hint at the cause or at a remedy; empty if the error says it all."""
    if error.code is Code.UNAVAILABLE:
        # A server that answers may say gRPC's own words, of a server behind it.
        is_own = not server.is_connected()
        return _connection_hint(error.message, server.connection) if is_own else ""
    if error.code is Code.UNIMPLEMENTED:
        return f"the server at {server.connection.target} does not offer this"
    return _HINTS.get(error.code, "")


def _connection_hint(message: str, connection: ConnectionOptions) -> str:
    """Returns a hint at the reason why there is no connection.

    gRPC has one code for all reasons: only the words of its messages differ, and they may change.
    """
    listening = f"is a server listening on {connection.target}?"
    if "http1.x" in message:
        return f"what listens on {connection.target} does not speak gRPC"
    dropped = "Socket closed" in message or "reset by peer" in message
    if not (dropped or _UNREACHED.search(message)):
        return ""  # the server has said it
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
