"""The CPU time of reported progress, while thousands of callers wait for the operation's end."""

from __future__ import annotations

import asyncio
import time

from google.longrunning import operations_pb2

from benchmarks.figure import Figure
from lro.example.v1 import fleet_service_pb2
from lro_grpc import Operations
from lro_grpc._operation.events import Report

WAITERS = 4000
REPORTS = 1000
ROUNDS = 5

_CREATE = "/lro.example.v1.FleetService/CreateInstance"
_WAIT = "/google.longrunning.Operations/WaitOperation"


def measure() -> list[Figure]:
    rounds = [(asyncio.run(_cpu(WAITERS)), asyncio.run(_cpu(0))) for _ in range(ROUNDS)]
    waited, alone = ([taken * 1e6 / REPORTS for taken in one] for one in zip(*rounds, strict=True))
    return [
        Figure(
            what=f"CPU of a report that {WAITERS:,} Waits sleep through",
            ours=waited,
            baseline=alone,
            unit="µs",
            goal="≤ 2 × one without Waits",
            meets=lambda _, ratio: ratio <= 2,
        )
    ]


async def _cpu(waiters: int) -> float:
    """Returns the seconds of CPU time that all reports take."""
    operations = Operations("memory:")
    running = asyncio.Event()
    may_end = asyncio.Event()

    async def run(request: object, op: object) -> fleet_service_pb2.Instance:
        running.set()
        await may_end.wait()
        return fleet_service_pb2.Instance()

    operations.add_method(
        _CREATE,
        run,
        request=fleet_service_pb2.CreateInstanceRequest,
        response=fleet_service_pb2.Instance,
    )
    await operations.start()
    calls = operations.local()
    started = await calls.call(_CREATE, b"", _Context())
    name = operations_pb2.Operation.FromString(started.body).name
    wait = operations_pb2.WaitOperationRequest(name=name).SerializeToString()
    await running.wait()
    waits = [asyncio.create_task(calls.call(_WAIT, wait, _Context())) for _ in range(waiters)]
    await asyncio.sleep(0)
    begin = time.process_time()
    for number in range(REPORTS):
        await operations.store.apply(name, Report(1, status_detail=f"{number} rows"))
        await asyncio.sleep(0)
    taken = time.process_time() - begin
    may_end.set()
    await asyncio.gather(*waits)
    await operations.stop(_nothing)
    return taken


async def _nothing() -> None:
    """There is no server to stop."""


class _Context:
    """An RPC without a deadline."""

    def time_remaining(self) -> None:
        """Returns None: it has none."""

    def invocation_metadata(self) -> tuple[()]:
        """Returns nothing: none was sent."""
        return ()
