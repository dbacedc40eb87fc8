"""Clients over channels with interceptors, some of which do what interceptors had better not do."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import queue
import threading
from concurrent import futures
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from fake_operations import GET, WAIT, WATCH, FakeServer, operation
from google.protobuf.timestamp_pb2 import Timestamp

from lro_grpc._client.async_operations import AsyncOperationsClient
from lro_grpc._client.operations import OperationsClient
from lro_grpc._errors import Code, LroError, OperationTimeoutError
from lro_grpc._runtime.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RESPONSE = Timestamp(seconds=7)
LONG = timedelta(seconds=20)
USER: contextvars.ContextVar[str] = contextvars.ContextVar("USER", default="nobody")


class OnUnary(grpc.UnaryUnaryClientInterceptor):
    """Does one thing with every unary call."""

    def __init__(self, do: Callable[[Any], Any]) -> None:
        self._do = do

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return self._do(continuation(details, request))


class OnStream(grpc.UnaryStreamClientInterceptor):
    """Does one thing with every stream."""

    def __init__(self, do: Callable[[Any], Any]) -> None:
        self._do = do

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return self._do(continuation(details, request))


def waits_for_the_headers(call: Any) -> Any:
    call.initial_metadata()
    return call


def waits_for_the_code(call: Any) -> Any:
    call.code()
    return call


def waits_for_the_result(call: Any) -> Any:
    with contextlib.suppress(grpc.RpcError):
        call.result()
    return call


def looks_at_the_first(stream: Any) -> Any:
    return itertools.chain([next(stream)], stream)


def makes_a_generator_of_it(stream: Any) -> Any:
    return (one for one in stream)


@contextlib.contextmanager
def client_of(server: FakeServer, *interceptors: Any) -> Iterator[OperationsClient]:
    with grpc.insecure_channel(server.target) as channel:
        backoff = Backoff(initial=timedelta(milliseconds=10), maximum=timedelta(milliseconds=50))
        yield OperationsClient(grpc.intercept_channel(channel, *interceptors), backoff=backoff)


@pytest.mark.parametrize("do", [waits_for_the_headers, waits_for_the_code, waits_for_the_result])
def test_many_futures_wait_at_once_though_an_interceptor_blocks(
    server: FakeServer, do: Callable[[Any], Any]
) -> None:
    names = [f"operations/{number}" for number in range(20)]
    for name in names:
        server.fake.put(operation(name))
    with client_of(server, OnUnary(do)) as client, futures.ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(client.attach(name).result, LONG) for name in names]
        for _ in names:
            assert server.fake.arrived[WAIT].acquire(timeout=10)
        for name in names:
            server.fake.put(operation(name, response=RESPONSE))
        assert [one.result() for one in waiting] == [RESPONSE] * len(names)
    assert server.fake.count(WAIT) == len(names)


@pytest.mark.parametrize("do", [waits_for_the_headers, looks_at_the_first, makes_a_generator_of_it])
def test_updates_are_pushed_though_an_interceptor_holds_the_stream(
    server: FakeServer, do: Callable[[Any], Any]
) -> None:
    with client_of(server, OnStream(do)) as client:
        server.fake.put(operation())
        updates = client.attach("operations/1").updates(LONG)
        assert not next(updates).done
        other = client.attach("operations/2")  # nothing else has to wait for the stream
        server.fake.put(operation("operations/2", response=RESPONSE))
        assert other.result(LONG) == RESPONSE
        server.fake.put(operation(response=RESPONSE))
        assert [one.done for one in updates] == [True]
    assert server.fake.count(WATCH) == 1


def test_a_stream_that_an_interceptor_has_made_uncancellable_ends_with_a_state_to_come(
    server: FakeServer,
) -> None:
    with client_of(server, OnStream(makes_a_generator_of_it)) as client:
        server.fake.put(operation())
        updates = client.attach("operations/1").updates(LONG)
        next(updates)
        updates.close()
        for number in range(1, 100):  # the close takes its time
            server.fake.put(operation(metadata=Timestamp(seconds=number)))
            if server.fake.gone[WATCH].acquire(timeout=0.1):
                return
    pytest.fail("the stream goes on")


@pytest.mark.parametrize("error", [ValueError("no token"), OSError("no token")])
def test_an_interceptor_that_raises_is_reported(server: FakeServer, error: Exception) -> None:
    def raises(call: Any) -> Any:
        raise error

    server.fake.put(operation())
    with client_of(server, OnUnary(raises), OnStream(raises)) as client:
        future = client.attach("operations/1")
        for call in (future.result, future.done, lambda: list(future.updates(LONG))):
            with pytest.raises(LroError, match=r"interceptor.*no token") as caught:
                call()
            assert caught.value.code is Code.UNKNOWN
            assert caught.value.__cause__ is error


@pytest.mark.parametrize("exit_", [SystemExit(3), GeneratorExit("bye"), KeyboardInterrupt("bye")])
def test_an_interceptor_that_ends_the_program_ends_the_wait(
    server: FakeServer, exit_: BaseException
) -> None:
    """The thread of a call is not the program's own, and nobody would end but who waits for it."""

    def raises(call: Any) -> Any:
        raise exit_

    server.fake.put(operation())
    with client_of(server, OnUnary(raises), OnStream(raises)) as client:
        future = client.attach("operations/1")
        for call in (future.result, future.done, lambda: list(future.updates(LONG))):
            with pytest.raises(LroError, match=rf"interceptor.*{type(exit_).__name__}") as caught:
                call()
            assert caught.value.code is Code.UNKNOWN


def test_an_error_that_is_no_more_than_an_rpc_error_is_reported(server: FakeServer) -> None:
    def raises(call: Any) -> Any:
        raise grpc.RpcError("no token")

    with client_of(server, OnUnary(raises), OnStream(raises)) as client:
        with pytest.raises(LroError, match="no token") as caught:
            client.get("operations/1")
        assert caught.value.code is Code.UNKNOWN


def test_an_interceptor_sees_the_context_of_the_caller(server: FakeServer) -> None:
    seen: list[str] = []

    def looks(call: Any) -> Any:
        seen.append(USER.get())
        return call

    server.fake.put(operation(response=RESPONSE))
    with client_of(server, OnUnary(looks), OnStream(looks)) as client:
        for user, call in [
            ("ada", lambda future: future.result(LONG)),
            ("bob", lambda future: future.done()),
            ("cid", lambda future: list(future.updates(LONG))),
            ("eve", lambda future: future.delete()),
        ]:
            contextvars.copy_context().run(call_as, user, call, client.attach("operations/1"))
    assert seen == ["ada", "bob", "cid", "eve"]


def call_as(user: str, call: Callable[[Any], Any], future: Any) -> None:
    USER.set(user)
    call(future)


class AsyncInterceptor(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, seen: list[str]) -> None:
        self._seen = seen

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        self._seen.append(USER.get())
        call = await continuation(details, request)
        await call.code()
        return call


class AsyncStreamInterceptor(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, seen: list[str]) -> None:
        self._seen = seen

    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        self._seen.append(USER.get())
        call = await continuation(details, request)

        async def states() -> Any:
            async for one in call:
                yield one

        return states()


def test_async_interceptors_see_the_context_of_the_caller_and_may_wait(
    server: FakeServer,
) -> None:
    seen: list[str] = []
    server.fake.put(operation(response=RESPONSE))

    async def main() -> None:
        interceptors = [AsyncInterceptor(seen), AsyncStreamInterceptor(seen)]
        async with grpc.aio.insecure_channel(server.target, interceptors=interceptors) as channel:
            client = AsyncOperationsClient(channel)
            USER.set("ada")
            assert await client.attach("operations/1").result(LONG) == RESPONSE
            USER.set("bob")
            assert await client.attach("operations/1").done()
            USER.set("cid")
            updates = [one async for one in client.attach("operations/1").updates(LONG)]
            assert [one.done for one in updates] == [True]

    asyncio.run(main())
    assert seen == ["ada", "bob", "cid"]
    assert server.fake.calls == [WAIT, GET, WATCH]


@pytest.mark.parametrize("error", [ValueError("no token"), OSError("no token")])
def test_an_async_interceptor_that_raises_is_reported(server: FakeServer, error: Exception) -> None:
    class Raising(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            raise error

    async def main() -> None:
        async with grpc.aio.insecure_channel(server.target, interceptors=[Raising()]) as channel:
            future = AsyncOperationsClient(channel).attach("operations/1")
            for call in (future.result, future.done):
                with pytest.raises(LroError, match=r"interceptor.*no token") as caught:
                    await call()
                assert caught.value.code is Code.UNKNOWN

    asyncio.run(main())


@pytest.mark.parametrize(
    ("method", "wait"),
    [
        (WAIT, lambda future: future.result(timedelta(milliseconds=50))),
        (WATCH, lambda future: list(future.updates(timedelta(milliseconds=50)))),
    ],
)
def test_a_call_that_begins_when_nobody_waits_any_more_is_cancelled(
    server: FakeServer, method: str, wait: Callable[[Any], Any]
) -> None:
    """Its interceptor has kept it back for longer than its caller would wait."""
    server.fake.put(operation())
    server.fake.always(method, server.fake.hang)
    go_on = threading.Event()
    begun: queue.SimpleQueue[Any] = queue.SimpleQueue()

    class KeepsBack(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
        def _intercept(self, continuation: Any, details: Any, request: Any) -> Any:
            if not details.method.endswith(method):
                return continuation(details, request)
            assert go_on.wait(20)
            call = continuation(details, request)
            begun.put(call)
            return call

        intercept_unary_unary = intercept_unary_stream = _intercept

    with client_of(server, KeepsBack()) as client:
        with pytest.raises(OperationTimeoutError):
            wait(client.attach("operations/1"))
        assert not client.attach("operations/1").done()  # by then all has ended that waited
        go_on.set()
        assert begun.get(timeout=20).code() is grpc.StatusCode.CANCELLED
