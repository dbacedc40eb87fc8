"""docs/deploy/kubernetes.md: manifests that fit together, with real commands, probes and times."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
import typer
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from lro_process import Lro
from pages import Page
from test_serve_workers import lro, write_service

from lro_grpc._cli.app import app
from lro_grpc._stores.postgres import options
from lro_grpc.conformance import StoreConformance
from lro_grpc.stores import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from test_serve_workers import Process

PAGE = Page("deploy/kubernetes.md")
ONE, SERVERS, TLS_PROBES, WORKERS, MOVE = (
    list(yaml.safe_load_all(block)) for block in PAGE.texts("yaml")
)
(STEPS,) = PAGE.texts("sh")
OBJECTS: list[dict[str, Any]] = [*SERVERS, *WORKERS, *MOVE]
GRACE_SECONDS = 10


def pod_of(one: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = one["spec"]["template"]["spec"]
    return spec


def starting_of(one: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pod_of(one).get("initContainers", [])
    return found


def container_of(one: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod_of(one)["containers"]
    found: dict[str, Any] = container
    return found


RUNNING = [one for one in OBJECTS if "template" in one["spec"]]
DEPLOYMENTS = [one for one in RUNNING if one["kind"] == "Deployment"]
SERVE, WORK, COPY = RUNNING


def parsed(arguments: list[str]) -> dict[str, Any]:
    """Returns the parameters that the command ``lro`` makes of arguments; it refuses wrong ones."""
    program, *rest = arguments
    assert program == "lro"
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    found: dict[str, Any] = command.make_context("lro", rest).params
    return found


def url_of(container: dict[str, Any]) -> str:
    return next(word for word in container["args"] if word.startswith("postgresql://"))


CONTAINERS = [
    pytest.param(one, container, id=container["name"])
    for one in RUNNING
    for container in (*starting_of(one), container_of(one))
]


@pytest.mark.parametrize(("one", "container"), CONTAINERS)
def test_the_command_of_a_container_can_be_parsed(
    one: dict[str, Any], container: dict[str, Any]
) -> None:
    del one
    assert parsed(container["args"])
    with pytest.raises(Exception, match="--no-such"):
        parsed([*container["args"], "--no-such"])


@pytest.mark.parametrize(("one", "container"), CONTAINERS)
def test_a_container_has_what_its_url_names(one: dict[str, Any], container: dict[str, Any]) -> None:
    url = urlsplit(url_of(container))
    options.parse(url.geturl())
    (authority,) = parse_qs(url.query)["sslrootcert"]
    (mount,) = (one for one in container["volumeMounts"] if one["mountPath"] in authority)
    volumes = {volume["name"] for volume in pod_of(one)["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    (source,) = (one for one in pod_of(one)["volumes"] if one["name"] == mount["name"])
    assert f"the config map `{source['configMap']['name']}`" in PAGE.replace("\n", " ")
    assert authority.endswith("/ca.crt")
    (password,) = container["env"]
    secret = password["valueFrom"]["secretKeyRef"]["name"]
    assert password["name"] == "PGPASSWORD"
    assert secret == ("reports-db-owner" if url.username == "lro_owner" else "reports-db")


def test_one_server_has_its_file_on_the_volume_that_it_claims() -> None:
    claim, deployment = ONE
    container = container_of(deployment)
    store = parsed(container["args"])["store"]
    (mount,) = container["volumeMounts"]
    assert store.startswith(f"sqlite:///{mount['mountPath']}/")
    (volume,) = pod_of(deployment)["volumes"]
    assert volume["name"] == mount["name"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert deployment["spec"]["replicas"] == 1
    known = {**pod_of(SERVE), "volumes": [], "initContainers": [], "containers": []}
    here = {**pod_of(deployment), "volumes": [], "initContainers": [], "containers": []}
    assert here.pop("securityContext") == {**known.pop("securityContext"), "fsGroup": 10001}
    assert here == known
    probes = ("readinessProbe", "livenessProbe", "ports", "resources", "image")
    assert [container[name] for name in probes] == [container_of(SERVE)[name] for name in probes]


def test_the_objects_select_the_pods() -> None:
    pods = [one["spec"]["template"]["metadata"]["labels"] for one in DEPLOYMENTS]
    for one, labels in zip(DEPLOYMENTS, pods, strict=True):
        assert one["spec"]["selector"] == {"matchLabels": labels}
    budgets = [one["spec"]["selector"] for one in OBJECTS if one["kind"] == "PodDisruptionBudget"]
    assert budgets == [one["spec"]["selector"] for one in DEPLOYMENTS]
    (service,) = (one for one in OBJECTS if one["kind"] == "Service")
    assert service["spec"]["selector"] == pods[0]
    selector, _, value = STEPS.partition("--selector=")[2].split()[0].partition("=")
    assert {selector: value} == pods[0]
    for kind, name in re.findall(r"(deployment|job)/([\w-]+)", STEPS):
        assert name in {one["metadata"]["name"] for one in RUNNING if one["kind"].lower() == kind}
    files = set(re.findall(r"^# ([\w-]+\.yaml)$", PAGE, re.MULTILINE))
    assert {*re.findall(r"-f ([\w-]+\.yaml)", STEPS), "one.yaml"} == files


def test_all_probes_and_the_service_have_the_port_that_is_listened_on() -> None:
    container = container_of(SERVE)
    port = int(parsed(container["args"])["listen"].rpartition(":")[2])
    probes = [probe for name, probe in container.items() if name.endswith("Probe")]
    assert [probe["grpc"]["port"] for probe in probes] == [port] * 2
    assert container["ports"] == [{"containerPort": port}]
    (service,) = (one for one in OBJECTS if one["kind"] == "Service")
    assert [one["port"] for one in service["spec"]["ports"]] == [port]


def test_a_pod_has_the_time_to_drain() -> None:
    lame_duck = parsed(container_of(SERVE)["args"])["lame_duck"].total_seconds()
    given = [pod_of(one)["terminationGracePeriodSeconds"] for one in DEPLOYMENTS]
    assert given[0] > lame_duck + 2 * GRACE_SECONDS
    assert given[1] > GRACE_SECONDS


@pytest.fixture
def server(postgres: str, tmp_path: Path) -> Iterator[Process]:
    """The server as the manifest has it, with the gateway for probes beside TLS."""
    (gateway,) = re.findall(r'`--http, "([\d.:]+)"`', PAGE)
    command = here(container_of(SERVE), postgres, write_service(tmp_path))
    with lro(*command, "--http", gateway.replace("8080", "0"), cwd=tmp_path, last="try") as running:
        yield running


def here(container: dict[str, Any], postgres: str, service: str = "") -> list[str]:
    """Returns the arguments of a container, for this machine."""
    known = {"server:add": service, "0.0.0.0:50051": "127.0.0.1:0", url_of(container): postgres}
    return [known.get(word, word) for word in container["args"][1:]]


def test_a_pod_is_ready_until_its_lame_duck_and_drains_in_its_time(server: Process) -> None:
    def probe(name: str) -> int:
        """Runs a probe in a pod with TLS, and returns its exit code."""
        _, *code = TLS_PROBES[0][name]["exec"]["command"]
        address = server.banner["over HTTP on"]
        asked = [word.replace("127.0.0.1:8080", address) for word in code]
        return subprocess.run([sys.executable, *asked], capture_output=True).returncode

    with server.connected() as channel:
        states = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(states).status == health_pb2.HealthCheckResponse.SERVING
        assert probe("readinessProbe") == probe("livenessProbe") == 0
        server.process.send_signal(signal.SIGTERM)
        assert next(states).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert probe("readinessProbe") == 1
        assert server.process.wait(pod_of(SERVE)["terminationGracePeriodSeconds"]) == 0


def test_the_tables_are_there_before_a_server(postgres: str) -> None:
    (migrate,) = starting_of(SERVE)
    assert Lro("")(*here(migrate, postgres)).returncode == 0


def test_workers_start_and_drain(postgres: str, tmp_path: Path) -> None:
    command = here(container_of(WORK), postgres, write_service(tmp_path))
    with lro(*command, cwd=tmp_path, last="works on") as running:
        assert running.ended(signal.SIGTERM) == 0


def test_the_job_copies_the_file(postgres: str, tmp_path: Path) -> None:
    path = tmp_path / "operations.db"

    async def fill() -> None:
        store = SqliteStore(path, lambda: StoreConformance.START)
        await store.open()
        await store.create(StoreConformance().record("op-1"))
        await store.close()

    asyncio.run(fill())
    command = here(container_of(COPY), postgres)
    done = Lro("")(*(word.replace("/data/operations.db", str(path)) for word in command))
    assert done.returncode == 0, done.stderr
    (shown,) = re.findall(r"# (db:5432/lro: .*)", STEPS)
    wording = re.escape(shown.replace("/data/operations.db", str(path)))
    pattern = wording.replace("db:5432/lro", r"[\d.:]+/postgres").replace("1,234", "1")
    assert re.fullmatch(pattern, done.stdout.rstrip())
