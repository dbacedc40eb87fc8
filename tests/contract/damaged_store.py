"""Stores of three operations, one of which is damaged behind the store's back."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
from google.protobuf import wrappers_pb2

from lro_grpc._operation import publication
from lro_grpc._runtime.clock import SystemClock
from lro_grpc.stores import open_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from lro_grpc.stores import Record, Store

METHOD = "/contract.v1.Contract/Run"
PARENT = "projects/p/locations/l"
LEASE = 15_000_000
BAD = f"{PARENT}/operations/op-1"
GOOD = [f"{PARENT}/operations/op-{number}" for number in (0, 2)]


def new(name: str, **how: Any) -> Record:
    return publication.create(
        parent=PARENT,
        operation_id=name,
        method=METHOD,
        request=wrappers_pb2.StringValue(value=name).SerializeToString(),
        metadata_type="lro.v1.OperationMetadata",
        now=SystemClock().now(),
        **how,
    )


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    """Opens a store, and closes it at the end."""
    store = open_url(url, SystemClock().now)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def three(url: str, **how: Any) -> None:
    async with opened(url) as store:
        for number in range(3):
            await store.create(new(f"op-{number}", request_id=f"r{number}", **how))


async def damage(url: str, assignment: str, *names: str) -> None:
    """Changes rows as a disk may, behind the back of every index and of every check."""
    table = "operations" if url.startswith("sqlite") else table_of(url)
    await _update(url, f"UPDATE {table} SET {assignment} WHERE name", *names)


async def damage_attempts(url: str, assignment: str, *names: str) -> None:
    """Does the same with the superseded attempts of operations."""
    is_file = url.startswith("sqlite")
    table = "operations" if is_file else table_of(url)
    attempts = "attempts" if is_file else table.replace("operations", "attempts")
    of_names = f"operation IN (SELECT sequence FROM {table} WHERE name"
    await _update(url, f"UPDATE {attempts} SET {assignment} WHERE {of_names}", *names, end=")")


async def _update(url: str, statement: str, *names: str, end: str = "") -> None:
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(path_of(url))) as connection, connection:
            for name in names:
                connection.execute(f"{statement} = ?{end}", (name,))
        return
    database = await asyncpg.connect(urlsplit(url)._replace(query="").geturl())
    try:
        await database.execute(f"{statement} = ANY($1){end}", names)
    finally:
        await database.close()


def path_of(url: str) -> str:
    """Returns the path of a SQLite file."""
    return url.removeprefix("sqlite:///")


def table_of(url: str) -> str:
    """Returns the table of operations in a Postgres database."""
    return f"{urlsplit(url).query.rpartition('schema=')[2]}.lro_operations"


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR]
