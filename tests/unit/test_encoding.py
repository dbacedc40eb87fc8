"""The bytes of single fields, which are those that protobuf itself writes."""

from __future__ import annotations

import pytest
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, timestamp_pb2, wrappers_pb2
from google.rpc import status_pb2

from lro.v1.operation_metadata_pb2 import OperationMetadata
from lro_grpc import _anys
from lro_grpc._operation import events, publication
from lro_grpc._operation.publication import LAST_TIME
from lro_grpc._wire import encoding

SECOND = 1_000_000
LENGTHS = [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152]
"""Each length that takes another byte more, and the one before it."""


@pytest.mark.parametrize("length", [one for one in LENGTHS if one])
def test_texts_and_messages_of_any_length_are_as_protobuf_writes_them(length: int) -> None:
    envelope = any_pb2.Any(type_url="x" * length)
    assert encoding.text(1)("x" * length) == envelope.SerializeToString()
    body = envelope.SerializeToString()
    whole = OperationMetadata(details=envelope)  # its tag takes two bytes
    assert encoding.message(17)(body) == whole.SerializeToString()


def test_a_text_is_as_long_as_its_bytes() -> None:
    assert encoding.text(1)("ä" * 100) == any_pb2.Any(type_url="ä" * 100).SerializeToString()


@pytest.mark.parametrize("value", [1, 127, 128, 2**14 - 1, 2**14, 2**31 - 1, 2**35, 2**63 - 1])
def test_numbers_are_as_protobuf_writes_them(value: int) -> None:
    assert encoding.number(1)(value) == wrappers_pb2.Int64Value(value=value).SerializeToString()


@pytest.mark.parametrize(
    "micros",
    [
        *(1, 2, 16, 17, 2097, 2098, 268_435, 268_436, SECOND - 1, SECOND, SECOND + 1),
        *(1_800_000_000 * SECOND, 1_800_000_000 * SECOND + 123_456, LAST_TIME),
    ],
)
def test_times_are_as_protobuf_writes_them(micros: int) -> None:
    stamp = timestamp_pb2.Timestamp()
    stamp.FromMicroseconds(micros)
    body = stamp.SerializeToString()
    assert encoding.timestamp(2)(micros) == encoding.message(2)(body)


@pytest.mark.parametrize("length", LENGTHS)
def test_an_operation_that_is_done_has_the_bytes_that_protobuf_writes(length: int) -> None:
    response = any_pb2.Any(type_url=_anys.TYPE_URL_PREFIX + "test.v1.Done", value=b"x" * length)
    error = status_pb2.Status(code=5, message="x" * length)
    new = publication.create(
        parent="projects/p/locations/l",
        operation_id="op-1",
        method="/test.v1.Tests/Run",
        metadata_type="lro.v1.OperationMetadata",
        now=1_800_000_000 * SECOND,
        target="t" * length,
    )
    claimed = events.Claim(SECOND).apply(new, 1_800_000_001 * SECOND)
    report = events.Report(1)
    for end in (
        events.Succeed(report, response.SerializeToString()),
        events.Fail(report, error.SerializeToString()),
    ):
        done = end.apply(claimed, 1_800_000_002 * SECOND)
        for record in (new, claimed, done):
            shown = operations_pb2.Operation.FromString(record.operation)
            assert shown.SerializeToString() == record.operation
            assert shown.done == record.done
        assert shown.response == response if done.response_type else shown.error == error
