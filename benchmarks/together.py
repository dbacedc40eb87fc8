"""Processes that do their work at the same time, and the CPU time that it takes.

Each is a module, run with arguments. It calls ``begin`` when it is ready, and ``end`` with its
figures when it has done its work. All begin at once; none leaves before all have ended.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import cpu
from lro_grpc._runtime import garbage


@dataclass(frozen=True)
class Work:
    """The work that the processes have done together."""

    seconds: float
    """From the common begin to the last that happened."""
    client_cpu: float
    """The CPU seconds of the processes."""
    server_cpu: float
    """The CPU seconds of the server that they used meanwhile."""
    figures: list[dict[str, Any]]
    """The figures that each has to tell."""


def run(
    module: str,
    arguments: Sequence[Sequence[object]],
    server_cpu: Callable[[], float] = lambda: 0.0,
) -> Work:
    """Runs a process for each list of arguments.

    Args:
        module: Of ``benchmarks``.
        arguments: Of each process.
        server_cpu: Returns the CPU seconds that a server has taken so far.
    """
    with contextlib.ExitStack() as stack:
        processes = []
        for each in arguments:
            command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, each)]
            process = stack.enter_context(
                subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
                )
            )
            stack.callback(process.kill)
            processes.append(process)
        for process in processes:
            assert process.stdout.readline() == "ready\n", f"{module} has failed"
        before, begin = server_cpu(), time.monotonic()
        for process in processes:
            print("begin", file=process.stdin, flush=True)
        figures = [json.loads(process.stdout.readline()) for process in processes]
        work = Work(
            seconds=max(each["end"] for each in figures) - begin,
            client_cpu=sum(each["cpu"] for each in figures),
            server_cpu=server_cpu() - before,
            figures=figures,
        )
        for process in processes:
            print("leave", file=process.stdin, flush=True)
        for process in processes:
            process.wait(30)
        return work


class Part:
    """The work of this process, as one of several."""

    def begin(self) -> None:
        """Says that this process is ready, and returns when all are.

        Whatever it runs, Python's garbage collection is set up in it as ``lro serve`` has it.
        """
        garbage.search_less()
        print("ready", flush=True)
        sys.stdin.readline()
        self._cpu = cpu.own()

    def end(self, end: float, **figures: object) -> None:
        """Tells this process's figures, and returns when all have.

        Args:
            end: When the last of its work was done, by ``time.monotonic``.
            figures: What else there is to tell.
        """
        print(json.dumps({"end": end, "cpu": cpu.own() - self._cpu, **figures}), flush=True)
        sys.stdin.readline()
