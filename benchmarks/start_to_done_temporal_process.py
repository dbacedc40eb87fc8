"""One process that takes operations from their start to their end, as an engine delivers them.

``start_to_done_temporal_process.py ENGINE URL ADDRESS JOBS AT_A_TIME``: ENGINE is ``activity`` or
``workflow``, by Temporal at the address, or ``alone``, for the engine that needs the store only.
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
import sys
import time

from google.longrunning import operations_pb2

import lro_grpc
from benchmarks.together import Part
from lro.example.v1 import fleet_service_pb2
from lro_grpc._operation.record import Record
from lro_grpc.engines import Temporal

_METHOD = "/lro.example.v1.FleetService/CreateInstance"


async def nothing(request: object, op: object) -> fleet_service_pb2.Instance:
    """The handler."""
    del request, op
    return fleet_service_pb2.Instance()


async def run(kind: str, url: str, address: str, jobs: int, at_a_time: int) -> None:
    """Starts operations, so many at a time, and waits until they have ended."""
    temporal = Temporal(
        address,
        task_queue=f"lro-bench-{secrets.token_hex(6)}",
        standalone=kind == "activity",
    )
    operations = lro_grpc.Operations(url, engine=None if kind == "alone" else temporal)
    operations.add_method(
        _METHOD,
        nothing,
        request=fleet_service_pb2.CreateInstanceRequest,
        response=fleet_service_pb2.Instance,
    )
    ends: dict[str, asyncio.Future[None]] = {}
    done: set[str] = set()

    def note(_: Record | None, record: Record) -> None:
        if record.done:
            done.add(record.name)
            if record.name in ends:
                ends.pop(record.name).set_result(None)

    await operations.start()
    operations.store.subscribe(note)
    calls = operations.local()
    room = asyncio.Semaphore(at_a_time)
    seconds: list[float] = []

    async def one() -> None:
        async with room:
            begun = time.monotonic()
            answer = await calls.call(_METHOD, b"", None)
            name = operations_pb2.Operation.FromString(answer.body).name
            if name not in done:
                ends[name] = asyncio.get_running_loop().create_future()
                await ends[name]
            seconds.append(time.monotonic() - begun)

    await one()  # it waits for the connections
    seconds.clear()
    part = Part()
    part.begin()
    await asyncio.gather(*(one() for _ in range(jobs)))
    part.end(time.monotonic(), median=statistics.median(seconds))
    await operations.stop(lambda: asyncio.sleep(0))


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:4], *map(int, sys.argv[4:])))
