"""``--metrics``: what Prometheus scrapes of ``lro serve`` and ``lro work``, as real processes."""

from __future__ import annotations

import contextlib
import http.client
import random
import re
import signal
import socket
import threading
import urllib.request
from typing import TYPE_CHECKING

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families
from test_serve import create, run, run_anew, serving
from test_serve_workers import lro, refused, write_service
from test_serve_workers import serving as serving_workers

from lro_grpc import OperationsClient
from lro_grpc._cli.metrics import telling_metrics
from lro_grpc._errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

METHOD = "lro.example.v1.FleetService/CreateInstance"
SECONDS = 30


def scraped(address: str) -> dict[tuple[str, str, str], float]:
    """The samples at an address: by name, method and state."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=SECONDS) as reply:
        assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = reply.read().decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sample.labels
            method, state = (
                labels.get("lro_operation_method", ""),
                labels.get("lro_operation_state"),
            )
            found[sample.name, method, state or ""] = sample.value
    return found


def free_ports(count: int) -> int:
    """Returns a port after which so many are free; none that the system gives away by itself."""
    while True:
        port = random.randrange(20_000, 30_000)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for number in range(count + 1):
                stack.enter_context(socket.create_server(("127.0.0.1", port + number)))
            return port


@contextlib.contextmanager
def told() -> Iterator[str]:
    """The address of a server in this process."""
    with telling_metrics("127.0.0.1:0", shares_port=False) as measured:
        yield measured.address


def test_a_server_tells_what_it_measures(tmp_path: Path) -> None:
    with serving("--metrics", "127.0.0.1:0", cwd=tmp_path) as served:
        label, _, address = served.banner[1].strip().rpartition(" ")
        assert label == "metrics on    "
        with grpc.insecure_channel(served.target) as channel:
            OperationsClient(channel).future(create(channel, "one"), response=None).exception()
        samples = scraped(address)
        assert samples["lro_operation_started_total", METHOD, ""] == 1
        assert samples["lro_operation_finished_total", METHOD, "JOB_STATE_SUCCEEDED"] == 1
        assert samples["lro_operation_duration_seconds_count", METHOD, "JOB_STATE_SUCCEEDED"] == 1
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(SECONDS) == 0


def test_scrapers_that_say_nothing_hold_up_nobody(tmp_path: Path) -> None:
    with (
        serving("--metrics", "127.0.0.1:0", cwd=tmp_path) as served,
        contextlib.ExitStack() as stack,
    ):
        host, _, port = served.banner[1].split()[-1].rpartition(":")
        for _ in range(40):
            stack.enter_context(socket.create_connection((host, int(port)), SECONDS))
        assert ("lro_store_call_duration_seconds_count", "", "") in scraped(f"{host}:{port}")
        with grpc.insecure_channel(served.target) as channel:
            create(channel, "one")


def test_one_too_many_takes_the_place_of_the_oldest() -> None:
    with told() as address, contextlib.ExitStack() as stack:
        host, _, port = address.rpartition(":")
        silent = [
            stack.enter_context(socket.create_connection((host, int(port)), SECONDS))
            for _ in range(9)
        ]
        assert silent[0].recv(1) == b""
        scraped(address)
        assert silent[1].recv(1) == b""
        silent[-1].sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert silent[-1].recv(12) == b"HTTP/1.0 200"


def test_many_scrapers_at_once_are_told_the_same() -> None:
    with told() as address:
        answers: list[dict[tuple[str, str, str], float]] = []
        threads = [
            threading.Thread(target=lambda: answers.append(scraped(address))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 8


def test_the_server_ends_with_its_context() -> None:
    with told() as address:
        scraped(address)
    host, _, port = address.rpartition(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), SECONDS)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/metrics?name[]=x", 200),
        ("HEAD", "/metrics", 200),
        ("GET", "/", 404),
        ("GET", "/metrics/../etc", 404),
        ("POST", "/metrics", 501),
    ],
)
def test_only_the_metrics_are_there(method: str, path: str, status: int) -> None:
    with told() as address:
        connection = http.client.HTTPConnection(address, timeout=SECONDS)
        connection.request(method, path)
        reply = connection.getresponse()
        assert reply.status == status
        assert reply.getheader("Server") == "lro"
        connection.close()


@pytest.mark.parametrize(
    "address", ["9464", ":9464", "127.0.0.1", "127.0.0.1:", "localhost:metrics", "h:65536", "h:-1"]
)
def test_an_address_without_a_host_or_a_port_is_refused(tmp_path: Path, address: str) -> None:
    done = run("serve", "--listen", "127.0.0.1:0", "--metrics", address, cwd=tmp_path)
    wanted = f"lro: --metrics {address!r} is no HOST:PORT, such as 127.0.0.1:9464\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", wanted)
    assert not list(tmp_path.iterdir())


def test_a_port_that_is_taken_ends_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        done = run("serve", "--listen", "127.0.0.1:0", "--metrics", address, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"lro: cannot listen on {address}: .*\n", done.stderr)
    assert not list(tmp_path.iterdir())


def test_a_host_that_is_not_this_machine_is_refused() -> None:
    with (
        pytest.raises(ConfigurationError, match=r"cannot listen on 192\.0\.2\.1:9464"),
        telling_metrics("192.0.2.1:9464", shares_port=False),
    ):
        pass


@pytest.mark.parametrize("missing", ["prometheus_client", "opentelemetry"])
def test_without_its_extra_the_option_prints_the_pip_line(tmp_path: Path, missing: str) -> None:
    (tmp_path / f"{missing}.py").write_text(f"raise ModuleNotFoundError(name={missing!r})")
    done = run_anew("serve", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"lro: --metrics needs {missing}: pip install 'lro-grpc[metrics]'\n"


def test_each_worker_has_a_port_of_its_own(tmp_path: Path, postgres: str) -> None:
    service = write_service(tmp_path)
    port = free_ports(2)
    metrics = ("--metrics", f"127.0.0.1:{port}")
    with serving_workers(service, *metrics, store=postgres, cwd=tmp_path, workers=2) as served:
        assert served.banner["metrics on"] == f"127.0.0.1:{port + 1} to {port + 2}"
        for one in range(4):
            served.create(str(one))
        each = [scraped(f"127.0.0.1:{port + number}") for number in (1, 2)]
        started = [one.get(("lro_operation_started_total", METHOD, ""), 0) for one in each]
        assert sum(started) == 4
        again = ("serve", service, "--listen", "127.0.0.1:0", "--store", postgres, *metrics)
        code, said = refused(*again, "--workers", "2", cwd=tmp_path)
        assert code == 2
        assert said.startswith(f"lro: cannot listen on 127.0.0.1:{port + 1}: ")
        assert served.ended(signal.SIGTERM) == 0


@pytest.mark.parametrize("port", ["0", "65534"])
def test_each_worker_needs_a_port(tmp_path: Path, port: str) -> None:
    command = ("serve", "--store", "postgresql://nowhere/lro", "--workers", "2", "--metrics")
    wanted = (
        f"lro: --metrics 127.0.0.1:{port}: 2 workers have the ports after that, so it has to be"
        " between 1 and 65533\n"
    )
    listen = ("--listen", "127.0.0.1:0")
    assert refused(*command, f"127.0.0.1:{port}", *listen, cwd=tmp_path) == (2, wanted)


def test_a_process_that_only_works_tells_its_metrics(tmp_path: Path, postgres: str) -> None:
    service = write_service(tmp_path)
    command = ("work", service, "--store", postgres, "--metrics", "127.0.0.1:0")
    with lro(*command, cwd=tmp_path, last="works on") as working:
        samples = scraped(working.banner["metrics on"])
        assert any(name == "lro_store_call_duration_seconds_count" for name, *_ in samples)
        assert working.ended(signal.SIGTERM) == 0
