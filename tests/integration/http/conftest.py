from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from http_harness import Fleet, Gatewayed, serving


@pytest.fixture(params=["aio", "sync", "channel"])
def where(request: pytest.FixtureRequest) -> str:
    """Where the gateway is; see ``serving``."""
    where: str = request.param
    return where


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def serve(where: str, fleet: Fleet) -> Iterator[Callable[..., Gatewayed]]:
    """Starts gateways in front of the fleet, and stops them when the test is over."""
    with contextlib.ExitStack() as servers:
        yield lambda **how: servers.enter_context(serving(where, fleet, **how))
        fleet.gate.set()
