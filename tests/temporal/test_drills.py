"""Operations that a real Temporal server delivers, whatever fails; in both ways that it can.

An operation is a Standalone Activity, or a workflow of one activity for servers without those. What
any engine owes is in ``test_temporal_conformance.py``.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
from concurrent import futures
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import delivered
import grpc
import pytest
from delivered import (
    GATES,
    LEASE,
    PATIENCE_SECONDS,
    RUN,
    SWEEP,
    answer_of,
    metadata_of,
    operations,
    serving,
    with_method,
)
from google.longrunning.operations_pb2 import Operation
from google.protobuf.wrappers_pb2 import StringValue
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import Client

import lro_grpc
from lro_grpc._engine.temporal.connection import connect
from lro_grpc.engines import Temporal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from temporal_server import TemporalServer

SCRIPT = Path(delivered.__file__)


@pytest.fixture(params=[True, False], ids=["activity", "workflow"])
def standalone(request: pytest.FixtureRequest) -> bool:
    is_standalone: bool = request.param
    return is_standalone


@pytest.fixture
def queue() -> str:
    return f"lro-test-{secrets.token_hex(6)}"


@pytest.fixture
def made(postgres: str, temporal: str, queue: str, standalone: bool) -> Any:
    """Operations that are served, dispatched and run by one process."""
    return operations(postgres, temporal, queue, standalone=standalone)


def test_a_sync_server_and_a_store_of_one_process_will_do(
    tmp_path: Path, temporal: str, queue: str, standalone: bool
) -> None:
    made = operations(f"sqlite:///{tmp_path}/db", temporal, queue, standalone=standalone)
    server = grpc.server(futures.ThreadPoolExecutor(4))
    made.attach(server)
    port = server.add_insecure_port("127.0.0.1:0")
    made.start_sync()
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            start = channel.unary_unary(RUN, response_deserializer=Operation.FromString)
            started = start(b"", timeout=PATIENCE_SECONDS)
            future = lro_grpc.OperationsClient(channel).future(started, response=StringValue)
            assert future.result(PATIENCE_SECONDS).value == f"{os.getpid()} 1"
    finally:
        made.stop_sync(lambda: server.stop(0).wait())


async def test_a_terminate_stops_the_handler(made: Any, queue: str) -> None:
    async with serving(made) as caller:
        name = await caller.start(f"tell {queue}")
        await caller.until(name, "RUNNING")
        assert (await caller.terminate(name)).error.code == 10
        await asyncio.wait_for(GATES[queue].wait(), PATIENCE_SECONDS)


async def test_a_submission_that_has_ended_meanwhile_can_be_replaced(
    made: Any, temporal: str, standalone: bool
) -> None:
    connection = await connect(Temporal(temporal, standalone=standalone))
    async with serving(made) as caller:
        name = await caller.start()
        await caller.done(name)
    for _ in range(2):
        await connection._terminate(name)


async def test_what_is_resumed_the_moment_it_has_paused_needs_no_sweep(
    postgres: str, temporal: str, queue: str, standalone: bool
) -> None:
    """Though its last delivery is still ending in Temporal."""
    engine = Temporal(temporal, task_queue=queue, standalone=standalone)
    made = with_method(lro_grpc.Operations(postgres, sweep=timedelta(hours=1), engine=engine))
    async with serving(made) as caller:
        name = await caller.start("until 6")
        for _ in range(5):
            await caller.until(name, "RUNNING")
            await caller.pause(name)
            await caller.until(name, "PAUSED")
            await caller.resume(name)
        assert answer_of(await caller.done(name))[1] == 6


async def test_six_submissions_of_one_operation_make_one_attempt(
    made: Any, temporal: str, queue: str, standalone: bool
) -> None:
    connection = await connect(Temporal(temporal, standalone=standalone))
    async with serving(made) as caller:
        name = await caller.start(f"gate {queue}")
        for _ in range(5):
            await connection.submit(name, RUN, "", queue=queue, lease=LEASE, anew=False)
        GATES[queue].set()
        assert answer_of(await caller.done(name))[1] == 1


async def test_the_search_attributes_of_a_namespace_are_set(
    temporal: str, postgres: str, queue: str, standalone: bool
) -> None:
    await add_attributes(temporal)
    made = operations(postgres, temporal, queue, standalone=standalone)
    async with serving(made) as caller:
        name = await caller.start()
        await caller.done(name)
    client = await Client.connect(temporal)
    found = client.list_activities if standalone else client.list_workflows
    for _ in range(PATIENCE_SECONDS):
        listed = [one async for one in found(f"LroOperation = '{name}' AND LroMethod = '{RUN}'")]
        if listed:
            break
        await asyncio.sleep(1)  # what was started is found a little later
    assert len(listed) == 1


async def add_attributes(address: str) -> None:
    """Adds the search attributes, and returns when a connection sees them."""
    client = await Client.connect(address)
    keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
    names = ("LroOperation", "LroMethod", "LroTarget")
    request = AddSearchAttributesRequest(
        namespace="default", search_attributes=dict.fromkeys(names, keyword)
    )
    await client.operator_service.add_search_attributes(request)
    for _ in range(PATIENCE_SECONDS):
        if (await connect(Temporal(address))).has_attributes:
            return
        await asyncio.sleep(1)
    raise AssertionError("the namespace has no search attributes")


# From one engine to the other.


async def test_operations_in_flight_go_on_under_another_engine(
    postgres: str, temporal: str, queue: str, standalone: bool
) -> None:
    """To Temporal, and back: what runs is given back, and what waits is found."""

    def alone() -> lro_grpc.Operations:
        return with_method(lro_grpc.Operations(postgres, sweep=SWEEP, grace=2))

    async with serving(alone()) as caller:
        name = await caller.start("until 2")
        await caller.until(name, "RUNNING")
    async with serving(operations(postgres, temporal, queue, standalone=standalone)) as caller:
        assert answer_of(await caller.done(name))[1] == 2
        name = await caller.start("until 2")
        await caller.until(name, "RUNNING")
    async with serving(alone()) as caller:
        assert answer_of(await caller.done(name))[1] == 2


# Workers that are processes of their own.


@pytest.fixture
def workers(postgres: str, temporal: str, queue: str, standalone: bool) -> Iterator[Any]:
    """Begins workers, and ends those that are left by SIGKILL."""
    begun: list[subprocess.Popen[str]] = []

    def begin(rate: float = 0) -> subprocess.Popen[str]:
        arguments = [postgres, temporal, queue, str(int(standalone)), str(rate)]
        worker = subprocess.Popen(
            [sys.executable, SCRIPT, *arguments], stdout=subprocess.PIPE, encoding="utf-8"
        )
        begun.append(worker)
        return worker

    yield begin
    for worker in begun:
        worker.kill()
        worker.communicate(timeout=PATIENCE_SECONDS)


@pytest.fixture
def dispatching(postgres: str, temporal: str, queue: str, standalone: bool) -> Any:
    """Operations that are served and dispatched, and whose handlers run elsewhere."""
    return operations(postgres, temporal, queue, standalone=standalone, runs_handlers=False)


async def test_when_all_workers_are_killed_another_one_goes_on(
    dispatching: Any, workers: Any
) -> None:
    killed = [workers(), workers()]
    async with serving(dispatching) as caller:
        name = await caller.start("until 2")
        await caller.until(name, "RUNNING")
        for worker in killed:
            worker.kill()
        workers()
        assert answer_of(await caller.done(name))[1] == 2


async def test_a_worker_that_drains_hands_its_operations_over(
    dispatching: Any, workers: Any
) -> None:
    first = workers()
    async with serving(dispatching) as caller:
        name = await caller.start("until 2")
        await caller.until(name, "RUNNING")
        second = workers()
        await asyncio.to_thread(second.stdout.readline)
        first.terminate()
        assert answer_of(await caller.done(name)) == (second.pid, 2)
        assert first.wait(PATIENCE_SECONDS) == 0


async def test_two_workers_share_a_rate_limit(dispatching: Any, workers: Any) -> None:
    """Temporal divides it among the parts of a task queue, so a few more may begin at first.

    It need not divide the work evenly: so there is more of it until each of them has had some.
    """
    both = [workers(rate=4), workers(rate=4)]
    for worker in both:
        await asyncio.to_thread(worker.stdout.readline)
    pids: set[int] = set()
    async with serving(dispatching) as caller:
        while len(pids) < 2:
            names = [await caller.start() for _ in range(16)]
            ended = [await caller.done(name) for name in names]
            begun = [metadata_of(one).start_time.ToMicroseconds() for one in ended]
            assert max(begun) - min(begun) > 1_500_000
            pids |= {answer_of(one)[0] for one in ended}
    assert pids == {worker.pid for worker in both}


# Temporal is not there.


@pytest.fixture
def killable(request: pytest.FixtureRequest) -> Iterator[TemporalServer]:
    """The server, which is there again in the end."""
    if "TEMPORAL_ADDRESS" in os.environ:
        pytest.skip("the server of TEMPORAL_ADDRESS is not these tests' own to kill")
    server: TemporalServer = request.getfixturevalue("temporal_server")
    yield server
    server.kill()
    server.start()


async def test_while_temporal_is_away_operations_wait_in_the_store(
    killable: TemporalServer, made: Any
) -> None:
    """From the start of their server on."""
    killable.kill()
    async with serving(made) as caller:
        names = [await caller.start() for _ in range(3)]
        assert {await caller.state(name) for name in names} == {"QUEUED"}
        killable.start()
        assert {answer_of(await caller.done(name))[1] for name in names} == {1}


LISTENS = """
import asyncio, logging, sys
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from lro_grpc._engine.temporal.connection import connect
from lro_grpc.engines import Temporal

class Seen(logging.Handler):
    def emit(self, record):
        print(record.name, record.levelname, record.getMessage(), flush=True)

async def main():
    logging.getLogger("temporalio").addHandler(Seen())
    connection = await connect(Temporal(sys.argv[1]))
    print("connected", flush=True)
    service = connection.patient_client.workflow_service
    while True:
        await service.describe_namespace(DescribeNamespaceRequest(namespace="default"), retry=True)
        await asyncio.sleep(0.1)

asyncio.run(main())
"""


def test_an_outage_is_in_pythons_log_alone(killable: TemporalServer, temporal: str) -> None:
    """What the SDK would write to stderr by itself."""
    with subprocess.Popen(
        [sys.executable, "-c", LISTENS, temporal],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as listening:
        assert listening.stdout is not None
        assert listening.stdout.readline() == "connected\n"
        killable.kill()
        line = listening.stdout.readline()
        listening.kill()
        _, stderr = listening.communicate()
    assert line.startswith("temporalio WARNING ")
    assert stderr == ""


async def test_what_runs_when_temporal_is_killed_goes_on(
    killable: TemporalServer, made: Any, queue: str
) -> None:
    async with serving(made) as caller:
        name = await caller.start(f"gate {queue}")
        await caller.until(name, "RUNNING")
        killable.kill()
        meanwhile = await caller.start()
        GATES[queue].set()
        await caller.done(name)
        killable.start()
        assert answer_of(await caller.done(name))[1] == 1
        assert answer_of(await caller.done(meanwhile))[1] == 1


async def test_a_worker_ends_though_temporal_is_away(
    killable: TemporalServer, dispatching: Any, workers: Any
) -> None:
    worker = workers()
    async with serving(dispatching) as caller:
        name = await caller.start("until 2")
        await caller.until(name, "RUNNING")
        killable.kill()
        worker.terminate()
        assert await asyncio.to_thread(worker.wait, PATIENCE_SECONDS) == 0
        assert await caller.state(name) == "QUEUED"
