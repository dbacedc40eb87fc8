"""README and docs/start, followed in an empty folder, with nothing but the built wheel."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from pages import Page

README = Page("README.md")
SERVICE, CLIENT = Page("start/service.md"), Page("start/client.md")
INSTALL, COMMAND = Page("start/install.md"), Page("start/command.md")
(GENERATES,) = SERVICE.section("The stubs").blocks("sh")
(SERVES,) = SERVICE.section("The server").blocks("sh")
(SHOWN,) = CLIENT.section("Kill the server").blocks("text")
EMPTY = {"PATH": "/usr/bin:/bin"}
"""An environment in which no leftover can help."""

pytestmark = [pytest.mark.codegen, pytest.mark.timeout(900)]


class Reader:
    """Somebody with an environment and a folder, who does what the pages say."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        venv.create(folder / "env")
        self.bin = folder / "env" / "bin"
        self._folders = folder
        self.begins_anew("start")
        (extras,) = re.findall(r"^pip install 'lro-grpc(\[.*\])'$", INSTALL, re.MULTILINE)
        pip = [sys.executable, "-m", "pip", f"--python={self.bin / 'python'}"]
        install = [*pip, "install", "--quiet", "--no-compile", f"{wheel}{extras}"]
        subprocess.run(install, check=True, timeout=500)

    def begins_anew(self, name: str) -> None:
        """Goes to an empty folder."""
        self.folder = self._folders / name
        self.folder.mkdir()
        self.port = free_port()

    def writes(self, page: Page) -> None:
        """Writes the files of a page, with a port that is free here."""
        for name, block in page.files().items():
            (self.folder / name).write_text(block.text.replace("50051", str(self.port)))

    def begins(self, command: str) -> subprocess.Popen[str]:
        """Begins a command of a page."""
        program, *arguments = command.split()
        return subprocess.Popen(
            [self.bin / program, *arguments],
            cwd=self.folder,
            env={**EMPTY, "LRO_TARGET": f"127.0.0.1:{self.port}", "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def says(self, command: str) -> str:
        """Runs a command of a page, which has to succeed, and returns what it prints."""
        with self.begins(command) as process:
            said, complaint = process.communicate(timeout=200)
        assert process.returncode == 0, f"{said}\n{complaint}"
        return said

    @contextlib.contextmanager
    def serving(self, command: str = SERVES.text) -> Iterator[subprocess.Popen[str]]:
        """Runs a server while the context lasts; it ends well, or was killed."""
        with self.begins(command) as process:
            try:
                with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
                    grpc.channel_ready_future(channel).result(timeout=60)
                yield process
            finally:
                process.terminate()
                _, complaint = process.communicate(timeout=60)
        assert process.returncode in (0, -signal.SIGKILL), complaint


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def reader(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return Reader(tmp_path_factory.mktemp("reader"), wheel)


def test_a_report_survives_the_kill_of_its_server(reader: Reader) -> None:
    reader.writes(SERVICE)
    reader.writes(CLIENT)
    server = reader.folder / "server.py"
    work = "sleep(3600 if (op.attempt, number, request.page_count) == (1, 4, 10) else 0)"
    server.write_text(server.read_text().replace("sleep(1)", work))
    reader.says(GENERATES.text)
    client = reader.begins("python client.py")  # it waits for the server
    assert client.stdout is not None
    with client:
        with reader.serving() as killed:
            begun = []
            while not begun or not begun[-1].endswith("page 3\n"):
                begun.append(client.stdout.readline())
            killed.kill()
        with reader.serving():
            said = "".join(begun) + client.communicate(timeout=60)[0]
            name = said.splitlines()[0]
            assert reader.says(f"python later.py {name}") == "10 pages\n"
            assert reader.says("python async_client.py") == "5 pages\n"
            assert name in reader.says("lro list")
            assert "LOST" in reader.says(f"lro get {name} --attempts")
            assert "SUCCEEDED" in reader.says(f"lro watch {name}")
    assert client.returncode == 0
    assert as_shown(said) == as_shown(SHOWN.text)
    assert "attempt 1\n" in said
    assert "attempt 2\n" in said


def as_shown(said: str) -> list[str]:
    """Returns what a client prints, without the name, the attempts, and how far an update is."""
    lines = re.sub(r"op-\w+|attempt \d", "", said).splitlines()
    return [line for line in lines if not re.match(r"\d+ ", line)]


def test_the_command_serves_the_same(reader: Reader) -> None:
    (serves,) = COMMAND.section("Serve with it").blocks("sh")
    with reader.serving(f"{serves.text.strip()} --listen 127.0.0.1:{reader.port}"):
        name, *_ = reader.says("lro list -q").splitlines()
        assert "page 1, written by attempt 1" in reader.says(f"lro get {name}")
        _, waits = COMMAND.section("In scripts").blocks("sh")[0].text.splitlines()
        assert '"done": true' in reader.says(waits.replace('"$name"', name))


def test_the_readmes_client_waits_for_its_server(reader: Reader) -> None:
    reader.begins_anew("readme")
    reader.writes(README)
    server = reader.folder / "server.py"
    server.write_text(server.read_text().replace("sleep(1)", "sleep(0)"))
    generates, runs = README.section("A service").blocks("sh") + README.section("A client").blocks(
        "sh"
    )
    reader.says(generates.text)
    serves, calls = (line.partition("#")[0] for line in runs.text.splitlines())
    client = reader.begins(calls)
    with reader.serving(serves):
        said, complaint = client.communicate(timeout=60)
    assert client.returncode == 0, complaint
    assert said.splitlines()[-1] == "page 10, written by attempt 1"


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150
