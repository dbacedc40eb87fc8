"""Servers on one Postgres database: each answers for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from server_harness import (
    PARENT,
    Held,
    Instance,
    metadata_of,
    refused,
    response_of,
    uuid_of,
)

import lro_grpc
from lro.v1 import state_pb2

if TYPE_CHECKING:
    from server_harness import Server

Serve = Any

# The database is asked for first, so that it goes last.
pytestmark = pytest.mark.parametrize("handler_keyword", ["async def"], indirect=True)


def test_an_operation_runs_to_its_end(postgres: str, serve: Serve, held: Held) -> None:
    server = serve(held.servicer(), store=postgres)
    name = server.create(instance_id="i").name
    assert held.next() == name
    assert metadata_of(server.get(name)).state == state_pb2.JobState.JOB_STATE_RUNNING
    waiting = server.waiting(name)
    held.gate.open()
    done = waiting.result()
    assert done.done
    assert response_of(done) == Instance(name=f"{PARENT}/instances/i", seed_rows=1)
    assert server.get(name) == done
    server.delete(name)
    assert refused(lambda: server.get(name)).code == grpc.StatusCode.NOT_FOUND


def test_an_operation_is_cancelled(postgres: str, serve: Serve, held: Held) -> None:
    server = serve(held.servicer(), store=postgres)
    name = server.create(instance_id="i").name
    assert held.next() == name
    server.cancel(name)
    assert server.done(name).error.code == grpc.StatusCode.CANCELLED.value[0]


def test_another_server_goes_on_with_what_one_has_left(
    postgres: str, serve: Serve, held: Held
) -> None:
    first = serve(held.servicer(max_attempts=5), store=postgres, grace=0.1)
    name = first.create(instance_id="i").name
    assert held.next() == name
    first.stop()
    held.gate.open()
    second = serve(held.servicer(max_attempts=5), store=postgres)
    assert response_of(second.done(name)).seed_rows == 2


def two(postgres: str, serve: Serve, held: Held, **how: Any) -> tuple[Server, Server]:
    first, second = (serve(held.servicer(**how), store=postgres) for _ in range(2))
    return first, second


def test_each_server_answers_for_the_operations_of_the_others(
    postgres: str, serve: Serve, held: Held
) -> None:
    one, other = two(postgres, serve, held)
    names = [server.create(instance_id="i").name for server in (one, other, one, other)]
    assert {held.next() for _ in names} == set(names)
    assert one.names() == other.names() == names[::-1]
    for name in names:
        assert one.get(name) == other.get(name)
    waits = [server.waiting(name) for name in names for server in (one, other)]
    held.gate.open()
    assert all(wait.result().done for wait in waits)


def test_a_list_goes_on_at_another_server(postgres: str, serve: Serve, held: Held) -> None:
    one, other = two(postgres, serve, held)
    names = [one.create(instance_id=f"i{n}").name for n in range(5)]
    first = one.list(page_size=3)
    rest = other.list(page_size=3, page_token=first.next_page_token)
    shown = [operation.name for page in (first, rest) for operation in page.operations]
    assert shown == names[::-1]


def test_a_request_that_is_sent_to_both_is_one_operation(
    postgres: str, serve: Serve, held: Held
) -> None:
    one, other = two(postgres, serve, held)
    started = [
        server.create(instance_id="i", request_id=uuid_of("r")).name for server in (one, other)
    ]
    assert started[0] == started[1]
    assert held.next() == started[0]
    held.gate.open()
    assert one.done(started[0]) == other.done(started[0])
    assert held.began.empty()


def test_a_target_is_for_one_operation_of_all_servers(
    postgres: str, serve: Serve, held: Held
) -> None:
    one, other = two(postgres, serve, held, exclusive=True)
    name = one.create(instance_id="i").name
    assert held.next() == name
    failure = refused(lambda: other.create(instance_id="i"))
    assert (failure.code, failure.info.reason) == (
        grpc.StatusCode.ABORTED,
        "OPERATION_IN_PROGRESS",
    )
    held.gate.open()
    assert other.done(name).done
    assert other.create(instance_id="i").name != name


def test_a_queue_that_is_much_longer_than_it_may_be_takes_nothing(
    postgres: str, serve: Serve, held: Held
) -> None:
    """A count stops somewhere: what leaves the queue then makes no room in the rest of it."""
    first = serve(held.servicer(concurrency=1), store=postgres, grace=0.1)
    names = [first.create(instance_id="i").name for _ in range(20)]
    held.next()
    first.stop()
    second = serve(held.servicer(concurrency=1), store=postgres, limits=lro_grpc.Limits(queue=5))
    running = held.next()
    for name in [name for name in names if name != running][:4]:
        failure = refused(lambda: second.create(instance_id="i"))
        assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        second.cancel(name)
