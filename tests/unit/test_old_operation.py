"""The record of another server's operation."""

from __future__ import annotations

from typing import Any

import pytest
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, wrappers_pb2
from google.rpc import code_pb2, status_pb2
from old_operations import PARENT, old_operations

from lro.v1 import operation_metadata_pb2, state_pb2
from lro_grpc import Code, LroError, OldOperation
from lro_grpc._operation.integrity import fault_in
from lro_grpc._operation.old_operation import is_same, record_of
from lro_grpc._operation.record import Record

NOW, DAY = 1_800_000_000_000_000, 86_400_000_000
MAY_2024 = 1_714_557_600_000_000
"""10 o'clock on its first day."""


def imported(operation: operations_pb2.Operation, now: int = NOW, **known: Any) -> Record:
    return record_of(
        OldOperation(operation, **known), now=now, retention=DAY, operation_bytes=4_000_000
    )


def done(name: str = f"{PARENT}/operations/a", **fields: Any) -> operations_pb2.Operation:
    return operations_pb2.Operation(name=name, done=True, response=any_pb2.Any(), **fields)


def failed(code: int) -> operations_pb2.Operation:
    error = status_pb2.Status(code=code, message="x")
    return operations_pb2.Operation(name="operations/a", done=True, error=error)


def test_what_is_done_is_served_byte_for_byte() -> None:
    for old in old_operations(70):
        record = imported(old)
        assert record.done
        assert not record.claimable
        assert fault_in(record) == ""
        assert record.expire_time == NOW + DAY
        if old.done:
            assert record.operation == old.SerializeToString()


def test_what_is_not_done_fails_and_its_metadata_say_so() -> None:
    (*_, old, foreign) = old_operations(7)
    record = imported(old)
    shown = operations_pb2.Operation.FromString(record.operation)
    metadata = operation_metadata_pb2.OperationMetadata()
    assert shown.metadata.Unpack(metadata)
    assert (shown.done, shown.error.code) == (True, code_pb2.ABORTED)
    assert metadata.state == state_pb2.JOB_STATE_FAILED
    assert metadata.end_time.ToMicroseconds() == NOW
    assert (metadata.target, metadata.progress_percent) == (record.target, 40)
    shown = operations_pb2.Operation.FromString(imported(foreign).operation)
    assert (shown.error.code, shown.metadata) == (code_pb2.ABORTED, foreign.metadata)


def test_the_metadata_tell_filters_what_they_know() -> None:
    record = imported(next(old_operations(1)))
    assert (record.target, record.verb, record.progress_percent) == ("instances/i0", "create", 100)
    assert (record.create_time, record.end_time) == (MAY_2024, MAY_2024 + 3_600_000_000)


def test_times_that_cannot_be_are_not_known() -> None:
    metadata = operation_metadata_pb2.OperationMetadata(progress_percent=-7)
    metadata.create_time.seconds = 2**50
    metadata.start_time.seconds = -5
    metadata.end_time.seconds = NOW
    old = done()
    old.metadata.Pack(metadata)
    record = imported(old)
    assert (record.create_time, record.start_time, record.end_time) == (NOW, 0, NOW)
    assert record.progress_percent == 0


def test_the_request_may_be_a_message() -> None:
    message = wrappers_pb2.StringValue(value="x")
    given = imported(done(), method="/a.B/C", request=message, caller="ada")
    assert (given.request, given.method) == (message.SerializeToString(), "/a.B/C")
    assert given == imported(done(), method="/a.B/C", request=given.request, caller="ada")


@pytest.mark.parametrize("later", [0, 1, DAY])
def test_an_operation_is_the_same_however_late_it_comes_again(later: int) -> None:
    for old in old_operations(7):
        assert is_same(imported(old, NOW), OldOperation(old), 4_000_000), (old, later)
        other = operations_pb2.Operation()
        other.CopyFrom(old)
        other.metadata.type_url += "x"
        assert not is_same(imported(old, NOW + later), OldOperation(other), 4_000_000)


def test_the_same_fields_in_another_order_are_the_same() -> None:
    first, second = (done() for _ in range(2))
    first.response.Pack(message := operation_metadata_pb2.OperationMetadata(verb="a", target="b"))
    second.response.type_url = first.response.type_url
    verb = operation_metadata_pb2.OperationMetadata(verb="a").SerializeToString()
    target = operation_metadata_pb2.OperationMetadata(target="b").SerializeToString()
    assert message.SerializeToString() in (verb + target, target + verb)
    for second.response.value in (verb + target, target + verb):
        assert is_same(imported(first), OldOperation(second), 4_000_000)


@pytest.mark.parametrize(
    ("old", "known", "said"),
    [
        (done("a"), {}, "'a' is not an operation's name"),
        (done("projects/-/operations/a"), {}, "stands for several"),
        (done("operations/a/b"), {}, "is not an operation's name"),
        (operations_pb2.Operation(name="operations/a", done=True), {}, "neither a response nor"),
        (
            operations_pb2.Operation(name="operations/a", response=any_pb2.Any()),
            {},
            "its response, and is not done",
        ),
        (done(), {"method": "a.B.C"}, "its method is 'a.B.C'"),
        (done(), {"method": "/a.B/C\n"}, "its method is"),
        (done(), {"method": b"/a.B/C"}, "its method is b'/a.B/C'"),
        (done(), {"request": 7}, "its request is a int"),
        (done(), {"caller": "\ud800"}, "its caller is"),
        (done(), {"caller": None}, "its caller is None"),
        (done(), {"caller": "a" * 8193}, "its caller has 8,193 characters, and may have 8,192"),
        (done(), {"method": "/a.B/" + "C" * 8188}, "its method has 8,193 characters"),
        (failed(0), {}, "it failed, with the code 0, which no error has"),
        (failed(-7), {}, "it failed, with the code -7"),
        (
            done(metadata=any_pb2.Any(type_url="x/google.rpc.Status", value=b"\xff")),
            {},
            "its metadata does not parse",
        ),
        (
            done(metadata=any_pb2.Any(type_url="x/nowhere.A", value=bytes(4_000_000))),
            {},
            "the limit is 4000000",
        ),
    ],
)
def test_what_cannot_be_stored_is_refused(
    old: operations_pb2.Operation, known: dict[str, Any], said: str
) -> None:
    with pytest.raises(LroError, match=said) as raised:
        imported(old, **known)
    assert raised.value.code in (Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED)
