"""Programs of the documentation, run by a reader who has their files in a folder."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import httpx
from pages import Page

import lro_grpc

SECONDS = 60
"""The time that a test waits for what must come, before it fails."""

SERVICE = Page("start/service.md")

_BINARIES = Path(sys.executable).parent


class Folder:
    """A folder with the files of pages, in which their programs run.

    Each port that a page names is another one here, so that tests may run side by side.

    Args:
        path: The folder.
        *pages: The pages whose files are written into it.
        ports_of: Another folder whose ports it has, for a program that takes another's place.
    """

    def __init__(self, path: Path, *pages: Page, ports_of: Folder | None = None) -> None:
        self.path = path
        self._ports: dict[str, str] = ports_of._ports if ports_of else {}
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("LRO_")},
            "PATH": f"{_BINARIES}:{os.environ['PATH']}",
            "HOME": str(path),  # where some programs leave files
        }
        for page in pages:
            for name, block in page.files().items():
                (path / name).write_text(self.as_here(block.text), encoding="utf-8")
        if (path / "server.py").exists() and (path / "reports.proto").exists():
            self.run("lro protoc --python_out=. --pyi_out=. --lro-grpc_out=. reports.proto")

    @property
    def lro_target(self) -> str:
        """The address of the gRPC server."""
        return f"127.0.0.1:{self.port('50051')}"

    @property
    def url(self) -> str:
        """The address of the HTTP server."""
        return f"http://127.0.0.1:{self.port('8080')}"

    def port(self, named: str) -> str:
        """Returns the port that takes the place of the one that pages name."""
        if named not in self._ports:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self._ports[named] = str(probe.getsockname()[1])
        return self._ports[named]

    def run(self, command: str) -> str:
        """Runs a command of a page in a shell, and returns what it prints; it has to succeed."""
        done = subprocess.run(
            ["bash", "-c", self.as_here(command)],
            cwd=self.path,
            env={**self._environment, "LRO_TARGET": self.lro_target},
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def answers(self, url: str) -> None:
        """Waits until an HTTP server answers."""
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                httpx.get(url)
            except httpx.TransportError:
                assert time.monotonic() < deadline, url
            else:
                return

    @contextlib.contextmanager
    def started(
        self, command: str, *, end: int = signal.SIGTERM, stderr: IO[str] | None = None
    ) -> Iterator[Program]:
        """Runs a program while the context lasts, and ends it with a signal."""
        words = self.as_here(command).split()
        with subprocess.Popen(
            [str(_BINARIES / words[0]), *words[1:]],
            cwd=self.path,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,  # as a service manager begins it
        ) as process:
            assert process.stdout is not None
            program = Program(process, process.stdout)
            try:
                yield program
            finally:
                process.send_signal(end)
                try:
                    process.wait(SECONDS)
                finally:
                    process.kill()
        if end == signal.SIGTERM and program.must_end_well:
            assert process.returncode in (0, -signal.SIGTERM), process.returncode

    def as_here(self, text: str) -> str:
        """Returns a text of a page with the ports of this folder."""
        return re.sub(r"\b(50051|50050|8080)\b", lambda found: self.port(found[0]), text)


def first_service(path: Path, *pages: Page, ports_of: Folder | None = None) -> Folder:
    """Returns the folder of a reader who has the first service, and files of other pages.

    Its report takes a fifth of a second for a page, not a second as the reader's.
    """
    folder = Folder(path, SERVICE, *pages, ports_of=ports_of)
    server = path / "server.py"
    server.write_text(server.read_text().replace("asyncio.sleep(1)", "asyncio.sleep(0.2)"))
    return folder


def with_pages_of(folder: Folder, seconds: float) -> None:
    """Has a page of a report take so long, from the next start of the server on."""
    server = folder.path / "server.py"
    text = re.sub(r"asyncio\.sleep\([\d.]+\)", f"asyncio.sleep({seconds})", server.read_text())
    server.write_text(text)


class Program:
    """A program that runs."""

    def __init__(self, process: subprocess.Popen[str], printed: IO[str]) -> None:
        self.process = process
        self._printed = printed
        self.must_end_well = True

    def line(self) -> str:
        """Returns the next line that it prints."""
        return self._printed.readline().rstrip("\n")


def until(client: lro_grpc.OperationsClient, name: str, percent: int) -> None:
    """Waits until an operation has come so far."""
    for update in client.attach(name).updates(timeout=SECONDS):
        if (update.progress_percent or 0) >= percent:
            return
    raise AssertionError(f"{name} is over")
