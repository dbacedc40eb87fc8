"""Values that the tests of a store give to it."""

from __future__ import annotations

from collections.abc import Sequence

from google.longrunning import operations_pb2
from google.protobuf import empty_pb2

from lro.v1 import batch_create_instances_pb2
from lro_grpc import _anys
from lro_grpc._errors import Code, LroError, to_status
from lro_grpc._operation.events import (
    Checkpoint,
    Claim,
    Event,
    Expire,
    Fail,
    Heartbeat,
    LeaseLost,
    Release,
    Report,
    RetryLater,
    SaveBatch,
    SetUpdating,
    Succeed,
    cancelled_status,
)

OTHER_METHOD = "/contract.v1.Contract/RunOther"
LEASE = 15_000_000
"""In microseconds."""
ROUNDS = 100
"""In which many calls at once have done all there is to do."""

_InstanceStatus = batch_create_instances_pb2.BatchCreateInstanceStatus
RESPONSE = _anys.packed_bytes(empty_pb2.Empty())
STATE = _anys.packed_bytes(empty_pb2.Empty())
TARGET = "projects/p/instances/i"
TWO_ATTEMPTS = (Claim(LEASE, worker="one"), Release(Report(1)), Claim(LEASE, worker="two"))
ERROR = to_status(LroError("it broke", code=Code.DATA_LOSS)).SerializeToString()
BATCH = batch_create_instances_pb2.BatchCreateInstancesMetadata(
    instance_targets=["a", "b"],
    instance_statuses={
        "a": _InstanceStatus(state=_InstanceStatus.READY),
        "b": _InstanceStatus(state=_InstanceStatus.CREATING),
    },
).SerializeToString(deterministic=True)


def writes_of(attempt: int) -> Sequence[Event]:
    """Returns every kind of write that an attempt may send, or have sent about it."""
    report = Report(attempt, 99, "stale")
    return (
        Heartbeat(attempt, LEASE),
        report,
        SaveBatch(report, BATCH, b""),
        Checkpoint(report, STATE),
        SetUpdating(report, updating=True),
        Succeed(report, RESPONSE),
        Fail(report, ERROR),
        RetryLater(report, ERROR, 0),
        Expire(report),
        Release(report),
        LeaseLost(attempt, proven=True),
        LeaseLost(attempt, stuck=True),
    )


def every_outcome() -> Sequence[Event]:
    """Returns the three kinds of end: a response, an error, a cancellation."""
    return (
        Succeed(Report(1), RESPONSE),
        Fail(Report(1), ERROR),
        Fail(Report(1), cancelled_status().SerializeToString()),
    )


def name_of(operation: bytes) -> str:
    """Returns the name of an operation that a store has answered with."""
    return operations_pb2.Operation.FromString(operation).name
