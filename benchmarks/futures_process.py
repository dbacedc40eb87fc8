"""One process in which many futures wait for operations of a server, in one of four ways.

It writes two lines of JSON: what the waiting costs, and, once every operation has ended, when the
last end was seen.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
import grpc.aio
from google.api_core import operation, operation_async, operations_v1
from google.longrunning import operations_pb2

from benchmarks.memory import resident
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc
from lro_grpc import AsyncOperationsClient, OperationsClient

FUTURES = 1000
SETTLES = 3.0
"""Seconds until every future waits."""
MEASURED = 10.0
"""Seconds over which the CPU time is taken."""

_Instance = fleet_service_pb2.Instance
_REQUEST = fleet_service_pb2.CreateInstanceRequest(parent="projects/p/locations/l")
_Operations = Sequence[operations_pb2.Operation]


def ours(channel: grpc.Channel, operations: _Operations) -> list[concurrent.futures.Future[Any]]:
    client = OperationsClient(channel)
    return [client.future(one, response=_Instance).concurrent() for one in operations]


def theirs(channel: grpc.Channel, operations: _Operations) -> list[concurrent.futures.Future[Any]]:
    """A thread for each, as their callbacks have it."""
    client = operations_v1.OperationsClient(channel)
    pool = concurrent.futures.ThreadPoolExecutor(FUTURES)
    futures = [operation.from_gapic(one, client, _Instance) for one in operations]
    return [pool.submit(one.result) for one in futures]


async def ours_async(
    channel: grpc.aio.Channel, operations: _Operations
) -> list[asyncio.Future[Any]]:
    client = AsyncOperationsClient(channel)
    return [client.future(one, response=_Instance).concurrent() for one in operations]


async def theirs_async(
    channel: grpc.aio.Channel, operations: _Operations
) -> list[asyncio.Future[Any]]:
    client = operations_v1.OperationsAsyncClient(channel)
    futures = [operation_async.from_gapic(one, client, _Instance) for one in operations]
    return [asyncio.ensure_future(one.result()) for one in futures]


def _in_threads(
    begin: Callable[[grpc.Channel, _Operations], list[concurrent.futures.Future[Any]]], target: str
) -> None:
    with grpc.insecure_channel(target) as channel:
        start = fleet_service_pb2_grpc.FleetServiceStub(channel).CreateInstance
        operations = [start(_REQUEST) for _ in range(FUTURES)]
        before = resident()
        waiting = begin(channel, operations)
        time.sleep(SETTLES)
        cpu = time.process_time()
        time.sleep(MEASURED)
        _report(cost=_cost(before, time.process_time() - cpu))
        concurrent.futures.wait(waiting)
        _report(last=time.monotonic_ns())
        assert all(one.result() == _Instance() for one in waiting)


async def _in_tasks(
    begin: Callable[[grpc.aio.Channel, _Operations], Awaitable[list[asyncio.Future[Any]]]],
    target: str,
) -> None:
    async with grpc.aio.insecure_channel(target) as channel:
        start = fleet_service_pb2_grpc.FleetServiceStub(channel).CreateInstance
        operations = [await start(_REQUEST) for _ in range(FUTURES)]
        before = resident()
        waiting = await begin(channel, operations)
        await asyncio.sleep(SETTLES)
        cpu = time.process_time()
        await asyncio.sleep(MEASURED)
        _report(cost=_cost(before, time.process_time() - cpu))
        await asyncio.wait(waiting)
        _report(last=time.monotonic_ns())
        assert all([await one == _Instance() for one in waiting])


def _cost(before: int, cpu: float) -> dict[str, float]:
    return {
        "threads": threading.active_count(),
        "memory": (resident() - before) / FUTURES,
        "cpu": 100 * cpu / MEASURED,
    }


def _report(**what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    kind, place = sys.argv[1:]
    if kind == "sync":
        _in_threads(ours, place)
    elif kind == "sync-baseline":
        _in_threads(theirs, place)
    elif kind == "async":
        asyncio.run(_in_tasks(ours_async, place))
    else:
        asyncio.run(_in_tasks(theirs_async, place))
