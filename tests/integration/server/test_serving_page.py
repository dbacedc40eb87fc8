"""The pages on serving, on replicas and on the log: what they show is run."""

from __future__ import annotations

import ast
import asyncio
import datetime
import json
import re
import signal
import subprocess
import sys
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from busy_machine import is_said_of_it
from google.longrunning import operations_pb2, operations_pb2_grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from pages import Page
from server_harness import Held

import lro_grpc
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc

SERVERS, HEALTH, INTERCEPTORS = Page("deploy/serving.md").texts("python")
REPLICAS = Page("deploy/replicas.md")
ADD, SPREAD, AGE, CHANNELS, MAX_WAIT, WORK = REPLICAS.texts("python")
LOGGING = Page("deploy/log.md")
(LOG,) = LOGGING.texts("python")

NAMES = {
    "datetime": datetime,
    "futures": futures,
    "grpc": grpc,
    "health": health,
    "health_pb2": health_pb2,
    "health_pb2_grpc": health_pb2_grpc,
    "json": json,
    "lro_grpc": lro_grpc,
    "reflection": reflection,
}


async def run(block: str, **names: Any) -> dict[str, Any]:
    """Runs a block, and returns the names that it has then."""
    known = {**NAMES, **names}
    coroutine = eval(compile(block, "serving.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), known)
    if coroutine is not None:
        await coroutine
    return known


def test_a_server_of_either_kind_is_made_with_the_options() -> None:
    async def make() -> None:
        kinds = [grpc.aio.Server, grpc.Server]
        for line, kind in zip(SERVERS.splitlines(), kinds, strict=True):
            assert isinstance((await run(line))["server"], kind)

    asyncio.run(make())


def test_a_server_has_health_checks_and_reflection() -> None:
    async def serve() -> None:
        operations = lro_grpc.Operations("memory:")
        server = grpc.aio.server()
        known = await run(INTERCEPTORS, operations=operations, server=server)
        assert isinstance(known["registrar"], grpc.aio.Server)
        port = server.add_insecure_port("127.0.0.1:0")
        running = asyncio.create_task(run(HEALTH, operations=operations, server=server))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            for service in ("", *operations.services):
                request = health_pb2.HealthCheckRequest(service=service)
                answer = await check(request, timeout=20, wait_for_ready=True)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
        await server.stop(0)
        await running

    asyncio.run(serve())


def server_of_peers() -> tuple[grpc.Server, int]:
    """A server that answers with the connection that a call came on; and its port."""
    peers = grpc.method_handlers_generic_handler(
        "test.Peers",
        {"Peer": grpc.unary_unary_rpc_method_handler(lambda _, context: context.peer().encode())},
    )
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[peers])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def peer(channel: grpc.Channel) -> bytes:
    answer: bytes = channel.unary_unary("/test.Peers/Peer")(b"", timeout=20, wait_for_ready=True)
    return answer


def test_channels_of_their_own_are_connections_of_their_own() -> None:
    server, port = server_of_peers()
    block = CHANNELS.replace("reports:50051", f"127.0.0.1:{port}")
    channels = asyncio.run(run(block))["channels"]
    assert len({peer(channel) for channel in channels}) == 4
    for channel in channels:
        channel.close()
    server.stop(0).wait()


def test_the_calls_of_a_channel_are_spread_over_all_addresses_of_its_name() -> None:
    servers, ports = zip(*(server_of_peers() for _ in range(2)), strict=True)
    addresses = ",".join(f"127.0.0.1:{port}" for port in ports)
    block = SPREAD.replace("dns:///reports:50051", f"ipv4:{addresses}")
    channel = asyncio.run(run(block))["channel"]
    seen = {peer(channel)}
    while len(seen) < 2:  # the second connection may come a moment later
        seen.add(peer(channel))
    several = [peer(channel) for _ in range(10)]
    assert several[::2] == [several[0]] * 5
    assert several[1::2] == [several[1]] * 5
    channel.close()
    for server in servers:
        server.stop(0).wait()


def test_a_call_outlives_the_age_of_its_connection() -> None:
    async def serve() -> None:
        server = (await run(AGE.replace("300_000", "50")))["server"]
        operations = lro_grpc.Operations("memory:")
        held = Held("async def")
        registrar = operations.attach(server)
        fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(held.servicer(), registrar)
        port = server.add_insecure_port("127.0.0.1:0")
        await operations.start()
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            fleet = fleet_service_pb2_grpc.FleetServiceStub(channel)
            started = await fleet.CreateInstance(fleet_service_pb2.CreateInstanceRequest())
            waits = operations_pb2_grpc.OperationsStub(channel).WaitOperation  # without a retry
            waiting = waits(operations_pb2.WaitOperationRequest(name=started.name), timeout=60)
            await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)  # its age is over
            held.gate.open()
            assert (await waiting).done
        await operations.stop(lambda: server.stop(0))

    asyncio.run(serve())


def test_a_function_adds_a_service_to_the_server_that_it_is_given() -> None:
    added = []

    class Reports:
        @staticmethod
        def add_ReportServiceServicer_to_server(servicer: object, server: object) -> None:
            added.append((servicer, server))

    names = {"reports_pb2_grpc": Reports, "ReportService": lambda: "the service"}
    asyncio.run(run(ADD, **names))["add"]("the server")
    assert added == [("the service", "the server")]


def test_a_wait_may_be_made_shorter_than_the_limits_of_proxies() -> None:
    assert asyncio.run(run(MAX_WAIT))["operations"]
    limits = re.findall(
        r"(\d+) s(?:econds)? ", REPLICAS.partition("### Proxies")[2].partition("```")[0]
    )
    (longest,) = re.findall(r"seconds=(\d+)", MAX_WAIT)
    assert int(longest) < 60 <= max(map(int, limits))


REPORTS = """
from lro_grpc.example import FleetService
from lro.example.v1 import fleet_service_lro

def add(server):
    fleet_service_lro.add_FleetServiceServicer_to_server(FleetService("."), server)
    logging.getLogger("lro_grpc").info("added", extra={"operation": "op-1", "attempt": 2})
    logging.getLogger("lro_grpc").debug("not shown")
"""


def logged(folder: Path, *options: str) -> list[str]:
    """What the server of a module that sets the form of the log writes to stderr."""
    (folder / "server.py").write_text(LOG + REPORTS)
    command = ("serve", "server:add", "--listen", "127.0.0.1:0", "--store", "memory:", *options)
    with subprocess.Popen(
        [sys.executable, "-m", "lro_grpc._cli", *command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("try"):
            assert process.poll() is None
        process.terminate()
        _, stderr = process.communicate(timeout=60)
    return [line for line in stderr.splitlines() if not is_said_of_it(line)]


def test_the_module_that_is_served_sets_the_level_and_the_form_of_the_log(tmp_path: Path) -> None:
    lines = logged(tmp_path)
    found = [re.fullmatch(r"[0-9-]{10} [0-9:,]{12} INFO (.*)", line) for line in lines]
    assert [one and one[1] for one in found] == ["added", "SIGTERM received", "draining"]


def test_with_an_option_for_the_log_a_basic_config_of_the_module_changes_nothing(
    tmp_path: Path,
) -> None:
    (options,) = re.findall(r"^lro serve server:add (--log-.*)$", LOGGING, re.MULTILINE)
    added, signalled, drains = map(json.loads, logged(tmp_path, *options.split()))
    assert added.pop("time")
    assert added.pop("pid")
    assert added == {
        "level": "INFO",
        "logger": "lro_grpc",
        "message": "added",
        "operation": "op-1",
        "attempt": 2,
    }
    assert signalled["message"] == "SIGTERM received"
    assert drains["message"] == "draining"


def test_a_process_works_until_a_signal_comes(postgres: str) -> None:
    said = []

    def say(text: str) -> None:
        said.append(text)
        signal.raise_signal(signal.SIGTERM)

    names = {
        "add_FleetServiceServicer_to_server": (
            fleet_service_pb2_grpc.add_FleetServiceServicer_to_server
        ),
        "FleetService": Held("def").servicer,
        "print": say,
    }
    block = WORK.replace("postgresql://lro@db/lro", postgres)
    known = asyncio.run(run(block, **names))
    assert said == ["at work"]
    assert not known["operations"].is_serving
