"""One process that serves a filled store, and calls it one call at a time.

``growth_process.py URL STORED RUNNING CALLS``: so many operations are stored, and as many as
RUNNING are made to run first. It prints the microseconds of each call, by what was called.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import logging
import os
import random
import sys
import time
from collections.abc import Awaitable

from google.longrunning import operations_pb2

import lro_grpc
from benchmarks.filled import LEASE, RESPONSE, name_of
from benchmarks.jobs import AT_A_TIME, METHOD, PARENT
from lro.example.v1 import fleet_service_pb2
from lro_grpc._errors import StaleAttemptError
from lro_grpc._operation import names
from lro_grpc._operation.events import Claim, Report, Succeed
from lro_grpc._operation.metadata import DEFAULT_TYPE
from lro_grpc._operation.publication import create
from lro_grpc._operation.record import Record
from lro_grpc._runtime import garbage
from lro_grpc._runtime.clock import SystemClock

CLAIMED = "/benchmark.v1.Claimed/Run"
"""A method that is not served: what the store is asked for by itself."""

MOST_RUNNING = 20_000

_OPERATIONS = "/google.longrunning.Operations"
_START = fleet_service_pb2.CreateInstanceRequest(parent=PARENT).SerializeToString()
_LIST = operations_pb2.ListOperationsRequest(name=PARENT).SerializeToString()


class Service:
    """Operations whose handlers run until they are let return."""

    def __init__(self, url: str) -> None:
        self.operations = lro_grpc.Operations(url, limits=lro_grpc.Limits(queue=MOST_RUNNING))
        self.operations.add_method(
            METHOD,
            self._run,
            request=fleet_service_pb2.CreateInstanceRequest,
            response=fleet_service_pb2.Instance,
            options=lro_grpc.MethodOptions(concurrency=MOST_RUNNING),
        )
        self.running: collections.Counter[str] = collections.Counter()
        self._may_end: dict[str, asyncio.Event] = collections.defaultdict(asyncio.Event)
        self._ended: dict[str, asyncio.Event] = collections.defaultdict(asyncio.Event)
        self.operations.store.subscribe(self._note)

    async def start(self) -> str:
        """Returns the name of a new operation."""
        answer = await self.operations.local().call(METHOD, _START, None)
        return operations_pb2.Operation.FromString(answer.body).name

    async def get(self, name: str) -> None:
        request = operations_pb2.GetOperationRequest(name=name).SerializeToString()
        await self.operations.local().call(f"{_OPERATIONS}/GetOperation", request, None)

    async def first_page(self) -> None:
        await self.operations.local().call(f"{_OPERATIONS}/ListOperations", _LIST, None)

    async def finish(self, name: str) -> None:
        """Lets a handler return, and returns once the end is stored."""
        self._may_end[name].set()
        await self._ended[name].wait()

    async def claim(self) -> None:
        """Claims the one operation that is ready, at the store."""
        (one,) = await self.operations.store.claim({CLAIMED: 1}, Claim(LEASE))
        assert isinstance(one.outcome, Record)

    async def until_it_runs(self, name: str) -> None:
        while not self.running[name]:  # noqa: ASYNC110 - it is about to, and nothing is measured
            await asyncio.sleep(0)

    async def _run(self, request: object, op: object) -> fleet_service_pb2.Instance:
        del request
        self.running[op.name] += 1
        await self._may_end[op.name].wait()
        return fleet_service_pb2.Instance()

    def _note(self, _: Record | None, record: Record) -> None:
        if record.done:
            self._ended[record.name].set()


async def _measure(url: str, stored: int, running: int, calls: int) -> dict[str, list[float]]:
    service = Service(url)
    await service.operations.start()
    held = [
        name
        for first in range(0, running, AT_A_TIME)
        for name in await asyncio.gather(
            *(service.start() for _ in range(min(AT_A_TIME, running - first)))
        )
    ]
    for name in held:
        await service.until_it_runs(name)
    garbage.search_less()  # as `lro serve` does
    chance = random.Random(running)
    taken: dict[str, list[float]] = collections.defaultdict(list)

    async def timed(what: str, call: Awaitable[object]) -> object:
        begin = time.perf_counter()
        result = await call
        taken[what].append((time.perf_counter() - begin) * 1e6)
        return result

    for number in range(-calls // 10, calls):  # the first ones warm up
        if number == 0:
            taken.clear()
        await timed("Get", service.get(name_of(chance.randint(1, stored))))
        await timed("List", service.first_page())
        name = await timed("start", service.start())
        await service.until_it_runs(name)
        await timed("finish", service.finish(name))
        record = await service.operations.store.create(_claimable())
        await timed("claim", service.claim())
        with contextlib.suppress(StaleAttemptError):  # the engine may have missed its worker
            await service.operations.store.apply(record.name, Succeed(Report(1), RESPONSE))
    # In place of an orderly stop: thousands of handlers would be told of it.
    return taken


def _claimable() -> Record:
    now = SystemClock().now()
    return create(
        parent=PARENT,
        operation_id=names.new_id(now, os.urandom),
        method=CLAIMED,
        request=_START,
        metadata_type=DEFAULT_TYPE.DESCRIPTOR.full_name,
        now=now,
    )


if __name__ == "__main__":
    logging.getLogger("lro_grpc").setLevel(logging.ERROR)  # it warns of what was meant to be so
    place, *numbers = sys.argv[1:]
    print(json.dumps(asyncio.run(_measure(place, *map(int, numbers)))), flush=True)
    os._exit(0)
