"""google-cloud-alloydb, unmodified, against a server of ours that speaks with its messages."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from fleet import NO_ROOM, PARENT
from google.api import http_pb2
from google.api_core import exceptions
from google.longrunning import operations_pb2
from google.rpc import code_pb2, error_details_pb2
from vendor_clients import NOBODY, over_asyncio, over_grpc, over_rest, serving

import lro_grpc
from lro_grpc import testing

if TYPE_CHECKING:
    from collections.abc import Iterator

alloydb_v1 = pytest.importorskip("google.cloud.alloydb_v1")
transports = pytest.importorskip("google.cloud.alloydb_v1.services.alloy_db_admin.transports")

pytestmark = pytest.mark.vendors

CLUSTER = f"{PARENT}/clusters/c"
METHOD = "/google.cloud.alloydb.v1.AlloyDBAdmin/BatchCreateInstances"

RULES = {
    METHOD: http_pb2.HttpRule(
        post="/v1/{parent=projects/*/locations/*/clusters/*}/instances:batchCreate",
        body="requests",
    )
}
"""The path of the method over HTTP, which no descriptor in the package has."""

SDKS = {
    "google-cloud-alloydb (gRPC)": over_grpc(
        alloydb_v1.AlloyDBAdminClient, transports.AlloyDBAdminGrpcTransport
    ),
    "google-cloud-alloydb (asyncio)": over_asyncio(
        alloydb_v1.AlloyDBAdminAsyncClient, transports.AlloyDBAdminGrpcAsyncIOTransport
    ),
    "google-cloud-alloydb (REST)": over_rest(
        alloydb_v1.AlloyDBAdminClient, transports.AlloyDBAdminRestTransport, rules=RULES
    ),
}


class Alloydb:
    """The service: what becomes of an instance is in its id."""

    def __init__(self) -> None:
        self.may_create = threading.Semaphore(0)
        """How many instances whose ids begin with ``slow`` may be created."""

    def add_to(self, operations: lro_grpc.Operations) -> None:
        operations.add_method(
            METHOD,
            self.batch_create,
            request=alloydb_v1.BatchCreateInstancesRequest,
            response=alloydb_v1.BatchCreateInstancesResponse,
            metadata=alloydb_v1.OperationMetadata,
            prepare=self.prepare,
        )

    def prepare(self, request: Any, context: Any) -> lro_grpc.Prepared:
        assert isinstance(request, alloydb_v1.BatchCreateInstancesRequest)
        targets = [f"{CLUSTER}/instances/{one.instance_id}" for one in _requests_of(request)]
        return lro_grpc.Prepared(target=request.parent, batch_targets=targets)

    def batch_create(self, request: Any, op: lro_grpc.OperationContext[Any]) -> Any:
        assert isinstance(request, alloydb_v1.BatchCreateInstancesRequest)
        assert isinstance(op.metadata, alloydb_v1.OperationMetadata)
        wanted = {
            f"{one.parent}/instances/{one.instance_id}": one.instance
            for one in _requests_of(request)
        }

        def create(name: str) -> None:
            op.progress(detail=f"creating {name}")
            if "/slow" in name:
                while not self.may_create.acquire(timeout=0.01):
                    op.raise_if_stopped()
            if "/broken" in name:
                raise lro_grpc.LroError(
                    "zone a is full",
                    code=lro_grpc.Code.RESOURCE_EXHAUSTED,
                    reason="NO_ROOM",
                    domain="alloydb.example.com",
                    details=[NO_ROOM],
                )

        op.batch(list(wanted), create=create, delete=lambda name: None)
        return alloydb_v1.BatchCreateInstancesResponse(
            instances=[
                alloydb_v1.Instance(name=name, instance_type=instance.instance_type)
                for name, instance in wanted.items()
            ]
        )


def _requests_of(batch: Any) -> Any:
    return batch.requests.create_instance_requests


def batch_of(*ids: str) -> Any:
    kind = alloydb_v1.Instance.InstanceType
    return alloydb_v1.BatchCreateInstancesRequest(
        parent=CLUSTER,
        requests=alloydb_v1.CreateInstanceRequests(
            create_instance_requests=[
                alloydb_v1.CreateInstanceRequest(
                    parent=CLUSTER,
                    instance_id=one,
                    instance=alloydb_v1.Instance(
                        instance_type=kind.READ_POOL if number else kind.PRIMARY
                    ),
                )
                for number, one in enumerate(ids)
            ]
        ),
    )


@pytest.fixture
def service() -> Alloydb:
    return Alloydb()


@pytest.fixture
def served(service: Alloydb) -> Iterator[testing.Served]:
    with serving(service.add_to) as served:
        yield served


def ended(served: testing.Served, name: str) -> None:
    """Returns when the operation is done, so that the client need not pause between its polls."""
    assert served.client.wait(name).done


def states(lro: Any) -> list[str]:
    """Returns the state of each instance, in the order of the request."""
    batch = lro.metadata.batch_create_instances_metadata
    return [batch.instance_statuses[name].state.name for name in batch.instance_targets]


@pytest.mark.case("success")
def test_a_batch_is_watched_to_its_end(
    service: Alloydb, client: Any, served: testing.Served, awaited: Any
) -> None:
    lro = awaited(client.batch_create_instances(batch_of("slow-1", "slow-2")))
    assert states(lro) == ["PENDING_CREATE", "PENDING_CREATE"]  # of the first answer

    def watch_until(expected: list[str]) -> None:
        while states(lro) != expected:
            assert not awaited(lro.done())

    watch_until(["CREATING", "PENDING_CREATE"])
    service.may_create.release()
    watch_until(["READY", "CREATING"])
    service.may_create.release()
    ended(served, lro.operation.name)
    response = awaited(lro.result())
    assert isinstance(response, alloydb_v1.BatchCreateInstancesResponse)
    kind = alloydb_v1.Instance.InstanceType
    assert [(one.name, one.instance_type) for one in response.instances] == [
        (f"{CLUSTER}/instances/slow-1", kind.PRIMARY),
        (f"{CLUSTER}/instances/slow-2", kind.READ_POOL),
    ]
    assert states(lro) == ["READY", "READY"]
    metadata = lro.metadata
    assert isinstance(metadata, alloydb_v1.OperationMetadata)
    assert (metadata.target, metadata.verb, metadata.api_version) == (CLUSTER, "batchCreate", "v1")
    assert metadata.status_message == f"creating {CLUSTER}/instances/slow-2"
    assert metadata.end_time >= metadata.create_time
    assert not metadata.requested_cancellation


@pytest.mark.case("failure")
def test_the_documented_batch_of_four(client: Any, served: testing.Served, awaited: Any) -> None:
    """Two are created, the third fails, the fourth is never begun: all or nothing."""
    lro = awaited(client.batch_create_instances(batch_of("i1", "i2", "broken", "i4")))
    ended(served, lro.operation.name)
    with pytest.raises(exceptions.GoogleAPICallError) as raised:
        awaited(lro.result())
    (status,) = raised.value.errors
    assert (status.code, status.message) == (code_pb2.RESOURCE_EXHAUSTED, "zone a is full")
    info, quota = error_details_pb2.ErrorInfo(), error_details_pb2.QuotaFailure()
    assert [status.details[0].Unpack(info), status.details[1].Unpack(quota)] == [True, True]
    assert (info.reason, info.domain) == ("NO_ROOM", "alloydb.example.com")
    assert quota == NO_ROOM
    assert states(lro) == ["ROLLED_BACK", "ROLLED_BACK", "FAILED", "FAILED"]
    batch = lro.metadata.batch_create_instances_metadata
    first, second, third, fourth = (
        batch.instance_statuses[name] for name in batch.instance_targets
    )
    assert not first.error_msg
    assert not second.error_msg
    assert (third.error.code, third.error_msg) == (code_pb2.RESOURCE_EXHAUSTED, "zone a is full")
    assert fourth.error.code == code_pb2.ABORTED
    assert f"{CLUSTER}/instances/broken" in fourth.error_msg


@pytest.mark.case("cancel")
def test_cancel_rolls_the_batch_back(client: Any, served: testing.Served, awaited: Any) -> None:
    lro = awaited(client.batch_create_instances(batch_of("i1", "slow", "i3")))
    while awaited(lro.done()) or "CREATING" not in states(lro)[1:2]:
        pass
    assert awaited(lro.cancel())
    ended(served, lro.operation.name)
    with pytest.raises(exceptions.GoogleAPICallError) as raised:
        awaited(lro.result())
    assert raised.value.errors[0].code == code_pb2.CANCELLED
    assert awaited(lro.cancelled())
    assert not awaited(lro.cancel())  # it is done, so no call is made
    assert lro.metadata.requested_cancellation
    assert states(lro)[0] == "ROLLED_BACK"
    assert set(states(lro)) <= {"ROLLED_BACK", "FAILED"}


@pytest.mark.case("list")
def test_list_by_pages(client: Any, served: testing.Served, awaited: Any) -> None:
    started = [
        awaited(client.batch_create_instances(batch_of(f"i{number}"))).operation.name
        for number in range(5)
    ]
    pages, token = [], ""
    while True:
        request = {"name": PARENT, "page_size": 2, "page_token": token}
        page = awaited(client.list_operations(request))
        pages.append([one.name for one in page.operations])
        token = page.next_page_token
        if not token:
            break
    assert pages == [[started[4], started[3]], [started[2], started[1]], [started[0]]]
    for name in started:
        ended(served, name)
    done = {"name": PARENT, "filter": "done = true AND verb = batchCreate"}
    assert len(awaited(client.list_operations(done)).operations) == 5


@pytest.mark.case("missing")
def test_a_name_that_nobody_has(client: Any, awaited: Any) -> None:
    for call in (client.get_operation, client.cancel_operation, client.delete_operation):
        with pytest.raises(exceptions.NotFound) as raised:
            awaited(call({"name": f"{PARENT}/operations/none"}))
        assert raised.value.reason == "OPERATION_NOT_FOUND"


@pytest.mark.case("denied")
def test_a_caller_who_may_not(client: Any, awaited: Any) -> None:
    lro = awaited(client.batch_create_instances(batch_of("i1")))
    name = lro.operation.name
    for call, request in (
        (client.batch_create_instances, batch_of("i2")),
        (client.get_operation, {"name": name}),
        (client.list_operations, {"name": PARENT}),
        (client.cancel_operation, {"name": name}),
        (client.delete_operation, {"name": name}),
    ):
        with pytest.raises(exceptions.Forbidden) as raised:
            awaited(call(request, metadata=NOBODY))
        assert raised.value.reason == "PERMISSION_DENIED"
    assert [one.name for one in awaited(client.list_operations({"name": PARENT})).operations] == [
        name
    ]


def test_protobufs_own_classes_will_do() -> None:
    """Whoever declares the classes that the vendor's wrap is given those."""
    request = type(batch_of()).pb()
    response = alloydb_v1.BatchCreateInstancesResponse.pb()
    metadata = alloydb_v1.OperationMetadata.pb()

    def create_nothing(given: Any, op: lro_grpc.OperationContext[Any]) -> Any:
        assert type(given) is request
        assert type(op.metadata) is metadata
        op.metadata.upgrade_cluster_status.cancellable = True
        return response(instances=[{"name": given.parent}])

    def configure(operations: lro_grpc.Operations) -> None:
        operations.add_method(
            METHOD, create_nothing, request=request, response=response, metadata=metadata
        )

    with testing.serve(configure=configure) as served:
        call = served.channel.unary_unary(METHOD, request.SerializeToString)
        started = operations_pb2.Operation.FromString(call(request(parent=CLUSTER), timeout=10))
        future = served.client.future(started, response=response, metadata=metadata)
        assert future.result().instances[0].name == CLUSTER
        assert future.metadata is not None
        assert future.metadata.upgrade_cluster_status.cancellable


def test_a_run_that_returns_another_of_the_vendors_types() -> None:
    def configure(operations: lro_grpc.Operations) -> None:
        operations.add_method(
            METHOD,
            lambda request, op: alloydb_v1.Instance(),
            request=alloydb_v1.BatchCreateInstancesRequest,
            response=alloydb_v1.BatchCreateInstancesResponse,
        )

    with testing.serve(configure=configure) as served:
        call = served.channel.unary_unary(METHOD)
        started = operations_pb2.Operation.FromString(call(b"", timeout=10))
        error = served.client.future(started).exception()
        assert isinstance(error, lro_grpc.OperationFailedError)
        assert "google.cloud.alloydb.v1.BatchCreateInstancesResponse" in error.message
