from __future__ import annotations

import gc
import logging
import threading
from typing import TYPE_CHECKING

import pytest
from fake_operations import FakeOperations, FakeServer
from server_harness import is_noise_of_aio
from sides import Async, Side, Sync

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", autouse=True)
def _quick_collections() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test leaves a thread of a call, or an error that asyncio has to report."""
    before = {*threading.enumerate()}
    yield
    gc.collect()
    for thread in {*threading.enumerate()} - before:
        if thread.name.startswith("lro") and thread.name != "lro-client":  # it ends when idle
            thread.join(10)
            assert not thread.is_alive(), thread.name
    reports = [one for one in caplog.get_records("call") if one.name == "asyncio"]
    errors = [one for one in reports if one.levelno >= logging.ERROR and not is_noise_of_aio(one)]
    assert [one.getMessage() for one in errors] == []


@pytest.fixture
def server() -> Iterator[FakeServer]:
    server = FakeServer()
    yield server
    server.fake.close()
    server.stop()


@pytest.fixture
def fake(server: FakeServer) -> FakeOperations:
    return server.fake


@pytest.fixture(params=[Sync, Async], ids=["sync", "async"])
def side(request: pytest.FixtureRequest, server: FakeServer) -> Iterator[Side]:
    side = request.param(server.target)
    yield side
    side.close()


@pytest.fixture
def sides() -> dict[str, type[Sync | Async]]:
    """For tests with a server of their own."""
    return {"sync": Sync, "async": Async}
