"""Several futures at once, and the futures of the standard library."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from fake_operations import GET, WAIT, FakeOperations, FakeServer, operation
from google.protobuf.timestamp_pb2 import Timestamp

import lro_grpc
from lro_grpc._client import plan
from lro_grpc._client.async_operations import AsyncOperationsClient
from lro_grpc._client.operations import OperationsClient
from lro_grpc._errors import LroError, OperationFailedError, OperationTimeoutError
from lro_grpc._runtime.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from sides import Side

RESPONSE = Timestamp(seconds=7)
LONG, SHORT = timedelta(seconds=20), timedelta(seconds=0.2)
NAMES = [f"operations/{number}" for number in range(4)]


def wait(side: Side, futures: Any, **how: Any) -> Any:
    if not side.is_async:
        return lro_grpc.wait(futures, **how)
    return side.run(lro_grpc.async_wait(futures, **how))


def as_completed(side: Side, futures: Any, **how: Any) -> Any:
    return (lro_grpc.async_as_completed if side.is_async else lro_grpc.as_completed)(futures, **how)


@pytest.fixture
def futures(side: Side, fake: FakeOperations) -> list[Any]:
    for name in NAMES:
        fake.put(operation(name))
    client = side.client()
    return [client.attach(name) for name in NAMES]


def finish(fake: FakeOperations, *numbers: int, error: int | None = None) -> None:
    for number in numbers:
        one = operation(NAMES[number], response=None if error else RESPONSE, error=error)
        fake.put(one)


def finish_when_all_wait(fake: FakeOperations, number: int) -> None:
    def act() -> None:
        for _ in NAMES:
            fake.arrived[WAIT].acquire(timeout=10)
        finish(fake, number)

    threading.Thread(target=act).start()


def test_a_wait_for_all(side: Side, fake: FakeOperations, futures: list[Any]) -> None:
    finish(fake, 0, 1, 2)
    finish(fake, 3, error=5)
    assert wait(side, futures, timeout=LONG) == (set(futures), set())
    assert wait(side, futures, timeout=LONG, return_when=ALL_COMPLETED) == (set(futures), set())
    assert fake.calls == [WAIT] * 4


def test_a_wait_for_the_first(side: Side, fake: FakeOperations, futures: list[Any]) -> None:
    finish_when_all_wait(fake, 2)
    found = wait(side, futures, timeout=LONG, return_when=FIRST_COMPLETED)
    assert found == ({futures[2]}, set(futures) - {futures[2]})
    for _ in range(4):  # no call goes on for the rest
        side.until_gone(fake, WAIT)


def test_a_wait_for_the_first_error(side: Side, fake: FakeOperations, futures: list[Any]) -> None:
    finish(fake, 1, error=5)
    done, not_done = wait(side, futures, timeout=LONG, return_when=FIRST_EXCEPTION)
    assert (done, not_done) == ({futures[1]}, set(futures) - {futures[1]})
    with pytest.raises(OperationFailedError):
        side.run(futures[1].result())


def test_a_wait_has_its_time(side: Side, fake: FakeOperations, futures: list[Any]) -> None:
    finish(fake, 0)
    assert wait(side, futures, timeout=SHORT) == ({futures[0]}, set(futures[1:]))
    for timeout in (timedelta(0), timedelta(seconds=-1), 0, -1, 0.01):
        done, not_done = wait(side, futures[1:], timeout=timeout)
        assert (done, not_done) == (set(), set(futures[1:]))


@pytest.fixture
def last_polled(side: Side, fake: FakeOperations, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Futures that are polled once, not done, and not again before their time is over."""
    monkeypatch.setattr(plan, "_LAST_POLL_TIME", 10.0)  # a busy machine needs more than it has
    polled: set[str] = set()

    def answer(request: Any, context: Any) -> Any:
        is_first = request.name not in polled
        polled.add(request.name)
        return operation(request.name) if is_first else fake.operations[request.name]

    fake.always(WAIT, grpc.StatusCode.UNIMPLEMENTED)
    fake.always(GET, answer)
    client = side.client(backoff=Backoff(initial=60, maximum=60), random=lambda: 1.0)
    return [client.attach(name) for name in NAMES]


def test_a_wait_ends_with_last_polls(
    side: Side, fake: FakeOperations, last_polled: list[Any]
) -> None:
    finish(fake, 0, 2)
    finish(fake, 3, error=5)
    fake.put(operation(NAMES[1]))
    done, not_done = wait(side, last_polled, timeout=SHORT)
    assert (done, not_done) == (set(last_polled) - {last_polled[1]}, {last_polled[1]})
    assert fake.count(GET) == 2 * len(NAMES)


@pytest.mark.parametrize("return_when", [FIRST_COMPLETED, FIRST_EXCEPTION])
def test_a_wait_for_the_first_ends_with_all_last_polls(
    side: Side, fake: FakeOperations, last_polled: list[Any], return_when: str
) -> None:
    for name in NAMES[:3]:
        fake.put(operation(name))
    finish(fake, 3)
    done, not_done = wait(side, last_polled, timeout=SHORT, return_when=return_when)
    assert (done, not_done) == ({last_polled[3]}, set(last_polled[:3]))


def test_they_are_completed_by_their_last_polls(
    side: Side, fake: FakeOperations, last_polled: list[Any]
) -> None:
    finish(fake, 0, 1, 2, 3)
    coming = side.items(as_completed(side, last_polled, timeout=SHORT))
    assert set(coming) == set(last_polled)
    assert len(coming) == len(NAMES)


def test_last_polls_do_not_find_all_completed(
    side: Side, fake: FakeOperations, last_polled: list[Any]
) -> None:
    finish(fake, 0, 1)
    fake.put(operation(NAMES[2]))
    fake.put(operation(NAMES[3]))
    coming = as_completed(side, last_polled, timeout=SHORT)
    assert {side.next(coming), side.next(coming)} == set(last_polled[:2])
    with pytest.raises(TimeoutError, match=r"2 \(of 4\) futures unfinished in 0:00:00\.2"):
        side.next(coming)


def test_no_time_is_one_get_each(side: Side, fake: FakeOperations, futures: list[Any]) -> None:
    finish(fake, 0, 3)
    assert wait(side, futures, timeout=0) == ({futures[0], futures[3]}, set(futures[1:3]))
    assert fake.calls == [GET] * 4
    with pytest.raises(TimeoutError, match=r"2 \(of 4\) futures unfinished"):
        side.items(as_completed(side, futures, timeout=-1))


def test_last_polls_have_an_end(side: Side, fake: FakeOperations, futures: list[Any]) -> None:
    fake.always(WAIT, grpc.StatusCode.UNIMPLEMENTED)
    fake.always(GET, fake.hang)
    assert wait(side, futures, timeout=SHORT) == (set(), set(futures))
    with pytest.raises(TimeoutError, match=r"4 \(of 4\) futures unfinished"):
        side.items(as_completed(side, futures, timeout=SHORT))
    for _ in range(fake.count(GET)):
        side.until_gone(fake, GET)


def test_the_longest_time_there_is(side: Side, fake: FakeOperations, futures: list[Any]) -> None:
    finish(fake, 0, 1, 2, 3)
    for longest in (timedelta.max, 1e300, 10):
        assert wait(side, futures, timeout=longest) == (set(futures), set())
    assert set(side.items(as_completed(side, futures, timeout=timedelta.max))) == set(futures)


def test_a_call_that_fails_for_good_is_over_too(side: Side, fake: FakeOperations) -> None:
    future = side.client().attach("operations/unknown")
    assert wait(side, [future], timeout=LONG) == ({future}, set())
    with pytest.raises(LroError):
        side.run(future.result(LONG))


def test_twice_the_same_future_is_once(
    side: Side, fake: FakeOperations, futures: list[Any]
) -> None:
    finish(fake, 0, 1, 2, 3)
    assert wait(side, futures * 2, timeout=LONG) == (set(futures), set())
    assert len(side.items(as_completed(side, futures * 2, timeout=LONG))) == len(futures)


def test_none_at_all(side: Side) -> None:
    assert wait(side, []) == (set(), set())
    assert wait(side, iter([]), return_when=FIRST_COMPLETED) == (set(), set())
    assert side.items(as_completed(side, [])) == []


def test_a_return_when_that_does_not_exist(side: Side, futures: list[Any]) -> None:
    with pytest.raises(ValueError, match="return"):
        wait(side, futures, return_when="SOMETIMES")


def test_they_come_as_they_are_completed(
    side: Side, fake: FakeOperations, futures: list[Any]
) -> None:
    coming = as_completed(side, iter(futures), timeout=LONG)
    for number in (2, 0, 3, 1):
        finish(fake, number)
        assert side.next(coming) is futures[number]
    assert side.items(coming) == []
    assert fake.calls == [WAIT] * 4


def test_they_do_not_all_come_in_time(side: Side, fake: FakeOperations, futures: list[Any]) -> None:
    finish(fake, 1)
    for timeout in (SHORT, 0.2):
        coming = as_completed(side, futures, timeout=timeout)
        assert side.next(coming) is futures[1]
        with pytest.raises(TimeoutError, match=r"3 \(of 4\) futures unfinished in 0:00:00\.2"):
            side.next(coming)


@pytest.mark.parametrize("timeout", ["10", True, float("nan"), float("inf")])
def test_a_timeout_is_a_duration(
    side: Side, fake: FakeOperations, futures: list[Any], timeout: Any
) -> None:
    with pytest.raises((TypeError, ValueError), match=f"timeout is {timeout!r}; give"):
        wait(side, futures, timeout=timeout)
    with pytest.raises((TypeError, ValueError), match=f"timeout is {timeout!r}; give"):
        side.items(as_completed(side, futures, timeout=timeout))
    side.run(futures[0].done())
    assert fake.calls == [GET]  # no wait has begun


def test_who_has_seen_enough_leaves_no_call_behind(
    side: Side, fake: FakeOperations, futures: list[Any]
) -> None:
    finish_when_all_wait(fake, 1)
    coming = as_completed(side, futures)
    side.next(coming)
    side.end(coming)
    for _ in range(4):
        side.until_gone(fake, WAIT)


def test_standard_futures_may_be_among_them(
    side: Side, fake: FakeOperations, futures: list[Any]
) -> None:
    async def standard() -> Any:
        return asyncio.get_running_loop().create_future()

    other = side.run(standard()) if side.is_async else concurrent.futures.Future()
    everything = [other, *futures]
    finish(fake, 0, 1, 2, 3)
    found = wait(side, everything, timeout=SHORT)
    assert found == (set(futures), {other})
    assert not other.done()
    other.set_result(1)
    assert set(side.items(as_completed(side, everything, timeout=LONG))) == set(everything)


def test_a_standard_future_may_end_with_a_time_of_its_own(
    side: Side, fake: FakeOperations, futures: list[Any]
) -> None:
    async def too_long() -> Any:
        await futures[0].result(0)

    ended: Any = concurrent.futures.Future()
    ended.set_exception(OperationTimeoutError("late", operation=operation(), elapsed=SHORT))
    other = too_long() if side.is_async else ended
    assert wait(side, [other, *futures], timeout=SHORT) == ({other}, set(futures))


# --- what the standard library makes of them ---


def with_clients(server: FakeServer, main: Callable[[AsyncOperationsClient], Any]) -> None:
    async def run() -> None:
        async with grpc.aio.insecure_channel(server.target) as channel:
            await main(AsyncOperationsClient(channel))

    asyncio.run(run())


def test_gather_wait_for_and_ensure_future_take_an_async_future(server: FakeServer) -> None:
    for name in NAMES:
        server.fake.put(operation(name, response=RESPONSE))
    server.fake.put(operation("operations/never"))

    async def main(client: AsyncOperationsClient) -> None:
        futures = [client.attach(name) for name in NAMES]
        assert await asyncio.gather(*futures) == [RESPONSE] * 4
        assert await asyncio.wait_for(client.attach(NAMES[0]), 10) == RESPONSE
        assert await asyncio.ensure_future(client.attach(NAMES[1])) == RESPONSE
        assert await asyncio.shield(client.attach(NAMES[2])) == RESPONSE
        assert [await one for one in asyncio.as_completed(futures)] == [RESPONSE] * 4
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.attach("operations/never"), 0.2)

    with_clients(server, main)


def test_a_task_of_an_async_future(server: FakeServer) -> None:
    server.fake.put(operation(NAMES[0], response=RESPONSE))
    server.fake.put(operation("operations/never"))

    async def main(client: AsyncOperationsClient) -> None:
        assert await client.attach(NAMES[0]).concurrent() == RESPONSE
        task = client.attach("operations/never").concurrent()
        await asyncio.to_thread(server.fake.arrived[WAIT].acquire)
        await asyncio.to_thread(server.fake.arrived[WAIT].acquire)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(2):
            assert await asyncio.to_thread(server.fake.gone[WAIT].acquire, True, 10)

    with_clients(server, main)
    assert server.fake.calls == [WAIT, WAIT]


def test_a_standard_future_of_a_future(server: FakeServer) -> None:
    server.fake.put(operation(NAMES[0]))
    with grpc.insecure_channel(server.target) as channel:
        client = OperationsClient(channel)
        one, other = (client.attach(NAMES[0]).concurrent() for _ in range(2))
        assert server.fake.arrived[WAIT].acquire(timeout=10)
        assert other.cancel()  # ends a wait, and neither the operation nor another wait
        server.fake.put(operation(NAMES[0], response=RESPONSE))
        assert concurrent.futures.wait([one], 10).done == {one}
        assert one.result() == RESPONSE
        failed = client.attach("operations/unknown").concurrent()
        assert isinstance(failed.exception(10), LroError)

        async def wrapped() -> Any:
            return await asyncio.wrap_future(client.attach(NAMES[0]).concurrent())

        assert asyncio.run(wrapped()) == RESPONSE


def test_a_call_ends_when_nobody_waits_for_it(server: FakeServer) -> None:
    server.fake.put(operation())
    with grpc.insecure_channel(server.target) as channel:
        waiting = OperationsClient(channel).attach("operations/1").concurrent()
        assert server.fake.arrived[WAIT].acquire(timeout=10)
        waiting.cancel()
        assert server.fake.gone[WAIT].acquire(timeout=10)


def test_a_callback_may_wait_for_another_future(server: FakeServer) -> None:
    for name in NAMES[:2]:
        server.fake.put(operation(name, response=RESPONSE))
    called, found = threading.Event(), []

    def callback(_: Any) -> None:
        found.append(client.attach(NAMES[1]).result(LONG))
        called.set()

    with grpc.insecure_channel(server.target) as channel:
        client = OperationsClient(channel)
        client.attach(NAMES[0]).add_done_callback(callback)
        assert called.wait(10)
    assert found == [RESPONSE]
