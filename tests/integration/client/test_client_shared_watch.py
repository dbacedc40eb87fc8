"""Many futures of one client share one call, WatchOperations, where the server has it."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from fake_operations import WAIT, FakeOperations, operation
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2
from server_harness import Held, Server, serving
from sides import FastClock, Side

import lro_grpc
from lro.v1 import operation_control_service_pb2 as control
from lro_grpc import Code, LroError, OperationTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RESPONSE = Timestamp(seconds=7)
LONG = timedelta(seconds=30)
FEW = 20
WATCH, SHARED_WATCH = "WatchOperation", "WatchOperations"


# --- a real server, of either kind ---


class Counting:
    """Counts the calls of a server by their methods, and notes who has made those of one."""

    def __init__(self) -> None:
        self.calls: collections.Counter[str] = collections.Counter()
        self.users: list[str] = []

    def interceptor(self, stack: str) -> Any:
        def note(details: Any) -> None:
            method = details.method.rpartition("/")[2]
            self.calls[method] += 1
            if method == SHARED_WATCH:
                self.users.append(dict(details.invocation_metadata).get("x-user", ""))

        class Sync(grpc.ServerInterceptor):
            def intercept_service(self, continuation: Any, details: Any) -> Any:
                note(details)
                return continuation(details)

        class Aio(grpc.aio.ServerInterceptor):
            async def intercept_service(self, continuation: Any, details: Any) -> Any:
                note(details)
                return await continuation(details)

        return Sync() if stack == "sync" else Aio()


@pytest.fixture(params=["sync", "aio"])
def stack(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held("async def")
    yield held
    held.gate.open()


@pytest.fixture
def seen() -> Counting:
    return Counting()


@pytest.fixture
def real(stack: str, held: Held, seen: Counting) -> Iterator[Server]:
    interceptors = [seen.interceptor(stack)]
    with serving(stack, held.servicer(), interceptors=interceptors) as server:
        yield server
        held.gate.open()


@pytest.fixture(params=["sync", "async"])
def ours(request: pytest.FixtureRequest, sides: dict[str, Any], real: Server) -> Iterator[Side]:
    """A side of the real server."""
    with contextlib.closing(sides[request.param](real.target)) as side:
        yield side


def started(server: Server, held: Held, count: int) -> list[str]:
    names = [server.create(instance_id=f"i-{index}").name for index in range(count)]
    for _ in names:
        held.next()
    return names


def soon(condition: Callable[[], bool], then: Callable[[], object]) -> threading.Thread:
    """Does something in a thread once a condition holds."""

    def wait() -> None:
        end = time.monotonic() + 20
        while not condition() and time.monotonic() < end:
            threading.Event().wait(0.01)
        then()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_results_of_many_come_by_one_call(
    real: Server, held: Held, ours: Side, seen: Counting
) -> None:
    """The first of them goes on with the Wait that it has begun when it was alone."""
    names = started(real, held, FEW)
    client = ours.client()
    futures = [client.attach(name) for name in names]
    opening = soon(lambda: seen.calls[SHARED_WATCH] > 0, held.gate.open)
    results = ours.together([lambda one=one: one.result(LONG) for one in futures])
    opening.join()
    assert [type(one).__name__ for one in results] == ["Instance"] * FEW, results
    assert seen.calls[SHARED_WATCH] == 1
    assert seen.calls[WAIT] <= 1
    assert seen.calls["GetOperation"] == seen.calls[WATCH] == 0


def test_updates_of_several_come_by_one_call(
    real: Server, held: Held, ours: Side, seen: Counting
) -> None:
    names = started(real, held, 3)
    client = ours.client()
    futures = [client.attach(name) for name in names]
    opening = soon(lambda: seen.calls[SHARED_WATCH] > 0, held.gate.open)
    updates = ours.together(
        [lambda one=one: _collected(ours, one.updates(LONG)) for one in futures]
    )
    opening.join()
    assert [[*each][-1].done for each in updates] == [True] * 3
    assert seen.calls[SHARED_WATCH] == 1
    assert seen.calls[WATCH] <= 1
    assert seen.calls[WAIT] == 0


def _collected(side: Side, updates: Any) -> Any:
    if not side.is_async:
        return list(updates)

    async def collect() -> list[Any]:
        return [one async for one in updates]

    return collect()


def test_one_alone_makes_calls_of_its_own(
    real: Server, held: Held, ours: Side, seen: Counting
) -> None:
    """However many wait for it."""
    (name,) = started(real, held, 1)
    future = ours.client().attach(name)
    opening = soon(lambda: seen.calls[WAIT] + seen.calls[WATCH] > 0, held.gate.open)
    ours.together(
        [
            lambda: future.result(LONG),
            lambda: future.result(LONG),
            lambda: _collected(ours, future.updates(LONG)),
        ]
    )
    opening.join()
    assert seen.calls[SHARED_WATCH] == 0


def test_who_wants_updates_gets_them_though_others_wait_for_the_end_alone(
    real: Server, held: Held, ours: Side, seen: Counting
) -> None:
    first, second = started(real, held, 2)
    client = ours.client()
    watched, other = client.attach(first), client.attach(second)
    waiting = soon(
        lambda: seen.calls[SHARED_WATCH] > 0,
        lambda: real.cancel(first),
    )
    updates, raised, _ = ours.together(
        [
            lambda: _collected(ours, watched.updates(LONG)),
            lambda: watched.exception(LONG),
            lambda: _released(ours, waiting, other, held),
        ]
    )
    waiting.join()
    assert updates[-1].done
    assert raised.code is Code.CANCELLED


def _released(side: Side, waiting: threading.Thread, other: Any, held: Held) -> Any:
    """Waits for the other one, which ends when the first was cancelled."""
    thread = threading.Thread(target=lambda: (waiting.join(), held.gate.open()))
    thread.start()
    return other.result(LONG)


def test_an_error_of_one_is_its_own(real: Server, held: Held, ours: Side, seen: Counting) -> None:
    names = started(real, held, 3)
    client = ours.client()
    futures = [client.attach(name) for name in [*names, "operations/missing"]]

    def end() -> None:
        real.delete(names[0])
        held.gate.open()

    ending = soon(lambda: seen.calls[SHARED_WATCH] > 0, end)
    deleted, *done, missing = ours.together([lambda one=one: one.result(LONG) for one in futures])
    ending.join()
    assert deleted.code is Code.NOT_FOUND
    assert missing.code is Code.NOT_FOUND
    assert [type(one).__name__ for one in done] == ["Instance"] * 2


def test_each_group_of_futures_with_metadata_of_its_own_has_a_call_of_its_own(
    real: Server, held: Held, ours: Side, seen: Counting
) -> None:
    names = started(real, held, 6)
    client = ours.client()
    futures = [
        client.attach(name, call_metadata=[("x-user", user)])
        for user, names_of_user in (("ann", names[:3]), ("bob", names[3:]))
        for name in names_of_user
    ]
    opening = soon(lambda: seen.calls[SHARED_WATCH] > 1, held.gate.open)
    results = ours.together([lambda one=one: one.result(LONG) for one in futures])
    opening.join()
    assert [type(one).__name__ for one in results] == ["Instance"] * 6
    assert sorted(seen.users) == ["ann", "bob"]


def test_beyond_the_places_of_the_server_other_calls_wait(
    stack: str, held: Held, sides: dict[str, Any], seen: Counting
) -> None:
    """Of three one has the only place of the stream; the others go on by Wait and Get."""
    how: Any = {"interceptors": [seen.interceptor(stack)], "limits": lro_grpc.Limits(waiters=1)}
    for kind in sides.values():
        with (
            serving(stack, held.servicer(), **how) as server,
            contextlib.closing(kind(server.target)) as side,
        ):
            names = [server.create(instance_id=f"i-{index}").name for index in range(4)]
            client = side.client()
            futures = [client.attach(name) for name in names]
            opening = soon(lambda: seen.calls[WAIT] > 1, held.gate.open)
            results = side.together([lambda one=one: one.result(LONG) for one in futures])
            opening.join()
            assert [type(one).__name__ for one in results] == ["Instance"] * 4, results


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_server_that_goes_down_is_waited_for_and_joined_again(
    stack: str, kind: str, sides: dict[str, Any], seen: Counting, file_url: str
) -> None:
    """Its stream ends with UNAVAILABLE, and the next server of the file goes on."""
    held = Held("async def")
    how: Any = {"interceptors": [seen.interceptor(stack)], "store": file_url, "grace": 0.2}
    is_over = threading.Event()
    with serving(stack, held.servicer(), **how) as server:
        names = started(server, held, 3)
        port = int(server.target.rpartition(":")[2])

        def replace() -> None:
            server.stop()
            with serving_at(port, stack, held, how):
                soon(lambda: seen.calls[SHARED_WATCH] > 1, held.gate.open).join()
                is_over.wait(30)

        with contextlib.closing(sides[kind](server.target)) as side:
            client = side.client()
            futures = [client.attach(name) for name in names]
            replacing = soon(lambda: seen.calls[SHARED_WATCH] > 0, replace)
            results = side.together([lambda one=one: one.result(LONG) for one in futures])
            is_over.set()
            replacing.join()
    assert [type(one).__name__ for one in results] == ["Instance"] * 3, results


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'operations.db'}"


@contextlib.contextmanager
def serving_at(port: int, stack: str, held: Held, how: dict[str, Any]) -> Iterator[None]:
    """Serves at a port that another server has just left."""
    with contextlib.ExitStack() as servers:
        end = time.monotonic() + 10
        while True:
            try:
                servers.enter_context(serving(stack, held.servicer(), port=port, **how))
                break
            except RuntimeError:  # the port is not free yet
                assert time.monotonic() < end
        yield


# --- interceptors of the client ---


class _Says(grpc.StreamStreamClientInterceptor):
    """Adds a header to the calls that stream both ways."""

    def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        metadata = [*(details.metadata or ()), ("x-user", "ann")]
        return continuation(details._replace(metadata=metadata), requests)


class _AsyncSays(grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        details.metadata.add("x-user", "ann")
        return await continuation(details, requests)


def test_an_interceptor_may_add_what_the_server_wants(
    real: Server, held: Held, seen: Counting
) -> None:
    names = started(real, held, 3)
    with grpc.insecure_channel(real.target) as channel:
        client = lro_grpc.OperationsClient(grpc.intercept_channel(channel, _Says()))
        futures = [client.attach(name).concurrent(LONG) for name in names]
        soon(lambda: seen.calls[SHARED_WATCH] > 0, held.gate.open).join()
        assert [type(one.result()).__name__ for one in futures] == ["Instance"] * 3
    assert seen.users == ["ann"]


async def test_an_interceptor_of_an_async_channel_may_as_well(
    real: Server, held: Held, seen: Counting
) -> None:
    names = started(real, held, 3)
    async with grpc.aio.insecure_channel(real.target, interceptors=[_AsyncSays()]) as channel:
        client = lro_grpc.AsyncOperationsClient(channel)
        futures = [client.attach(name).concurrent(LONG) for name in names]
        opening = soon(lambda: seen.calls[SHARED_WATCH] > 0, held.gate.open)
        results = await asyncio.gather(*futures)
        opening.join()
        assert [type(one).__name__ for one in results] == ["Instance"] * 3
    assert seen.users == ["ann"]


# --- servers that do as the test says ---


def sent(*operations: Any, unwatched: Any = ()) -> Any:
    return control.WatchOperationsResponse(operations=operations, unwatched_operations=unwatched)


def ended(name: str) -> Any:
    return operation(name, response=RESPONSE)


class Names:
    """The names that a client has added to a stream, as they come."""

    def __init__(self, requests: Iterator[Any]) -> None:
        self._requests = requests

    def until(self, count: int) -> list[str]:
        """Returns the names once there are as many."""
        names: list[str] = []
        while len(names) < count:
            names += next(self._requests).names
        return names


def put_running(fake: FakeOperations, count: int = 4) -> list[str]:
    names = [f"operations/{number}" for number in range(count)]
    for name in names:
        fake.put(operation(name))
    return names


def end_all(fake: FakeOperations, names: list[str]) -> None:
    for name in names:
        fake.put(ended(name))


def together(side: Side, names: list[str], timeout: timedelta = LONG, **how: Any) -> list[Any]:
    client = side.client(**how)
    futures = [client.attach(name, response=Timestamp) for name in names]
    return side.together([lambda one=one: one.result(timeout) for one in futures])


def test_a_server_without_the_call_is_asked_once(fake: FakeOperations, side: Side) -> None:
    """And every client of the channel knows it then."""
    names = put_running(fake)
    ending = soon(lambda: fake.count(WAIT) >= len(names), lambda: end_all(fake, names))
    assert together(side, names) == [RESPONSE] * len(names)
    ending.join()
    assert fake.shared_calls == 1
    names = put_running(fake)
    ending = soon(lambda: fake.count(WAIT) >= 2 * len(names), lambda: end_all(fake, names))
    assert together(side, names) == [RESPONSE] * len(names)
    ending.join()
    assert fake.shared_calls == 1


Answer = Any


def breaks_off(requests: Any, context: Any) -> Iterator[Any]:
    """Breaks off in the middle."""
    for name in Names(requests).until(3):
        yield sent(operation(name))
    context.abort(grpc.StatusCode.UNAVAILABLE, "as the test says")


def ends_at_once(requests: Any, context: Any) -> Iterator[Any]:
    yield from ()


def is_full(requests: Any, context: Any) -> Iterator[Any]:
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "as the test says")
    yield


def is_for_others(requests: Any, context: Any) -> Iterator[Any]:
    context.abort(grpc.StatusCode.PERMISSION_DENIED, "as the test says")
    yield


def fails(requests: Any, context: Any) -> Iterator[Any]:
    yield sent(*(operation(name) for name in Names(requests).until(1)))
    raise RuntimeError("as the test says")


def refuses_each(requests: Any, context: Any) -> Iterator[Any]:
    for request in requests:
        for name in request.names:
            one = control.UnwatchedOperation(name=name)
            one.error.code = code_pb2.RESOURCE_EXHAUSTED
            yield sent(unwatched=[one])


def sends_others(requests: Any, context: Any) -> Iterator[Any]:
    """Sends what nobody has asked for, and then what was."""
    for name in Names(requests).until(3):
        yield sent(ended("operations/other"), operation("", done=True))
        yield sent(unwatched=[control.UnwatchedOperation(name="operations/another")])
        yield sent(ended(name))


def ends_without_a_result(requests: Any, context: Any) -> Iterator[Any]:
    for request in requests:
        yield sent(*(operation(name, done=True) for name in request.names))


def goes_on_after_the_end(requests: Any, context: Any) -> Iterator[Any]:
    for name in Names(requests).until(3):
        yield from [sent(ended(name), ended(name))] * 3


BAD = [
    breaks_off,
    ends_at_once,
    is_full,
    is_for_others,
    fails,
    refuses_each,
    sends_others,
    ends_without_a_result,
    goes_on_after_the_end,
]


@pytest.mark.parametrize("answer", BAD, ids=lambda one: one.__name__)
def test_whatever_comes_of_the_call_the_futures_go_on_to_the_end(
    fake: FakeOperations, side: Side, answer: Answer
) -> None:
    """By the other calls, if need be."""
    names = put_running(fake)
    fake.shared = answer
    ending = soon(lambda: fake.shared_calls > 0, lambda: end_all(fake, names))
    assert together(side, names) == [RESPONSE] * len(names)
    ending.join()


def says_nothing(requests: Any, context: Any) -> Iterator[Any]:
    for _ in requests:
        pass
    yield from ()


def says_nothing_of_them(requests: Any, context: Any) -> Iterator[Any]:
    """Shows that it is there, and answers for no name."""
    is_over = threading.Event()
    context.add_callback(is_over.set)
    while not is_over.wait(0.02):
        yield sent()


@pytest.mark.parametrize("answer", [says_nothing, says_nothing_of_them])
def test_a_server_that_takes_the_call_and_says_nothing_is_given_up_for_ten_minutes(
    fake: FakeOperations, side: Side, answer: Answer
) -> None:
    names = put_running(fake)
    fake.shared = answer
    ending = soon(lambda: fake.count(WAIT) >= len(names), lambda: end_all(fake, names))
    assert together(side, names, timedelta(hours=1), clock=FastClock()) == [RESPONSE] * len(names)
    ending.join()
    assert fake.shared_calls == 1


def test_a_call_that_something_on_the_way_cuts_short_is_made_again(
    fake: FakeOperations, side: Side
) -> None:
    """As a proxy does that lets no call last longer."""
    names = put_running(fake)

    def shows_the_present(requests: Any, context: Any) -> Iterator[Any]:
        yield sent(*map(operation, Names(requests).until(3)))
        threading.Event().wait(0.05)  # which are five seconds of the client's
        context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "as the test says")

    fake.shared = shows_the_present
    ending = soon(lambda: fake.shared_calls >= 3, lambda: end_all(fake, names))
    assert together(side, names, timedelta(hours=1), clock=FastClock()) == [RESPONSE] * len(names)
    ending.join()
    assert fake.count(WAIT) <= 1  # that of the first one, which began alone


def test_a_timeout_holds_and_ends_the_call(fake: FakeOperations, side: Side) -> None:
    names = put_running(fake)
    gone = threading.Event()

    def answer(requests: Any, context: Any) -> Iterator[Any]:
        context.add_callback(gone.set)
        for request in requests:
            yield sent(*(operation(name) for name in request.names))

    fake.shared = answer
    client = side.client()
    futures = [client.attach(name) for name in names]
    begin = time.monotonic()
    errors = side.together([lambda one=one: one.result(timedelta(seconds=0.5)) for one in futures])
    assert {type(one) for one in errors} == {OperationTimeoutError}
    assert time.monotonic() - begin >= 0.5
    side.until(gone)


def test_a_channel_that_is_closed_ends_every_wait(fake: FakeOperations, side: Side) -> None:
    names = put_running(fake)

    def answer(requests: Any, context: Any) -> Iterator[Any]:
        for request in requests:
            yield sent(*(operation(name) for name in request.names))

    fake.shared = answer
    client = side.client()
    futures = [client.attach(name) for name in names]

    def close() -> Any:
        if side.is_async:
            return _close_soon(fake, side)
        end = time.monotonic() + 10
        while not fake.shared_calls and time.monotonic() < end:
            threading.Event().wait(0.01)
        return side.channel.close()

    *errors, _ = side.together([*(lambda one=one: one.result(LONG) for one in futures), close])
    assert {type(one) for one in errors} == {LroError}, errors
    assert {one.reason for one in errors} == {"CHANNEL_CLOSED"}


async def _close_soon(fake: FakeOperations, side: Any) -> None:
    await side.loop.run_in_executor(None, lambda: soon(lambda: fake.shared_calls > 0, bool).join())
    await side.channel.close()
