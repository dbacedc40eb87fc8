from __future__ import annotations

import logging
import math
import re
import threading
import time
from datetime import timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from fake_operations import CANCEL, GET, WAIT, FakeOperations, operation
from google.longrunning import operations_pb2
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2

from lro_grpc._errors import (
    Code,
    InvalidNameError,
    LroError,
    OperationCancelledError,
    OperationFailedError,
    OperationTimeoutError,
    WrongTypeError,
)

if TYPE_CHECKING:
    from sides import Side

RESPONSE = Timestamp(seconds=7)
UNKNOWN = any_pb2.Any(type_url="type.googleapis.com/nowhere.Nothing", value=b"\x08\x01")


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def finish_during_wait(fake: FakeOperations, ended: operations_pb2.Operation) -> None:
    def finish() -> None:
        fake.arrived[WAIT].acquire(timeout=10)
        fake.put(ended)

    threading.Thread(target=finish).start()


def test_result_comes_with_the_one_wait_call_that_was_held(
    side: Side, fake: FakeOperations
) -> None:
    """C1."""
    started = fake.put(operation())
    finish_during_wait(fake, operation(response=RESPONSE, metadata=Duration(seconds=3)))
    future = side.client().future(started, response=Timestamp, metadata=Duration)
    assert future.name == "operations/1"
    assert future.metadata is None
    assert side.run(future.result(seconds(10))) == RESPONSE
    assert future.metadata == Duration(seconds=3)
    assert future.operation.done
    assert fake.calls == [WAIT]


def test_a_done_operation_makes_no_call(side: Side, fake: FakeOperations) -> None:
    future = side.client().future(operation(response=RESPONSE), response=Timestamp)
    for _ in range(2):
        assert side.run(future.result(seconds(0))) == RESPONSE
        assert side.run(future.exception(seconds(0))) is None
        assert side.run(future.done())
        assert not side.run(future.running())
        assert not side.run(future.cancelled())
        assert not side.run(future.cancel())
    assert fake.calls == []


def test_the_operation_of_the_caller_stays_its_own(side: Side, fake: FakeOperations) -> None:
    mine = operation(response=RESPONSE)
    future = side.client().future(mine)
    mine.Clear()
    assert side.run(future.result()) == RESPONSE


def test_types_that_are_not_declared_are_those_of_the_any(side: Side, fake: FakeOperations) -> None:
    one = operation(response=RESPONSE, metadata=Duration(seconds=3))
    future = side.client().future(one)
    assert side.run(future.result()) == RESPONSE
    assert future.metadata == Duration(seconds=3)


def test_another_type_than_declared_raises_each_time(side: Side, fake: FakeOperations) -> None:
    one = operation(response=RESPONSE, metadata=RESPONSE)
    future = side.client().future(one, response=Duration, metadata=Duration)
    for _ in range(3):
        with pytest.raises(WrongTypeError, match=r"Timestamp.*not a 'google.protobuf.Duration'"):
            side.run(future.result())
        assert isinstance(side.run(future.exception()), WrongTypeError)
        with pytest.raises(WrongTypeError, match=r"the metadata of operations/1"):
            _ = future.metadata


@pytest.mark.parametrize("declared", [None, Timestamp])
def test_a_type_that_nobody_knows_raises_each_time(
    side: Side, fake: FakeOperations, declared: type[Timestamp] | None
) -> None:
    one = operations_pb2.Operation(
        name="operations/1", done=True, response=UNKNOWN, metadata=UNKNOWN
    )
    future = side.client().future(one, response=declared, metadata=declared)
    for _ in range(2):
        with pytest.raises(WrongTypeError, match=r"nowhere\.Nothing"):
            side.run(future.result())
        with pytest.raises(WrongTypeError, match=r"nowhere\.Nothing"):
            _ = future.metadata
    assert future.operation.response == UNKNOWN


@pytest.mark.parametrize("declared", [None, Timestamp])
def test_broken_bytes_raise_each_time(
    side: Side, fake: FakeOperations, declared: type[Timestamp] | None
) -> None:
    one = operation(response=RESPONSE)
    one.response.value = b"\xff"
    future = side.client().future(one, response=declared)
    for _ in range(2):
        with pytest.raises(WrongTypeError, match="bytes"):
            side.run(future.result())


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("wrong", ["10", True, math.nan, math.inf, [1]])
def test_a_timeout_is_a_duration(side: Side, fake: FakeOperations, done: bool, wrong: Any) -> None:
    future = side.client().future(operation(done=done))
    for wait in (future.result, future.exception, lambda it: side.items(future.updates(it))):
        with pytest.raises((TypeError, ValueError), match=re.escape(f"timeout is {wrong!r}; give")):
            side.run(wait(wrong))
    assert fake.calls == []


@pytest.mark.parametrize("timeout", [10, 10.5, Fraction(10), 1e300, 10**400, timedelta(seconds=10)])
def test_a_timeout_may_be_given_in_seconds(side: Side, fake: FakeOperations, timeout: Any) -> None:
    fake.put(operation(response=RESPONSE))
    client = side.client()
    for wait in ("result", "exception", "updates"):
        future = client.attach("operations/1")
        found = getattr(future, wait)(timeout=timeout)
        assert side.items(found) if wait == "updates" else side.run(found) in (RESPONSE, None)


@pytest.mark.parametrize("timeout", [0.2, 0, -1])
def test_a_timeout_in_seconds_ends_a_wait(side: Side, fake: FakeOperations, timeout: float) -> None:
    """A timeout that is over is one that is over, as for the futures of the standard library."""
    fake.put(operation())
    future = side.client().attach("operations/1")
    for wait in (future.result, future.exception, lambda it: side.items(future.updates(it))):
        with pytest.raises(TimeoutError) as late:
            side.run(wait(timeout))
        assert isinstance(late.value, OperationTimeoutError)
    fake.put(operation(response=RESPONSE))
    assert side.run(future.result(timeout)) == RESPONSE


def test_done_with_neither_response_nor_error_is_none(side: Side, fake: FakeOperations) -> None:
    """P2: some services do not provide a result."""
    future = side.client().future(operation(done=True), response=Timestamp)
    assert side.run(future.result()) is None
    assert side.run(future.exception()) is None
    assert not side.run(future.cancelled())


def test_a_failed_operation_raises_its_error_with_all_details_each_time(
    side: Side, fake: FakeOperations
) -> None:
    one = operation(error=8, metadata=RESPONSE)
    info = error_details_pb2.ErrorInfo(reason="DISK_FULL", domain="x.test", metadata={"disk": "1"})
    link = error_details_pb2.Help(links=[error_details_pb2.Help.Link(url="https://x.test")])
    one.error.details.add().Pack(info)
    one.error.details.add().Pack(link)
    one.error.details.append(UNKNOWN)
    future = side.client().future(one, metadata=Timestamp)
    for _ in range(2):
        with pytest.raises(OperationFailedError, match="the disk is full") as caught:
            side.run(future.result())
        error = caught.value
        assert type(error) is OperationFailedError
        assert error.code is Code.RESOURCE_EXHAUSTED
        assert (error.reason, error.domain, error.metadata) == (
            "DISK_FULL",
            "x.test",
            {"disk": "1"},
        )
        assert error.details == (info, link, UNKNOWN)
        assert error.operation == one
        assert isinstance(side.run(future.exception()), OperationFailedError)
    assert future.metadata == RESPONSE
    assert not side.run(future.cancelled())


def test_a_cancelled_operation(side: Side, fake: FakeOperations) -> None:
    future = side.client().future(operation(error=1))
    with pytest.raises(OperationCancelledError):
        side.run(future.result())
    assert isinstance(side.run(future.exception()), OperationCancelledError)
    assert side.run(future.cancelled())
    assert side.run(future.done())


def test_cancel_is_a_request(side: Side, fake: FakeOperations) -> None:
    future = side.client().future(fake.put(operation()))
    assert side.run(future.cancel())
    assert fake.calls == [CANCEL]
    fake.put(operation(response=RESPONSE))
    assert side.run(future.result()) == RESPONSE
    assert not side.run(future.cancel())
    assert fake.count(CANCEL) == 1


def test_a_server_that_cannot_cancel_says_so(side: Side, fake: FakeOperations) -> None:
    """P6."""
    fake.always(CANCEL, grpc.StatusCode.UNIMPLEMENTED)
    future = side.client().future(operation())
    with pytest.raises(LroError) as caught:
        side.run(future.cancel())
    assert caught.value.code is Code.UNIMPLEMENTED


def test_looking_makes_one_get_until_done(side: Side, fake: FakeOperations) -> None:
    future = side.client().future(fake.put(operation()))
    assert not side.run(future.done())
    assert side.run(future.running())
    assert not side.run(future.cancelled())
    assert fake.calls == [GET] * 3
    fake.put(operation(error=1))
    assert side.run(future.cancelled())
    assert not side.run(future.running())
    assert fake.calls == [GET] * 4


def test_looking_at_a_server_that_is_away_is_no_error(side: Side, fake: FakeOperations) -> None:
    fake.always(GET, grpc.StatusCode.UNAVAILABLE)
    future = side.client().future(operation())
    assert not side.run(future.done())
    fake.always(GET, grpc.StatusCode.PERMISSION_DENIED)
    with pytest.raises(LroError) as caught:
        side.run(future.done())
    assert caught.value.code is Code.PERMISSION_DENIED


def test_attach_needs_only_the_name(side: Side, fake: FakeOperations) -> None:
    fake.put(operation(response=RESPONSE))
    future = side.client().attach("operations/1", response=Timestamp)
    assert fake.calls == []
    assert side.run(future.result()) == RESPONSE


def test_an_operation_without_a_name_is_fine_only_when_done(
    side: Side, fake: FakeOperations
) -> None:
    assert side.run(side.client().future(operation("", response=RESPONSE)).result()) == RESPONSE
    with pytest.raises(InvalidNameError):
        side.client().future(operation(""))
    with pytest.raises(InvalidNameError):
        side.client().attach("")


def test_a_timeout_names_the_operation_and_carries_its_last_state(
    side: Side, fake: FakeOperations
) -> None:
    fake.put(operation(metadata=RESPONSE))
    future = side.client().future(operation())
    for wait in (future.result, future.exception):
        began = time.monotonic()
        with pytest.raises(OperationTimeoutError, match="operations/1") as caught:
            side.run(wait(seconds(0.6)))
        assert time.monotonic() - began > 0.4
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.operation == operation(metadata=RESPONSE)
    assert fake.count(WAIT) == 2


def test_the_longest_timeout_is_no_problem(side: Side, fake: FakeOperations) -> None:
    fake.always(WAIT, grpc.StatusCode.UNIMPLEMENTED)
    fake.put(operation(response=RESPONSE))
    client = side.client()
    assert side.run(client.attach("operations/1").result(timedelta.max)) == RESPONSE
    updates = client.attach("operations/1").updates(timedelta.max)
    assert [one.done for one in side.items(updates)] == [True]
    assert side.run(client.get("operations/1", timeout=timedelta.max)).done


def test_no_wait_method_means_polling_and_is_remembered_by_the_client(
    side: Side, fake: FakeOperations
) -> None:
    """P6."""
    fake.always(WAIT, grpc.StatusCode.UNIMPLEMENTED)
    client = side.client()
    for name in ("operations/1", "operations/2"):
        fake.put(operation(name, response=RESPONSE))
        fake.script(GET, operation(name), operation(name))
        assert side.run(client.future(operation(name)).result(seconds(10))) == RESPONSE
    assert fake.calls == [WAIT] + [GET] * 6


def test_ten_waiters_of_one_future_make_one_call(side: Side, fake: FakeOperations) -> None:
    future = side.client().future(fake.put(operation()))
    finish_during_wait(fake, operation(response=RESPONSE))
    assert side.together([lambda: future.result(seconds(10))] * 10) == [RESPONSE] * 10
    assert fake.calls == [WAIT]


def call_of(event: threading.Event, calls: list[Any]) -> Any:
    def callback(future: Any) -> None:
        calls.append((future, threading.current_thread()))
        event.set()

    return callback


def add_on(side: Side, future: Any, *callbacks: Any) -> None:
    async def add() -> None:  # the async one needs a running loop
        for callback in callbacks:
            future.add_done_callback(callback)

    if side.is_async:
        side.run(add())
    else:
        for callback in callbacks:
            future.add_done_callback(callback)


def test_each_callback_is_called_once_when_the_operation_ends(
    side: Side, fake: FakeOperations
) -> None:
    future = side.client().future(fake.put(operation()))
    first, second, calls = threading.Event(), threading.Event(), []

    add_on(side, future, call_of(first, calls), call_of(second, calls))
    finish_during_wait(fake, operation(response=RESPONSE))
    side.until(first)
    side.until(second)
    assert side.run(future.result()) == RESPONSE
    assert [one for one, _ in calls] == [future, future]
    assert fake.calls == [WAIT]


def test_an_answer_that_comes_late_does_not_undo_a_done_operation(
    side: Side, fake: FakeOperations
) -> None:
    future = side.client().future(fake.put(operation()))
    ended = threading.Event()

    def late(request: Any, context: grpc.ServicerContext) -> operations_pb2.Operation:
        fake.put(operation(response=RESPONSE))
        assert ended.wait(10)
        return operation()

    fake.script(GET, late)
    add_on(side, future, lambda _: ended.set())
    assert side.run(future.done())
    assert fake.count(GET) == 1


def test_a_callback_of_a_done_operation_is_called_too(side: Side, fake: FakeOperations) -> None:
    future = side.client().future(operation(response=RESPONSE))
    calls: list[Any] = []
    for _ in range(2):
        event = threading.Event()
        add_on(side, future, call_of(event, calls))
        side.until(event)
    assert len(calls) == 2
    assert fake.calls == []


def test_a_callback_that_fails_is_logged_and_keeps_no_other_from_being_called(
    side: Side, fake: FakeOperations, caplog: pytest.LogCaptureFixture
) -> None:
    future = side.client().future(operation(response=RESPONSE))
    event, calls = threading.Event(), []

    def broken(future: Any) -> None:
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR, logger="lro_grpc"):
        add_on(side, future, broken, call_of(event, calls))
        side.until(event)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [
        ZeroDivisionError
    ]
    assert [vars(record)["operation"] for record in caplog.records] == [future.name]


def test_callbacks_are_called_when_the_wait_itself_fails(side: Side, fake: FakeOperations) -> None:
    future = side.client().attach("operations/unknown")
    event, calls = threading.Event(), []
    add_on(side, future, call_of(event, calls))
    side.until(event)
    assert len(calls) == 1
    with pytest.raises(LroError) as caught:
        side.run(future.result())
    assert caught.value.code is Code.NOT_FOUND


def test_an_error_of_the_call_and_one_of_the_operation_differ(
    side: Side, fake: FakeOperations
) -> None:
    """C8: NOT_FOUND of a call is no outcome."""
    future = side.client().attach("operations/1")
    with pytest.raises(LroError) as caught:
        side.run(future.result(seconds(10)))
    assert caught.value.code is Code.NOT_FOUND
    assert not isinstance(caught.value, OperationFailedError)
    fake.put(operation(error=5))
    with pytest.raises(OperationFailedError):
        side.run(future.result(seconds(10)))


def test_an_update_has_the_any_itself_if_its_type_is_not_known_here(
    side: Side, fake: FakeOperations
) -> None:
    ended = operation(response=RESPONSE)
    ended.metadata.CopyFrom(UNKNOWN)
    future = side.client().future(fake.put(ended))
    (update,) = side.items(future.updates())
    assert (update.metadata, update.progress_percent, update.done) == (UNKNOWN, None, True)
    assert future.progress is None
