"""Operations of a generated Google client, unmodified, as our futures.

The vendors' packages are imported by the fixtures, so that this file can be collected without
them.
"""

from __future__ import annotations

import asyncio
from concurrent import futures
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from pages import Page

import lro_grpc
from lro_grpc import compat

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.vendors

ROOT = Path(__file__).parents[2]
PARENT = "projects/p/locations/l"
QUICK = lro_grpc.Backoff(initial=timedelta(milliseconds=10), maximum=timedelta(milliseconds=50))


@pytest.fixture
def alloydb() -> Any:
    from google.cloud import alloydb_v1

    return alloydb_v1


@pytest.fixture
def target(alloydb: Any) -> Iterator[str]:
    """A server of one method of theirs, which is done as soon as it has shown what it does."""
    cluster = alloydb.Cluster.pb()

    async def create_cluster(request: Any, op: Any) -> Any:
        op.metadata.status_message = "building"
        return cluster(name=f"{request.parent}/clusters/{request.cluster_id}")

    operations = lro_grpc.Operations("memory:", grace=timedelta(seconds=1))
    server = grpc.server(futures.ThreadPoolExecutor(8))
    operations.attach(server)
    operations.add_method(
        "/google.cloud.alloydb.v1.AlloyDBAdmin/CreateCluster",
        create_cluster,
        request=alloydb.CreateClusterRequest.pb(),
        response=cluster,
        metadata=alloydb.OperationMetadata.pb(),
    )
    port = server.add_insecure_port("127.0.0.1:0")
    operations.start_sync()
    server.start()
    yield f"127.0.0.1:{port}"
    operations.stop_sync(lambda: server.stop(1).wait())


@pytest.fixture
def client(alloydb: Any, target: str) -> Iterator[Any]:
    from google.cloud.alloydb_v1.services.alloy_db_admin import transports

    with grpc.insecure_channel(target) as channel:
        transport = transports.AlloyDBAdminGrpcTransport(channel=channel)
        yield alloydb.AlloyDBAdminClient(transport=transport)


@pytest.fixture
def request_(alloydb: Any) -> Any:
    return alloydb.CreateClusterRequest(parent=PARENT, cluster_id="c")


def test_the_result_is_what_the_client_declares(alloydb: Any, client: Any, request_: Any) -> None:
    future = compat.future(client.create_cluster(request_), backoff=QUICK)
    cluster = future.result()
    assert type(cluster) is alloydb.Cluster
    assert cluster.name == f"{PARENT}/clusters/c"
    assert type(future.metadata) is alloydb.OperationMetadata
    assert future.metadata.verb == "create"
    assert future.metadata.create_time <= future.metadata.end_time
    *_, last = future.updates()
    assert last.state.name == "JOB_STATE_SUCCEEDED"
    assert last.metadata == future.metadata


def test_the_clients_own_channel_serves_too(client: Any, request_: Any) -> None:
    channel = client.transport.grpc_channel
    future = compat.future(client.create_cluster(request_), channel=channel)
    assert future.result().name == f"{PARENT}/clusters/c"
    future.delete()


def test_the_async_client(alloydb: Any, target: str, request_: Any) -> None:
    from google.cloud.alloydb_v1.services.alloy_db_admin import transports

    async def main() -> None:
        async with grpc.aio.insecure_channel(target) as channel:
            transport = transports.AlloyDBAdminGrpcAsyncIOTransport(channel=channel)
            client = alloydb.AlloyDBAdminAsyncClient(transport=transport)
            started = await client.create_cluster(request_)
            cluster = await compat.async_future(started, backoff=QUICK)
            assert cluster == alloydb.Cluster(name=f"{PARENT}/clusters/c")
            future = compat.async_future(started, channel=client.transport.grpc_channel)
            assert await future.result() == cluster

    asyncio.run(main())


def test_what_the_page_says(client: Any, request_: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = Page("learn/clients.md").section("Google's own clients").blocks("python")
    block.run(client=client, request=request_)
    assert capsys.readouterr().out.splitlines()[-1] == f"{PARENT}/clusters/c"


PROGRAM = """
from google.cloud import alloydb_v1 as alloydb
from typing_extensions import assert_type
from lro_grpc import compat

def main(client: alloydb.AlloyDBAdminClient) -> None:
    started = client.create_cluster()
    future = compat.future(started, response=alloydb.Cluster, metadata=alloydb.OperationMetadata)
    assert_type(future.result(), alloydb.Cluster)
    assert_type(future.metadata, alloydb.OperationMetadata | None)
    for update in future.updates():
        assert_type(update.metadata, alloydb.OperationMetadata)
    print(compat.future(started).result().name)

async def async_main(client: alloydb.AlloyDBAdminAsyncClient) -> None:
    future = compat.async_future(await client.create_cluster(), response=alloydb.Cluster)
    assert_type(await future, alloydb.Cluster)
    compat.async_future(client.create_cluster())
"""


@pytest.mark.timeout(300)  # the checker reads all of a vendor's package
def test_types_are_known_to_the_type_checker(tmp_path: Path) -> None:
    from mypy import api

    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    config = str(ROOT / "pyproject.toml")
    said, _, _ = api.run(["--config-file", config, "--no-error-summary", str(program)])
    errors = [line for line in said.splitlines() if " error: " in line]
    assert len(errors) == 1, said
    assert "Coroutine" in errors[0]
