"""GetOperation: calls a second, beside a servicer that answers from a dictionary.

Both are in one process, which is loaded for the one and the other in turn.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.longrunning import operations_pb2

from benchmarks import h2load
from benchmarks.figure import Figure
from benchmarks.server import Server

CALLS = 8_000
AT_A_TIME = 100
ROUNDS = 7


def measure(server: Server, rounds: int = ROUNDS, calls: int = CALLS) -> list[Figure]:
    """Loads both servers in turn."""
    for address in (server.ours, server.by_hand):  # they warm up
        load(address, server.name, calls // 4, [server.pid])
    ours, by_hand = [], []
    for _ in range(rounds):
        ours.append(load(server.ours, server.name, calls, [server.pid]))
        by_hand.append(load(server.by_hand, server.name, calls, [server.pid]))
    return [
        Figure(
            what="GetOperation",
            ours=[one.rate for one in ours],
            baseline=[one.rate for one in by_hand],
            unit="calls/s",
            goal="≥ 0.9 × a dict servicer",
            meets=lambda _, ratio: ratio >= 0.9,
            cpu={
                "server": ([one.server for one in ours], [one.server for one in by_hand]),
                "client": ([one.client for one in ours], [one.client for one in by_hand]),
            },
        )
    ]


def load(
    address: str, name: str, calls: int, servers: Sequence[int], connections: int = 4
) -> h2load.Load:
    """Gets an operation again and again, a hundred times at once."""
    return h2load.load_grpc(
        address,
        "/google.longrunning.Operations/GetOperation",
        operations_pb2.GetOperationRequest(name=name).SerializeToString(),
        calls,
        at_a_time=AT_A_TIME,
        connections=connections,
        servers=servers,
    )
