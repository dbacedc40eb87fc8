"""What a future makes of servers that misbehave: each has one documented outcome."""

from __future__ import annotations

import contextlib
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from fake_operations import GET, WAIT, FakeOperations, FakeServer, operation
from google.longrunning import operations_pb2
from google.protobuf import any_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from lro_grpc.errors import Code, LroError, OperationTimeoutError, WrongTypeError
from lro_grpc.polling import DEFAULT_BACKOFF

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Async, Sync

    Side = Sync | Async

RESPONSE = Timestamp(seconds=7)
ENOUGH = timedelta(seconds=20)
SHORT = timedelta(seconds=0.6)


def away_for_a_while(server: FakeServer) -> Any:
    server.fake.put(operation(response=RESPONSE))
    server.fake.script(WAIT, *[grpc.StatusCode.UNAVAILABLE] * 5)


def away_for_a_while_without_wait(server: FakeServer) -> Any:
    server.fake.put(operation(response=RESPONSE))
    server.fake.script(WAIT, grpc.StatusCode.UNIMPLEMENTED)
    server.fake.script(GET, *[grpc.StatusCode.UNAVAILABLE] * 5)


def dies_during_the_wait_and_comes_back(server: FakeServer) -> Any:
    server.fake.put(operation()).response.Pack(RESPONSE)
    return server.restarts_during_a_wait()


def says_its_own_deadline_is_exceeded(server: FakeServer) -> Any:
    server.fake.put(operation(response=RESPONSE))
    server.fake.script(WAIT, grpc.StatusCode.DEADLINE_EXCEEDED)
    server.fake.script(GET, grpc.StatusCode.DEADLINE_EXCEEDED)


def answers_wait_at_once_for_a_while(server: FakeServer) -> Any:
    server.fake.put(operation(response=RESPONSE))
    server.fake.script(WAIT, *[operation()] * 5)


@pytest.mark.parametrize(
    "misbehave",
    [
        away_for_a_while,
        away_for_a_while_without_wait,
        dies_during_the_wait_and_comes_back,
        says_its_own_deadline_is_exceeded,
        answers_wait_at_once_for_a_while,
    ],
)
def test_what_passes_is_waited_out(
    side: Side, server: FakeServer, misbehave: Callable[[FakeServer], Any]
) -> None:
    with misbehave(server) or contextlib.nullcontext():
        future = side.client().future(operation(), response=Timestamp)
        assert side.run(future.result(ENOUGH)) == RESPONSE
    assert len(server.fake.calls) < 50


def never_answers(fake: FakeOperations) -> None:
    fake.always(WAIT, fake.hang)
    fake.always(GET, fake.hang)


def never_answers_a_get(fake: FakeOperations) -> None:
    fake.always(WAIT, grpc.StatusCode.UNIMPLEMENTED)
    fake.always(GET, fake.hang)


def is_away_for_good(fake: FakeOperations) -> None:
    fake.always(WAIT, grpc.StatusCode.UNAVAILABLE)
    fake.always(GET, grpc.StatusCode.UNAVAILABLE)


def answers_wait_at_once_and_is_never_done(fake: FakeOperations) -> None:
    fake.always(WAIT, operation())
    fake.always(GET, operation())


@pytest.mark.parametrize(
    "misbehave",
    [
        never_answers,
        never_answers_a_get,
        is_away_for_good,
        answers_wait_at_once_and_is_never_done,
    ],
)
def test_what_does_not_pass_is_a_timeout_in_time_and_without_a_busy_loop(
    side: Side, fake: FakeOperations, misbehave: Callable[[FakeOperations], None]
) -> None:
    misbehave(fake)
    future = side.client(backoff=DEFAULT_BACKOFF).future(operation())
    began = time.monotonic()
    with pytest.raises(OperationTimeoutError, match="operations/1"):
        side.run(future.result(SHORT))
    assert time.monotonic() - began < 3
    assert len(fake.calls) < 30


@pytest.mark.parametrize("method", [WAIT, GET])
def test_the_name_of_another_operation_is_an_error(
    side: Side, fake: FakeOperations, method: str
) -> None:
    fake.always(method, operation("operations/2", response=RESPONSE))
    if method == GET:
        fake.always(WAIT, grpc.StatusCode.UNIMPLEMENTED)
    future = side.client().future(operation())
    for _ in range(2):
        with pytest.raises(LroError, match=r"operations/2.*operations/1") as caught:
            side.run(future.result(ENOUGH))
        assert (caught.value.code, caught.value.reason) == (Code.INTERNAL, "WRONG_OPERATION")
        assert not future.operation.done


def test_a_look_does_not_take_another_operation_either(side: Side, fake: FakeOperations) -> None:
    fake.always(GET, operation("operations/2", response=RESPONSE))
    future = side.client().future(operation())
    with pytest.raises(LroError, match=r"operations/2"):
        side.run(future.done())


def test_a_type_that_is_not_registered(side: Side, fake: FakeOperations) -> None:
    unknown = any_pb2.Any(type_url="type.googleapis.com/nowhere.Nothing")
    fake.put(operations_pb2.Operation(name="operations/1", done=True, response=unknown))
    future = side.client().future(operation())
    for _ in range(2):
        with pytest.raises(WrongTypeError, match=r"nowhere\.Nothing"):
            side.run(future.result(ENOUGH))


@pytest.mark.parametrize("status", [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED])
def test_an_error_that_does_not_pass_ends_the_wait(
    side: Side, fake: FakeOperations, status: grpc.StatusCode
) -> None:
    fake.always(WAIT, status)
    future = side.client().future(operation())
    with pytest.raises(LroError, match=f"{WAIT} says") as caught:
        side.run(future.result(ENOUGH))
    assert caught.value.code.name == status.name
    assert isinstance(caught.value.__cause__, grpc.RpcError)
    assert fake.calls == [WAIT]
