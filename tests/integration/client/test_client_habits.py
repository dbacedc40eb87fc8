"""What users expect of a future and a client by habit, and servers with habits of their own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import pickle
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from fake_operations import GET, LIST, WAIT, WATCH, FakeOperations, FakeServer, operation
from google.longrunning import operations_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from sides import QUICK

import lro_grpc
from lro.example.v1 import fleet_service_lro
from lro_grpc._runtime.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sides import Side

RESPONSE = Timestamp(seconds=7)
LONG = timedelta(seconds=20)
ASKED = "projects/fleet/locations/l/operations/1"
UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED


# A server that has several names for an operation


@pytest.mark.parametrize("alias", ["projects/123/locations/l/operations/1", "operations/1", ""])
@pytest.mark.parametrize("method", [WATCH, WAIT, GET])
def test_an_answer_under_another_name_with_the_same_id_is_followed(
    side: Side, fake: FakeOperations, method: str, alias: str
) -> None:
    fake.put(operation(ASKED))
    for one in (WATCH, WAIT, GET):
        fake.always(one, UNIMPLEMENTED)
    states = [operation(alias), operation(alias, response=RESPONSE)]
    if method != GET:
        states = [one for one in states if one.ByteSize()]  # what says nothing is not believed
    if method == WATCH:
        fake.always(WATCH, states)
    else:
        fake.script(method, *states)
    future = side.client(backoff=QUICK).attach(ASKED)
    if method == WATCH:
        assert side.items(future.updates(LONG))[-1].done
    assert side.run(future.result(LONG)) == RESPONSE
    assert future.name == ASKED
    assert {one.name for one in fake.requests} == {ASKED}


@pytest.mark.parametrize("other", ["projects/fleet/locations/l/operations/2", "operations/11", "x"])
def test_an_answer_with_another_id_is_about_another_operation(
    side: Side, fake: FakeOperations, other: str
) -> None:
    fake.always(WAIT, operation(other, response=RESPONSE))
    with pytest.raises(lro_grpc.LroError, match="operations/1'") as caught:
        side.run(side.client().attach(ASKED).result(LONG))
    assert caught.value.reason == "WRONG_OPERATION"
    assert caught.value.metadata == {"expected": ASKED, "actual": other}


# asyncio


def on_a_loop(server: FakeServer, use: Callable[[Any], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with grpc.aio.insecure_channel(server.target) as channel:
            return await use(lro_grpc.AsyncOperationsClient(channel, backoff=QUICK))

    return asyncio.run(main())


@pytest.mark.parametrize("return_when", [asyncio.ALL_COMPLETED, asyncio.FIRST_COMPLETED])
def test_asyncio_waits_for_futures(server: FakeServer, return_when: str) -> None:
    names = ["operations/1", "operations/2", "operations/3"]

    async def use(client: Any) -> None:
        server.fake.put(operation(names[0], response=RESPONSE))
        server.fake.put(operation(names[1], error=5))
        server.fake.put(operation(names[2], error=1))
        futures = {client.attach(name) for name in names}
        done, pending = await asyncio.wait(
            [asyncio.ensure_future(one) for one in futures], timeout=10, return_when=return_when
        )
        assert done
        await asyncio.gather(*done, *pending, return_exceptions=True)
        bare = {client.attach(name) for name in names}
        done, pending = await asyncio.wait(bare, timeout=10, return_when=return_when)
        assert done | pending == bare
        if return_when == asyncio.ALL_COMPLETED:
            assert not pending
        assert await asyncio.wait_for(client.attach(names[0]), 10) == RESPONSE
        gathered = await asyncio.gather(*bare, return_exceptions=True)
        assert sorted(type(one).__name__ for one in gathered) == [
            *("OperationCancelledError", "OperationFailedError", "Timestamp"),
        ]

    on_a_loop(server, use)


def test_asyncio_gives_up_on_a_future_that_goes_on(server: FakeServer) -> None:
    async def use(client: Any) -> None:
        server.fake.put(operation())
        future = client.attach("operations/1")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(future, 0.05)
        done, pending = await asyncio.wait({asyncio.ensure_future(future)}, timeout=0.05)
        assert (len(done), len(pending)) == (0, 1)
        pending.pop().cancel()
        called: list[Any] = []
        future.add_done_callback(called.append)
        future.add_done_callback(called.append)
        assert future.remove_done_callback(print) == 0
        assert future.remove_done_callback(called.append) == 2
        server.fake.put(operation(response=RESPONSE))
        assert await future == RESPONSE
        await asyncio.sleep(0)
        assert called == []

    on_a_loop(server, use)


def test_what_is_not_awaited_is_what_is_known(server: FakeServer) -> None:
    async def use(client: Any) -> None:
        server.fake.put(operation(error=1))
        future = client.attach("operations/1")
        assert not future.done()
        assert not future.cancelled()
        assert not server.fake.calls
        assert await future.done()
        assert future.done()
        assert future.cancelled()
        assert await asyncio.get_running_loop().create_task(future.cancelled())
        assert isinstance(
            await asyncio.gather(future.exception(), return_exceptions=True),
            list,
        )

    on_a_loop(server, use)


def test_a_callback_of_a_thread_can_be_removed(server: FakeServer) -> None:
    server.fake.put(operation())
    with grpc.insecure_channel(server.target) as channel:
        future = lro_grpc.OperationsClient(channel, backoff=QUICK).attach("operations/1")
        called: concurrent.futures.Future[Any] = concurrent.futures.Future()
        removed: list[Any] = []
        future.add_done_callback(removed.append)
        future.add_done_callback(called.set_result)
        assert future.remove_done_callback(removed.append) == 1
        assert future.remove_done_callback(removed.append) == 0
        server.fake.put(operation(response=RESPONSE))
        assert called.result(10) is future
    assert removed == []


# What cannot be, says so


@pytest.mark.parametrize("way", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_future_says_how_to_take_it_elsewhere(side: Side, way: Callable[[Any], Any]) -> None:
    future = side.client().attach("operations/1")
    with pytest.raises(TypeError, match=r"operations/1.*pickle its name.*attach\(name\)"):
        way(future)


@pytest.mark.parametrize(
    ("sync", "other"),
    [
        (lro_grpc.OperationsClient, lro_grpc.AsyncOperationsClient),
        (fleet_service_lro.FleetServiceClient, fleet_service_lro.AsyncFleetServiceClient),
    ],
)
def test_a_channel_of_the_other_kind_is_refused(side: Side, sync: Any, other: Any) -> None:
    async def open_it() -> Any:  # a channel of asyncio is made on a loop
        return side.channel

    channel = side.run(open_it()) if side.is_async else side.channel
    wrong, wanted = (sync, "grpc.Channel") if side.is_async else (other, "grpc.aio.Channel")
    there = "with Async before" if side.is_async else "without Async"
    with pytest.raises(TypeError, match=f"this client is for a {wanted}, .* {there}"):
        wrong(channel)


# Lists without an end


def test_a_list_whose_empty_pages_never_end_is_given_up(side: Side, fake: FakeOperations) -> None:
    fake.always(LIST, operations_pb2.ListOperationsResponse(next_page_token="again"))
    with pytest.raises(lro_grpc.LroError, match="1,000 pages without an operation") as caught:
        side.items(side.client().list("projects/p"))
    assert caught.value.reason == "ENDLESS_LIST"
    assert caught.value.metadata == {"parent": "projects/p", "page_token": "again"}
    assert fake.count(LIST) == 1000


def test_a_list_with_many_empty_pages_and_an_end_is_whole(side: Side, fake: FakeOperations) -> None:
    empty = operations_pb2.ListOperationsResponse(next_page_token="more")
    one = operations_pb2.ListOperationsResponse(next_page_token="more", operations=[operation()])
    fake.script(LIST, *[empty] * 900, one, *[empty] * 900)
    fake.always(LIST, operations_pb2.ListOperationsResponse(operations=[operation()]))
    assert len(side.items(side.client().list("projects/p"))) == 2


def opened(pager: Any) -> Any:
    return aiter(pager) if hasattr(pager, "__aiter__") else iter(pager)


class HandClock(SystemClock):
    """Goes on by hand."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_the_calls_of_a_list_have_a_time_together(side: Side, fake: FakeOperations) -> None:
    clock = HandClock()

    def page(request: Any, context: Any) -> operations_pb2.ListOperationsResponse:
        clock.now += 3
        token = f"{request.page_token}+"
        return operations_pb2.ListOperationsResponse(
            next_page_token=token, operations=[operation()]
        )

    fake.always(LIST, page)
    listed = opened(side.client(clock=clock).list("projects/p", timeout=8, total_timeout=10))
    for _ in range(4):
        assert side.next(listed) == operation()
        clock.now += 1000  # the caller's own time does not count
    with pytest.raises(lro_grpc.LroError, match=r"in 0:00:10;.* page_token") as caught:
        side.next(listed)
    assert (caught.value.code, caught.value.reason) == (
        lro_grpc.Code.DEADLINE_EXCEEDED,
        "LIST_TIMEOUT",
    )
    assert caught.value.metadata == {"parent": "projects/p", "page_token": "++++"}
    assert fake.count(LIST) == 4
    most = [8, 7, 4, 1]  # and on the wire a little more
    assert all(seen < limit + 0.5 for seen, limit in zip(fake.deadlines, most, strict=True))


def test_each_iteration_of_a_list_has_the_whole_time(side: Side, fake: FakeOperations) -> None:
    clock = HandClock()

    def page(request: Any, context: Any) -> operations_pb2.ListOperationsResponse:
        clock.now += 3
        return operations_pb2.ListOperationsResponse(operations=[operation()])

    fake.always(LIST, page)
    pager = side.client(clock=clock).list("projects/p", total_timeout=timedelta(seconds=4))
    for _ in range(3):
        assert side.items(pager) == [operation()]


def test_a_list_that_is_never_answered_says_where_to_go_on(
    side: Side, fake: FakeOperations
) -> None:
    fake.always(LIST, fake.hang)
    pager = side.client().list("projects/p", page_token="here", total_timeout=0.2)
    with pytest.raises(lro_grpc.LroError) as caught:
        side.items(pager.pages())
    assert caught.value.code is lro_grpc.Code.DEADLINE_EXCEEDED
    assert caught.value.metadata == {"parent": "projects/p", "page_token": "here"}
    assert isinstance(caught.value.__cause__, lro_grpc.LroError)


def test_the_deadline_of_one_call_is_an_error_of_its_own(side: Side, fake: FakeOperations) -> None:
    fake.always(LIST, fake.hang)
    with pytest.raises(grpc.RpcError) as caught:
        side.items(side.client().list("projects/p", timeout=0.2, total_timeout=60))
    assert caught.value.code is lro_grpc.Code.DEADLINE_EXCEEDED  # type: ignore[attr-defined]


@pytest.mark.parametrize("over", [0, -1, timedelta(0), timedelta.min])
def test_a_list_whose_time_is_over_makes_no_call(
    side: Side, fake: FakeOperations, over: Any
) -> None:
    with pytest.raises(lro_grpc.LroError, match="in 0:00:00"):
        side.items(side.client().list("projects/p", total_timeout=over))
    assert fake.calls == []


@pytest.mark.parametrize("option", ["timeout", "total_timeout"])
@pytest.mark.parametrize("value", ["10", True, float("nan")])
def test_a_time_of_a_list_that_is_none_is_refused_by_its_name(
    side: Side, option: str, value: Any
) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{option} is {value!r}; give"):
        side.client().list("projects/p", **{option: value})
