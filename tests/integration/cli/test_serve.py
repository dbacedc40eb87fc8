"""``lro serve`` and ``lro demo``, as real processes."""

from __future__ import annotations

import contextlib
import http.client
import importlib.metadata
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import lro_process
import pytest
from cryptography.hazmat.primitives import serialization
from google.longrunning import operations_pb2, operations_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from server_certificates import Authority

from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc
from lro.v1.operation_metadata_pb2 import OperationMetadata
from lro_grpc import OperationsClient

PARENT = "projects/p/locations/l"


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in a fork."""
    return lro_process.run(arguments, environment_of(**environment), cwd)


def run_anew(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command in a new process, which imports all that it needs."""
    command = [*lro_process.COMMAND, *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment_of(), capture_output=True, text=True, timeout=100
    )


def environment_of(**more: str) -> dict[str, str]:
    return {**os.environ, "LRO_TARGET": "", "COLUMNS": "200", **more}


def create(
    channel: grpc.Channel, instance_id: str, *, schema_sql: str = "", seed_rows: int = 0
) -> operations_pb2.Operation:
    instance = fleet_service_pb2.Instance(schema_sql=schema_sql, seed_rows=seed_rows)
    request = fleet_service_pb2.CreateInstanceRequest(
        parent=PARENT, instance_id=instance_id, instance=instance
    )
    return fleet_service_pb2_grpc.FleetServiceStub(channel).CreateInstance(request)


class Served:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.banner = [process.stdout.readline() for _ in range(4)]
        found = re.search(r"127\.0\.0\.1:\d+", self.banner[0])
        assert found is not None, self.banner
        self.target = found.group()


OWN_PROTO = "lro/v1/operation_control_service.proto"


@contextmanager
def serving(*arguments: str, cwd: Path) -> Iterator[Served]:
    command = [
        sys.executable,
        "-m",
        "lro_grpc._cli",
        "serve",
        "--listen",
        "127.0.0.1:0",
        *arguments,
    ]
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Served(process)
        finally:
            if process.poll() is None:
                process.kill()


@pytest.fixture(scope="module")
def fleet_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a fleet that several tests share."""
    with serving("--store", "memory:", cwd=tmp_path_factory.mktemp("fleet")) as served:
        yield served.target


def test_the_fleet_is_served_by_default_with_health_and_reflection(tmp_path: Path) -> None:
    with serving(cwd=tmp_path) as served, grpc.insecure_channel(served.target) as channel:
        assert served.banner[1].split() == ["operations", "in", "sqlite:///operations.db"]
        assert served.banner[2].split() == ["recovered", "0"]
        assert served.banner[3].strip().endswith(f"lro demo --target {served.target}")
        request = health_pb2.HealthCheckRequest(service="lro.example.v1.FleetService")
        health = health_pb2_grpc.HealthStub(channel).Check(request)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        names = ProtoReflectionDescriptorDatabase(channel).get_services()
        assert {"lro.example.v1.FleetService", "google.longrunning.Operations"} <= set(names)
        operation = create(channel, "one")
        response = fleet_service_pb2.Instance
        made = OperationsClient(channel).future(operation, response=response).result()
        assert made.name == f"{PARENT}/instances/one"
        assert list((tmp_path / "operations.db.d").rglob("*one*"))


SERVICES = [
    "google.longrunning.Operations",
    "lro.example.v1.FleetService",
    "lro.v1.OperationControlService",
]


def test_every_service_is_healthy_and_listed_by_reflection(tmp_path: Path) -> None:
    with serving(cwd=tmp_path) as served, grpc.insecure_channel(served.target) as channel:
        listed = set(ProtoReflectionDescriptorDatabase(channel).get_services())
        assert {name for name in listed if not name.startswith("grpc.")} == set(SERVICES)
        for service in ("", *SERVICES):
            request = health_pb2.HealthCheckRequest(service=service)
            health = health_pb2_grpc.HealthStub(channel).Check(request)
            assert health.status == health_pb2.HealthCheckResponse.SERVING, service


@pytest.mark.parametrize(
    ("symbol", "file"),
    [
        ("google.longrunning.Operations.WaitOperation", "google/longrunning/operations.proto"),
        ("lro.v1.OperationControlService.WatchOperation", OWN_PROTO),
        ("lro.v1.OperationControlService", OWN_PROTO),
        ("lro.v1.WatchOperationRequest", OWN_PROTO),
        ("lro.v1.WatchOperationRequest.name", OWN_PROTO),
    ],
)
def test_reflection_finds_a_symbol_be_it_a_method(
    fleet_target: str, symbol: str, file: str
) -> None:
    """As ``grpcurl describe pkg.Service.Method`` and ``ghz --call`` ask for it."""
    with grpc.insecure_channel(fleet_target) as channel:
        found = ProtoReflectionDescriptorDatabase(channel).FindFileContainingSymbol(symbol)
        assert found.name == file


@pytest.mark.parametrize(
    "symbol", ["google.longrunning.Operations.NoMethod", "no.Service.Method", "Method", ""]
)
def test_reflection_refuses_a_symbol_that_is_not_there(fleet_target: str, symbol: str) -> None:
    with grpc.insecure_channel(fleet_target) as channel, pytest.raises(KeyError):
        ProtoReflectionDescriptorDatabase(channel).FindFileContainingSymbol(symbol)


@pytest.mark.parametrize("command", ["serve", "work"])
def test_a_signal_ends_it_while_it_imports_what_it_is_to_serve(
    tmp_path: Path, command: str
) -> None:
    """As the first process of a container, too, which no signal ends that has no handler."""
    (tmp_path / "slow.py").write_text("print('importing', flush=True)\nimport time\ntime.sleep(60)")
    store = "postgresql://127.0.0.1:1/away"
    with subprocess.Popen(
        [sys.executable, "-m", "lro_grpc._cli", command, "slow:add", "--store", store],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.terminate()
        assert process.communicate(timeout=100) == ("", "")
        assert process.returncode == 0


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)
def test_all_that_it_keeps_is_its_owners_alone_whatever_the_umask(
    tmp_path: Path, umask: int
) -> None:
    def snapshot_of(channel: grpc.Channel, instance: str) -> operations_pb2.Operation:
        request = fleet_service_pb2.TakeSnapshotRequest(name=instance, snapshot_id="copy")
        return fleet_service_pb2_grpc.FleetServiceStub(channel).TakeSnapshot(request)

    own, former = tmp_path / "own", os.umask(umask)
    own.mkdir()
    try:
        with (
            serving("--data", "data/of/fleet", cwd=own) as served,
            grpc.insecure_channel(served.target) as channel,
        ):
            client = OperationsClient(channel)
            client.future(create(channel, "one")).result()
            client.future(snapshot_of(channel, f"{PARENT}/instances/one")).result()
            made = list(own.rglob("*"))
            assert {"operations.db", "operations.db-wal", "operations.db-shm", "data"} <= {
                one.name for one in made
            }
            assert len([one for one in made if one.name in ("data.db", "resource.json")]) == 4
            for one in made:
                assert one.stat().st_mode & 0o777 == (0o700 if one.is_dir() else 0o600), one
    finally:
        os.umask(former)


def test_the_fleet_of_a_store_is_the_same_by_a_link_to_it(tmp_path: Path) -> None:
    with serving(cwd=tmp_path) as served, grpc.insecure_channel(served.target) as channel:
        OperationsClient(channel).future(create(channel, "one")).result()
    (tmp_path / "link.db").symlink_to("operations.db")
    with (
        serving("--store", "sqlite:///link.db", cwd=tmp_path) as served,
        grpc.insecure_channel(served.target) as channel,
    ):
        request = fleet_service_pb2.GetInstanceRequest(name=f"{PARENT}/instances/one")
        instance = fleet_service_pb2_grpc.FleetServiceStub(channel).GetInstance(request)
        assert instance.state == fleet_service_pb2.Instance.READY


def test_sigterm_drains_and_ends_with_success(tmp_path: Path) -> None:
    with serving(cwd=tmp_path) as served:
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(timeout=20) == 0


@contextmanager
def health_ends(channel: grpc.Channel, *services: str) -> Iterator[None]:
    """Sees the health checks of services go from SERVING to NOT_SERVING by what is done within."""
    health = health_pb2_grpc.HealthStub(channel)
    watches = [
        health.Watch(health_pb2.HealthCheckRequest(service=service), timeout=20)
        for service in services
    ]
    for watch in watches:
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    yield
    for watch in watches:
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()


def test_the_health_check_shows_a_drain(tmp_path: Path) -> None:
    with serving(cwd=tmp_path) as served, grpc.insecure_channel(served.target) as channel:
        with health_ends(channel, "lro.example.v1.FleetService", "google.longrunning.Operations"):
            served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(timeout=20) == 0


@pytest.mark.parametrize("lame_duck", ["3600", "3600s"])
def test_a_lame_duck_serves_new_calls_with_its_health_at_not_serving(
    tmp_path: Path, lame_duck: str
) -> None:
    with (
        serving("--lame-duck", lame_duck, cwd=tmp_path) as served,
        grpc.insecure_channel(served.target) as channel,
    ):
        with health_ends(channel, "", *SERVICES):
            served.process.send_signal(signal.SIGTERM)
        assert OperationsClient(channel).future(create(channel, "late")).result() is not None
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(timeout=20) == 0


def test_a_lost_store_is_not_healthy(tmp_path: Path) -> None:
    with serving(cwd=tmp_path) as served, grpc.insecure_channel(served.target) as channel:
        with health_ends(channel, "", *SERVICES):
            (tmp_path / "operations.db").rename(tmp_path / "away.db")
            with pytest.raises(grpc.RpcError) as raised:
                create(channel, "one")
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(timeout=20) == 0


@pytest.mark.parametrize("wrong", ["-1", "soon", "0"])
def test_a_lame_duck_that_is_no_time_is_wrong_usage(tmp_path: Path, wrong: str) -> None:
    served = run("serve", "--lame-duck", wrong, cwd=tmp_path)
    assert served.returncode == 2
    assert "--lame-duck" in served.stderr


def test_the_banner_has_the_number_of_recovered_operations(tmp_path: Path) -> None:
    with serving(cwd=tmp_path) as served, grpc.insecure_channel(served.target) as channel:
        schema = "CREATE TABLE t (a INTEGER);"
        operation = create(channel, "big", schema_sql=schema, seed_rows=1_000_000_000)
        future = OperationsClient(channel).future(operation, metadata=OperationMetadata)
        while not (future.metadata and future.metadata.status_detail.startswith("inserted")):
            assert not future.done()  # one Get each, until the work has begun
        served.process.kill()
        served.process.wait()
    with serving(cwd=tmp_path) as served, grpc.insecure_channel(served.target) as channel:
        assert served.banner[2].split() == ["recovered", "1"]
        OperationsClient(channel).cancel(operation.name)
        assert OperationsClient(channel).wait(operation.name).error.code == 1


def test_a_callable_of_the_users_own_is_given_the_registrar(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from pathlib import Path\n"
        "from lro.example.v1 import fleet_service_lro as fleet\n"
        "from lro_grpc.example import FleetService\n"
        "def add(server):\n"
        "    fleet.add_FleetServiceServicer_to_server(FleetService(Path('data')), server)\n"
    )
    with serving("mine:add", "--store", "memory:", cwd=tmp_path) as served:
        assert served.banner[3].strip().endswith(f"lro list --target {served.target}")
        with grpc.insecure_channel(served.target) as channel:
            operation = create(channel, "one")
            assert OperationsClient(channel).future(operation).result() is not None


@pytest.mark.parametrize(
    ("service", "says"),
    [
        ("mine", "is not of the form MODULE:ATTRIBUTE"),
        ("no_such_module:add", "No module named 'no_such_module'"),
        ("json:no_such_attribute", "no_such_attribute"),
        ("json:__name__", "give a callable"),
        ("json:JSONDecodeError", "give a callable (server) -> None that adds servicers"),
        ("lro.example.v1.fleet_service_lro:FleetServiceServicer", "give a callable"),
        (
            "lro.example.v1.fleet_service_lro:add_FleetServiceServicer_to_server",
            "give a callable",
        ),
    ],
)
def test_a_service_that_cannot_be_loaded_is_one_line(
    service: str, says: str, tmp_path: Path
) -> None:
    result = run("serve", service, cwd=tmp_path)
    assert result.returncode == 2
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_lines_that_a_proto_lacks_are_lines(tmp_path: Path) -> None:
    """For a user to copy them."""
    (tmp_path / "mine.py").write_text(
        "import lro_grpc\n"
        "def add(server):\n"
        "    raise lro_grpc.ConfigurationError('a.proto lacks\\n  option one;\\n  option two;')\n"
    )
    result = run("serve", "mine:add", "--store", "memory:", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == "lro: a.proto lacks\n  option one;\n  option two;\n"


def test_a_port_in_use_is_reported_without_a_traceback(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        result = run("serve", "--listen", listen, "--store", "memory:", cwd=tmp_path)
    assert result.returncode == 2
    errors = result.stderr.splitlines()  # gRPC's own log may stand before it
    assert errors[-1] == f"lro: cannot listen on {listen}; is another server running there?"
    assert "Traceback" not in result.stderr


def test_a_second_server_on_the_same_port_fails(tmp_path: Path) -> None:
    with serving("--store", "memory:", cwd=tmp_path) as served:
        result = run("serve", "--listen", served.target, "--store", "memory:", cwd=tmp_path)
    assert result.returncode == 2


def test_a_second_server_on_the_same_store_fails(tmp_path: Path) -> None:
    with serving(cwd=tmp_path):
        result = run("serve", "--listen", "127.0.0.1:0", cwd=tmp_path)
    assert result.returncode == 2
    assert "operations.db is in use by another process" in result.stderr


def test_a_server_that_cannot_have_its_store_leaves_no_folder(tmp_path: Path) -> None:
    with serving("--data", "elsewhere", cwd=tmp_path):
        result = run("serve", "--listen", "127.0.0.1:0", cwd=tmp_path)
    assert result.returncode == 2
    assert not (tmp_path / "operations.db.d").exists()


def test_the_demo_ends_as_it_says(tmp_path: Path) -> None:
    result = run_anew("demo", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    states = dict(re.findall(r"^  (shop-\S+) +([A-Z_]+)", result.stdout, re.MULTILINE))
    last = [states[name] for name in sorted(states)]
    assert last == ["ROLLED_BACK", "ROLLED_BACK", "FAILED", "FAILED"]
    assert re.search(r"/instances/ledger-\w+: [\d,]+ bytes", result.stdout)
    assert re.search(r"/snapshots/ledger-\w+: [\d,]+ bytes", result.stdout)


def test_the_version(tmp_path: Path) -> None:
    result = run_anew("--version", cwd=tmp_path)
    assert result.stdout == f"lro {importlib.metadata.version('lro-grpc')}\n"


@pytest.mark.parametrize("missing", ["typer", "rich", "yaml", "grpc_reflection"])
def test_without_its_extra_the_command_prints_the_pip_line(tmp_path: Path, missing: str) -> None:
    (tmp_path / f"{missing}.py").write_text(f"raise ModuleNotFoundError(name={missing!r})")
    result = run_anew("list", "operations", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == f"lro needs {missing}: pip install 'lro-grpc[cli]'\n"


def test_over_http(tmp_path: Path) -> None:
    """On the address in the banner, until the drain has ended."""
    options = ("--http", "127.0.0.1:0", "--public-url", "https://example.com")
    with serving(*options, cwd=tmp_path) as served:
        label, _, address = served.banner[1].strip().rpartition(" ")
        assert label == "over HTTP on  "
        with grpc.insecure_channel(served.target) as channel:
            operation = create(channel, "one")
        with urllib.request.urlopen(f"http://{address}/v1/{operation.name}", timeout=20) as reply:
            assert json.load(reply)["name"] == operation.name
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(timeout=20) == 0


def test_methods_that_start_nothing_are_called_over_http_whatever_tls_asks_for(
    tmp_path: Path,
) -> None:
    """The command has a channel to its own server, which needs no certificate."""
    authority = Authority()
    ca, cert, key = authority.client_files(tmp_path, "server")
    tls = ("--tls-cert", cert, "--tls-key", key, "--tls-client-ca", ca)
    more = ("--store", "memory:", "--http", "127.0.0.1:0", "--prefix", "/v1", "--prefix", "/x")
    with serving(*more, *map(str, tls), cwd=tmp_path) as served:
        address = served.banner[1].split()[-1]
        with grpc.secure_channel(served.target, authority.client("ada")) as channel:
            operation = create(channel, "one")
            OperationsClient(channel).future(operation).result()

        def get(path: str) -> dict[str, object]:
            with urllib.request.urlopen(f"http://{address}{path}", timeout=20) as reply:
                found: dict[str, object] = json.load(reply)
            return found

        assert get(f"/v1/{PARENT}/instances/one")["state"] == "READY"
        for prefix in ("/v1", "/x"):
            assert get(f"{prefix}/{operation.name}")["done"]


def test_the_api_is_shown_where_it_is_asked_for(tmp_path: Path) -> None:
    options = ("--store", "memory:", "--http", "127.0.0.1:0", "--docs", "--public-url")
    with serving(*options, "https://example.com", cwd=tmp_path) as served:
        address = served.banner[1].split()[-1]
        assert served.banner[2].split() == ["API", "shown", "on", f"http://{address}/docs"]
        with urllib.request.urlopen(f"http://{address}/docs", timeout=20) as reply:
            assert reply.headers["content-type"] == "text/html; charset=utf-8"
        with urllib.request.urlopen(f"http://{address}/openapi.json", timeout=20) as reply:
            document = json.load(reply)
        assert document["servers"] == [{"url": "https://example.com"}]
        assert "FleetService_GetInstance" in json.dumps(document)
    refused = run("serve", "--store", "memory:", "--docs", cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr == "lro: --docs is shown over HTTP; give --http HOST:PORT, too\n"


def test_the_channel_within_needs_no_short_folder(tmp_path: Path) -> None:
    """A socket's path has some 100 bytes, and that of a temporary folder may have more."""
    long = tmp_path / ("long" * 30)
    long.mkdir()
    command = [sys.executable, "-m", "lro_grpc._cli", "serve", "--store", "memory:", "--listen"]
    more = ["127.0.0.1:0", "--http", "127.0.0.1:0"]
    environment = environment_of(TMPDIR=str(long))
    with subprocess.Popen(
        [*command, *more], cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            address = Served(process).banner[1].split()[-1]
            url = f"http://{address}/v1/{PARENT}/instances"
            with urllib.request.urlopen(url, timeout=20) as reply:
                assert json.load(reply) == {}
        finally:
            process.terminate()  # which removes the socket, too
            process.wait(timeout=20)


def test_a_page_and_a_name_of_a_strangers_are_refused_over_http(tmp_path: Path) -> None:
    named = ("--allowed-host", "lro.example", "--allow-origin", "https://page.example")
    with serving("--store", "memory:", "--http", "127.0.0.1:0", *named, cwd=tmp_path) as served:
        address = served.banner[1].split()[-1]

        def status(path: str, **headers: str) -> int:
            method = "POST" if path.endswith(":cancel") else "GET"
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection = http.client.HTTPConnection(address, timeout=20)
            with contextlib.closing(connection):
                connection.request(method, path, headers=names)
                return connection.getresponse().status

        cancel = "/v1/operations/x:cancel"
        assert status(cancel) == 404
        assert status(cancel, Origin="https://evil.example") == 403
        assert status(cancel, Sec_Fetch_Site="cross-site") == 403
        assert status(cancel, Origin="https://page.example") == 404
        assert status("/v1/operations", Host="evil.example") == 421
        assert status("/v1/operations", Host="lro.example") == 200


def test_a_page_of_an_origin_that_is_named_reads_the_answers(tmp_path: Path) -> None:
    origins = ("--allow-origin", "https://a.example", "--allow-origin", "https://b.example")
    with serving("--store", "memory:", "--http", "127.0.0.1:0", *origins, cwd=tmp_path) as served:
        connection = http.client.HTTPConnection(served.banner[1].split()[-1], timeout=20)
        for origin, allowed in [
            ("https://a.example", "https://a.example"),
            ("https://b.example", "https://b.example"),
            ("https://evil.example", None),
        ]:
            connection.request("GET", "/v1/operations", headers={"Origin": origin})
            reply = connection.getresponse()
            assert reply.read() == b"{}"
            assert reply.getheader("access-control-allow-origin") == allowed
        connection.close()


def test_health_over_http_is_that_of_grpc(tmp_path: Path) -> None:
    options = ("--store", "memory:", "--http", "127.0.0.1:0", "--lame-duck", "3600s")
    with (
        serving(*options, cwd=tmp_path) as served,
        grpc.insecure_channel(served.target) as channel,
    ):
        address = served.banner[1].split()[-1]

        def status(path: str) -> int:
            connection = http.client.HTTPConnection(address, timeout=20)
            with contextlib.closing(connection):
                connection.request("GET", path)
                return connection.getresponse().status

        check = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(check).status == health_pb2.HealthCheckResponse.SERVING
        assert [status(path) for path in ("/healthz", "/livez")] == [200, 200]
        served.process.send_signal(signal.SIGTERM)
        assert next(check).status == health_pb2.HealthCheckResponse.NOT_SERVING
        check.cancel()
        assert [status(path) for path in ("/healthz", "/livez")] == [503, 200]
        assert status("/v1/operations") == 200
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(timeout=20) == 0


def test_a_trusted_proxy_that_is_none_is_one_line(tmp_path: Path) -> None:
    result = run(
        *("serve", "--listen", "127.0.0.1:0", "--store", "memory:"),
        *("--http", "127.0.0.1:0", "--trusted-proxy", "everyone"),
        cwd=tmp_path,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("lro: the trusted proxy 'everyone' is no address")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("listen", "http_listen", "warned"),
    [
        ("127.0.0.1:0", "127.0.0.1:0", []),
        ("localhost:0", "[::1]:0", []),
        ("0.0.0.0:0", "127.0.0.1:0", ["gRPC on 0.0.0.0:0"]),
        ("[::]:0", "0.0.0.0:0", ["gRPC on [::]:0", "HTTP on 0.0.0.0:0"]),
    ],
)
def test_an_address_that_other_machines_reach_without_authentication_is_warned_of(
    tmp_path: Path, listen: str, http_listen: str, warned: list[str]
) -> None:
    command = ("serve", "--store", "memory:", "--listen", listen, "--http", http_listen)
    with subprocess.Popen(
        [sys.executable, "-m", "lro_grpc._cli", *command],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("try"):
                break
        process.terminate()
        _, logged = process.communicate(timeout=20)
    found = re.findall(r"^no authentication of (\S+ on \S+):", logged, re.MULTILINE)
    assert found == warned


def test_clients_with_certificates_are_authenticated_wherever_they_are(tmp_path: Path) -> None:
    ca, cert, key = Authority().client_files(tmp_path, "server")
    tls = ("--tls-cert", cert, "--tls-key", key)
    command = [sys.executable, "-m", "lro_grpc._cli", "serve", "--store", "memory:", "--listen"]
    for more, warned in [((), True), (("--tls-client-ca", ca), False)]:
        with subprocess.Popen(
            [*command, "0.0.0.0:0", *map(str, (*tls, *more))],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("try"):
                    break
            process.terminate()
            _, logged = process.communicate(timeout=20)
        assert ("no authentication" in logged) == warned


def test_http_without_its_extra_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "starlette.py").write_text("raise ModuleNotFoundError(name='starlette')")
    result = run_anew("serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == "lro: --http needs starlette: pip install 'lro-grpc[http]'\n"


def test_an_http_port_in_use_is_reported_without_a_traceback(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = run("serve", "--listen", "127.0.0.1:0", "--http", address, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith(f"lro: cannot listen on {address}: ")


def test_reflection_and_operations_share_one_stub(tmp_path: Path) -> None:
    """A client in any language needs nothing of this package: the service is Google's own."""
    with serving(cwd=tmp_path) as served, grpc.insecure_channel(served.target) as channel:
        stub = operations_pb2_grpc.OperationsStub(channel)
        page = stub.ListOperations(operations_pb2.ListOperationsRequest(name=PARENT))
        assert list(page.operations) == []


def test_a_server_with_a_client_authority_admits_its_clients_only(tmp_path: Path) -> None:
    authority, stranger = Authority(), Authority()
    ca, cert, key = authority.client_files(tmp_path, "server")
    tls = ("--tls-cert", cert, "--tls-key", key, "--tls-client-ca", ca)
    with serving("--store", "memory:", *map(str, tls), cwd=tmp_path) as served:
        assert served.banner[3].strip().endswith(f"--target {served.target} --tls")
        with grpc.secure_channel(served.target, authority.client("ada")) as channel:
            assert list(OperationsClient(channel).list(PARENT)) == []
        client_ca, *_ = stranger.client_files(tmp_path, "eve")
        client_ca.write_bytes(ca.read_bytes())  # it trusts the server, which does not trust it
        files = ("--ca-cert", client_ca, "--cert", tmp_path / "eve.pem")
        refused = run(
            *("list", PARENT, "--target", served.target, *map(str, files)),
            *("--key", str(tmp_path / "eve-key.pem")),
            cwd=tmp_path,
        )
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.startswith("lro: UNAVAILABLE: ")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--tls-cert", "server.pem"], "TLS needs both --tls-cert and --tls-key"),
        (["--tls-key", "server-key.pem"], "TLS needs both --tls-cert and --tls-key"),
        (["--tls-client-ca", "server-ca.pem"], "--tls-client-ca needs --tls-cert"),
        (["--tls-cert", "server.pem", "--tls-key", "server-ca.pem"], "are not a certificate and"),
        (
            ["--tls-cert", "server.pem", "--tls-key", "server-key.pem", "--tls-client-ca", "junk"],
            "junk is no certificate in PEM",
        ),
    ],
)
def test_certificates_that_do_not_go_together_are_wrong_usage(
    tmp_path: Path, given: list[str], said: str
) -> None:
    Authority().client_files(tmp_path, "server")
    (tmp_path / "junk").write_text("junk")
    done = run("serve", "--listen", "127.0.0.1:0", *given, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_key_that_is_encrypted_is_wrong_usage(tmp_path: Path) -> None:
    _, cert, key = Authority().client_files(tmp_path, "server")
    pem = serialization.load_pem_private_key(key.read_bytes(), None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    key.write_bytes(pem)
    tls = ("--tls-cert", str(cert), "--tls-key", str(key))
    done = run("serve", "--listen", "127.0.0.1:0", *tls, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "is encrypted" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_certificate_that_grpc_does_not_take_is_wrong_usage(tmp_path: Path) -> None:
    """OpenSSL takes it, and so do Python's own servers."""
    _, cert, key = Authority().client_files(tmp_path, "server")
    cert.write_bytes(cert.read_bytes().replace(b" CERTIFICATE", b" TRUSTED CERTIFICATE"))
    tls = ("--tls-cert", str(cert), "--tls-key", str(key))
    done = run("serve", "--listen", "127.0.0.1:0", "--store", "memory:", *tls, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("lro: gRPC does not take the certificate")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("store", ["memory:", "sqlite:///operations.db"])
def test_workers_need_a_store_that_they_can_share(tmp_path: Path, store: str) -> None:
    command = ("serve", "--listen", "127.0.0.1:0", "--store", store, "--workers", "2")
    done = run(*command, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "lro: --workers above 1 needs a store that processes share, and"
        f" {store} belongs to one process alone; give --store postgresql://…\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_one_worker_is_a_server_as_without_the_option(tmp_path: Path) -> None:
    with serving("--workers", "1", cwd=tmp_path) as served:
        assert served.banner[2].split() == ["recovered", "0"]
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(timeout=20) == 0


@pytest.mark.parametrize("workers", ["0", "-1", "257", "many", "1.5"])
def test_a_number_of_workers_that_cannot_be_is_wrong_usage(tmp_path: Path, workers: str) -> None:
    done = run_anew("serve", "--listen", "127.0.0.1:0", "--workers", workers, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Invalid value for '--workers'" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("listen", ["50051", "127.0.0.1", ":50051", "127.0.0.1:", "h:65536"])
def test_an_address_to_listen_on_has_a_host_and_a_port(tmp_path: Path, listen: str) -> None:
    """gRPC would listen on 443, or on another port than the one that was given."""
    over_grpc = run("serve", "--listen", listen, "--store", "memory:", cwd=tmp_path)
    wanted = f"lro: --listen {listen!r} is no HOST:PORT, such as 127.0.0.1:50051\n"
    assert (over_grpc.returncode, over_grpc.stderr) == (2, wanted)
    over_http = run("serve", "--http", listen, "--store", "memory:", cwd=tmp_path)
    wanted = f"lro: --http {listen!r} is no HOST:PORT, such as 127.0.0.1:8080\n"
    assert (over_http.returncode, over_http.stderr) == (2, wanted)
