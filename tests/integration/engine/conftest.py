from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING

import pytest
from engine_world import World

from lro_grpc.stores import MemoryStore, SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

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


@pytest.fixture(params=["memory", "sqlite"])
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
