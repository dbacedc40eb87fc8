"""Tests of concurrency keys: an engine keeps their places and their turns, or refuses them."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

from google.protobuf.wrappers_pb2 import StringValue

from lro_grpc._conformance.cases import refused
from lro_grpc._conformance.engine_cases import PATIENCE, EngineCases, with_folder
from lro_grpc._errors import ConfigurationError
from lro_grpc._server.decorator import Prepared


def _keyed(request: StringValue, context: Any) -> Prepared:
    """Has the key of an operation be what stands before the slash of its request."""
    del context
    return Prepared(concurrency_key=request.value.partition("/")[0])


class EngineKeys(EngineCases):
    """Tests of operations that have a concurrency key."""

    bounds_keys = True
    """Whether the engine keeps a ``concurrency_per_key``; one that does not refuses it."""

    @with_folder
    async def test_no_more_of_a_key_run_at_once_than_it_has_places(self, folder: Path) -> None:
        """And each of those that wait has its turn, or the method is refused at the start."""
        running: Counter[str] = Counter()
        most: Counter[str] = Counter()

        async def run(request: StringValue, op: Any) -> StringValue:
            del op
            key = request.value.partition("/")[0]
            running[key] += 1
            most[key] = max(most[key], running[key])
            await asyncio.sleep(0.01)
            running[key] -= 1
            return request

        given = [f"{key}/{number}" for number in range(6) for key in "ab"]
        serving = self.served(folder, run, _keyed, concurrency=8, concurrency_per_key=2)
        if not self.bounds_keys:
            await refused(ConfigurationError, serving.__aenter__())
            return
        async with serving as caller:
            futures = [await caller.start(value) for value in given]
            assert [(await future.result(PATIENCE)).value for future in futures] == given
        assert most.keys() == {"a", "b"}
        assert max(most.values()) <= 2

    @with_folder
    async def test_keys_have_their_turns(self, folder: Path) -> None:
        """However many of one key wait, those of another one begin before the most of them."""
        if not self.bounds_keys:
            return
        begun: list[str] = []
        going_on = asyncio.Event()

        async def run(request: StringValue, op: Any) -> StringValue:
            del op
            begun.append(request.value)
            await going_on.wait()
            return request

        given = [f"a/{number}" for number in range(8)] + ["b/0", "b/1"]
        async with self.served(folder, run, _keyed, concurrency=1, concurrency_per_key=1) as caller:
            futures = [await caller.start(value) for value in given]
            going_on.set()
            for future in futures:
                await future.result(PATIENCE)
        assert sorted(begun) == sorted(given)
        assert begun.index("b/1") <= 5

    @with_folder
    async def test_what_has_no_key_waits_for_no_key(self, folder: Path) -> None:
        """However many of a key that is full wait before it; and no places bound it."""
        begun = 0
        together, going_on = asyncio.Event(), asyncio.Event()

        async def run(request: StringValue, op: Any) -> StringValue:
            del op
            nonlocal begun
            if request.value.startswith("a/"):
                await going_on.wait()
                return request
            begun += 1
            if begun == 3:
                together.set()
            await together.wait()
            return request

        bound = {"concurrency_per_key": 1} if self.bounds_keys else {}
        prepare = _keyed if self.bounds_keys else None
        given = ["/0", "/1", "/2"]
        async with self.served(folder, run, prepare, concurrency=4, **bound) as caller:
            of_key = [await caller.start(f"a/{number}") for number in range(4 if bound else 1)]
            futures = [await caller.start(value) for value in given]
            assert [(await future.result(PATIENCE)).value for future in futures] == given
            going_on.set()
            for future in of_key:
                await future.result(PATIENCE)
