"""Proposes names for the shell to complete, from the operations of the server."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING

import typer

from lro_grpc._cli.connection import ConnectionOptions
from lro_grpc._cli.session import open_session
from lro_grpc._errors import LroError
from lro_grpc._operation.names import COLLECTION

if TYPE_CHECKING:
    from google.longrunning import operations_pb2

_TIMEOUT = timedelta(seconds=1)
_MOST = 500
"""The most operations of one parent that are read."""
_ANYWHERE = ["projects", "-", "locations", "-"]


def operations(context: typer.Context, incomplete: str) -> list[str]:
    """Returns the names of operations that begin with the text."""
    return [one.name for one in _found(context, incomplete)]


def unfinished(context: typer.Context, incomplete: str) -> list[str]:
    """Returns the names of operations that begin with the text and are not done."""
    return [one.name for one in _found(context, incomplete) if not one.done]


def parents(context: typer.Context, incomplete: str) -> list[str]:
    """Returns the parents of operations whose names begin with the text."""
    prefixes = (one.name.rpartition(f"{COLLECTION}/")[0] for one in _found(context, incomplete))
    return sorted({prefix.removesuffix("/") or COLLECTION for prefix in prefixes})


def _found(context: typer.Context, incomplete: str) -> Iterator[operations_pb2.Operation]:
    """Yields the operations that may be meant; none if the server does not answer in time."""
    options = [field.name for field in dataclasses.fields(ConnectionOptions)]
    given = {name: value for name in options if (value := context.params.get(name))}
    try:
        connection = ConnectionOptions(**{"metadata": [], **given})
    except typer.BadParameter:  # the command line is not right yet
        return
    with open_session(connection) as session:
        for parent in _parents(incomplete):
            listed = session.client.list(parent, page_size=_MOST, timeout=_TIMEOUT)
            with contextlib.suppress(LroError):
                yield from islice(listed, _MOST)


def _parents(incomplete: str) -> list[str]:
    """Returns the parents to list, with ``-`` for each segment that is not complete yet.

    So ``projects/p/loc`` may become an operation of any location of ``projects/p``.
    """
    parent, separator, _ = incomplete.rpartition(f"{COLLECTION}/")
    if separator:
        return [parent.removesuffix("/") or COLLECTION]
    typed = incomplete.split("/")[:-1]
    if typed[::2] == _ANYWHERE[: len(typed) : 2]:
        typed += _ANYWHERE[len(typed) :]
    return ["/".join(typed)] if "/" in incomplete else [COLLECTION, "/".join(typed)]
