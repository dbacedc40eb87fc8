"""From an operation's end to the caller in ``result()`` who learns of it."""

from __future__ import annotations

import statistics
import time

import grpc
from google.longrunning import operations_pb2

from benchmarks.figure import Figure, percentile, shown
from benchmarks.server import Server
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc
from lro_grpc import OperationsClient

OPERATIONS = 60
"""Of a round, one after the other."""
ROUNDS = 5


def measure(server: Server, rounds: int = ROUNDS) -> list[Figure]:
    """Waits at both servers in turn."""
    ours, by_hand = [], []
    for _ in range(rounds):
        ours.append(_ours(server))
        by_hand.append(_by_hand(server))
    return [
        Figure(
            what="finish to notice, median",
            ours=[statistics.median(times) for times in ours],
            baseline=[statistics.median(times) for times in by_hand],
            unit="ms",
            goal="< 10 ms",
            meets=lambda milliseconds, _: milliseconds < 10,
        ),
        Figure(
            what="finish to notice, p95",
            ours=[percentile(times, 95) for times in ours],
            baseline=[percentile(times, 95) for times in by_hand],
            unit="ms",
            goal="(shown)",
            meets=shown,
        ),
    ]


def _ours(server: Server) -> list[float]:
    """Milliseconds from the handler's return, through the store, to ours ``result()``."""
    with grpc.insecure_channel(server.ours) as channel:
        stub = fleet_service_pb2_grpc.FleetServiceStub(channel)
        client = OperationsClient(channel)
        request = fleet_service_pb2.CreateInstanceRequest(parent="projects/p/locations/l")
        return [
            _since(client.future(stub.CreateInstance(request), response=_INSTANCE).result())
            for _ in range(OPERATIONS)
        ]


def _by_hand(server: Server) -> list[float]:
    """The same client; the operation ends inside the very call that waits for it."""
    with grpc.insecure_channel(server.by_hand) as channel:
        client = OperationsClient(channel)
        operation = operations_pb2.Operation(name="operations/by-hand")
        return [
            _since(client.future(operation, response=_INSTANCE).result()) for _ in range(OPERATIONS)
        ]


def _since(instance: fleet_service_pb2.Instance) -> float:
    return (time.monotonic_ns() - instance.size_bytes) / 1e6


_INSTANCE = fleet_service_pb2.Instance
