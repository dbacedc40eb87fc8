"""Runs the command as its users do: a process with arguments, an environment, an exit code."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forked import ForkServer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

COMMAND = [sys.executable, "-m", "lro_grpc._cli"]
SECONDS = 60
"""A test fails if a process takes longer than this."""

_FORKS = ForkServer("lro_grpc._cli.__main__:main", "lro_grpc._cli.app", "lro_imports")


def run(
    arguments: Iterable[str], environment: Mapping[str, str], cwd: Path, stdin: str | None = ""
) -> subprocess.CompletedProcess[str]:
    """Runs a command in a fork; without a text for it, stdin is closed."""
    with contextlib.ExitStack() as files:
        typed, stdout, stderr = (files.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        typed.write((stdin or "").encode())
        typed.seek(0)
        given = (None if stdin is None else typed, stdout, stderr)
        process = _FORKS.start(list(arguments), environment, cwd, given)
        try:
            code = process.wait(SECONDS)
        finally:
            process.kill()
        written = []
        for file in (stdout, stderr):
            file.seek(0)
            written.append(file.read().decode())
        return subprocess.CompletedProcess([*COMMAND, *arguments], code, *written)


class Lro:
    """Runs ``lro`` for one server.

    Args:
        target: The server's address.
        **environment: More of the environment.
    """

    def __init__(self, target: str, **environment: str) -> None:
        # Not what the caller of the tests has set for a server of their own.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("LRO_")}
        self._environment = {**inherited, "LRO_TARGET": target, **environment}

    def __call__(
        self, *arguments: str, cwd: Path | None = None, stdin: str | None = "", **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs it; without a text for it, stdin is closed."""
        environment = {**self._environment, **more}
        return run(arguments, environment, cwd or Path.cwd(), stdin)

    @contextlib.contextmanager
    def started(self, *arguments: str, stdout: Any = subprocess.PIPE) -> Iterator[Any]:
        """Gives a process that runs; one that is not over when the context ends is killed."""
        with subprocess.Popen(
            [*COMMAND, *arguments],
            env=self._environment,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    def on_terminal(
        self, *arguments: str, columns: int = 120, typed: str = "", terminated_at: str = ""
    ) -> tuple[int, str]:
        """Returns the exit code, and the output on a terminal of that width.

        Args:
            *arguments: Those of the command.
            columns: The width.
            typed: Keys that are pressed meanwhile; the output has them, too.
            terminated_at: A text of the output at which it gets SIGTERM.
        """
        main, side = pty.openpty()
        environment = {**self._environment, "COLUMNS": str(columns), "TERM": "xterm"}
        with subprocess.Popen(
            [*COMMAND, *arguments], env=environment, stdout=side, stdin=side, stderr=side
        ) as process:
            os.close(side)
            os.write(main, typed.encode())
            written = b""
            with contextlib.suppress(OSError):  # EIO: the other end is closed
                while chunk := os.read(main, 65536):
                    written += chunk
                    if terminated_at and terminated_at.encode() in written:
                        process.terminate()
                        terminated_at = ""
            os.close(main)
            return process.wait(SECONDS), written.decode()
