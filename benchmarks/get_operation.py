"""GetOperation: calls a second, beside a servicer that answers from a dictionary.

Both are in one process, which is loaded for the one and the other in turn; where ours is on uvloop,
the other one is in a process without it.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.longrunning import operations_pb2

from benchmarks import h2load
from benchmarks.figure import Figure
from benchmarks.server import Server

CALLS = 6_000
AT_A_TIME = 100
ROUNDS = 5


def measure(server: Server, rounds: int = ROUNDS, calls: int = CALLS) -> list[Figure]:
    """Loads both servers of a process in turn."""
    return _measure("GetOperation", server, server, 0.9, rounds, calls)


def measure_on_uvloop(
    fast: Server, server: Server, rounds: int = ROUNDS, calls: int = CALLS
) -> list[Figure]:
    """Loads ours of a process on uvloop, and the other one of a process without it, in turn."""
    return _measure("GetOperation on uvloop", fast, server, 1.3, rounds, calls)


def _measure(
    what: str, of_ours: Server, of_by_hand: Server, least: float, rounds: int, calls: int
) -> list[Figure]:
    def of(server: Server, address: str, number: int) -> h2load.Load:
        return load(address, server.name, number, [server.pid])

    for server, address in ((of_ours, of_ours.ours), (of_by_hand, of_by_hand.by_hand)):
        of(server, address, calls // 4)  # it warms up
    ours, by_hand = [], []
    for _ in range(rounds):
        ours.append(of(of_ours, of_ours.ours, calls))
        by_hand.append(of(of_by_hand, of_by_hand.by_hand, calls))
    return [
        Figure(
            what=what,
            ours=[one.rate for one in ours],
            baseline=[one.rate for one in by_hand],
            unit="calls/s",
            goal=f"≥ {least} × a dict servicer",
            meets=lambda _, ratio: ratio >= least,
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
