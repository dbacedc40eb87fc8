"""Copies all that one store has into another one, of the same kind or of another.

A copy is no client of the two stores. It reads rows in the order of their sequence numbers, and
writes them as they are: under these numbers, and with the secret that signs page tokens, so that a
token of the one is good for the other; with what is deleted and has still to end; and with leases,
which a server takes over from as after a crash. No event is applied, and no listener hears of it.

**All or nothing.** All is written in one transaction. Whatever ends a copy before its end, a
``kill -9`` too, leaves the destination without operations: the copy is made again, from the
beginning, and no server ever serves half of one.

**Nobody else has the stores meanwhile.** The source stands still from the first row to the last
one; and the destination is new, for callers rely on what a server has once started in it.

**Memory is bounded**, however much there is, for rows come in portions (``transfer``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple

from lro_grpc._errors import ConfigurationError
from lro_grpc._stores.open_url import is_postgres, postgres_module, sqlite_path, unknown_store
from lro_grpc._stores.sqlite import transfer as sqlite
from lro_grpc._stores.transfer import Export, Import, damage


class CopyProgress(NamedTuple):
    """The progress of a copy."""

    source: str
    """The stores, as they may be shown."""
    destination: str
    rows: int
    """The number of all rows in the source."""
    operations: int = 0
    """The operations that were copied so far."""
    left_out: int = 0
    """The damaged ones that were not."""
    damages: Sequence[str] = ()
    """A sentence on each of those that the last portion had."""
    attempts_left_out: int = 0
    """The damaged attempts, of operations that were copied, that were not."""
    lost: Sequence[str] = ()
    """A sentence on each of those that the last portion had."""


async def copy(source_url: str, destination_url: str) -> AsyncGenerator[CopyProgress, None]:
    """Copies one store into another one, and yields how far it is after each portion.

    The copy is complete when the iterator has ended. One that is closed before leaves nothing.

    Args:
        source_url: The URL of a store that no server has open.
        destination_url: The URL of a store that has no operations, or that is not there yet.

    Raises:
        ConfigurationError: If one of the two is not what it has to be.
        UnavailableError: If one of them fails.
        OSError: If a file cannot be made.
    """
    export = _exporting(source_url)
    async with export as source, _importing(destination_url, source) as destination:
        progress = CopyProgress(source.place, destination.place, source.rows)
        yield progress
        async for portion in source.portions():
            stored = await destination.put(portion.records)
            rivals = (one for one in portion.records if one.sequence not in stored)
            damages = [
                *portion.damaged,
                *(damage(one.record.name, "another has what is its own alone") for one in rivals),
            ]
            progress = progress._replace(
                operations=progress.operations + len(stored),
                left_out=progress.left_out + len(damages),
                damages=damages,
                attempts_left_out=progress.attempts_left_out + len(portion.lost),
                lost=portion.lost,
            )
            yield progress
            # Between two files nothing else waits, and Ctrl-C must find a place to end it.
            await asyncio.sleep(0)
        async for completions in source.completions():
            await destination.put_completions(completions)
            await asyncio.sleep(0)


def _exporting(url: str) -> AbstractAsyncContextManager[Export]:
    path = _checked_path(url)
    if path:
        return sqlite.exporting(Path(path))
    exporting: AbstractAsyncContextManager[Export]
    exporting = postgres_module("transfer", url).exporting(url)
    return exporting


def _importing(url: str, source: Export) -> AbstractAsyncContextManager[Import]:
    path = _checked_path(url)
    if path:
        return sqlite.importing(Path(path), source)
    importing: AbstractAsyncContextManager[Import]
    importing = postgres_module("transfer", url).importing(url, source)
    return importing


def _checked_path(url: str) -> str:
    """Returns the path of a URL's file; empty if it names a Postgres database."""
    if url == "memory:":
        raise ConfigurationError(
            "memory: is a store that ends with its process; give a file or a database"
        )
    path = sqlite_path(url)
    if not (path or is_postgres(url)):
        raise unknown_store(url)
    return path
