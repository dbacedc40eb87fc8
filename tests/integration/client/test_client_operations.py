from __future__ import annotations

import asyncio
import dataclasses
import inspect
import math
import re
import subprocess
import sys
import textwrap
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from fake_operations import CANCEL, DELETE, GET, LIST, WAIT, FakeOperations, FakeServer, operation
from google.longrunning import operations_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2

from lro_grpc._client.async_future import AsyncOperationFuture
from lro_grpc._client.async_operations import AsyncOperationsClient
from lro_grpc._client.future import OperationFuture
from lro_grpc._client.operations import OperationsClient
from lro_grpc._errors import Code, LroError, OperationNotFoundError, to_status
from lro_grpc._runtime.backoff import Backoff, Retry

if TYPE_CHECKING:
    from sides import Side

RESPONSE = Timestamp(seconds=7)


def test_get_cancel_and_delete(side: Side, fake: FakeOperations) -> None:
    one = fake.put(operation(response=RESPONSE))
    client = side.client()
    assert side.run(client.get("operations/1")) == one
    assert side.run(client.cancel("operations/1")) is None
    assert side.run(client.delete("operations/1")) is None
    assert fake.calls == [GET, CANCEL, DELETE]
    assert {request.name for request in fake.requests} == {"operations/1"}


def test_a_raw_wait_is_one_call_with_the_timeout_as_given(side: Side, fake: FakeOperations) -> None:
    fake.always(WAIT, operation())
    client = side.client()
    assert side.run(client.wait("operations/1", timeout=timedelta(seconds=1.5))) == operation()
    assert fake.requests[-1].timeout.ToTimedelta() == timedelta(seconds=1.5)
    assert side.run(client.wait("operations/1")) == operation()
    assert not fake.requests[-1].HasField("timeout")
    assert fake.calls == [WAIT, WAIT]


def test_every_call_has_its_deadline(side: Side, fake: FakeOperations) -> None:
    fake.always(GET, fake.hang)
    with pytest.raises(LroError) as caught:
        side.run(side.client().get("operations/1", timeout=timedelta(seconds=0.1)))
    assert caught.value.code is Code.DEADLINE_EXCEEDED


def test_a_call_that_is_answered_at_once_has_a_deadline_of_ten_seconds(
    side: Side, fake: FakeOperations
) -> None:
    """P13: unless its caller wants another. A Wait has none of its own."""
    fake.put(operation(response=RESPONSE))
    fake.pages = {"": operations_pb2.ListOperationsResponse()}
    client = side.client()
    for call in (client.get, client.cancel, client.delete):
        side.run(call("operations/1"))
    side.items(client.list("operations"))
    side.run(client.wait("operations/1"))
    *deadlines, of_wait = fake.deadlines
    assert len(deadlines) == 4
    assert all(0 < seconds < 11 for seconds in deadlines)
    assert max(deadlines) > 5  # a busy machine may bring one of them late
    assert of_wait > 1e6


QUICK_RETRY = Retry(backoff=Backoff(initial=timedelta(milliseconds=1)), attempts=3)


@pytest.mark.parametrize("method", [GET, CANCEL, DELETE])
def test_a_single_call_that_is_safe_is_made_again_when_the_server_is_away(
    side: Side, fake: FakeOperations, method: str
) -> None:
    """P13, C2."""
    one = fake.put(operation(response=RESPONSE))
    client = side.client(retry=QUICK_RETRY)
    call = {GET: client.get, CANCEL: client.cancel, DELETE: client.delete}[method]
    fake.script(method, *[grpc.StatusCode.UNAVAILABLE] * 2)
    side.run(call(one.name))
    assert fake.calls == [method] * 3
    fake.always(method, grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(LroError) as caught:
        side.run(call(one.name))
    assert caught.value.code is Code.UNAVAILABLE
    assert fake.calls == [method] * 6


def test_the_caller_says_what_is_made_again_and_can_have_nothing_made_again(
    side: Side, fake: FakeOperations
) -> None:
    """C3."""
    fake.always(CANCEL, grpc.StatusCode.RESOURCE_EXHAUSTED)
    too = dataclasses.replace(QUICK_RETRY, codes=frozenset({Code.RESOURCE_EXHAUSTED}))
    for retry, times in ((None, 1), (QUICK_RETRY, 1), (too, 3)):
        fake.calls.clear()
        with pytest.raises(LroError):
            side.run(side.client(retry=retry).cancel("operations/1"))
        assert fake.calls == [CANCEL] * times


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.NOT_FOUND,
    ],
)
def test_any_other_error_of_a_single_call_counts_at_once(
    side: Side, fake: FakeOperations, code: grpc.StatusCode
) -> None:
    """C2."""
    fake.always(CANCEL, code)
    with pytest.raises(LroError) as caught:
        side.run(side.client(retry=QUICK_RETRY).cancel("operations/1"))
    assert caught.value.code == code.value[0]
    assert fake.calls == [CANCEL]


def three_pages(fake: FakeOperations) -> list[operations_pb2.ListOperationsResponse]:
    page = operations_pb2.ListOperationsResponse
    fake.pages = {
        "": page(operations=[operation("operations/1")], next_page_token="a"),
        "a": page(next_page_token="b", unreachable=["locations/x"]),
        "b": page(operations=[operation("operations/2"), operation("operations/3")]),
    }
    return list(fake.pages.values())


def test_a_list_goes_on_to_the_last_page(side: Side, fake: FakeOperations) -> None:
    three_pages(fake)
    found = side.client().list(
        "projects/p", filter="done=true", page_size=2, return_partial_success=True
    )
    assert fake.calls == []
    for _ in range(2):
        assert [one.name for one in side.items(found)] == [f"operations/{n}" for n in (1, 2, 3)]
    assert [request.page_token for request in fake.requests] == ["", "a", "b"] * 2
    for request in fake.requests:
        assert (request.name, request.filter, request.page_size) == ("projects/p", "done=true", 2)
        assert request.return_partial_success


def test_the_pages_of_a_list_are_there_as_the_server_sent_them(
    side: Side, fake: FakeOperations
) -> None:
    """C5."""
    pages = three_pages(fake)
    assert side.items(side.client().list("operations").pages()) == pages
    assert side.items(side.client().list("operations", page_token="b").pages()) == pages[2:]


def test_a_list_fetches_a_page_only_when_it_is_needed(side: Side, fake: FakeOperations) -> None:
    """C5."""
    three_pages(fake)
    found = side.client().list("operations")
    if side.is_async:
        operations = found.__aiter__()
        one = side.run(operations.__anext__())
        side.run(operations.aclose())
    else:
        one = next(iter(found))
    assert one.name == "operations/1"
    assert fake.calls == [LIST]


# The name's characters that a header cannot hold, or that mean something in a query, are encoded.
@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("projects/p/operations/1", "name=projects/p/operations/1"),
        ("a b&c=d/operations/ü", "name=a%20b%26c%3Dd/operations/%C3%BC"),
        ("", None),
    ],
)
def test_the_routing_header_is_sent(
    side: Side, fake: FakeOperations, name: str, header: str | None
) -> None:
    """C4."""
    fake.always(GET, operation())
    fake.always(WAIT, operation())
    fake.always(LIST, operations_pb2.ListOperationsResponse())
    client = side.client()
    for call in (client.get, client.wait, client.cancel, client.delete):
        side.run(call(name))
    side.items(client.list(name))
    assert [one.get("x-goog-request-params") for one in fake.headers] == [header] * 5


def test_the_callers_metadata_is_sent_with_every_call_and_left_alone(
    side: Side, fake: FakeOperations
) -> None:
    fake.script(WAIT, *[operation()] * 3, operation(response=RESPONSE))
    mine: list[tuple[str, str | bytes]] = [("x-mine", "1"), ("x-mine-bin", b"\xff")]
    client = side.client(call_metadata=mine)
    side.run(client.future(operation()).result(timedelta(seconds=10)))
    assert len(fake.headers) == 4
    assert {(one["x-mine"], one["x-mine-bin"]) for one in fake.headers} == {("1", b"\xff")}
    assert mine == [("x-mine", "1"), ("x-mine-bin", b"\xff")]


# --- errors of calls ---


def abort_with(status: bytes, code: grpc.StatusCode = grpc.StatusCode.NOT_FOUND) -> Any:
    def answer(request: Any, context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata(
            (("x-other", "1"), ("grpc-status-details-bin", status)),
        )
        context.abort(code, "of the call")

    return answer


def error_of_get(side: Side) -> LroError:
    with pytest.raises(LroError) as caught:
        side.run(side.client(retry=None).get("operations/1"))
    assert isinstance(caught.value.__cause__, grpc.RpcError)
    return caught.value


def test_an_error_has_the_details_of_its_status(side: Side, fake: FakeOperations) -> None:
    info = error_details_pb2.ErrorInfo(reason="GONE", domain="x.test", metadata={"name": "1"})
    resource = error_details_pb2.ResourceInfo(resource_name="operations/1")
    status = status_pb2.Status(code=5, message="it is gone")
    status.details.add().Pack(info)
    status.details.add().Pack(resource)
    fake.always(GET, abort_with(status.SerializeToString()))
    error = error_of_get(side)
    assert (error.code, error.message) == (Code.NOT_FOUND, "it is gone")
    assert (error.reason, error.domain, error.metadata) == ("GONE", "x.test", {"name": "1"})
    assert error.details == (info, resource)


def test_an_error_of_this_package_keeps_its_class(side: Side, fake: FakeOperations) -> None:
    status = to_status(OperationNotFoundError("no such operation"))
    fake.always(GET, abort_with(status.SerializeToString()))
    assert isinstance(error_of_get(side), OperationNotFoundError)


@pytest.mark.parametrize(
    "status",
    [b"\xff", b"", status_pb2.Status(code=7, message="another").SerializeToString()],
    ids=["broken", "empty", "contradicting"],
)
def test_a_status_that_cannot_be_used_is_ignored(
    side: Side, fake: FakeOperations, status: bytes
) -> None:
    fake.always(GET, abort_with(status))
    error = error_of_get(side)
    assert (error.code, error.message, error.reason) == (
        Code.NOT_FOUND,
        "of the call",
        "NOT_FOUND",
    )
    assert error.details == ()


@pytest.mark.parametrize("code", [one for one in grpc.StatusCode if one is not grpc.StatusCode.OK])
def test_every_code_is_kept(side: Side, fake: FakeOperations, code: grpc.StatusCode) -> None:
    fake.always(GET, code)
    error = error_of_get(side)
    assert error.code == code.value[0]
    assert error.message == f"GetOperation says {code.name}"


def test_a_server_that_is_not_there(side: Side, server: FakeServer) -> None:
    server.stop()
    assert error_of_get(side).code is Code.UNAVAILABLE


# --- what only one of the two has ---


def test_await_works_any_number_of_times_and_for_many_tasks(server: FakeServer) -> None:
    server.fake.put(operation())

    async def main() -> None:
        async with grpc.aio.insecure_channel(server.target) as channel:
            future = AsyncOperationsClient(channel).future(operation(), response=Timestamp)

            async def wait() -> Timestamp:
                return await future

            tasks = [asyncio.create_task(wait()) for _ in range(10)]
            await asyncio.to_thread(server.fake.arrived[WAIT].acquire)
            server.fake.put(operation(response=RESPONSE))
            assert await asyncio.gather(*tasks) == [RESPONSE] * 10
            assert await future == RESPONSE
            assert await future == RESPONSE

    asyncio.run(main())
    assert server.fake.calls == [WAIT]


def test_cancelling_a_task_does_not_cancel_the_operation(server: FakeServer) -> None:
    server.fake.put(operation())

    async def main() -> None:
        async with grpc.aio.insecure_channel(server.target) as channel:
            future = AsyncOperationsClient(channel).future(operation(), response=Timestamp)
            leader = asyncio.create_task(future.result())
            await asyncio.to_thread(server.fake.arrived[WAIT].acquire)
            follower, stays = (asyncio.create_task(future.result()) for _ in range(2))
            await asyncio.sleep(0)
            for task in (follower, leader):
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            server.fake.put(operation(response=RESPONSE))
            assert await stays == RESPONSE

    asyncio.run(main())
    assert server.fake.calls == [WAIT]


def test_async_callbacks_need_a_running_loop(server: FakeServer) -> None:
    async def make() -> AsyncOperationFuture[Any, Any]:
        async with grpc.aio.insecure_channel(server.target) as channel:
            return AsyncOperationsClient(channel).future(operation(done=True))

    future = asyncio.run(make())
    with pytest.raises(RuntimeError):
        future.add_done_callback(print)


def test_sync_callbacks_come_from_a_daemon_thread(server: FakeServer) -> None:
    called = threading.Event()
    threads = []

    def callback(future: OperationFuture[Any, Any]) -> None:
        threads.append(threading.current_thread())
        called.set()

    with grpc.insecure_channel(server.target) as channel:
        OperationsClient(channel).future(operation(done=True)).add_done_callback(callback)
        assert called.wait(10)
    assert threads[0].daemon
    assert threads[0] is not threading.current_thread()


def test_a_pending_callback_does_not_keep_a_program_alive(server: FakeServer) -> None:
    server.fake.put(operation())
    program = f"""
        import grpc
        from lro_grpc import OperationsClient
        client = OperationsClient(grpc.insecure_channel("{server.target}"))
        client.attach("operations/1").add_done_callback(print)
        client.get("operations/1")
        print("over")
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "over\n", "")


# --- the two of a pair ---


def signature_of(method: Any) -> list[tuple[str, Any, Any, Any]]:
    return [
        (one.name, one.kind, one.default, re.sub("Async", "", str(one.annotation)))
        for one in inspect.signature(method).parameters.values()
    ]


def public(kind: type) -> dict[str, Any]:
    return {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("sync", "other"),
    [(OperationsClient, AsyncOperationsClient), (OperationFuture, AsyncOperationFuture)],
)
def test_sync_and_async_have_the_same_methods(sync: type, other: type) -> None:
    assert public(sync).keys() == public(other).keys()
    for name, method in public(sync).items():
        if callable(method):
            assert signature_of(method) == signature_of(public(other)[name]), name


def test_the_constructors_differ_in_channel_and_sleep_only() -> None:
    def parameters(kind: type) -> list[tuple[str, Any]]:
        return [
            (one.name, one.kind if one.name in {"channel", "sleep"} else one)
            for one in inspect.signature(kind).parameters.values()
        ]

    assert parameters(OperationsClient) == parameters(AsyncOperationsClient)


def test_a_channel_that_was_closed_before(side: Side, fake: FakeOperations) -> None:
    future = side.client().attach("operations/1")
    side.run(side.channel.close())
    calls = [future.result, future.done, future.cancel, lambda: side.items(future.updates())]
    for call in calls:
        with pytest.raises(LroError, match="closed") as caught:
            side.run(call())
        assert (caught.value.code, caught.value.reason) == (
            Code.FAILED_PRECONDITION,
            "CHANNEL_CLOSED",
        )
    assert fake.calls == []


def test_metadata_that_grpc_does_not_take(side: Side) -> None:
    future = side.client(call_metadata=[("x-mine", "a\nb")]).attach("operations/1")
    for call in (future.result, future.done, lambda: side.items(future.updates())):
        with pytest.raises(LroError, match=r"[Mm]etadata|interceptor, raised"):
            side.run(call())


@pytest.mark.parametrize("follow", ["result", "updates"])
def test_a_client_that_polls_calls_get_alone(side: Side, fake: FakeOperations, follow: str) -> None:
    fake.put(operation(response=RESPONSE))
    fake.script(GET, *[operation()] * 3)
    future = side.client(wait="poll").attach("operations/1")
    if follow == "updates":
        assert [one.done for one in side.items(future.updates())] == [False, True]
    assert side.run(future.result()) == RESPONSE
    assert fake.calls == [GET] * 4


@pytest.mark.parametrize("wait", ["", "POLL", "wait", None, True, ["poll"]])
def test_there_are_two_ways_to_wait(side: Side, wait: Any) -> None:
    with pytest.raises(ValueError, match=r'wait is .*; give "auto" or "poll"'):
        side.client(wait=wait)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"retry": 3}, "retry is 3; give a Retry, or None"),
        ({"backoff": None}, "backoff is None; give a Backoff"),
        ({"call_metadata": {"x-user": "ada"}}, "call_metadata is a dict; give pairs"),
        ({"call_metadata": "x-user"}, "call_metadata is a str; give pairs"),
        ({"call_metadata": None}, "call_metadata is a NoneType; give pairs"),
        ({"call_metadata": ["ab"]}, "call_metadata has a str; give pairs of two"),
        ({"call_metadata": [("X-User", "ada")]}, "has the key 'X-User'; a key has a-z"),
        ({"call_metadata": [("", "ada")]}, "has the key ''; a key has a-z"),
        ({"call_metadata": [("x-bin", "secret")]}, "has a str for 'x-bin'; give bytes"),
        ({"call_metadata": [("x-user", 7)]}, "has a int for 'x-user'; give a text"),
    ],
)
def test_an_option_of_a_client_that_cannot_be(
    side: Side, wrong: dict[str, Any], words: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(words)) as caught:
        side.client(**wrong)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("answer", [None, "operations/1", operations_pb2.GetOperationRequest()])
def test_what_is_no_operation_has_no_future(side: Side, answer: Any) -> None:
    with pytest.raises(TypeError, match=f"operation is a {type(answer).__name__}; give the google"):
        side.client().future(answer)


@pytest.mark.parametrize("timeout", [5, 5.5, timedelta(seconds=5)])
def test_the_timeout_of_a_call_may_be_given_in_seconds(
    side: Side, fake: FakeOperations, timeout: Any
) -> None:
    fake.put(operation(response=RESPONSE))
    fake.pages[""] = operations_pb2.ListOperationsResponse()
    client = side.client()
    for call in (client.get, client.cancel, client.delete, client.pause, client.resume):
        side.run(call("operations/1", timeout=timeout))
    side.run(client.terminate("operations/1", "why", timeout=timeout))
    side.run(client.rerun("operations/1", timeout=timeout))
    assert side.items(client.list("operations", timeout=timeout)) == []
    assert all(4 < one <= 6 for one in fake.deadlines)
    side.run(client.wait("operations/1", timeout=timeout))
    assert fake.requests[-1].timeout.seconds == 5


@pytest.mark.parametrize("timeout", ["5", True, math.nan, math.inf])
def test_the_timeout_of_a_call_is_a_duration(
    side: Side, fake: FakeOperations, timeout: Any
) -> None:
    client = side.client()
    for call in (client.get, client.cancel, client.wait, client.delete):
        with pytest.raises((TypeError, ValueError), match=f"timeout is {timeout!r}; give"):
            side.run(call("operations/1", timeout=timeout))
    assert fake.calls == []


def test_the_longest_timeout_of_one_wait_is_no_problem(side: Side, fake: FakeOperations) -> None:
    fake.put(operation(response=RESPONSE))
    assert side.run(side.client().wait("operations/1", timeout=timedelta.max)).done
    assert side.run(side.client().wait("operations/1", timeout=-1)).done


@pytest.mark.parametrize(
    "timeout", [timedelta.max, 1e300, 10**400], ids=["max", "1e300", "10**400"]
)
def test_the_longest_timeout_outlasts_a_retry(
    side: Side, fake: FakeOperations, timeout: Any
) -> None:
    fake.put(operation(response=RESPONSE))
    fake.script(GET, *[grpc.StatusCode.UNAVAILABLE] * 2)
    client = side.client(retry=QUICK_RETRY)
    assert side.run(client.get("operations/1", timeout=timeout)).done
