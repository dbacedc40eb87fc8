"""Operations in each state, as a list of a real service has them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf import struct_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from lro.v1 import batch_create_instances_pb2, operation_metadata_pb2, state_pb2
from lro.v1.operation_description_pb2 import DescribeOperationResponse, OperationAttempt
from lro_grpc import _anys

NOW = datetime(2026, 11, 29, 6, 31, 6, 500_000, tzinfo=timezone.utc)
PARENT = "projects/shop/locations/eu-west1"
BatchStatus = batch_create_instances_pb2.BatchCreateInstanceStatus


def ago(**how_long: float) -> datetime:
    return NOW - timedelta(**how_long)


def operation(
    own_id: str,
    state: str,
    verb: str,
    target: str,
    *,
    created: datetime = NOW,
    started: datetime | None = None,
    ended: datetime | None = None,
    error: status_pb2.Status | None = None,
    **fields: Any,
) -> operations_pb2.Operation:
    """Returns an operation with the library's own metadata.

    Args:
        own_id: The last part of its name.
        state: Such as RUNNING.
        verb: Of its metadata.
        target: Below the parent.
        created: The time of its creation.
        started: The time of its start.
        ended: The time of its end.
        error: Its error.
        **fields: More fields of its metadata.
    """
    metadata = operation_metadata_pb2.OperationMetadata(
        verb=verb,
        target=f"{PARENT}/{target}",
        api_version="v1",
        state=state_pb2.JobState.Value(f"JOB_STATE_{state}"),
        **fields,
    )
    metadata.create_time.FromDatetime(created)
    metadata.update_time.FromDatetime(ended or NOW)
    if started:
        metadata.start_time.FromDatetime(started)
        metadata.attempt = metadata.attempt or 1
    made = operations_pb2.Operation(name=f"{PARENT}/operations/{own_id}")
    if ended:
        metadata.end_time.FromDatetime(ended)
        metadata.expire_time.FromDatetime(ended + timedelta(days=30))
        made.done = True
        if error is None:
            made.response.CopyFrom(_anys.pack(_response(target)))
        else:
            made.error.CopyFrom(error)
    made.metadata.CopyFrom(_anys.pack(metadata))
    return made


def _response(target: str) -> struct_pb2.Struct:
    value = struct_pb2.Struct()
    value.update({"name": f"{PARENT}/{target}", "rows": 1_234_500, "ready": True, "replica": None})
    return value


def quota_error() -> status_pb2.Status:
    """Returns an error with facts, a link and one more detail."""
    error = status_pb2.Status(
        code=code_pb2.RESOURCE_EXHAUSTED,
        message="disk quota of projects/shop is exhausted while writing segment 0042;"
        " free 12 GiB or raise the quota",
    )
    info = error_details_pb2.ErrorInfo(
        reason="DISK_QUOTA",
        domain="fleet.example.com",
        metadata={"limit": "500 GiB", "used": "499.7 GiB"},
    )
    violation = error_details_pb2.QuotaFailure.Violation(
        subject="projects/shop", description="disk: 500 GiB"
    )
    quota = error_details_pb2.QuotaFailure(violations=[violation])
    helped = error_details_pb2.Help(
        links=[
            error_details_pb2.Help.Link(
                description="Raise the quota", url="https://fleet.example.com/quotas"
            )
        ]
    )
    error.details.extend(_anys.pack(one) for one in (info, quota, helped))
    return error


def running() -> operations_pb2.Operation:
    """Returns an operation that runs, by its second attempt."""
    return operation(
        "op-yvqte5acjrfk3e2s6qyb22xc7m",
        "RUNNING",
        "restoreBackup",
        "backups/nightly-2026-11-29",
        created=ago(minutes=4),
        started=ago(minutes=3, seconds=48),
        progress_percent=58,
        status_detail="replaying the log: 716,010 of 1,234,500 rows",
        attempt=2,
    )


def failed() -> operations_pb2.Operation:
    """Returns an operation that has failed, with details."""
    return operation(
        "op-d3porucvzrzoapwicdvd34bdca",
        "FAILED",
        "restoreBackup",
        "backups/nightly-2026-11-28T02-00-00Z-weekly-retention-copy-eu-west1",
        created=ago(hours=2),
        started=ago(minutes=119),
        ended=ago(minutes=71),
        error=quota_error(),
        progress_percent=62,
        status_detail="copying 765,390 of 1,234,500 rows",
        attempt=3,
    )


def failed_batch() -> operations_pb2.Operation:
    """Returns a batch of which one instance has failed, so that all are undone."""
    error = status_pb2.Status(
        code=code_pb2.RESOURCE_EXHAUSTED,
        message="zone eu-west1-b has no capacity for db-n1-standard-16; try eu-west1-c",
    )
    batch = batch_create_instances_pb2.BatchCreateInstancesMetadata()
    states = (
        *(BatchStatus.ROLLED_BACK, BatchStatus.ROLLED_BACK, BatchStatus.FAILED),
        *(BatchStatus.ROLLED_BACK, BatchStatus.FAILED, BatchStatus.DELETING),
    )
    for number, state in enumerate(states, 1):
        name = f"{PARENT}/instances/orders-replica-{number}"
        batch.instance_targets.append(name)
        batch.instance_statuses[name].state = state
        if number == 3:
            batch.instance_statuses[name].error.CopyFrom(error)
        elif number == 5:
            batch.instance_statuses[name].error.code = code_pb2.ABORTED
            batch.instance_statuses[
                name
            ].error.message = f"not begun, because {PARENT}/instances/orders-replica-3 failed"
    return operation(
        "op-mmolqkgfclgpkre6g3untqlb2a",
        "FAILED",
        "batchCreate",
        "instances",
        created=ago(seconds=21),
        started=ago(seconds=20.9),
        ended=ago(seconds=19.5),
        error=error,
        progress_percent=50,
        status_detail="creating orders-replica-4",
        batch_create_instances_metadata=batch,
    )


def partly_failed() -> operations_pb2.Operation:
    """Returns an operation one of whose parts has failed."""
    return operation(
        "op-p4rt14l",
        "PARTIALLY_SUCCEEDED",
        "exportTables",
        "exports/2026-11-28",
        created=ago(hours=6),
        started=ago(hours=6),
        ended=ago(hours=2),
        status_detail="exported 41 of 42 tables",
        progress_percent=100,
        partial_failures=[status_pb2.Status(code=9, message="table customers_pii has no key")],
    )


def every_state() -> Iterator[operations_pb2.Operation]:
    """Yields an operation in each state, and some with texts that are hard to show."""
    yield operation("op-5kq2v7", "QUEUED", "copyTable", "tables/events_503", created=ago(seconds=3))
    yield operation(
        "op-p3nd1n6", "PENDING", "copyTable", "tables/events_502", created=ago(seconds=9)
    )
    yield running()
    yield operation(
        "op-ns2iuzbpyg7kwpphnar5dyxa3y",
        "RUNNING",
        "reindexTable",
        "tables/orders_by_customer_and_warehouse_and_created_at_desc",
        created=ago(minutes=8),
        started=ago(minutes=8),
        progress_percent=5,
        status_detail="copying 61,725 of 1,234,500 rows",
    )
    yield operation(
        "op-upd4t1n6",
        "UPDATING",
        "resizeInstance",
        "instances/orders",
        created=ago(minutes=9),
        started=ago(minutes=9),
        progress_percent=40,
        status_detail="moving to db-n1-standard-32",
    )
    yield operation(
        "op-rheqrpob4eem54ywzzcpo5ezpa",
        "PAUSED",
        "reindexTable",
        "tables/line_items",
        created=ago(minutes=31),
        started=ago(minutes=30),
        progress_percent=16,
        status_detail="copying 197,520 of 1,234,500 rows",
    )
    yield operation(
        "op-c4nc3ll1n6",
        "CANCELLING",
        "batchCreate",
        "instances",
        created=ago(minutes=33),
        started=ago(minutes=33),
        progress_percent=71,
        status_detail="deleting orders-replica-2",
        cancel_requested=True,
    )
    yield failed_batch()
    yield failed()
    yield operation(
        "op-m4rkup",
        "FAILED",
        "reindexTable",
        "tables/<script>alert(1)</script>\u202egnp.exe{{7*7}}",
        created=ago(hours=3),
        started=ago(hours=3),
        ended=ago(hours=2.9),
        error=status_pb2.Status(code=3, message='<img src=x onerror=alert(1)>"><b>{{7*7}}'),
        progress_percent=20,
    )
    yield operation(
        "op-m32dlfuw5nprleod4sjvew6nsu",
        "SUCCEEDED",
        "copyTable",
        "tables/events_490",
        created=ago(hours=4),
        started=ago(hours=4),
        ended=ago(hours=3.9972),
        status_detail="copied 1,234,500 rows",
        progress_percent=100,
    )
    yield partly_failed()
    yield operation(
        "op-a3du2oup2e5ya4dajbbw2fwq4e",
        "CANCELLED",
        "copyTable",
        "tables/customers",
        created=ago(hours=7),
        started=ago(hours=7),
        ended=ago(hours=6.9),
        error=status_pb2.Status(code=code_pb2.CANCELLED, message="the operation was cancelled"),
    )
    yield operation(
        "op-3xp1r3d",
        "EXPIRED",
        "restoreBackup",
        "backups/nightly-2026-11-20",
        created=ago(days=2),
        started=ago(days=2),
        ended=ago(days=1),
        error=status_pb2.Status(
            code=code_pb2.DEADLINE_EXCEEDED, message="the method's limit of 24 hours is over"
        ),
        progress_percent=91,
    )
    foreign = operations_pb2.Operation(name="operations/build-7731")
    foreign.metadata.type_url = "type.googleapis.com/acme.build.v1.BuildImageMetadata"
    foreign.metadata.value = b"\x0a\x03abc"
    yield foreign


def description(of: operations_pb2.Operation) -> DescribeOperationResponse:
    """Returns the description of an operation with two attempts before the present one."""
    made = DescribeOperationResponse(
        operation=of,
        method="/fleet.v1.FleetService/RestoreBackup",
        caller="deploy@shop.example.com",
        request_size_bytes=1_234,
        failed_attempt_count=1,
        max_attempts=5,
        source_operation=f"{PARENT}/operations/op-first",
        labels={"env": "prod", "cost-center": "7"},
    )
    of.metadata.Unpack(made.metadata)
    lost = made.attempts.add(number=1, worker="web-3:4711", outcome=OperationAttempt.RETRIED)
    lost.start_time.FromDatetime(ago(minutes=3, seconds=58))
    lost.end_time.FromDatetime(ago(minutes=3, seconds=52))
    lost.error.code = code_pb2.UNAVAILABLE
    lost.error.message = "the storage node closed the connection while segment 0007 was written"
    present = made.attempts.add(number=2, worker="web-1:4711")
    present.start_time.FromDatetime(ago(minutes=3, seconds=48))
    if of.done:
        present.outcome = OperationAttempt.FAILED
        present.end_time.FromDatetime(ago(minutes=3))
        made.actions.extend([DescribeOperationResponse.RERUN, DescribeOperationResponse.DELETE])
    else:
        made.lease_expire_time.FromDatetime(NOW + timedelta(seconds=25))
        made.deadline_time.FromDatetime(NOW + timedelta(hours=24))
        made.actions.extend(
            [
                DescribeOperationResponse.CANCEL,
                DescribeOperationResponse.PAUSE,
                DescribeOperationResponse.TERMINATE,
            ]
        )
    return made
