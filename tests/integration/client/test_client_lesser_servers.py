"""Servers that were written by hand and have little of what a client would like."""

from __future__ import annotations

import contextlib
import math
import time
from concurrent import futures
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import bad_answers
import grpc
import pytest
from fake_operations import (
    operation,
)
from google.longrunning import operations_pb2_grpc
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from sides import Async, FastClock, Side, Sync

from lro_grpc._errors import Code, LroError, OperationTimeoutError
from lro_grpc._runtime.backoff import DEFAULT_BACKOFF, Backoff
from lro_grpc._wire.headers import POLL_AFTER, STATUS_DETAILS

if TYPE_CHECKING:
    from collections.abc import Iterator


RESPONSE = Timestamp(seconds=7)
LONG = timedelta(seconds=20)


class OnlyGet(operations_pb2_grpc.OperationsServicer):
    """All that AEP-151 demands; done when it is asked for the fourth time."""

    def __init__(self) -> None:
        self.gets = 0

    def GetOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.gets += 1
        response = RESPONSE if self.gets >= 4 else None
        return operation(response=response, metadata=Timestamp(seconds=self.gets))


class NoWatch(OnlyGet):
    """Has a Wait that is held for a while; done when that is called for the fourth time."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = 0

    def WaitOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.waits += 1
        return operation(
            response=RESPONSE if self.waits >= 4 else None, metadata=Timestamp(seconds=self.waits)
        )


@pytest.fixture(params=[OnlyGet, NoWatch])
def servicer(request: pytest.FixtureRequest) -> Any:
    return request.param()


@pytest.fixture(params=[Sync, Async], ids=["sync", "async"])
def side(request: pytest.FixtureRequest, servicer: OnlyGet) -> Iterator[Side]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    operations_pb2_grpc.add_OperationsServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with contextlib.closing(request.param(f"127.0.0.1:{port}")) as side:
        yield side
    server.stop(None).wait()


def test_a_result(side: Side, servicer: OnlyGet) -> None:
    future = side.client().attach("operations/1", response=Timestamp)
    assert side.run(future.result(LONG)) == RESPONSE
    assert servicer.gets == (0 if isinstance(servicer, NoWatch) else 4)


def test_updates(side: Side, servicer: OnlyGet) -> None:
    future = side.client().attach("operations/1", metadata=Timestamp)
    updates = side.items(future.updates(LONG))
    states = [one.metadata.seconds for one in updates]
    if isinstance(servicer, NoWatch):  # a busy machine may miss the answer to a short Wait
        assert states == sorted({*states})
        assert states[-1] == 4
    else:
        assert states == [1, 2, 3, 4]
    assert [one.done for one in updates] == [False] * (len(updates) - 1) + [True]
    assert servicer.gets == (0 if isinstance(servicer, NoWatch) else 4)


def test_what_is_not_there_is_unimplemented(side: Side) -> None:
    """P6, C8."""
    future = side.client().attach("operations/1")
    for call in (future.cancel, future.delete, future.pause, future.resume):
        with pytest.raises(LroError) as caught:
            side.run(call())
        assert caught.value.code is Code.UNIMPLEMENTED
    with pytest.raises(LroError) as caught:
        side.items(side.client().list("operations"))
    assert caught.value.code is Code.UNIMPLEMENTED
    assert not side.run(future.done())


# --- the end of a wait ---


class DoneInTime(OnlyGet):
    """Polled, and done so long after the test has said that it begins."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self.begun = math.inf

    def GetOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        is_done = time.monotonic() >= self.begun + self._seconds
        return operation(response=RESPONSE if is_done else None)


@pytest.mark.parametrize("servicer", [partial(DoneInTime, math.inf)], indirect=True)
def test_a_timeout_is_not_told_before_it_is_over(side: Side, servicer: DoneInTime) -> None:
    future = side.client(backoff=DEFAULT_BACKOFF).attach("operations/1")
    begun = time.monotonic()
    with pytest.raises(OperationTimeoutError) as caught:
        side.run(future.result(timedelta(seconds=0.7)))
    assert time.monotonic() >= begun + 0.7
    assert caught.value.elapsed >= timedelta(seconds=0.7)


@pytest.mark.parametrize("servicer", [partial(DoneInTime, 0.0)], indirect=True)
def test_no_time_is_enough_for_what_is_done(side: Side, servicer: DoneInTime) -> None:
    future = side.client().attach("operations/1", response=Timestamp)
    with pytest.raises(OperationTimeoutError):
        side.run(future.result(timedelta(0)))
    servicer.begun = time.monotonic()
    assert side.run(future.result(timedelta(0))) == RESPONSE


# --- a server that refuses, and says when to come again ---


def _retry_info(seconds: int) -> tuple[tuple[str, bytes], ...]:
    status = status_pb2.Status(code=Code.RESOURCE_EXHAUSTED, message="too many calls")
    info = error_details_pb2.RetryInfo()
    info.retry_delay.seconds = seconds
    status.details.add().Pack(info)
    return ((STATUS_DETAILS, status.SerializeToString()),)


class Refusing(OnlyGet):
    """Refuses the first call."""

    def __init__(self, header: Any) -> None:
        super().__init__()
        self._header = header
        self.refused_at = math.inf

    def GetOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        if self.refused_at == math.inf:
            self.refused_at = time.monotonic()
            bad_answers.refuses_for_now(request, context, self._header)
        return operation(response=RESPONSE)


@pytest.mark.parametrize(
    "servicer",
    [
        partial(Refusing, header)
        for header in (
            (("grpc-retry-pushback-ms", "1000"),),
            (("retry-after", "1"),),
            _retry_info(1),
        )
    ],
    ids=["grpc-retry-pushback-ms", "retry-after", "RetryInfo"],
    indirect=True,
)
def test_a_refusal_that_says_when_to_come_again_is_heeded(side: Side, servicer: Refusing) -> None:
    future = side.client().attach("operations/1", response=Timestamp)
    assert side.run(future.result(LONG)) == RESPONSE
    assert time.monotonic() >= servicer.refused_at + 1


@pytest.mark.parametrize("servicer", [partial(Refusing, _retry_info(3))], indirect=True)
def test_the_delay_that_a_refusal_asks_for_is_in_the_details_of_its_error(side: Side) -> None:
    with pytest.raises(LroError) as caught:
        side.run(side.client().get("operations/1"))
    (info,) = caught.value.details
    assert info.retry_delay.seconds == 3


# --- the pause that a server asks for ---


class Hinting(OnlyGet):
    """Asks for a pause with each answer."""

    def __init__(self, hint: str, done_at: float = 4) -> None:
        super().__init__()
        self._hint = hint
        self._done_at = done_at

    def GetOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        context.send_initial_metadata(((POLL_AFTER, self._hint),))
        self.gets += 1
        return operation(response=RESPONSE if self.gets >= self._done_at else None)


@pytest.mark.parametrize("servicer", [partial(Hinting, "20")], indirect=True)
def test_a_server_may_ask_for_shorter_pauses_than_the_client_would_make(
    side: Side, servicer: Hinting
) -> None:
    """P5."""
    patient = Backoff(initial=timedelta(hours=1), maximum=timedelta(hours=1), jitter=False)
    future = side.client(backoff=patient).attach("operations/1")
    assert side.run(future.result(LONG)) == RESPONSE


@pytest.mark.parametrize("servicer", [partial(Hinting, "60000")], indirect=True)
def test_a_server_may_ask_for_longer_pauses(side: Side, servicer: Hinting) -> None:
    """P5."""
    future = side.client(clock=FastClock()).attach("operations/1")
    with pytest.raises(OperationTimeoutError):
        side.run(future.result(timedelta(seconds=30)))
    assert servicer.gets <= 2  # the second is the last poll


@pytest.mark.parametrize(
    "servicer",
    [partial(Hinting, hint, done_at=math.inf) for hint in ("0", "-1", "", "soon", "9" * 5000)],
    ids=["0", "negative", "empty", "words", "huge"],
    indirect=True,
)
def test_a_pause_that_makes_no_sense_does_no_harm(side: Side, servicer: Hinting) -> None:
    future = side.client(backoff=DEFAULT_BACKOFF).attach("operations/1")
    with pytest.raises(OperationTimeoutError):
        side.run(future.result(timedelta(seconds=0.2)))
    assert 1 < servicer.gets < 40
