"""A server is killed while two hundred futures of a client share one call to it."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from killable import CHANNEL_OPTIONS, Server, Site, create, expected

import lro_grpc
from lro.example.v1 import fleet_service_pb2 as fleet

if TYPE_CHECKING:
    from collections.abc import Callable

PARENT = "projects/p/locations/x1"
FUTURES = 200
LONG = timedelta(seconds=60)
REQUESTS = [create(PARENT, f"s{index}-noop") for index in range(FUTURES)]
HELD = [f"creating/s{index}-noop" for index in range(0, FUTURES, 2)]


@pytest.mark.parametrize("stack", ["aio", "sync"])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_all_futures_end_right_after_a_kill(site: Site, stack: str, kind: str) -> None:
    """With their own responses, from the server that takes up the file; half have ended before."""
    first = site.serve(server=stack, hold=HELD)
    port = first.port
    names = [first.start(request) for request in REQUESTS]
    first.reach(*HELD)
    second: list[Server] = []

    def replace() -> None:
        first.kill()
        second.append(site.serve(server=stack, port=port))

    results = (_results_async if kind == "async" else _results)(port, names, replace)
    assert results == [expected(request) for request in REQUESTS]
    second[0].drain()


def _results(port: str, names: list[str], replace: Callable[[], None]) -> list[Any]:
    with grpc.insecure_channel(f"127.0.0.1:{port}", CHANNEL_OPTIONS) as channel:
        client = lro_grpc.OperationsClient(channel)
        futures = [client.attach(name, response=fleet.Instance) for name in names]
        ending = [one.concurrent(LONG) for one in futures]
        _until_half_are_known_to_be_done(futures)
        replace()
        return [one.result(LONG.total_seconds()) for one in ending]


def _until_half_are_known_to_be_done(futures: list[Any]) -> None:
    while not all(one.operation.done for one in futures[1::2]):
        threading.Event().wait(0.01)


def _results_async(port: str, names: list[str], replace: Callable[[], None]) -> list[Any]:
    async def collect() -> list[Any]:
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", CHANNEL_OPTIONS)
        async with channel:
            client = lro_grpc.AsyncOperationsClient(channel)
            futures = [client.attach(name, response=fleet.Instance) for name in names]
            ending = [one.concurrent(LONG) for one in futures]
            await asyncio.to_thread(_until_half_are_known_to_be_done, futures)
            await asyncio.to_thread(replace)
            return await asyncio.gather(*ending)

    return asyncio.run(collect())
