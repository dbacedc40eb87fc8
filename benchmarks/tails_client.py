"""One process that calls a server at a constant rate, however late its answers are.

``tails_client.py TARGET RATE SECONDS``; with the rate 0 it calls as fast as it can, and tells how
fast that is. A latency counts from the moment at which the call was due, not from that at which it
was made: otherwise what a slow answer holds up would not be seen (coordinated omission).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import grpc.aio
from google.longrunning import operations_pb2, operations_pb2_grpc

from benchmarks import cpu
from benchmarks.moments import Moments
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc
from lro_grpc import AsyncOperationsClient
from lro_grpc._runtime import garbage

AT_A_TIME = 64
"""Operations under way where it calls as fast as it can."""
WARM_UP_SECONDS = 0.5

_REQUEST = fleet_service_pb2.CreateInstanceRequest(parent="projects/p/locations/l")


class Caller:
    """Starts operations, waits for their ends, and gets them."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._fleet = fleet_service_pb2_grpc.FleetServiceStub(channel)
        self._operations = operations_pb2_grpc.OperationsStub(channel)
        self._client = AsyncOperationsClient(channel)
        self.starts: list[float] = []
        """Milliseconds from the moment at which a start was due to its answer."""
        self.gets: list[float] = []
        self.notices: list[tuple[int, int]] = []
        """The moments of each end and of its notice."""
        self._known = ""

    async def operate(self, due: int) -> None:
        operation = await self._fleet.CreateInstance(_REQUEST)
        self.starts.append((time.monotonic_ns() - due) / 1e6)
        future = self._client.future(operation, response=fleet_service_pb2.Instance)
        instance = await future.result()
        self.notices.append((instance.size_bytes, time.monotonic_ns()))
        self._known = operation.name

    async def get(self, due: int) -> None:
        if self._known:
            await self._operations.GetOperation(
                operations_pb2.GetOperationRequest(name=self._known)
            )
            self.gets.append((time.monotonic_ns() - due) / 1e6)

    async def saturate(self, seconds: float) -> None:
        """Has so many operations under way for some time."""
        end = time.monotonic() + seconds

        async def some() -> None:
            while time.monotonic() < end:
                await self.operate(time.monotonic_ns())
                await self.get(time.monotonic_ns())

        await asyncio.gather(*(some() for _ in range(AT_A_TIME)))

    async def call_at(self, rate: float, seconds: float) -> None:
        """Starts an operation, and gets one, so many times a second."""
        begin, calls = time.monotonic_ns(), []
        for number in range(int(rate * seconds)):
            for what, delay in ((self.operate, 0.0), (self.get, 0.5)):
                due = begin + int((number + delay) / rate * 1e9)
                await asyncio.sleep((due - time.monotonic_ns()) / 1e9)
                calls.append(asyncio.create_task(what(due)))
        await asyncio.gather(*calls)

    def forget(self) -> None:
        self.starts.clear()
        self.gets.clear()
        self.notices.clear()


async def _main(target: str, rate: float, seconds: float) -> None:
    async with grpc.aio.insecure_channel(target) as channel:
        caller = Caller(channel)
        await caller.saturate(WARM_UP_SECONDS)
        caller.forget()
        garbage.search_less()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        moments, before, begin = Moments(), cpu.own(), time.monotonic()
        with moments.noted():
            await (caller.call_at(rate, seconds) if rate else caller.saturate(seconds))
        print(
            json.dumps(
                {
                    "rate": len(caller.notices) / (time.monotonic() - begin),
                    "start": caller.starts,
                    "Get": caller.gets,
                    "notices": caller.notices,
                    "spans": moments.spans,
                    "switches": moments.switches,
                    "cpu": cpu.own() - before,
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    place, *numbers = sys.argv[1:]
    asyncio.run(_main(place, *map(float, numbers)))
