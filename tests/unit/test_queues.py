"""The places of a method's queue, while starts are on their way."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import empty_pb2

from lro_grpc import LimitReachedError
from lro_grpc._operation import publication
from lro_grpc._operation.events import Claim
from lro_grpc._server.limits import Limits, Queues
from lro_grpc.engines import Handler
from lro_grpc.stores import MemoryStore
from lro_grpc.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from lro_grpc.stores import Listener, Record

METHOD = "/test.v1.Tests/Run"


def record(operation_id: str, *, fingerprint: bytes = b"", caller: str = "") -> Record:
    return publication.create(
        parent="",
        operation_id=operation_id,
        method=METHOD,
        request=b"",
        metadata_type="lro.v1.OperationMetadata",
        now=ManualClock().now(),
        fingerprint=fingerprint,
        caller=caller,
    )


class Announcing(MemoryStore):
    """A store that announces its changes while a test lets it."""

    announces = True

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        def pass_on(before: Record | None, after: Record) -> None:
            if self.announces:
                listener(before, after)

        return super().subscribe(pass_on)


def on_a_store(limit: int) -> Callable[[Callable[..., Coroutine[Any, Any, None]]], None]:
    """Runs a test at once, on the queues of a store."""

    def run(test: Callable[..., Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            clock = ManualClock()
            store = Announcing(clock.now)
            queues = Queues(store, clock, Limits(queue=limit))
            empty = empty_pb2.Empty
            await queues.load(Handler(METHOD, print, empty, empty, empty, "test.example", None))
            await test(store, queues)

        asyncio.run(main())

    return run


def refuses(queues: Queues, start: Record) -> bool:
    try:
        with queues.entry(start):
            return False
    except LimitReachedError:
        return True


def test_of_two_equal_starts_the_place_is_theirs_until_both_have_ended() -> None:
    @on_a_store(limit=1)
    async def _(store: MemoryStore, queues: Queues) -> None:
        first, again = (record(one, fingerprint=b"the same") for one in ("op-1", "op-2"))
        with contextlib.ExitStack() as starts:
            starts.enter_context(queues.entry(first))
            with queues.entry(again):
                assert refuses(queues, record("op-3"))
            assert refuses(queues, record("op-3"))
        assert not refuses(queues, record("op-3"))


@pytest.mark.parametrize("fingerprint", [b"", b"a request"])
def test_a_start_that_is_stored_and_not_answered_yet_has_one_place(fingerprint: bytes) -> None:
    @on_a_store(limit=2)
    async def _(store: MemoryStore, queues: Queues) -> None:
        with queues.entry(start := record("op-1", fingerprint=fingerprint)):
            await store.create(start)
            assert not refuses(queues, record("op-2"))
            await store.create(record("op-2"))
            assert refuses(queues, record("op-3"))
        assert refuses(queues, record("op-3"))
        await store.apply(start.name, Claim(1))
        assert not refuses(queues, record("op-3"))


class Shared(Announcing):
    """A store whose changes were made by others."""

    exclusive = False
    announces = False


async def _pass(clock: ManualClock, seconds: float) -> None:
    for _ in range(5):
        await asyncio.sleep(0)
    clock.advance(timedelta(seconds=seconds))
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize(("kind", "seconds"), [(Shared, 1), (Announcing, 60)])
def test_what_was_not_announced_is_counted_in_time(kind: type[Announcing], seconds: float) -> None:
    """What others have started; or what was stored though the store could not say so."""

    async def main() -> None:
        clock = ManualClock()
        store = kind(clock.now)
        queues = Queues(store, clock, Limits(queue=2, per_caller=0.5), has_callers=True)
        empty = empty_pb2.Empty
        await queues.load(Handler(METHOD, print, empty, empty, empty, "test.example", None))
        queues.start()
        store.announces = False
        other = await store.create(record("op-1", caller="ann"))
        with queues.entry(record("op-2", caller="bob")):
            assert not refuses(queues, record("op-3", caller="ann"))
            await _pass(clock, seconds)
            assert refuses(queues, record("op-3", caller="ann"))
            assert refuses(queues, record("op-4", caller="cho"))
        assert not refuses(queues, record("op-4", caller="cho"))
        await store.apply(other.name, Claim(1))
        await _pass(clock, seconds)
        assert not refuses(queues, record("op-3", caller="ann"))
        await queues.stop()

    asyncio.run(main())


class Overtaken(MemoryStore):
    """A store of which others are told, too: something is started while it counts."""

    exclusive = False
    late: tuple[Record, ...] = ()

    async def waiting(self, method: str, most: int, *, delayed: bool = False) -> Mapping[str, int]:
        counted = await super().waiting(method, most, delayed=delayed)
        late, self.late = self.late, ()
        for one in late:
            await self.create(one)
        return counted


def test_what_is_started_while_it_is_counted_is_not_forgotten() -> None:
    async def main() -> None:
        clock = ManualClock()
        store = Overtaken(clock.now)
        queues = Queues(store, clock, Limits(queue=1))
        empty = empty_pb2.Empty
        await queues.load(Handler(METHOD, print, empty, empty, empty, "test.example", None))
        queues.start()
        assert not refuses(queues, record("op-1"))
        store.late = (record("op-1"),)
        await _pass(clock, 1)
        assert refuses(queues, record("op-2"))
        await queues.stop()

    asyncio.run(main())


def test_a_claim_of_what_was_not_counted_takes_no_place_away() -> None:
    @on_a_store(limit=1)
    async def _(store: Announcing, queues: Queues) -> None:
        store.announces = False
        missed = await store.create(record("op-1"))
        store.announces = True
        with queues.entry(record("op-2")):
            await store.apply(missed.name, Claim(1))
            assert refuses(queues, record("op-3"))
        assert not refuses(queues, record("op-3"))
