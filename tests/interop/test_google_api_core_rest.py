"""google-api-core's REST clients of google.longrunning, unmodified, against our gateway (P14)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from fleet import ADD, NO_ROOM, PARENT, FleetService, Instance, create
from google.api_core import exceptions, operation, operations_v1
from google.api_core.future import polling
from google.auth.credentials import AnonymousCredentials
from google.longrunning import operations_pb2
from google.rpc import code_pb2, error_details_pb2
from vendor_clients import NOBODY, serving

from lro.example.v1 import fleet_service_pb2_grpc
from lro.v1 import operation_metadata_pb2, state_pb2
from lro_grpc import testing
from lro_grpc._http.gateway import gateway
from lro_grpc.http import listening_in_thread

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

OperationMetadata = operation_metadata_pb2.OperationMetadata


@contextlib.contextmanager
def over_rest(served: testing.Served, loop: asyncio.AbstractEventLoop) -> Iterator[Any]:
    del loop
    with listening_in_thread(gateway(served.operations), "127.0.0.1:0") as port:
        transport = operations_v1.OperationsRestTransport(
            host=f"http://127.0.0.1:{port}", credentials=AnonymousCredentials()
        )
        yield operations_v1.AbstractOperationsClient(transport=transport)
        transport._session.close()  # neither it nor the client has a close


@contextlib.contextmanager
def over_asyncio_rest(served: testing.Served, loop: asyncio.AbstractEventLoop) -> Iterator[Any]:
    credentials = pytest.importorskip("google.auth.aio.credentials").AnonymousCredentials()
    pytest.importorskip("aiohttp")

    async def connect(port: int) -> Any:
        return operations_v1.AsyncOperationsRestTransport(
            host=f"http://127.0.0.1:{port}", credentials=credentials
        )

    with listening_in_thread(gateway(served.operations), "127.0.0.1:0") as port:
        transport = loop.run_until_complete(connect(port))
        yield operations_v1.AsyncOperationsRestClient(transport=transport)
        loop.run_until_complete(transport._session.close())


SDKS = {"google-api-core (REST)": over_rest, "google-api-core (asyncio REST)": over_asyncio_rest}


@pytest.fixture
def served() -> Iterator[testing.Served]:
    with serving(None, FleetService(), ADD) as served:
        yield served


@pytest.fixture
def start(served: testing.Served) -> Any:
    stub = fleet_service_pb2_grpc.FleetServiceStub(served.channel)
    return lambda instance_id: stub.CreateInstance(create(instance_id), timeout=10)


def ended(served: testing.Served, started: operations_pb2.Operation) -> str:
    assert served.client.wait(started.name).done
    return started.name


@pytest.mark.case("success")
def test_success(served: testing.Served, client: Any, start: Any, awaited: Any) -> None:
    found = awaited(client.get_operation(ended(served, start("i"))))
    response, metadata = Instance(), OperationMetadata()
    assert found.response.Unpack(response)
    assert found.metadata.Unpack(metadata)
    assert response == Instance(name=f"{PARENT}/instances/i", size_bytes=4096)
    assert metadata.state == state_pb2.JOB_STATE_SUCCEEDED


@pytest.mark.case("success", sdk="google-api-core (REST)")
def test_a_future_is_polled_to_its_end(served: testing.Served, start: Any) -> None:
    with over_rest(served, None) as client:  # type: ignore[arg-type]
        future = operation.from_gapic(
            start("i"),
            client,
            Instance,
            metadata_type=OperationMetadata,
            polling=polling.DEFAULT_POLLING.with_delay(initial=0.01, maximum=0.1),
        )
        assert future.result().size_bytes == 4096
        assert future.metadata.verb == "create"


@pytest.mark.case("failure")
def test_failure(served: testing.Served, client: Any, start: Any, awaited: Any) -> None:
    found = awaited(client.get_operation(ended(served, start("no-room"))))
    assert found.error.code == code_pb2.RESOURCE_EXHAUSTED
    info, quota = error_details_pb2.ErrorInfo(), error_details_pb2.QuotaFailure()
    assert [found.error.details[0].Unpack(info), found.error.details[1].Unpack(quota)] == [True] * 2
    assert info.reason == "NO_ROOM"
    assert quota == NO_ROOM


@pytest.mark.case("cancel")
def test_cancel(served: testing.Served, client: Any, start: Any, awaited: Any) -> None:
    """Its body is empty, and says that it is JSON."""
    held = start("held")
    assert awaited(client.cancel_operation(held.name)) is None
    found = awaited(client.get_operation(ended(served, held)))
    assert found.error.code == code_pb2.CANCELLED


@pytest.mark.case("list")
def test_list_by_pages(client: Any, start: Any, awaited: Any, loop: Any) -> None:
    names = [start(f"i{number}").name for number in range(60)][::-1]
    pager = awaited(client.list_operations(PARENT, 'verb = "create"'))

    async def all_of_them() -> list[str]:
        return [one.name async for one in pager]

    if hasattr(pager, "__aiter__"):
        assert loop.run_until_complete(all_of_them()) == names
    else:
        assert [one.name for one in pager] == names
    awaited(client.list_operations("operations", ""))  # the names without a parent


@pytest.mark.case("missing")
def test_a_name_that_nobody_has(client: Any, awaited: Any) -> None:
    for call in (client.get_operation, client.cancel_operation, client.delete_operation):
        with pytest.raises(exceptions.NotFound) as raised:
            awaited(call(f"{PARENT}/operations/none"))
        assert "not found" in raised.value.message


@pytest.mark.case("denied")
def test_a_caller_who_may_not(client: Any, start: Any, awaited: Any) -> None:
    name = start("held").name
    for call in (client.get_operation, client.cancel_operation, client.delete_operation):
        with pytest.raises(exceptions.Forbidden) as raised:
            awaited(call(name, metadata=NOBODY))
        assert name in raised.value.message
    assert awaited(client.delete_operation(name)) is None
    with pytest.raises(exceptions.NotFound):
        awaited(client.get_operation(name))
