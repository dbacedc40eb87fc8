"""Imports a file of operations of another server into a store; see ``operation_lines``."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from lro_grpc._cli.operation_lines import LineError, lines_of, parse
from lro_grpc._errors import LroError
from lro_grpc._operation.old_operation import OldOperation
from lro_grpc._operation.size import OPERATION_BYTES
from lro_grpc._runtime.clock import SystemClock, micros
from lro_grpc._stores.importer import Group, Imported, Importer, Unfinished
from lro_grpc._stores.open_url import is_postgres, open_url, postgres_module, sqlite_path
from lro_grpc._stores.sqlite import upkeep
from lro_grpc._stores.store import Store


async def import_file(
    file: BinaryIO,
    url: str,
    unfinished: str,
    retention: timedelta,
    tell: Callable[[str], object],
    *,
    is_dry: bool,
) -> tuple[Imported, int]:
    """Imports the operations of a file, and returns their numbers, and that of refused lines.

    Args:
        file: The file.
        url: The URL of the store, which is made if it is not there.
        unfinished: What becomes of operations that are not done.
        retention: The time that they are kept from now on.
        tell: Is called with a sentence on each line that is refused.
        is_dry: Whether nothing is stored. They go to a store of this call's own then, so that what
            is twice in the file is found, too. A store that is there is opened, to look at what it
            has, but for one whose tables would be changed by that: it is refused.
    """
    now = SystemClock().now
    async with contextlib.AsyncExitStack() as opened:

        async def open_store(url: str) -> Store:
            store = open_url(url, now)
            await store.open()
            opened.push_async_callback(store.close)
            return store

        beside = None
        if is_dry:
            if await _is_ready(url):
                beside = await open_store(url)
            folder = opened.enter_context(tempfile.TemporaryDirectory())
            url = f"sqlite:///{folder}/dry-run.db"
        importer = Importer(
            await open_store(url),
            retention=micros(retention),
            operation_bytes=OPERATION_BYTES,
            unfinished=Unfinished(unfinished),
            beside=beside,
        )
        imported, refused = Imported(), 0
        for group in _groups_of(file):
            olds = [old for _, old in group if isinstance(old, OldOperation)]
            outcomes = iter(await importer.put(olds))
            for number, old in group:
                outcome = next(outcomes) if isinstance(old, OldOperation) else old
                if isinstance(outcome, Imported):
                    imported = imported.plus(outcome)
                else:
                    refused += 1
                    why = outcome.message if isinstance(outcome, LroError) else outcome
                    tell(f"line {number}: {why}")
        return imported, refused


async def _is_ready(url: str) -> bool:
    """Returns whether a store is there; it can be opened then with no change to its tables."""
    if is_postgres(url):
        options = postgres_module("options", url).parse(url)
        schema = postgres_module("schema", url)
        return await schema.is_prepared(options) and bool(await schema.schema_as_it_is(options))
    path = sqlite_path(url)
    return bool(path) and upkeep.is_ready(Path(path))


def _groups_of(file: BinaryIO) -> Iterator[Sequence[tuple[int, OldOperation | LineError]]]:
    """Yields lines, some at a time: the number of each, and its operation, or why it has none."""
    group = Group[tuple[int, OldOperation | LineError]]()
    for line in lines_of(file):
        old: OldOperation | LineError
        try:
            old = parse(line)
        except LineError as error:
            old = error
        if group.add((line.number, old), len(line.text)):
            yield group
            group = Group()
    yield group
