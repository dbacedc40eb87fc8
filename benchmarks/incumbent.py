"""Delay and calls until one learns that an operation is done, beside google-api-core.

Both wait at the same time for operations of the same server, of all lengths, as their defaults are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent import futures

import grpc
from google.api_core import operation as api_core
from google.api_core import operations_v1
from google.longrunning import operations_pb2

from benchmarks.counting import WHO, Server, serving
from benchmarks.figure import Figure, percentile, shown
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc
from lro_grpc import OperationsClient

SECONDS = (1, 3, 10)
OPERATIONS = 20
"""Of each length, for each of the two."""
APART = 0.05
"""Seconds from one start to the next, so that not all end at once."""

_Instance = fleet_service_pb2.Instance
_Wait = Callable[[operations_pb2.Operation], _Instance]


def measure() -> list[Figure]:
    with (
        serving() as server,
        grpc.insecure_channel(server.target) as channel,
        futures.ThreadPoolExecutor(len(SECONDS)) as pool,
    ):
        delays = pool.map(lambda seconds: _both(channel, seconds), SECONDS)
        return [
            figure
            for seconds, both in zip(SECONDS, delays, strict=True)
            for figure in _figures(server, seconds, *both)
        ]


def _both(channel: grpc.Channel, seconds: int) -> list[list[float]]:
    """Returns the delays of ours, and of theirs."""
    with futures.ThreadPoolExecutor(2) as pool:
        delays = pool.map(
            lambda who: _delays(channel, _WAITS[who](channel, f"{who}-{seconds}"), seconds), _WAITS
        )
        return list(delays)


def _figures(server: Server, seconds: int, ours: list[float], theirs: list[float]) -> list[Figure]:
    our_calls, their_calls = (server.calls(f"{who}-{seconds}") / OPERATIONS for who in _WAITS)
    return [
        Figure(
            what=f"end of an operation of {seconds} s to notice, median",
            ours=ours,
            baseline=theirs,
            unit="ms",
            goal="≤ 20 ms; the baseline is google-api-core",
            meets=lambda milliseconds, _: milliseconds <= 20,
        ),
        Figure(
            what=f"end of an operation of {seconds} s to notice, p95",
            ours=percentile(ours, 95),
            baseline=percentile(theirs, 95),
            unit="ms",
            goal="(shown)",
            meets=shown,
        ),
        Figure(
            what=f"calls to wait for an operation of {seconds} s",
            ours=our_calls,
            baseline=their_calls,
            unit="calls",
            goal="≤ 3",
            meets=lambda calls, _: calls <= 3,
        ),
    ]


def _by_ours(channel: grpc.Channel, who: str) -> _Wait:
    client = OperationsClient(channel, call_metadata=[(WHO, who)])
    return lambda operation: client.future(operation, response=_Instance).result()


def _by_theirs(channel: grpc.Channel, who: str) -> _Wait:
    client = operations_v1.OperationsClient(channel)
    return lambda operation: api_core.from_gapic(
        operation, client, _Instance, grpc_metadata=[(WHO, who)]
    ).result()


_WAITS = {"ours": _by_ours, "theirs": _by_theirs}


def _delays(channel: grpc.Channel, wait: _Wait, seconds: int) -> list[float]:
    """Returns the milliseconds from the handler's return to the caller's."""
    start = fleet_service_pb2_grpc.FleetServiceStub(channel).CreateInstance
    request = fleet_service_pb2.CreateInstanceRequest(
        parent="projects/p/locations/l", instance_id=str(seconds)
    )

    def follow(operation: operations_pb2.Operation) -> float:
        instance = wait(operation)
        return (time.monotonic_ns() - instance.size_bytes) / 1e6

    with futures.ThreadPoolExecutor(OPERATIONS) as pool:
        waiting = []
        for _ in range(OPERATIONS):
            waiting.append(pool.submit(follow, start(request)))
            time.sleep(APART)
        return [one.result() for one in waiting]
