"""``lro serve --workers`` and ``lro work``, as real processes on a real PostgreSQL."""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import urllib.request
from concurrent import futures
from typing import IO, TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc
from lro_grpc import Operations, OperationsClient
from lro_grpc._cli.parameters import DEFAULT_LEASE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PARENT = "projects/p/locations/l"
SECONDS = 60
MANY = 40
"""So many connections that none of three processes is left out: once in 3,000,000 runs."""

SERVICE = """
import asyncio, os
import lro_grpc
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc

class Fleet(fleet_service_pb2_grpc.FleetServiceServicer):
    \"\"\"Instances tell which process has made them, and in which attempt.\"\"\"

    @lro_grpc.method(concurrency=CONCURRENCY)
    async def CreateInstance(self, request, op):
        op.progress(1, str(os.getpid()))
        if request.instance.schema_sql == "hold" and op.attempt == 1:
            await asyncio.sleep(3600)
        return fleet_service_pb2.Instance(
            name=request.instance_id, seed_rows=os.getpid(), size_bytes=op.attempt
        )

def add(server):
    fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(Fleet(), server)

def add_nothing(server):
    pass
"""


def write_service(folder: Path, *, concurrency: int = 10) -> str:
    """Writes a module with a service into a folder, and returns how a command names it."""
    (folder / "service.py").write_text(SERVICE.replace("CONCURRENCY", str(concurrency)))
    return "service:add"


class Process:
    """An ``lro`` that runs in a folder, and what it has said."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self.stdout: IO[str] = process.stdout
        self.stderr: IO[str] = process.stderr
        self.banner: dict[str, str] = {}

    def read_banner(self, last: str) -> None:
        """Reads the banner up to the line that begins with a word."""
        for line in self.stdout:
            label, _, value = line.rstrip("\n").partition("  ")
            self.banner[label] = value.strip()
            if label == last:
                return
        raise AssertionError(f"{self.banner}; {self.stderr.read()}")

    def ended(self, number: signal.Signals) -> int:
        """Ends it by a signal, and returns its exit code; warnings of a busy machine are fine."""
        self.process.send_signal(number)
        _, logged = self.process.communicate(timeout=SECONDS)
        assert "Traceback" not in logged
        return self.process.returncode

    @contextlib.contextmanager
    def connected(self) -> Iterator[grpc.Channel]:
        """A connection of its own, which the kernel gives to any of the workers."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(self.banner["listening on"], options=options) as channel:
            yield channel

    def create(self, instance_id: str) -> Any:
        """Creates an instance over a connection of its own, and returns it."""
        with self.connected() as channel:
            return future_of(channel, instance_id).result()


def future_of(channel: grpc.Channel, instance_id: str, schema_sql: str = "") -> Any:
    """Starts to create an instance; a call that fails is an error."""
    request = fleet_service_pb2.CreateInstanceRequest(
        parent=PARENT,
        instance_id=instance_id,
        instance=fleet_service_pb2.Instance(schema_sql=schema_sql),
    )
    operation = fleet_service_pb2_grpc.FleetServiceStub(channel).CreateInstance(
        request, timeout=SECONDS
    )
    return OperationsClient(channel).future(operation, response=fleet_service_pb2.Instance)


def holder_of(future: Any) -> int:
    """Returns the process that runs a first attempt, once it does."""
    return next(int(one.status_detail) for one in future.updates() if one.status_detail)


@contextlib.contextmanager
def lro(*arguments: str, cwd: Path, last: str) -> Iterator[Process]:
    """Runs a command until the context ends; gives it once it is ready."""
    with subprocess.Popen(
        [sys.executable, "-m", "lro_grpc._cli", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            one = Process(process)
            one.read_banner(last)
            yield one
        finally:
            if process.poll() is None:
                process.kill()


def serving(
    *arguments: str, store: str, cwd: Path, workers: int = 3
) -> contextlib.AbstractContextManager[Process]:
    command = ("serve", "--listen", "127.0.0.1:0", "--store", store, "--workers", str(workers))
    return lro(*command, *arguments, cwd=cwd, last="try")


def refused(*arguments: str, cwd: Path) -> tuple[int, str]:
    """Runs a command that cannot start; returns its exit code, and what it says of that."""
    done = subprocess.run(
        [sys.executable, "-m", "lro_grpc._cli", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
        timeout=SECONDS,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_workers_share_a_port_and_their_operations(tmp_path: Path, postgres: str) -> None:
    service = write_service(tmp_path)
    store = postgres.replace("postgres@", "postgres:secret@")  # it asks for no password
    with serving(service, "--http", "127.0.0.1:0", store=store, cwd=tmp_path) as served:
        assert served.banner["operations in"] == store.replace("secret", "***")
        assert served.banner["workers"] == "3"
        with futures.ThreadPoolExecutor(8) as pool:
            made = list(pool.map(served.create, map(str, range(MANY))))
        assert len({one.seed_rows for one in made}) == 3
        assert {one.size_bytes for one in made} == {1}
        for _ in range(MANY):
            with served.connected() as channel:
                assert len(list(OperationsClient(channel).list(PARENT))) == MANY
                check = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
                assert check.status == health_pb2.HealthCheckResponse.SERVING
            url = f"http://{served.banner['over HTTP on']}/healthz"
            with urllib.request.urlopen(url, timeout=SECONDS) as reply:
                assert reply.status == 200
        assert served.ended(signal.SIGTERM) == 0


def test_clients_go_on_when_a_worker_is_killed_and_its_operations_are_taken_over(
    tmp_path: Path, postgres: str
) -> None:
    service = write_service(tmp_path)
    with (
        serving(service, store=postgres, cwd=tmp_path) as served,
        served.connected() as channel,
    ):
        future = future_of(channel, "held", "hold")
        killed = holder_of(future)
        os.kill(killed, signal.SIGKILL)
        restarted = r"lro: worker \d has ended with SIGKILL; it is started again in 0.1 s\n"
        assert any(re.fullmatch(restarted, line) for line in served.stderr)
        with futures.ThreadPoolExecutor(8) as pool:  # no call of a new connection fails
            made = list(pool.map(served.create, map(str, range(MANY))))
        assert killed not in {one.seed_rows for one in made}
        instance = future.result()
        assert instance.size_bytes == 2
        assert instance.seed_rows != killed


def test_a_drain_gives_back_what_all_workers_run(tmp_path: Path, postgres: str) -> None:
    service = write_service(tmp_path)
    with serving(service, store=postgres, cwd=tmp_path) as served, contextlib.ExitStack() as stack:
        held = [
            future_of(stack.enter_context(served.connected()), str(n), "hold") for n in range(8)
        ]
        for future in held:
            holder_of(future)
        assert served.ended(signal.SIGINT) == 0
    with (
        serving(service, store=postgres, cwd=tmp_path, workers=1) as served,
        served.connected() as channel,
    ):
        client = OperationsClient(channel)
        for future in held:
            again = client.future(future.operation, response=fleet_service_pb2.Instance)
            assert again.result().size_bytes > 1  # a worker that drains later may try it, too


def test_workers_of_the_example_have_the_same_databases(tmp_path: Path, postgres: str) -> None:
    with serving(store=postgres, cwd=tmp_path) as served:
        served.create("one")
        request = fleet_service_pb2.GetInstanceRequest(name=f"{PARENT}/instances/one")
        for _ in range(MANY):
            with served.connected() as channel:
                fleet = fleet_service_pb2_grpc.FleetServiceStub(channel)
                assert fleet.GetInstance(request).state == fleet_service_pb2.Instance.READY


def test_a_service_that_is_not_there_is_said_once(tmp_path: Path, postgres: str) -> None:
    command = ("serve", "none:add", "--listen", "127.0.0.1:0", "--store", postgres)
    code, said = refused(*command, "--workers", "3", cwd=tmp_path)
    assert code == 2
    assert said == (
        "[1] lro: none:add: No module named 'none'\n"
        "lro: worker 1 has ended with exit code 2 before it served; its last lines:\n"
        "    lro: none:add: No module named 'none'\n"
    )


def test_the_port_of_other_workers_is_refused(tmp_path: Path, postgres: str) -> None:
    service = write_service(tmp_path)
    with serving(service, store=postgres, cwd=tmp_path, workers=2) as served:
        address = served.banner["listening on"]
        command = ("serve", service, "--listen", address, "--store", postgres, "--workers")
        for workers in ("1", "2"):
            code, said = refused(*command, workers, cwd=tmp_path)
            assert code == 2
            assert said.splitlines()[-1].startswith(f"lro: cannot listen on {address}")


def test_a_worker_runs_what_a_server_has_no_room_for(tmp_path: Path, postgres: str) -> None:
    service = write_service(tmp_path, concurrency=1)
    with (
        serving(service, store=postgres, cwd=tmp_path, workers=1) as served,
        served.connected() as channel,
    ):
        held = holder_of(future_of(channel, "held", "hold"))
        assert held == served.process.pid
        waiting = future_of(channel, "waiting")
        with lro("work", service, "--store", postgres, cwd=tmp_path, last="works on") as worker:
            assert worker.banner["works on"] == "/lro.example.v1.FleetService/CreateInstance"
            assert waiting.result().seed_rows == worker.process.pid
            held = holder_of(future_of(channel, "held by the worker", "hold"))
            assert held == worker.process.pid
            assert worker.ended(signal.SIGTERM) == 0


def test_workers_run_what_a_server_has_no_room_for(tmp_path: Path, postgres: str) -> None:
    service = write_service(tmp_path, concurrency=1)
    with (
        serving(service, store=postgres, cwd=tmp_path, workers=1) as served,
        served.connected() as channel,
    ):
        holders = {holder_of(future_of(channel, "held", "hold"))}
        assert holders == {served.process.pid}
        command = ("work", service, "--store", postgres, "--workers", "2")
        with lro(*command, cwd=tmp_path, last="workers") as working:
            assert working.banner == {"operations in": postgres, "workers": "2"}
            for number in "12":
                holders.add(holder_of(future_of(channel, number, "hold")))
            assert len(holders) == 3
            assert working.process.pid not in holders
            assert working.ended(signal.SIGTERM) == 0


def test_temporal_hands_operations_to_the_workers(
    tmp_path: Path, postgres: str, temporal: str
) -> None:
    service = write_service(tmp_path)
    delivery = ("--temporal", temporal, "--temporal-queue", f"lro-{secrets.token_hex(6)}")
    command = ("work", service, "--store", postgres, "--workers", "2", *delivery)
    with (
        serving(
            service, "--no-handlers", *delivery, store=postgres, cwd=tmp_path, workers=1
        ) as served,
        lro(*command, cwd=tmp_path, last="workers") as working,
    ):
        assert served.banner["delivered by"] == f"Temporal at {temporal}"
        assert working.banner["delivered by"] == f"Temporal at {temporal}"
        assert served.create("one").seed_rows not in {served.process.pid, working.process.pid}
        for process in (working, served):
            assert process.ended(signal.SIGTERM) == 0


@pytest.mark.parametrize(
    "option",
    [
        ("--no-handlers",),
        ("--temporal-namespace", "reports"),
        ("--temporal-queue", "reports"),
        ("--temporal-rate", "4"),
        ("--temporal-tls",),
        ("--temporal-standalone",),
        ("--temporal-workflow",),
    ],
    ids=" ".join,
)
def test_an_option_of_temporal_needs_its_address(tmp_path: Path, option: tuple[str, ...]) -> None:
    command = ("serve", "--listen", "127.0.0.1:0", "--store", "memory:", *option)
    said = f"lro: {option[0]} needs --temporal HOST:PORT\n"
    assert refused(*command, cwd=tmp_path) == (2, said)


LENT = """
import asyncio, sys, time
from lro_grpc.stores import open_url

async def print_leases():
    store = open_url(sys.argv[1], lambda: time.time_ns() // 1000)
    await store.open()
    print(len(await store.leased()), len(await store.leased(until=store.now() + 60_000_000)))
    await store.close()

asyncio.run(print_leases())
"""


@pytest.mark.parametrize("command", ["serve", "work"])
def test_the_lease_of_what_a_process_runs_is_as_long_as_wanted(
    tmp_path: Path, postgres: str, command: str
) -> None:
    """None is over within a minute."""
    service = write_service(tmp_path, concurrency=1)
    with (
        serving(service, "--lease", "1h", store=postgres, cwd=tmp_path, workers=1) as served,
        served.connected() as channel,
        contextlib.ExitStack() as stack,
    ):
        holder_of(future_of(channel, "one", "hold"))
        if command == "work":
            options = ("--store", postgres, "--lease", "1h")
            stack.enter_context(lro("work", service, *options, cwd=tmp_path, last="works on"))
            holder_of(future_of(channel, "two", "hold"))
        leases = subprocess.run(
            [sys.executable, "-c", LENT, postgres], capture_output=True, text=True, timeout=SECONDS
        )
        assert leases.stdout.split() == ["1" if command == "serve" else "2", "0"], leases.stderr


def test_the_lease_unless_given_is_that_of_operations() -> None:
    assert inspect.signature(Operations).parameters["lease"].default == DEFAULT_LEASE


@pytest.mark.parametrize("command", [("serve", "--listen", "127.0.0.1:0"), ("work",)])
def test_a_signal_ends_a_start_that_waits_for_the_database(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as database:
        database.settimeout(SECONDS)
        url = f"postgresql://u@127.0.0.1:{database.getsockname()[1]}/db?connect_timeout=3600"
        arguments = [*command, write_service(tmp_path), "--store", url]
        with subprocess.Popen(
            [sys.executable, "-m", "lro_grpc._cli", *arguments],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            connection, _ = database.accept()
            with connection:
                assert connection.recv(1)  # the driver's first request, which is never answered
                process.send_signal(signal.SIGTERM)
                said, _ = process.communicate(timeout=SECONDS)
                assert (process.returncode, said) == (0, "")


def failing(folder: Path, error: str) -> str:
    """Writes a service whose store fails after it was opened; returns how a command names it."""
    service = write_service(folder).partition(":")[0]
    (folder / "failing.py").write_text(f"""
import lro_grpc
from {service} import add
from lro_grpc._stores.postgres.store import PostgresStore
from lro_grpc.stores import MemoryStore

async def fail(self):
    raise {error}

MemoryStore.waiting_methods = PostgresStore.waiting_methods = fail
""")
    return "failing:add"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("lro_grpc.UnavailableError('it is away')", "UNAVAILABLE: it is away"),
        ("OSError(5, 'Input/output error')", "[Errno 5] Input/output error"),
    ],
)
def test_a_store_that_fails_in_the_midst_of_a_start_is_one_line(
    tmp_path: Path, postgres: str, error: str, said: str
) -> None:
    service = failing(tmp_path, error)
    command = ("serve", service, "--listen", "127.0.0.1:0", "--store", "memory:")
    assert refused(*command, cwd=tmp_path) == (1, f"lro: {said}\n")
    command = ("work", service, "--store", postgres)
    assert refused(*command, cwd=tmp_path) == (1, f"lro: {said}\n")


def test_a_process_that_works_keeps_the_stderr_of_its_children(
    tmp_path: Path, postgres: str
) -> None:
    (tmp_path / "loud.py").write_text(f"""
import subprocess
from {write_service(tmp_path).partition(":")[0]} import add_nothing as add
subprocess.run("echo said by a child >&2", shell=True)
""")
    code, said = refused("work", "loud:add", "--store", postgres, cwd=tmp_path)
    assert code == 2
    assert said.startswith("said by a child\nlro: loud:add adds no long-running method")


@pytest.mark.parametrize("store", ["memory:", "sqlite:///operations.db"])
def test_work_needs_a_store_that_it_can_share(tmp_path: Path, store: str) -> None:
    service = write_service(tmp_path)
    assert refused("work", service, "--store", store, cwd=tmp_path) == (
        2,
        f"lro: lro work needs a store that processes share, and {store} belongs to one process"
        " alone; give --store postgresql://…\n",
    )
    assert [one.name for one in tmp_path.iterdir()] == ["service.py"]


@pytest.mark.parametrize(
    ("service", "said"),
    [
        ("none:add", "none:add: No module named 'none'"),
        ("service", "'service' is not of the form MODULE:ATTRIBUTE"),
        ("service:add_nothing", "service:add_nothing adds no long-running method"),
    ],
)
def test_work_that_cannot_be_is_wrong_usage(
    tmp_path: Path, postgres: str, service: str, said: str
) -> None:
    write_service(tmp_path)
    code, logged = refused("work", service, "--store", postgres, cwd=tmp_path)
    assert code == 2
    assert logged.startswith(f"lro: {said}")
    assert len(logged.splitlines()) == 1
