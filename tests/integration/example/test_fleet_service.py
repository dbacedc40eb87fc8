"""The fleet's service on real servers, sync and async, called with the generated stubs."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from fleet_harness import (
    PARENT,
    TABLE,
    Instance,
    Server,
    detail,
    info_of,
    metadata_of,
    on_disk,
    refused,
    request,
    response_of,
    serving,
)
from google.protobuf import empty_pb2
from google.rpc import error_details_pb2

from lro.example.v1 import fleet_service_pb2
from lro.v1 import batch_create_instances_pb2
from lro_grpc import Code

if TYPE_CHECKING:
    from pathlib import Path

DOMAIN = "lro.example.v1.FleetService"
BROKEN = "CREATE TABLE goods ("
NOBODY = f"{PARENT}/instances/nobody"
UUID = "5f1f9a4e-4c5b-4f0e-9a39-0a5f6f9a8f11"

States = batch_create_instances_pb2.BatchCreateInstanceStatus.State


def rows_of(data: Path, name: str, sql: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(data / name / "data.db")) as connection:
        return connection.execute(sql).fetchall()


def states_of(operation: Any) -> dict[str, str]:
    batch = metadata_of(operation).batch_create_instances_metadata
    return {
        target.rpartition("/")[2]: States.Name(batch.instance_statuses[target].state)
        for target in batch.instance_targets
    }


# Creating


def test_create(server: Server) -> None:
    """S10: done means that the instance exists, and is as it was requested."""
    ended = server.done(server.create("orders", rows=12_345))
    made = response_of(ended, Instance())
    assert made == server.get("orders")
    assert (made.name, made.state) == (f"{PARENT}/instances/orders", Instance.READY)
    assert (made.schema_sql, made.seed_rows) == (TABLE, 12_345)
    file = server.data / made.name / "data.db"
    assert made.size_bytes == file.stat().st_size > 0
    assert rows_of(server.data, made.name, "SELECT count(*), max(title) FROM goods") == [
        (12_345, "title 9999")
    ]
    metadata = metadata_of(ended)
    assert (metadata.target, metadata.verb, metadata.api_version) == (made.name, "create", "v1")
    assert (metadata.progress_percent, metadata.status_detail) == (
        100,
        "inserted 12,345 of 12,345 rows",
    )


def test_a_broken_schema_fails_the_operation(server: Server) -> None:
    ended = server.done(server.create("orders", BROKEN))
    assert ended.error.code == Code.INVALID_ARGUMENT
    info = info_of(ended.error)
    assert (info.reason, info.domain) == ("INVALID_SCHEMA", DOMAIN)
    assert info.metadata == {"instance": f"{PARENT}/instances/orders", "sqlite": "incomplete input"}
    assert on_disk(server.data) == []
    assert refused(lambda: server.get("orders")).code == Code.NOT_FOUND


def test_rows_without_a_table_fail_the_operation(server: Server) -> None:
    ended = server.done(server.create("orders", "", rows=1))
    assert ended.error.code == Code.INVALID_ARGUMENT
    assert info_of(ended.error).reason == "NO_TABLE"
    assert on_disk(server.data) == []


def test_a_table_that_refuses_rows_fails_the_operation(server: Server) -> None:
    ended = server.done(server.create("orders", "CREATE TABLE t (x CHECK (x = 'red'))", rows=1))
    assert ended.error.code == Code.FAILED_PRECONDITION
    assert info_of(ended.error).reason == "ROWS_REFUSED"
    assert on_disk(server.data) == []


def test_validate_only_creates_nothing(server: Server) -> None:
    answer = server.create("orders", validate_only=True)
    assert answer.done
    assert answer.name == ""
    assert on_disk(server.data) == []
    again = refused(lambda: server.create("Orders", validate_only=True))
    assert again.code == Code.INVALID_ARGUMENT


def test_the_same_request_again_is_the_same_operation(server: Server) -> None:
    first = server.create("orders", rows=5, request_id=UUID)
    assert server.done(first).WhichOneof("result") == "response"
    assert server.create("orders", rows=5, request_id=UUID).name == first.name
    for name, rows in (("other", 5), ("orders", 6)):  # the second one's name is taken besides
        other = refused(
            lambda name=name, rows=rows: server.create(name, rows=rows, request_id=UUID)
        )
        assert (other.code, info_of(other).reason) == (Code.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert rows_of(server.data, server.get("orders").name, "SELECT count(*) FROM goods") == [(5,)]


def test_cancel_while_rows_are_inserted(server: Server) -> None:
    """S9: meanwhile the instance is visible, and so is that it cannot be used yet."""
    started = server.create("orders", rows=10**12)
    server.until(started, lambda seen: seen.status_detail.startswith("inserted "))
    building = server.get("orders")
    assert (building.state, building.seed_rows) == (Instance.CREATING, 10**12)
    assert list(server.list().instances) == [building]
    taken = refused(lambda: server.create("orders"))
    assert (taken.code, info_of(taken).reason) == (Code.ALREADY_EXISTS, "NAME_TAKEN")
    server.cancel(started)
    ended = server.done(started)
    assert ended.error.code == Code.CANCELLED
    assert on_disk(server.data) == []
    assert refused(lambda: server.get("orders")).code == Code.NOT_FOUND


def test_a_build_goes_on_after_a_restart(kind: str, data: Path, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'operations.db'}"
    with serving(kind, data, store) as server:
        started = server.create("orders", rows=400_000)
        server.until(started, lambda seen: seen.status_detail.startswith("inserted "))
    with serving(kind, data, store) as server:
        ended = server.done(started)
        assert metadata_of(ended).attempt == 2
        assert response_of(ended, Instance()) == server.get("orders")
    name = f"{PARENT}/instances/orders"
    assert rows_of(data, name, "SELECT count(*) FROM goods") == [(400_000,)]
    assert len(on_disk(data)) == 3


# Batches


def test_a_batch_of_four(server: Server) -> None:
    ended = server.done(server.batch(*(request(one, rows=2) for one in ("d", "b", "c", "a"))))
    made = response_of(ended, fleet_service_pb2.BatchCreateInstancesResponse()).instances
    assert [one.name.rpartition("/")[2] for one in made] == ["d", "b", "c", "a"]
    assert {one.state for one in made} == {Instance.READY}
    assert list(made) == [server.get(one) for one in ("d", "b", "c", "a")]
    assert states_of(ended) == {"d": "READY", "b": "READY", "c": "READY", "a": "READY"}
    assert metadata_of(ended).target == PARENT
    for one in made:
        assert rows_of(server.data, one.name, "SELECT count(*) FROM goods") == [(2,)]


def test_a_batch_of_four_whose_third_fails(server: Server) -> None:
    schemas = {"a": TABLE, "b": TABLE, "c": BROKEN, "d": TABLE}
    ended = server.done(server.batch(*(request(one, sql) for one, sql in schemas.items())))
    assert ended.error.code == Code.INVALID_ARGUMENT
    info = info_of(ended.error)
    assert (info.reason, info.metadata["instance"]) == ("INVALID_SCHEMA", f"{PARENT}/instances/c")
    assert states_of(ended) == {
        "a": "ROLLED_BACK",
        "b": "ROLLED_BACK",
        "c": "FAILED",
        "d": "FAILED",
    }
    assert on_disk(server.data) == []
    assert list(server.list().instances) == []


def test_cancel_of_a_batch_takes_everything_back(server: Server) -> None:
    started = server.batch(request("a"), request("b", rows=10**12), request("c"))
    server.until(started, lambda seen: seen.status_detail.startswith("b: inserted "))
    assert metadata_of(server.wait(started, 0)).progress_percent == 33  # one of three
    assert [one.state for one in server.list().instances] == [Instance.READY, Instance.CREATING]
    server.cancel(started)
    ended = server.done(started)
    assert ended.error.code == Code.CANCELLED
    assert states_of(ended) == {"a": "ROLLED_BACK", "b": "FAILED", "c": "FAILED"}
    assert on_disk(server.data) == []


# Snapshots and deletes


def test_snapshot(server: Server) -> None:
    server.done(server.create("orders", rows=20_000))
    ended = server.done(server.snapshot("orders", "monday"))
    snapshot = response_of(ended, fleet_service_pb2.TakeSnapshotResponse()).snapshot
    source = server.get("orders")
    assert (snapshot.name, snapshot.instance) == (f"{PARENT}/snapshots/monday", source.name)
    assert snapshot.size_bytes == source.size_bytes
    everything = "SELECT * FROM goods ORDER BY id"
    copied = rows_of(server.data, snapshot.name, everything)
    assert len(copied) == 20_000
    assert copied == rows_of(server.data, source.name, everything)
    assert metadata_of(ended).status_detail.startswith("copied ")
    taken = refused(lambda: server.snapshot("orders", "monday"))
    assert (taken.code, info_of(taken).reason) == (Code.ALREADY_EXISTS, "NAME_TAKEN")


def test_delete(server: Server) -> None:
    """P3: the method has nothing to return, so the response is an Empty."""
    server.done(server.create("orders"))
    server.done(server.snapshot("orders", "monday"))
    ended = server.done(server.delete("orders"))
    assert response_of(ended, empty_pb2.Empty()) == empty_pb2.Empty()
    gone = refused(lambda: server.get("orders"))
    assert (gone.code, info_of(gone).reason) == (Code.NOT_FOUND, "INSTANCE_NOT_FOUND")
    assert {one.split("/")[4] for one in on_disk(server.data)} == {"snapshots"}
    assert refused(lambda: server.delete("orders")).code == Code.NOT_FOUND
    assert server.done(server.create("orders")).WhichOneof("result") == "response"


# What is refused at the start


@pytest.mark.parametrize(
    ("rpc", "message", "field"),
    [
        ("CreateInstance", fleet_service_pb2.CreateInstanceRequest(), "parent"),
        ("CreateInstance", request("a", parent="projects/p"), "parent"),
        ("CreateInstance", request("a", parent="projects/../locations/l"), "parent"),
        ("CreateInstance", request("1"), "instance_id"),
        ("CreateInstance", request("../../etc"), "instance_id"),
        ("CreateInstance", request("a", rows=-1), "instance.seed_rows"),
        ("CreateInstance", request("a", instance=None), "instance"),
        ("BatchCreateInstances", fleet_service_pb2.BatchCreateInstancesRequest(), "parent"),
        (
            "BatchCreateInstances",
            fleet_service_pb2.BatchCreateInstancesRequest(parent=PARENT),
            "requests",
        ),
        *(
            (
                "BatchCreateInstances",
                fleet_service_pb2.BatchCreateInstancesRequest(
                    parent=PARENT, requests=[request("a"), second]
                ),
                f"requests[1].{field}",
            )
            for second, field in [
                (request("a"), "instance_id"),
                (request("b-"), "instance_id"),
                (request("b", rows=-1), "instance.seed_rows"),
                (request("b", parent="projects/p/locations/other"), "parent"),
                (request("b", request_id=UUID), "request_id"),
                (request("b", validate_only=True), "validate_only"),
            ]
        ),
        ("TakeSnapshot", fleet_service_pb2.TakeSnapshotRequest(), "name"),
        (
            "TakeSnapshot",
            fleet_service_pb2.TakeSnapshotRequest(name=NOBODY, snapshot_id="."),
            "snapshot_id",
        ),
        ("DeleteInstance", fleet_service_pb2.DeleteInstanceRequest(), "name"),
        ("DeleteInstance", fleet_service_pb2.DeleteInstanceRequest(name=PARENT), "name"),
        ("GetInstance", fleet_service_pb2.GetInstanceRequest(), "name"),
        ("GetInstance", fleet_service_pb2.GetInstanceRequest(name=f"{NOBODY}/.."), "name"),
        ("ListInstances", fleet_service_pb2.ListInstancesRequest(), "parent"),
    ],
)
def test_a_malformed_request(server: Server, rpc: str, message: Any, field: str) -> None:
    status = refused(lambda: getattr(server.fleet, rpc)(message))
    assert status.code == Code.INVALID_ARGUMENT
    info = info_of(status)
    assert (info.reason, info.domain, info.metadata["field"]) == ("INVALID_FIELD", DOMAIN, field)
    assert on_disk(server.data) == []


def test_a_resource_that_does_not_exist(server: Server) -> None:
    """S20."""
    for call in (
        lambda: server.get("nobody"),
        lambda: server.delete("nobody"),
        lambda: server.snapshot("nobody", "monday"),
    ):
        status = refused(call)
        info = info_of(status)
        assert (status.code, info.reason) == (Code.NOT_FOUND, "INSTANCE_NOT_FOUND")
        assert (info.domain, info.metadata) == (DOMAIN, {"name": NOBODY})


def test_a_resource_that_exists_already(server: Server) -> None:
    server.done(server.create("orders"))
    for call in (
        lambda: server.create("orders"),
        lambda: server.batch(request("a"), request("orders")),
    ):
        status = refused(call)
        assert (status.code, info_of(status).reason) == (Code.ALREADY_EXISTS, "NAME_TAKEN")
    assert len(on_disk(server.data)) == 3


def test_a_full_fleet(server: Server) -> None:
    server.done(server.create("orders"))
    name = server.get("orders").name
    os.truncate(server.data / name / "data.db", 8 << 30)  # a file with a hole: it takes no room
    for call in (
        lambda: server.create("more"),
        lambda: server.batch(request("more")),
        lambda: server.snapshot("orders", "monday"),
    ):
        status = refused(call)
        assert (status.code, info_of(status).reason) == (Code.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
        failure = detail(status, error_details_pb2.QuotaFailure())
        assert [violation.subject for violation in failure.violations] == ["fleet"]


# Listing


def test_pages(server: Server) -> None:
    server.done(server.batch(*(request(one) for one in "edcba")))
    assert [one.name[-1] for one in server.list().instances] == list("abcde")
    first = server.list(page_size=2)
    second = server.list(page_size=10**9, page_token=first.next_page_token)
    assert [one.name[-1] for one in first.instances] == ["a", "b"]
    assert [one.name[-1] for one in second.instances] == ["c", "d", "e"]
    assert second.next_page_token == ""


def test_bad_pages(server: Server) -> None:
    server.done(server.batch(request("a"), request("b")))
    token = server.list(page_size=1).next_page_token
    elsewhere = fleet_service_pb2.ListInstancesRequest(
        parent="projects/p/locations/elsewhere", page_token=token
    )
    for call, reason in (
        (lambda: server.list(page_size=-1), "INVALID_PAGE_SIZE"),
        (lambda: server.list(page_token="b"), "INVALID_PAGE_TOKEN"),
        (lambda: server.fleet.ListInstances(elsewhere), "INVALID_PAGE_TOKEN"),
    ):
        status = refused(call)
        assert (status.code, info_of(status).reason) == (Code.INVALID_ARGUMENT, reason)
