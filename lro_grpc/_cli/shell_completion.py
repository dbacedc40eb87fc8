"""Proposes names for the shell to complete, from the operations of the server.

A proposal becomes code: zsh evaluates what it is given, and every shell runs what stands on its
line once a person presses Enter. So a server's name is proposed only if it is an operation's name,
and no shell and no option parser sees more in it than a name. A parent may have a ``$`` or a ``(``:
its operations have to be typed, and quoted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING

import typer

from lro_grpc._cli.connected_server import connected
from lro_grpc._cli.connection import ConnectionOptions
from lro_grpc._errors import InvalidNameError, LroError
from lro_grpc._operation import names
from lro_grpc._operation.names import COLLECTION

if TYPE_CHECKING:
    from google.longrunning import operations_pb2

_TIMEOUT = timedelta(seconds=1)
_MOST = 500
"""The most operations of one parent that are read."""
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._~%+:@/-]*")
"""A text in which no shell sees more than a word."""
_ANYWHERE = ["projects", "-", "locations", "-"]


def operations(context: typer.Context, incomplete: str) -> list[str]:
    """Returns the names of operations that begin with the text."""
    return [one.name for one in _found(context, incomplete)]


def unfinished(context: typer.Context, incomplete: str) -> list[str]:
    """Returns the names of operations that begin with the text and are not done."""
    return [one.name for one in _found(context, incomplete) if not one.done]


def parents(context: typer.Context, incomplete: str) -> list[str]:
    """Returns the parents of operations whose names begin with the text."""
    found = {names.split(one.name)[0] for one in _found(context, incomplete)}
    return sorted(parent or COLLECTION for parent in found)


def _found(context: typer.Context, incomplete: str) -> Iterator[operations_pb2.Operation]:
    """Yields the operations that may be meant and proposed.

    There are none if the server does not answer in time.
    """
    options = [field.name for field in dataclasses.fields(ConnectionOptions)]
    given = {name: value for name in options if (value := context.params.get(name))}
    try:
        connection = ConnectionOptions(**{"metadata": [], **given})
    except typer.BadParameter:  # the command line is not right yet
        return
    with connected(connection) as server:
        for parent in _parents(incomplete):
            listed = server.client.list(parent, page_size=_MOST, timeout=_TIMEOUT)
            with contextlib.suppress(LroError):
                yield from (one for one in islice(listed, _MOST) if _is_plain(one.name))


def _is_plain(name: str) -> bool:
    """Tells whether a server's text is an operation's name, and a plain word to every shell."""
    try:
        names.split(name)
    except InvalidNameError:
        return False
    return _PLAIN.fullmatch(name) is not None


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
