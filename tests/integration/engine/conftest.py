from __future__ import annotations

import asyncio
import inspect
import secrets
from typing import TYPE_CHECKING

import pytest
from engine_world import RunningClock, World

from lro_grpc.engines import Temporal
from lro_grpc.stores import MemoryStore, SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

    from lro_grpc.engines import Engine, Workbench
    from lro_grpc.stores import Store

SECONDS = 60
"""Far more than any test takes, on a busy machine, too."""


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs an async test on a loop of its own, and closes its world with it."""
    if not inspect.iscoroutinefunction(pyfuncitem.function):
        return None
    names = inspect.signature(pyfuncitem.function).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    worlds = [one for one in arguments.values() if isinstance(one, World)]

    async def run() -> None:
        try:
            await asyncio.wait_for(pyfuncitem.function(**arguments), SECONDS)
        finally:
            for one in worlds:
                await one.close()

    asyncio.run(run())
    return True


@pytest.fixture
def memory_world() -> World:
    """The memory store with an engine that a test starts, stops and crashes."""
    world = World(lambda: store)
    store = MemoryStore(world.clock.now)
    return world


@pytest.fixture
def sqlite_world(tmp_path: Path) -> World:
    """The same on SQLite."""
    world = World(lambda: SqliteStore(tmp_path / "operations.db", world.clock.now))
    return world


@pytest.fixture
def temporal_world(temporal: str) -> World:
    """The memory store with an engine on a real Temporal server, whose clock goes on by itself."""
    queue = f"lro-test-{secrets.token_hex(6)}"
    options = Temporal(temporal, task_queue=queue)

    def make_engine(workbench: Workbench) -> Engine:
        return options.make_engine(workbench, lambda _: None, serves=True)

    clock = RunningClock()
    store = MemoryStore(clock.now)
    return World(lambda: store, clock=clock, make_engine=make_engine, ids=f"{queue}-")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a test of any world in each: on Temporal, too, if any engine owes what it tests."""
    if "world" in metafunc.fixturenames and not hasattr(metafunc.module, "world"):
        worlds = ["memory", "sqlite"]
        if metafunc.definition.get_closest_marker("any_engine"):
            worlds.append("temporal")
        metafunc.parametrize("world", worlds, indirect=True)


@pytest.fixture
def world(request: pytest.FixtureRequest) -> World:
    """Each of them in turn."""
    world: World = request.getfixturevalue(f"{request.param}_world")
    return world


@pytest.fixture(params=["memory", "sqlite"])
def shared_world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """Each of them in turn, as if other processes had the store open, too."""

    def make_store() -> Store:
        if request.param == "memory":
            return MemoryStore(world.clock.now)
        return SqliteStore(tmp_path / "operations.db", world.clock.now)

    world = World(make_store, is_shared=True)
    return world
