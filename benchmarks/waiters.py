"""Many callers in WaitOperation, each on its own operation, beside a bare ``grpc.aio`` server.

The bare server stores nothing, so the time to wake them is taken from the moment that ours has
stored and published the ends; the time with the storing is shown besides.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc.aio
from google.longrunning import operations_pb2, operations_pb2_grpc

from benchmarks.figure import Figure, shown
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc

WAITERS = 10_000
AT_A_TIME = 250
"""Calls that begin together; gRPC turns some away if there are too many more."""

ROUNDS = 2


@dataclass(frozen=True)
class Round:
    memory: float
    """Of the server, for each waiter, in KiB."""
    since_first_end: float
    """From the first end that was published until the last waiter was answered, in seconds."""
    since_release: float
    """The same from the release of all handlers."""


def measure() -> list[Figure]:
    """Runs both servers in turn, each a new process."""
    rounds = [(_round("ours"), _round("bare")) for _ in range(ROUNDS)]

    def of(figure: str) -> dict[str, list[float]]:
        ours, bare = ([getattr(one, figure) for one in both] for both in zip(*rounds, strict=True))
        return {"ours": ours, "baseline": bare}

    return [
        Figure(
            what=f"memory of each of {WAITERS:,} waiters",
            **of("memory"),
            unit="KiB",
            goal="≤ 1.5 × an Event a name",
            meets=lambda _, ratio: ratio <= 1.5,
        ),
        Figure(
            what=f"{WAITERS:,} published ends, to the last waiter's answer",
            **of("since_first_end"),
            unit="s",
            goal="≤ 2 × an Event a name",
            meets=lambda _, ratio: ratio <= 2,
        ),
        Figure(
            what=f"{WAITERS:,} handlers let return to the last waiter's answer",
            **of("since_release"),
            unit="s",
            goal="(shown; the baseline stores nothing)",
            meets=shown,
        ),
    ]


def _round(kind: str) -> Round:
    command = [sys.executable, "-m", "benchmarks.waiters_server", kind]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:

        def ask(what: str) -> Any:
            assert server.stdin is not None
            assert server.stdout is not None
            print(what, file=server.stdin, flush=True)
            return json.loads(server.stdout.readline())

        try:
            return asyncio.run(_wait_for_all(ask))
        finally:
            server.terminate()


async def _wait_for_all(ask: Callable[[str], Any]) -> Round:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ask('port')}") as channel:
        operations = operations_pb2_grpc.OperationsStub(channel)
        names = await _started(fleet_service_pb2_grpc.FleetServiceStub(channel))
        before = ask("memory")
        answered: list[int] = []
        waits = []
        for first in range(0, WAITERS, AT_A_TIME):
            for name in names[first : first + AT_A_TIME]:
                wait = operations.WaitOperation(operations_pb2.WaitOperationRequest(name=name))
                wait.add_done_callback(lambda _: answered.append(time.monotonic_ns()))
                waits.append(wait)
            # Its answer shows that the server has taken up the calls before it.
            await operations.GetOperation(operations_pb2.GetOperationRequest(name=names[0]))
        memory = ask("memory") - before
        assert not answered
        moments = await asyncio.to_thread(ask, "finish")
        assert all([(await wait).done for wait in waits])
    return Round(
        memory=memory / WAITERS,
        since_first_end=(answered[-1] - moments["first_end"]) / 1e9,
        since_release=(answered[-1] - moments["released"]) / 1e9,
    )


async def _started(fleet: fleet_service_pb2_grpc.FleetServiceStub) -> list[str]:
    request = fleet_service_pb2.CreateInstanceRequest(parent="projects/p/locations/l")
    names: list[str] = []
    for _ in range(0, WAITERS, AT_A_TIME):
        calls = [fleet.CreateInstance(request) for _ in range(AT_A_TIME)]
        names += [(await call).name for call in calls]
    return names
