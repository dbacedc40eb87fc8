"""The names that a command is given, on its command line or on stdin."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator

from lro_grpc._cli.connected_server import ConnectedServer
from lro_grpc._cli.exit_codes import Exit, print_error
from lro_grpc._errors import LroError

STDIN = "-"
"""Stands for the names on stdin, one a line."""


def for_each(server: ConnectedServer, given: Iterable[str], one: Callable[[str], Exit]) -> Exit:
    """Deals with every name, whatever comes of the others; returns the highest exit code.

    Args:
        server: The server.
        given: The names; ``-`` stands for those on stdin, one a line, which are dealt with as they
            come.
        one: Deals with one.
    """
    return for_each_found(server, _names(given), one)


def for_each_found(
    server: ConnectedServer, names: Iterable[str], one: Callable[[str], Exit]
) -> Exit:
    """Does the same with names that a server has given: none of them stands for others."""
    code = Exit.SUCCEEDED
    for name in names:
        try:
            ended = one(name)
        except LroError as error:
            ended = print_error(error, server)
        code = max(code, ended)
    return code


def _names(given: Iterable[str]) -> Iterator[str]:
    for name in given:
        if name != STDIN:
            yield name
            continue
        for line in sys.stdin.buffer if sys.stdin else ():  # it may be closed
            # Each may be the first of a file of Windows, which has a mark in front of it.
            if found := line.decode("utf-8-sig", errors="replace").strip():
                yield found
            if not line.endswith(b"\n"):
                break  # the end has come; of a terminal, the next read would wait for another
