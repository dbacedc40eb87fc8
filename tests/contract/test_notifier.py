"""Who waits for an operation is woken when it changes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from lro_grpc._operation import publication
from lro_grpc._operation.events import Cancel, Delete
from lro_grpc.stores import MemoryStore, Notifier
from lro_grpc.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

HANGS = 5.0
"""Seconds after which a watcher that should be woken at once is given up."""

HOUR = 3600.0
NAME = "operations/op-1"


async def stored() -> MemoryStore:
    clock = ManualClock()
    store = MemoryStore(clock.now)
    await store.create(
        publication.create(
            parent="",
            operation_id="op-1",
            method="/test.v1.Tests/Run",
            request=b"",
            metadata_type="lro.v1.OperationMetadata",
            now=clock.now(),
        )
    )
    return store


async def cancelled(store: MemoryStore, changes: Notifier) -> None:
    await store.apply(NAME, Cancel())  # its attempt has not begun: it is done


async def deleted(store: MemoryStore, changes: Notifier) -> None:
    await store.apply(NAME, Delete())


async def drained(store: MemoryStore, changes: Notifier) -> None:
    changes.drain()


@pytest.mark.parametrize("end", [cancelled, deleted, drained])
async def test_an_end_is_kept_back_from_nobody(
    end: Callable[[MemoryStore, Notifier], Coroutine[object, object, None]],
) -> None:
    """Whether it comes before they wait, or while they do."""
    store = await stored()
    changes = Notifier(store)
    with changes.watch(NAME) as early, changes.watch(NAME) as late:
        waiting = asyncio.create_task(early.wait(HOUR, pause=HOUR))
        await asyncio.sleep(0)
        await end(store, changes)
        await asyncio.wait_for(late.wait(HOUR, pause=HOUR), HANGS)
        await asyncio.wait_for(waiting, HANGS)
