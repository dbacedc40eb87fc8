"""The commands that ask a server about its operations."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import NoReturn

import grpc
from google.longrunning import operations_pb2
from google.protobuf import json_format

from lro_grpc.client import OperationsClient
from lro_grpc.errors import (
    LroError,
    OperationCancelledError,
    OperationFailedError,
    OperationTimeoutError,
)

FAILED = 1
CANCELLED = 3
TIMED_OUT = 4


def list_operations(target: str, parent: str) -> None:
    """Prints a line for each of a parent's operations: its name and its state."""
    with _connected(target) as client:
        for operation in client.list(parent):
            print(f"{operation.name}  {_outcome(operation)}")


def get(target: str, name: str) -> None:
    """Prints an operation as JSON."""
    with _connected(target) as client:
        _print(client.get(name))


def wait(target: str, name: str, timeout: float | None) -> None:
    """Waits for an operation, prints it, and exits with 0, 1, 3 or 4."""
    limit = None if timeout is None else timedelta(seconds=timeout)
    with _connected(target) as client:
        future = client.attach(name)
        try:
            error = future.exception(limit)
        except OperationTimeoutError as late:
            _fail(str(late), TIMED_OUT)
        _print(future.operation)
        if isinstance(error, OperationCancelledError):
            sys.exit(CANCELLED)
        if isinstance(error, OperationFailedError):
            sys.exit(FAILED)


def cancel(target: str, name: str) -> None:
    """Asks to cancel an operation."""
    with _connected(target) as client:
        client.cancel(name)


def delete(target: str, name: str) -> None:
    """Forgets an operation."""
    with _connected(target) as client:
        client.delete(name)


@contextlib.contextmanager
def _connected(target: str) -> Iterator[OperationsClient]:
    """Gives a client of the server; an error ends the command with one line."""
    with grpc.insecure_channel(target) as channel:
        try:
            yield OperationsClient(channel)
        except LroError as error:
            hint = (
                f" (is a server listening on {target}?)" if error.code.name == "UNAVAILABLE" else ""
            )
            _fail(f"{error.code.name}: {error.message}{hint}", FAILED)


def _fail(message: str, code: int) -> NoReturn:
    print(f"lro: {message}", file=sys.stderr)
    sys.exit(code)


def _print(operation: operations_pb2.Operation) -> None:
    try:
        print(json_format.MessageToJson(operation))
    except TypeError:  # a type inside an Any is not known here
        print(operation)


def _outcome(operation: operations_pb2.Operation) -> str:
    if not operation.done:
        return "running"
    if operation.HasField("error"):
        return "cancelled" if operation.error.code == 1 else f"failed: {operation.error.message}"
    return "succeeded"
