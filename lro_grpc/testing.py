"""Testing of services or stores: a server in the test's own process, a clock to move."""

from __future__ import annotations

from lro_grpc._testing.clock import ManualClock
from lro_grpc._testing.faulty_store import Faults, FaultyStore
from lro_grpc._testing.invariants import Invariants
from lro_grpc._testing.serving import AsyncServed, Served, serve, serve_async

__all__ = [
    "AsyncServed",
    "Faults",
    "FaultyStore",
    "Invariants",
    "ManualClock",
    "Served",
    "serve",
    "serve_async",
]
