"""Priorities, at a real server's edge: the order in which what waits is begun."""

from __future__ import annotations

from typing import Any

import pytest
from server_harness import Held, Server, async_handler, every_store

import lro_grpc
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc

Serve = Any


def servicer(held: Held) -> Any:
    """Returns a fleet whose instances have the priority that their seed rows say."""

    def prepare(_: Any, request: Any, context: Any) -> Any:
        return lro_grpc.Prepared(priority=request.instance.seed_rows)

    async def run(_: Any, request: Any, op: Any) -> Any:
        return await held.run(request, op)

    decorated = lro_grpc.method(concurrency=1)(run)
    decorated.prepare(prepare)
    made = {"CreateInstance": decorated}
    return type("Fleet", (fleet_service_pb2_grpc.FleetServiceServicer,), made)()


def create(server: Server, priority: int) -> str:
    name: str = server.create(instance=fleet_service_pb2.Instance(seed_rows=priority)).name
    return name


@every_store
@async_handler
def test_what_waits_is_begun_by_its_priority(serve: Serve, held: Held, store: str) -> None:
    server = serve(servicer(held), store=store)
    running = create(server, 0)
    assert held.next() == running
    names = {one: create(server, one) for one in (0, -10, 3, 10, -1)}
    told = {priority: server.describe(name).priority for priority, name in names.items()}
    assert told == {priority: priority for priority in names}
    held.gate.open()
    assert [held.next() for _ in names] == [names[one] for one in (10, 3, 0, -1, -10)]


@async_handler
def test_the_order_outlives_a_restart(serve: Serve, held: Held, file_url: str) -> None:
    first = serve(servicer(held), store=file_url)
    running = create(first, 10)
    assert held.next() == running
    names = [create(first, priority) for priority in (0, -1, 1)]
    first.stop()
    held.gate.open()
    serve(servicer(held), store=file_url)
    begun = [held.next() for _ in range(4)]
    assert begun == [running, names[2], names[0], names[1]]


@pytest.mark.parametrize("priority", [11, -11, 1.0, True, "1", None])
def test_what_is_no_priority_is_refused(priority: Any) -> None:
    with pytest.raises(lro_grpc.ConfigurationError, match=r"priority is .*; give a whole number"):
        lro_grpc.Prepared(priority=priority)
