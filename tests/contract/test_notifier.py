"""A call that waits for an operation is woken when that changes."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from lro_grpc._operation import publication
from lro_grpc._operation.events import Cancel, Claim, Delete
from lro_grpc.stores import ForwardingStore, MemoryStore, Notifier
from lro_grpc.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from lro_grpc.stores import Listener

HANGS = 5.0
"""Seconds after which a call that should be woken at once is given up."""

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


async def cancelled(store: MemoryStore, notifier: Notifier) -> None:
    await store.apply(NAME, Cancel())  # its attempt has not begun: it is done


async def deleted(store: MemoryStore, notifier: Notifier) -> None:
    await store.apply(NAME, Delete())


async def drained(store: MemoryStore, notifier: Notifier) -> None:
    notifier.drain()


@pytest.mark.parametrize("end", [cancelled, deleted, drained])
async def test_an_end_is_held_back_from_no_call(
    end: Callable[[MemoryStore, Notifier], Coroutine[object, object, None]],
) -> None:
    """Whether it comes before they wait, or while they do."""
    store = await stored()
    notifier = Notifier(store)
    with notifier.watch(NAME) as early, notifier.watch(NAME) as late:
        waiting = asyncio.create_task(early.wait(HOUR, pause=HOUR))
        await asyncio.sleep(0)
        await end(store, notifier)
        await asyncio.wait_for(late.wait(HOUR, pause=HOUR), HANGS)
        await asyncio.wait_for(waiting, HANGS)


async def test_progress_wakes_no_call_that_waits_for_an_end() -> None:
    store = await stored()
    notifier = Notifier(store)
    with notifier.watch(NAME, ends_only=True) as of_ends, notifier.watch(NAME) as of_changes:
        waiting = asyncio.create_task(of_ends.wait(HOUR))
        await asyncio.sleep(0)
        await store.apply(NAME, Claim(lease=1))
        await asyncio.wait_for(of_changes.wait(HOUR), HANGS)
        assert not waiting.done()
        await store.apply(NAME, Delete())
        await asyncio.wait_for(waiting, HANGS)


async def test_it_listens_to_the_store_while_something_is_watched() -> None:
    store = Counting()
    notifier = Notifier(store)
    assert store.listeners == 0
    with notifier.watch(NAME), notifier.watch("operations/op-2"):
        assert store.listeners == 1
    assert store.listeners == 0
    with notifier.watch(NAME):
        assert store.listeners == 1


class Counting(ForwardingStore):
    """A store that counts its listeners."""

    def __init__(self) -> None:
        super().__init__(MemoryStore(ManualClock().now))
        self.listeners = 0

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        unsubscribe = super().subscribe(listener)
        self.listeners += 1

        def end() -> None:
            unsubscribe()
            self.listeners -= 1

        return end


async def test_a_drain_stays_urgent_whatever_comes_after_it() -> None:
    store = await stored()
    notifier = Notifier(store)
    with notifier.watch(NAME) as subscription:
        notifier.drain()
        await store.apply(NAME, Claim(lease=1))
        await asyncio.wait_for(subscription.wait(HOUR, pause=HOUR), HANGS)


def test_a_call_reads_every_ten_seconds_without_a_notice() -> None:
    """R9: a notice may be lost. The time of the loop is the test's, which asyncio's loop takes."""
    skipped = [0.0]

    class Loop(asyncio.SelectorEventLoop):
        def time(self) -> float:
            return super().time() + sum(skipped)

    async def check() -> None:
        with Notifier(await stored()).watch(NAME) as subscription:
            waiting = asyncio.create_task(subscription.wait(HOUR))
            for seconds, is_over in ((0.0, False), (9.0, False), (1.0, True)):
                skipped.append(seconds)
                for _ in range(5):
                    await asyncio.sleep(0)
                assert waiting.done() is is_over

    with contextlib.closing(Loop()) as loop:
        loop.run_until_complete(check())
