"""docs/deploy on systemd, Docker and backups: units and images with real commands and times."""

from __future__ import annotations

import configparser
import importlib.metadata
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml
from pages import Page
from test_kubernetes_page import GRACE_SECONDS, SERVE, container_of, parsed, pod_of
from test_serve_workers import lro, write_service

if TYPE_CHECKING:
    from pathlib import Path

SYSTEMD, DOCKER, BACKUP = (Page(f"deploy/{name}.md") for name in ("systemd", "docker", "backup"))
# The pages by name, for whoever looks for the test of one:
# Page("deploy/systemd.md"), Page("deploy/docker.md"), Page("deploy/backup.md")
(UNIT,) = SYSTEMD.texts("ini")
COPY, TIMER = BACKUP.texts("ini")
(DOCKERFILE,) = DOCKER.texts("dockerfile")
(COMPOSE,) = DOCKER.texts("yaml")


def section(unit: str, name: str) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit)
    return dict(parser[name])


def instructions(name: str) -> list[str]:
    joined = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"^{name} (.*)$", joined, re.MULTILINE)


STARTED = section(UNIT, "Service")
COMMANDS = {
    "systemd": ["lro", *shlex.split(STARTED["ExecStart"].replace("\\\n", " "))[1:]],
    "docker": json.loads(instructions("CMD")[0]),
}
STOPPED_AFTER = {
    "systemd": int(STARTED["TimeoutStopSec"]),
    "docker": int(re.findall(r"--stop-timeout (\d+)", DOCKER)[0]),
}


def here(command: list[str], folder: Path) -> list[str]:
    """Returns the command for this machine, with ports that are free and a file in the folder."""
    known = {"server:add": write_service(folder)}
    for number, word in enumerate(command):
        if word in ("--listen", "--http", "--metrics"):
            known[command[number + 1]] = "127.0.0.1:0"
        elif word == "--store":
            known[command[number + 1]] = f"sqlite:///{folder}/operations.db"
    return [known.get(word, word) for word in command[1:]]


@pytest.mark.parametrize("page", COMMANDS)
def test_the_server_starts_and_drains_in_its_time(page: str, tmp_path: Path) -> None:
    lame_duck = parsed(COMMANDS[page])["lame_duck"].total_seconds()
    assert STOPPED_AFTER[page] > lame_duck + 2 * GRACE_SECONDS
    with lro(*here(COMMANDS[page], tmp_path), cwd=tmp_path, last="try") as running:
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(STOPPED_AFTER[page]) == 0


def test_the_unit_may_write_where_its_file_is() -> None:
    store = parsed(COMMANDS["systemd"])["store"]
    assert store.startswith(f"sqlite:////var/lib/{STARTED['StateDirectory']}/")
    assert STARTED["ProtectSystem"] == "strict"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="it is where systemd is")
@pytest.mark.parametrize("unit", [UNIT, COPY, TIMER])
def test_systemd_knows_every_key(unit: str, tmp_path: Path) -> None:
    (name,) = re.findall(r"^# /etc/systemd/system/(\S+)$", unit, re.MULTILINE)
    known = re.sub(r"^(Exec\w+)=\S+", r"\1=/bin/true", unit, flags=re.MULTILINE)
    (tmp_path / name).write_text(known.replace("User=reports", "User=root"))
    if name.endswith(".timer"):
        (tmp_path / name.replace(".timer", ".service")).write_text("[Service]\nExecStart=/bin/true")
    run = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / name], capture_output=True, text=True
    )
    complaints = [line for line in run.stderr.splitlines() if str(tmp_path) in line or name in line]
    assert complaints == []


def test_the_backup_of_the_night_is_a_whole_copy(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lro_grpc._cli"]
    with lro(*here(COMMANDS["systemd"], tmp_path), cwd=tmp_path, last="try") as running:
        *shell, script = shlex.split(section(COPY, "Service")["ExecStart"])
        script = script.replace("$$", "$").replace("%%", "%")
        script = script.replace("/srv/reports/.venv/bin/lro", shlex.join(command))
        script = script.replace("/var/lib/reports-backup", str(tmp_path))
        subprocess.run(
            [*shell, script.replace("/var/lib/reports", str(tmp_path))], check=True, cwd=tmp_path
        )
        (copy,) = tmp_path.glob("operations-????-??-??.db")
        subprocess.run([*command, "db", "check", copy], check=True, capture_output=True)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(60) == 0


def test_old_backups_are_removed(tmp_path: Path) -> None:
    program, folder, *conditions = shlex.split(section(COPY, "Service")["ExecStartPost"])
    assert section(COPY, "Service")["StateDirectory"].split()[1] == folder.rpartition("/")[2]
    (tmp_path / "operations-2026-01-01.db").touch()
    (tmp_path / "operations-2026-01-02.db").touch()
    subprocess.run(
        ["touch", "-d", "20 days ago", tmp_path / "operations-2026-01-01.db"], check=True
    )
    subprocess.run([program, tmp_path, *conditions], check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["operations-2026-01-02.db"]


def test_the_image_fits_its_command_and_the_manifests() -> None:
    options = parsed(COMMANDS["docker"])
    ports = {options[name].rpartition(":")[2] for name in ("listen", "metrics")}
    assert set(instructions("EXPOSE")[0].split()) == ports
    assert options["store"].startswith(f"sqlite:///{instructions('VOLUME')[0]}/")
    assert instructions("USER") == [str(pod_of(SERVE)["securityContext"]["runAsUser"])]
    assert f"--uid {instructions('USER')[0]} " in instructions("RUN")[0]
    (extras,) = re.findall(r"'lro-grpc\[(.*)\]'", DOCKERFILE)
    assert {*extras.split(",")} <= {
        *importlib.metadata.metadata("lro-grpc").get_all("Provides-Extra", [])
    }
    assert container_of(SERVE)["args"][0] == COMMANDS["docker"][0] == "lro"


def test_the_health_check_of_the_image_finds_a_server_well(tmp_path: Path) -> None:
    _, *probe = json.loads(instructions("HEALTHCHECK CMD")[0])
    address = parsed(COMMANDS["docker"])["http"]
    with lro(*here(COMMANDS["docker"], tmp_path), cwd=tmp_path, last="try") as running:
        served = [word.replace(address, running.banner["over HTTP on"]) for word in probe]
        assert served != probe
        assert subprocess.run([sys.executable, *served], check=False).returncode == 0
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(STOPPED_AFTER["docker"]) == 0


def test_compose_is_the_same_container() -> None:
    (service,) = yaml.safe_load(COMPOSE)["services"].values()
    assert service["stop_grace_period"] == f"{STOPPED_AFTER['docker']}s"
    (volume,) = service["volumes"]
    name, _, folder = volume.partition(":")
    assert folder == instructions("VOLUME")[0]
    assert name in yaml.safe_load(COMPOSE)["volumes"]
    port = parsed(COMMANDS["docker"])["listen"].rpartition(":")[2]
    assert service["ports"] == [f"{port}:{port}"]
