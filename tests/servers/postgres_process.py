"""Runs a PostgreSQL server, with a database that ``initdb`` makes: see ``server_process.py``.

``postgres_process.py PROGRAMS PLACE``; its words are ``start``, ``stop`` and ``kill``.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from server_process import HOST, PATIENCE_SECONDS, free_port, run

# fsync and synchronous_commit are as they are by default: on. Shared memory is files of the folder,
# for of those in /dev/shm a server that is killed leaves some behind.
SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "dynamic_shared_memory_type": "mmap",
}


class Server:
    """A server, its folder, and its port.

    Args:
        programs: The folder of PostgreSQL's programs.
        place: Where to make the server's folder. If this process is root's, another user must be
            able to get there.
    """

    def __init__(self, programs: Path, place: str) -> None:
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="lro-postgres-", dir=place))
        self._data, self._log = self._folder / "data", self._folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._how: dict[str, Any] = {"cwd": self._folder, "env": {"LC_ALL": "C"}}
        self.port = free_port()

    def _create(self) -> None:
        """Makes the database.

        By default it changes the case of all letters, as a user's may: what needs that of A to Z
        alone has to ask for it.
        """
        if os.getuid() == 0:  # PostgreSQL refuses to be root's
            user = pwd.getpwnam("nobody")
            os.chown(self._folder, user.pw_uid, user.pw_gid)
            self._how |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        options = ["--username=postgres", "--auth=trust", "--no-sync", "--no-instructions"]
        texts = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin"]
        case = "--builtin-locale=PG_UNICODE_FAST"
        with self._log.open("ab") as log:
            subprocess.run(
                [self._programs / "initdb", self._data, *options, *texts, case],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
                **self._how,
            )

    def start(self) -> None:
        """Starts the server, and returns when it takes connections.

        What is left of one that was killed may be in its way for a moment, and is waited for.
        """
        if not self._data.exists():
            self._create()
        end = time.monotonic() + PATIENCE_SECONDS
        while not self._started(end):
            if time.monotonic() > end:
                raise TimeoutError("PostgreSQL does not start")
            time.sleep(0.2)

    def _started(self, end: float) -> bool:
        settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, f"--port={self.port}", *settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._how,
            )
        while self._process.poll() is None and time.monotonic() < end:
            if self._is_ready():
                return True
            time.sleep(0.01)
        self.end(signal.SIGKILL)
        return False

    def _is_ready(self) -> bool:
        """Whether the server says so in its lock file, and not one before it."""
        pid, *lines = self._lock_file() or ["0"]
        return int(pid) == self._process.pid and len(lines) == 7 and lines[6].strip() == "ready"

    def _lock_file(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return (self._data / "postmaster.pid").read_text().splitlines()
        return []

    def end(self, how: signal.Signals) -> None:
        """Ends the server with a signal, and returns when it has ended."""
        if self._process:
            self._process.send_signal(how)
            self._process.wait(PATIENCE_SECONDS)
            self._process = None

    def remove(self) -> None:
        """Ends the server at once, and removes what there is of it."""
        try:
            self.end(signal.SIGQUIT)
        finally:
            if len(lines := self._lock_file()) > 6:  # it was killed, and its shared memory stayed
                subprocess.run(["ipcrm", "-m", lines[6].split()[1]], stderr=subprocess.DEVNULL)
            end = time.monotonic() + PATIENCE_SECONDS
            while self._folder.exists() and time.monotonic() < end:
                # Processes of one that was killed may still write as they end.
                shutil.rmtree(self._folder, ignore_errors=True)

    def log(self) -> str:
        """Returns what the server has said."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""


def main(programs: str, place: str) -> None:
    server = Server(Path(programs), place)
    run(
        server,
        {
            "start": server.start,
            "stop": lambda: server.end(signal.SIGINT),
            "kill": lambda: server.end(signal.SIGKILL),
        },
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
