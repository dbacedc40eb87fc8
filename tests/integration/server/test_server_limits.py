"""The limits of a server: the queue, waiters, streams and pages."""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
from concurrent import futures
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.longrunning import operations_pb2
from google.rpc import error_details_pb2
from server_harness import (
    FLEET,
    PARENT,
    SECONDS,
    Client,
    Failure,
    Gate,
    Held,
    Instance,
    Server,
    async_handler,
    errors_logged,
    fleet,
    in_thread,
    metadata_of,
    on_grpc_aio,
    on_grpc_server,
    refused,
    together,
    uuid_of,
)

import lro_grpc
from lro.example.v1 import fleet_service_pb2
from lro.v1 import state_pb2
from lro_grpc import Limits
from lro_grpc._filtering.expression import PartialFailures
from lro_grpc._server.services import operations, start
from lro_grpc.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable

Serve = Any

CREATE = f"/{FLEET}/CreateInstance"
WATCH = "/lro.v1.OperationControlService/WatchOperation"


def full(serve: Serve, held: Held, limit: int, **how: Any) -> Server:
    """Serves a method one attempt of which runs, with a queue that is full behind it."""
    how.setdefault("servicer", held.servicer(concurrency=1, pausable=True))
    server = serve(how.pop("servicer"), limits=Limits(queue=limit), **how)
    server.create(request_id=uuid_of("running"))
    held.next()
    for number in range(limit):
        server.create(request_id=uuid_of(f"waiting-{number}"))
    return server


def assert_full(call: Callable[[], object], limit: int, method: str = CREATE) -> None:
    failure = refused(call)
    assert (failure.code, failure.info.reason, failure.info.domain) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "LIMIT_REACHED",
        "lro-grpc",
    )
    assert dict(failure.info.metadata) == {"subject": method}
    assert str(limit) in failure.message
    (violation,) = quota_failure(failure).violations
    assert violation.subject == method
    assert violation.description == failure.message


def quota_failure(failure: Failure) -> error_details_pb2.QuotaFailure:
    assert failure.status is not None
    quotas = [d for d in failure.status.details if d.Is(error_details_pb2.QuotaFailure.DESCRIPTOR)]
    assert len(quotas) == 1
    return error_details_pb2.QuotaFailure.FromString(quotas[0].value)


def waiting(server: Server) -> str:
    """Returns the name of the operation that is next in the queue."""
    states = {one.name: metadata_of(one).state for one in server.list().operations}
    return [name for name, state in states.items() if state == state_pb2.JOB_STATE_QUEUED][-1]


# The queue


def test_a_start_above_the_queue_is_refused_and_stores_nothing(
    serve: Serve, held: Held, store: str
) -> None:
    server = full(serve, held, 2, store=store)
    before = server.names()
    for _ in range(3):
        assert_full(server.create, 2)
    assert server.names() == before
    assert len(before) == 3


@async_handler
@pytest.mark.parametrize("limit", [20, 50])
def test_of_fifty_starts_at_once_a_queue_takes_exactly_as_many_as_it_may(
    serve: Serve, held: Held, store: str, limit: int
) -> None:
    server = serve(
        held.servicer(concurrency=1), limits=Limits(queue=limit), store=store, threads=60
    )
    server.create()
    held.next()
    answers = together(50, lambda n: server.create(instance_id=f"i{n}"))
    errors = [one for one in answers if isinstance(one, grpc.RpcError)]
    assert {error.code() for error in errors} <= {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert len(answers) - len(errors) == limit
    assert len(server.names()) == 1 + limit
    assert_full(server.create, limit)


@async_handler
def test_each_method_has_a_queue_of_its_own(serve: Serve, held: Held) -> None:
    servicer = held.servicer(concurrency=1)

    async def delete(self: Any, request: Any, op: Any) -> None:
        await held.gate.pass_by_async()

    both = type("Both", (type(servicer),), {"DeleteInstance": lro_grpc.method(delete)})()
    server = full(serve, held, 1, servicer=both)
    assert_full(server.create, 1)
    request = fleet_service_pb2.DeleteInstanceRequest(name=f"{PARENT}/instances/i")
    assert server.start(f"/{FLEET}/DeleteInstance", request).name


def test_a_place_is_free_when_an_attempt_begins(serve: Serve, held: Held, store: str) -> None:
    server = full(serve, held, 1, store=store)
    held.gate.open()
    held.next()
    server.create()


@async_handler
def test_a_place_is_free_when_one_that_waits_is_cancelled(
    serve: Serve, held: Held, store: str
) -> None:
    server = full(serve, held, 2, store=store)
    server.cancel(waiting(server))
    server.create()
    assert_full(server.create, 2)


@async_handler
def test_a_place_is_free_while_one_is_paused(serve: Serve, held: Held, store: str) -> None:
    server = full(serve, held, 2, store=store)
    paused = waiting(server)
    server.pause(paused)
    server.create()
    assert_full(server.create, 2)
    server.resume(paused)  # it has its place in the queue again, above the limit
    assert_full(server.create, 2)
    server.cancel(waiting(server))
    assert_full(server.create, 2)
    server.cancel(waiting(server))
    server.create()


@async_handler
def test_a_deleted_one_that_waits_keeps_its_place(serve: Serve, held: Held, store: str) -> None:
    """It is still to be run (P7)."""
    server = full(serve, held, 1, store=store)
    server.delete(waiting(server))
    assert_full(server.create, 1)
    held.gate.open()
    held.next()
    server.create()


@async_handler
def test_a_place_is_free_when_one_that_waits_has_expired(
    serve: Serve, held: Held, store: str
) -> None:
    clock = ManualClock()
    how = {"concurrency": 1, "timeout": timedelta(seconds=20)}
    options = {"clock": clock, "store": store, "lease": timedelta(hours=1)}
    server = full(serve, held, 1, servicer=held.servicer(**how), **options)
    name = waiting(server)
    waiter = server.waiting(name)
    while not waiter.done():
        clock.advance(timedelta(seconds=1))
        server.get(name)
    assert waiter.result().error.code == lro_grpc.Code.DEADLINE_EXCEEDED
    server.create()


@async_handler
def test_a_refused_start_takes_no_place(serve: Serve, held: Held, store: str) -> None:
    """Whether ``prepare`` refuses it, or the store."""
    taken = f"{PARENT}/instances/taken"

    def prepare(self: Any, request: Any, context: Any) -> lro_grpc.Prepared:
        if request.instance_id == "wrong":
            raise lro_grpc.InvalidArgumentError("it is wrong")
        return lro_grpc.Prepared(target=taken if request.instance_id == "taken" else "free")

    async def run(self: Any, request: Any, op: Any) -> Any:
        held.began.put(op.name)
        await held.gate.pass_by_async()
        return Instance()

    servicer = fleet("CreateInstance", run, prepare=prepare, exclusive=True, concurrency=1)
    server = serve(servicer, limits=Limits(queue=1), store=store)
    server.create(instance_id="taken", request_id=uuid_of("r"))
    held.next()
    for _ in range(3):
        assert refused(lambda: server.create(instance_id="wrong")).info.reason == "INVALID_ARGUMENT"
        failure = refused(lambda: server.create(instance_id="taken"))
        assert failure.code is grpc.StatusCode.ABORTED
        failure = refused(lambda: server.create(instance_id="other", request_id=uuid_of("r")))
        assert failure.code is grpc.StatusCode.ALREADY_EXISTS
    server.create(instance_id="free")
    assert_full(lambda: server.create(instance_id="taken"), 1)


@async_handler
def test_a_start_that_was_answered_is_answered_again_by_a_full_queue(
    serve: Serve, held: Held, store: str
) -> None:
    """The same request has its place already (R2)."""
    server = full(serve, held, 2, store=store)
    names = [server.create(request_id=uuid_of(f"waiting-{n}")).name for n in (0, 1)]
    assert set(names) < set(server.names())
    assert_full(lambda: server.create(request_id=uuid_of("another")), 2)
    assert len(server.names()) == 3


@async_handler
def test_the_same_start_many_times_at_once_takes_one_place(
    serve: Serve, held: Held, store: str
) -> None:
    server = full(serve, held, 1, store=store)
    server.cancel(waiting(server))
    answers = together(16, lambda _: server.create(request_id=uuid_of("same")))
    assert len({one.name for one in answers}) == 1
    assert_full(server.create, 1)


@async_handler
def test_a_start_is_answered_though_the_same_one_has_filled_the_queue_meanwhile(
    serve: Serve, held: Held, store: str
) -> None:
    """Both were on their way when there was room, and one is stored while the other is prepared."""
    same = uuid_of("same")
    arrived: queue.SimpleQueue[None] = queue.SimpleQueue()
    turns: queue.SimpleQueue[None] = queue.SimpleQueue()

    def prepare(_: Any, request: Any, context: Any) -> None:
        if request.request_id == same:
            arrived.put(None)
            turns.get(timeout=SECONDS)

    async def run(_: Any, request: Any, op: Any) -> Any:
        return await held.run(request, op)

    servicer = fleet("CreateInstance", run, prepare=prepare, concurrency=1)
    server = full(serve, held, 1, servicer=servicer, store=store)
    server.cancel(waiting(server))
    with futures.ThreadPoolExecutor(2) as pool:
        starts = [pool.submit(server.create, request_id=same) for _ in range(2)]
        for _ in starts:
            arrived.get(timeout=SECONDS)
        turns.put(None)
        first = next(futures.as_completed(starts, SECONDS)).result()
        assert_full(server.create, 1)
        turns.put(None)
        assert {one.result(SECONDS).name for one in starts} == {first.name}


@async_handler
def test_validate_only_takes_no_place_and_needs_none(serve: Serve, held: Held, store: str) -> None:
    """The queue says nothing about the request (S8)."""
    server = full(serve, held, 1, store=store)
    assert server.create(validate_only=True).done
    server.cancel(waiting(server))
    for _ in range(3):
        server.create(validate_only=True)
    server.create()
    assert_full(server.create, 1)


@async_handler
def test_the_queue_is_as_full_after_a_restart(serve: Serve, held: Held, file_url: str) -> None:
    first = full(serve, held, 3, store=file_url)
    first.stop()
    second = serve(held.servicer(concurrency=1), limits=Limits(queue=3), store=file_url)
    held.next()
    assert_full(second.create, 3)
    second.cancel(waiting(second))
    second.create()
    assert_full(second.create, 3)


@async_handler
def test_a_queue_that_is_longer_than_it_may_be_takes_nothing_until_it_is_short_enough(
    serve: Serve, held: Held, file_url: str
) -> None:
    first = full(serve, held, 4, store=file_url)
    first.stop()
    second = serve(held.servicer(concurrency=1), limits=Limits(queue=2), store=file_url)
    held.next()
    for _ in range(3):
        assert_full(second.create, 2)
        second.cancel(waiting(second))
    second.create()
    assert_full(second.create, 2)


@async_handler
def test_what_waits_to_be_tried_again_is_in_the_queue(
    serve: Serve, handler_keyword: str, file_url: str
) -> None:
    """Before a restart, and after it."""
    ran: queue.SimpleQueue[str] = queue.SimpleQueue()

    async def run(self: Any, request: Any, op: Any) -> Any:
        ran.put(op.name)
        raise lro_grpc.RetryableError("not now", retry_after=timedelta(hours=1))

    def begin() -> Server:
        return serve(fleet("CreateInstance", run), limits=Limits(queue=1), store=file_url)

    first = begin()
    name = first.create().name
    assert ran.get(timeout=SECONDS) == name
    while metadata_of(first.get(name)).state != state_pb2.JOB_STATE_QUEUED:
        pass
    assert_full(first.create, 1)
    first.stop()
    second = begin()
    assert_full(second.create, 1)
    second.cancel(name)
    second.create()


# Waiters


def all_places_taken(client: Client, name: str, places: int) -> list[Any]:
    """Begins as many Waits as there are places, and returns them when each has its own.

    One more is begun: that none is left for it shows that the others are in.
    """
    begun = [client.waiting(name, 600, deadline=None) for _ in range(places + 1)]
    answered: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for wait in begun:
        wait.add_done_callback(answered.put)
    last = answered.get(timeout=SECONDS)
    assert not last.result().done  # P9: not an error
    return [wait for wait in begun if wait is not last]


@async_handler
@on_grpc_aio
def test_above_its_waiters_a_wait_on_grpc_aio_answers_at_once(serve: Serve, held: Held) -> None:
    server = serve(held.servicer(), limits=Limits(waiters=2))
    name = server.create().name
    held.next()
    waits = all_places_taken(server, name, 2)
    latest = server.wait(name, 600)  # P9: not an error
    assert latest.name == name
    assert not latest.done
    assert [wait.done() for wait in waits] == [False, False]
    held.gate.open()
    assert all(wait.result(SECONDS).done for wait in waits)


@async_handler
def test_a_place_is_given_back_however_a_wait_ends(
    serve: Serve, held: Held, stack: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, not twice: as many may wait afterwards as before."""
    server = serve(held.servicer(), limits=Limits(waiters=1), max_waiters=1)
    name, deleted = server.create().name, server.create().name
    held.next()
    held.next()

    def has_a_place() -> Any:
        """Returns a Wait that stays open; what has ended has given its place back."""
        while True:
            wait = server.waiting(name, 600)
            server.wait(name, 0)
            if not wait.done():
                return wait

    def nobody_else_has() -> None:
        wait = has_a_place()
        assert not server.wait(name, 600).done
        wait.cancel()

    assert not server.wait(name, 0.05).done  # its time is over
    nobody_else_has()
    one = server.waiting(deleted, 600)
    server.wait(name, 0)
    server.delete(deleted)
    assert one.exception(SECONDS).code() is grpc.StatusCode.NOT_FOUND
    nobody_else_has()
    for wrong in ("x", "operations/missing"):
        refused(lambda: server.wait(wrong, 600))  # noqa: B023
    refused(lambda: server.wait(name, -1))
    nobody_else_has()
    done = has_a_place()
    held.gate.open()
    assert done.result(SECONDS).done
    for _ in range(3):
        assert server.wait(name, 600).done
    assert errors_logged(caplog) == []


@async_handler
@on_grpc_server
@pytest.mark.parametrize(("threads", "waiters"), [(4, 2), (5, 2), (10, 5)])
def test_on_grpc_server_half_of_the_threads_are_left_to_calls_that_do_not_wait(
    serve: Serve, held: Held, threads: int, waiters: int
) -> None:
    server = serve(held.servicer(), max_waiters=None, threads=threads)
    name = server.create().name
    held.next()
    waits = all_places_taken(server, name, waiters)
    for _ in range(2 * threads):  # more than all: none of these holds a thread
        assert not server.wait(name, 600).done
    assert server.create().name
    assert not any(wait.done() for wait in waits)
    held.gate.open()
    assert all(wait.result(SECONDS).done for wait in waits)


@on_grpc_server
def test_a_grpc_server_of_one_thread_keeps_it_for_calls_that_do_not_wait(
    serve: Serve, held: Held
) -> None:
    server = serve(held.servicer(), max_waiters=None, threads=1)
    name = server.create().name
    assert not server.wait(name, 600).done
    assert_full(lambda: server.watch(name), 0, WATCH)


@pytest.mark.parametrize(("threads", "waiters"), [(1, 1), (4, 4), (4, 5), (2, 10**6)])
def test_waiters_that_could_take_every_thread_are_refused(threads: int, waiters: int) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(threads))
    with pytest.raises(lro_grpc.ConfigurationError) as raised:
        lro_grpc.Operations("memory:").attach(server, max_waiters=waiters)
    assert f"max_waiters is {waiters}, and the server has {threads} threads" in raised.value.message


@async_handler
@on_grpc_server
def test_on_grpc_server_max_waiters_is_the_limit(serve: Serve, held: Held) -> None:
    server = serve(held.servicer(), limits=Limits(waiters=1), max_waiters=3)
    name = server.create().name
    held.next()
    waits = all_places_taken(server, name, 3)
    assert not server.wait(name, 600).done
    assert not any(wait.done() for wait in waits)
    held.gate.open()
    assert all(wait.result(SECONDS).done for wait in waits)


# Streams


@async_handler
@on_grpc_aio
def test_above_its_streams_a_watch_on_grpc_aio_is_refused(serve: Serve, held: Held) -> None:
    """Waits have places of their own."""
    server = serve(held.servicer(), limits=Limits(streams=2, waiters=1))
    name = server.create().name
    held.next()
    streams = [server.watching(name) for _ in range(2)]
    for stream in streams:
        next(stream)
    for _ in range(3):
        assert_full(lambda: server.watch(name), 2, WATCH)
    wait = server.waiting(name)
    server.wait(name, 0)
    assert not wait.done()
    held.gate.open()
    assert [[*stream][-1].operation.done for stream in streams] == [True] * 2
    assert wait.result(SECONDS).done


@async_handler
@on_grpc_server
def test_on_grpc_server_max_waiters_is_the_limit_of_waits_and_watches_together(
    serve: Serve, held: Held
) -> None:
    server = serve(held.servicer(), limits=Limits(streams=1), max_waiters=3, threads=5)
    name = server.create().name
    held.next()
    streams = [server.watching(name) for _ in range(2)]
    for stream in streams:
        next(stream)
    (wait,) = all_places_taken(server, name, 1)
    assert_full(lambda: server.watch(name), 3, WATCH)
    assert not server.wait(name, 600).done
    assert not wait.done()
    held.gate.open()
    assert [[*stream][-1].operation.done for stream in streams] == [True] * 2
    assert wait.result(SECONDS).done


@on_grpc_server
def test_a_grpc_server_without_waiters_refuses_each_watch(serve: Serve, held: Held) -> None:
    server = serve(held.servicer(), max_waiters=0, threads=1)
    name = server.create().name
    assert_full(lambda: server.watch(name), 0, WATCH)


# One caller


def calling(context: Any) -> str:
    """Tells who calls by what they say."""
    return str(dict(context.invocation_metadata()).get("caller", ""))


def of_callers(server: Server, *names: str) -> list[Client]:
    return [server.client(("caller", name)) for name in names]


def assert_share_is_taken(call: Callable[[], object], caller: str, most: int) -> None:
    """Nobody else is named in it."""
    failure = refused(call)
    assert (failure.code, failure.info.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "LIMIT_REACHED",
    )
    assert dict(failure.info.metadata) == {"subject": caller}
    assert failure.message.startswith(f"{most} ")
    (violation,) = quota_failure(failure).violations
    assert (violation.subject, violation.description) == (caller, failure.message)
    assert "bob" not in str(failure)


@async_handler
@pytest.mark.parametrize(("queue", "per_caller", "most"), [(8, 0.5, 4), (7, 0.5, 3), (3, 0.1, 1)])
def test_one_caller_cannot_fill_the_queue(
    serve: Serve, held: Held, store: str, queue: int, per_caller: float, most: int
) -> None:
    limits = Limits(queue=queue, per_caller=per_caller)
    servicer = held.servicer(concurrency=1)
    server = serve(servicer, limits=limits, identify=calling, store=store)
    ann, bob = of_callers(server, "ann", "bob")
    bob.create()
    held.next()
    names = [ann.create(request_id=uuid_of(f"r{number}")).name for number in range(most)]
    for _ in range(3):
        assert_share_is_taken(ann.create, "ann", most)
    assert ann.create(request_id=uuid_of("r0")).name == names[0]  # it has its place
    assert bob.create().name
    ann.cancel(names[0])
    ann.create()
    assert_share_is_taken(ann.create, "ann", most)


@async_handler
@pytest.mark.parametrize("most", [1, 3, 4])
def test_the_share_of_the_queue_may_be_a_number(
    serve: Serve, held: Held, store: str, most: int
) -> None:
    """Of all else a caller has the part that it had."""
    limits = Limits(queue=4, scheduled=4, queue_per_caller=most)
    servicer = held.servicer(concurrency=1)
    server = serve(servicer, limits=limits, identify=calling, store=store)
    ann, bob = of_callers(server, "ann", "bob")
    bob.create()
    held.next()
    names = [ann.create().name for _ in range(most)]
    if most == 4:
        assert_full(ann.create, 4)
    else:
        assert_share_is_taken(ann.create, "ann", most)
        assert bob.create().name
    ann.cancel(names[0])
    ann.create()
    start = server.operations.start_operation_sync
    request = fleet_service_pb2.CreateInstanceRequest(parent=PARENT)
    for _ in range(2):
        start(CREATE, request, caller="ann", delay=3600)
    with pytest.raises(lro_grpc.LimitReachedError, match=r"2 op.* wait for their time are yours"):
        start(CREATE, request, caller="ann", delay=3600)


@pytest.mark.parametrize("value", [0, 6, -1, 1.0, True, "1"], ids=repr)
def test_a_share_that_is_no_number_up_to_the_queue_is_refused(value: Any) -> None:
    with pytest.raises(lro_grpc.ConfigurationError) as raised:
        Limits(queue=5, queue_per_caller=value)
    text = f"the limit queue_per_caller is {value!r}; give a whole number of 1 to 5"
    assert text in raised.value.message


@async_handler
def test_of_many_starts_of_one_caller_at_once_its_share_gets_in(
    serve: Serve, held: Held, store: str
) -> None:
    server = serve(
        held.servicer(concurrency=1), limits=Limits(queue=20), identify=calling, store=store
    )
    ann, bob = of_callers(server, "ann", "bob")
    bob.create()
    held.next()
    answers = together(30, lambda _: ann.create())
    assert sum(isinstance(one, grpc.RpcError) for one in answers) == 20
    assert all(bob.create().name for _ in range(10))
    assert_full(server.create, 20)


@async_handler
def test_each_callers_part_of_the_queue_is_as_large_after_a_restart(
    serve: Serve, held: Held, file_url: str
) -> None:
    how: dict[str, Any] = {"limits": Limits(queue=6), "identify": calling, "store": file_url}
    first = serve(held.servicer(concurrency=1), **how)
    ann, bob = of_callers(first, "ann", "bob")
    bob.create()
    held.next()
    waiting = [ann.create().name for _ in range(3)]
    first.stop()
    second = serve(held.servicer(concurrency=1), **how)
    held.next()
    ann, bob = of_callers(second, "ann", "bob")
    assert_share_is_taken(ann.create, "ann", 3)
    assert bob.create().name
    ann.cancel(waiting[0])
    assert ann.create().name


@async_handler
def test_callers_without_a_name_share_one_share(serve: Serve, held: Held) -> None:
    server = serve(held.servicer(concurrency=1), limits=Limits(queue=4), identify=calling)
    server.create()
    held.next()
    for _ in range(2):
        server.create()
    assert_share_is_taken(server.create, "", 2)
    (ann,) = of_callers(server, "ann")
    assert ann.create().name


@async_handler
def test_without_identify_there_are_no_shares(serve: Serve, held: Held) -> None:
    server = full(serve, held, 4)
    assert_full(server.create, 4)


@async_handler
@on_grpc_aio
def test_one_caller_cannot_take_all_places_to_wait(serve: Serve, held: Held) -> None:
    server = serve(held.servicer(), limits=Limits(waiters=4), identify=calling)
    name = server.create().name
    held.next()
    ann, bob = of_callers(server, "ann", "bob")
    waits = all_places_taken(ann, name, 2)
    for _ in range(5):
        assert not ann.wait(name, 600).done
    waits.append(bob.waiting(name, 600))
    bob.wait(name, 0)
    assert not any(wait.done() for wait in waits)
    waits[0].cancel()
    waits[0] = ann.waiting(name, 600)
    ann.wait(name, 0)
    held.gate.open()
    assert all(wait.result(SECONDS).done for wait in waits[1:])


@async_handler
def test_one_caller_cannot_take_all_streams(serve: Serve, held: Held) -> None:
    server = serve(held.servicer(), limits=Limits(streams=4), max_waiters=4, identify=calling)
    name = server.create().name
    held.next()
    ann, bob = of_callers(server, "ann", "bob")
    streams = [ann.watching(name) for _ in range(2)]
    for stream in streams:
        next(stream)
    for _ in range(3):
        assert_share_is_taken(lambda: ann.watch(name), "ann", 2)
    streams.append(bob.watching(name))
    next(streams[-1])
    held.gate.open()
    assert [[*stream][-1].operation.done for stream in streams] == [True] * 3


class HeldFilter:
    """A filter that parses operations: it notes their parents, and waits at the first one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.parents: list[str] = []
        self.began = threading.Event()
        self.may_go_on = threading.Event()
        monkeypatch.setattr(PartialFailures, "matches", self._matches)

    def _matches(self, record: Any) -> bool:
        self.parents.append(record.parent)
        self.began.set()
        assert self.may_go_on.wait(SECONDS)
        return True


def listing(client: Client, parent: str) -> Any:
    request = operations_pb2.ListOperationsRequest(name=parent, filter="partial_failures:*")
    return client.lro.ListOperations.future(request, timeout=SECONDS)


def test_a_caller_with_many_costly_lists_has_one_of_them_at_a_time(
    serve: Serve, file_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of another caller comes after the first of them; no other call or list waits."""

    async def run(self: Any, request: Any, op: Any) -> Any:
        return Instance()

    servicer = fleet("CreateInstance", run)
    how: dict[str, Any] = {"limits": Limits(waiters=8), "max_waiters": 8}
    server = serve(servicer, identify=calling, store=file_url, **how)
    ann, bob = of_callers(server, "ann", "bob")
    of_ann, of_bob = "projects/ann/locations/l", "projects/bob/locations/l"
    names = [one.create(parent=of).name for one, of in ((ann, of_ann), (bob, of_bob))]
    for name in names:
        server.done(name)
    held = HeldFilter(monkeypatch)
    lists = [listing(ann, of_ann)]
    assert held.began.wait(SECONDS)
    lists += [listing(ann, of_ann) for _ in range(5)]  # its share is 4 that wait
    server.get(names[0])
    lists.append(listing(bob, of_bob))
    server.get(names[0])
    plain = operations_pb2.ListOperationsRequest(name=of_bob, filter="done = true")
    assert [one.name for one in bob.lro.ListOperations(plain).operations] == names[1:]
    held.may_go_on.set()
    codes = [one.code() for one in lists]
    assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) == 1
    assert codes[0] is codes[-1] is grpc.StatusCode.OK
    assert held.parents[:2] == [of_ann, of_bob]
    assert sorted(held.parents) == [of_ann] * 5 + [of_bob]
    assert [one.name for one in listing(ann, of_ann).result(SECONDS).operations] == names[:1]


# Pages


def test_a_page_is_no_larger_than_the_server_lets_it(serve: Serve) -> None:
    async def run(self: Any, request: Any, op: Any) -> Any:
        return Instance()

    server = serve(fleet("CreateInstance", run), limits=Limits(page_size=3))
    names = [server.create().name for _ in range(5)][::-1]
    for asked in (0, 3, 4, 1000, 2**31 - 1):
        page = server.list(page_size=asked)
        assert [one.name for one in page.operations] == names[:3]
        rest = server.list(page_size=asked, page_token=page.next_page_token)
        assert [one.name for one in rest.operations] == names[3:]
        assert rest.next_page_token == ""
    assert len(server.list(page_size=2).operations) == 2


# Wrong ones


@pytest.mark.parametrize(
    "limit", ["queue", "scheduled", "waiters", "streams", "page_size", "operation_bytes"]
)
@pytest.mark.parametrize(
    "value", [0, -1, 1.0, True, "10", None, float("nan"), float("inf"), 2**63], ids=repr
)
def test_a_limit_that_is_no_positive_whole_number_is_refused(limit: str, value: Any) -> None:
    with pytest.raises(lro_grpc.ConfigurationError) as raised:
        Limits(**{limit: value})
    assert f"the limit {limit} is {value!r}; give a whole number of 1 to" in raised.value.message


@pytest.mark.parametrize(
    "value", [0, -0.5, 1.01, float("nan"), float("inf"), True, "0.5", None], ids=repr
)
def test_a_part_for_one_caller_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(lro_grpc.ConfigurationError) as raised:
        Limits(per_caller=value)
    assert f"the limit per_caller is {value!r}; give a number above 0" in raised.value.message


class PreparesLate:
    """A service whose ``prepare`` of a large request waits at a gate."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.began: queue.SimpleQueue[None] = queue.SimpleQueue()

    def servicer(self) -> Any:
        def prepare(_: Any, request: Any, context: Any) -> None:
            if request.instance.name:
                self.began.put(None)
                self.gate.block()

        return fleet("CreateInstance", lambda *_: Instance(), prepare=prepare)

    def start(self, client: Client) -> futures.Future[Any]:
        """Starts an operation of 40,000 bytes, and returns its answer once it is prepared."""
        starting = in_thread(lambda: create_large(client))
        self.began.get(timeout=SECONDS)
        return starting


def create_large(client: Client) -> operations_pb2.Operation:
    return client.create(instance=Instance(name="n" * 40_000))


def test_large_requests_have_a_bound_while_they_are_stored(serve: Serve, gate: Gate) -> None:
    """A small one is none of them."""
    late = PreparesLate(gate)
    server = serve(late.servicer(), limits=Limits(request_bytes=60_000))
    starting = [late.start(server) for _ in range(2)]  # the bound is met by the second
    assert_full(lambda: create_large(server), 60_000)
    assert server.create().name
    gate.open()
    assert all(one.result(SECONDS).name for one in starting)
    assert create_large(server).name


def test_one_caller_has_its_share_of_the_bytes_of_large_requests(serve: Serve, gate: Gate) -> None:
    late = PreparesLate(gate)
    server = serve(late.servicer(), limits=Limits(request_bytes=60_000), identify=calling)
    ann, bob = of_callers(server, "ann", "bob")
    starting = late.start(ann)
    assert_share_is_taken(lambda: create_large(ann), "ann", 30_000)
    others = late.start(bob)
    gate.open()
    assert starting.result(SECONDS).name
    assert others.result(SECONDS).name


def test_a_large_request_takes_no_room_before_it_is_let_in(serve: Serve, gate: Gate) -> None:
    asked: queue.SimpleQueue[None] = queue.SimpleQueue()

    async def authorize(access: lro_grpc.Access) -> bool:
        if access.caller != "eve":
            return True
        asked.put(None)
        await gate.pass_by_async()
        return False

    servicer = fleet("CreateInstance", lambda *_: Instance())
    server = serve(
        servicer, limits=Limits(request_bytes=60_000), identify=calling, authorize=authorize
    )
    ann, eve = of_callers(server, "ann", "eve")
    starting = [in_thread(lambda: create_large(eve)) for _ in range(3)]
    for _ in starting:
        asked.get(timeout=SECONDS)
    assert create_large(ann).name
    gate.open()
    for one in starting:
        failure = refused(lambda: one.result(SECONDS))  # noqa: B023 - called at once
        assert failure.code is grpc.StatusCode.PERMISSION_DENIED


def test_a_caller_that_is_not_let_in_learns_nothing_of_the_others_large_requests(
    serve: Serve, gate: Gate
) -> None:
    late = PreparesLate(gate)
    server = serve(
        late.servicer(),
        limits=Limits(request_bytes=60_000, per_caller=1),
        identify=calling,
        authorize=lambda access: access.caller == "ann",
    )
    ann, eve = of_callers(server, "ann", "eve")
    starting = [late.start(ann) for _ in range(2)]
    failure = refused(lambda: create_large(eve))
    assert failure.code is grpc.StatusCode.PERMISSION_DENIED
    assert_full(lambda: create_large(ann), 60_000)
    gate.open()
    assert all(one.result(SECONDS).name for one in starting)


def test_the_large_requests_of_one_caller_do_not_hold_up_those_of_another_one(
    serve: Serve, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of each is read at a time, also before the guard lets anybody in."""
    read: list[str] = []
    identified: queue.SimpleQueue[str] = queue.SimpleQueue()
    parse = start.parse

    def slowly(kind: Any, body: bytes) -> Any:
        request = parse(kind, body)
        if request.instance_id not in read:  # a field that nobody knows has it read once more
            read.append(request.instance_id)
            gate.block()
        return request

    def identify(context: Any) -> str:
        caller = calling(context)
        identified.put(caller)
        return caller

    monkeypatch.setattr(start, "parse", slowly)
    server = serve(
        fleet("CreateInstance", lambda *_: Instance()),
        identify=identify,
        authorize=lambda access: access.caller == "ann",
    )
    ann, eve = of_callers(server, "ann", "eve")
    starting = []
    for client, instance_id in ((eve, "e-1"), (eve, "e-2"), (eve, "e-3"), (ann, "a-1")):
        instance = Instance(name="n" * 40_000)
        starting.append(
            in_thread(lambda: client.create(instance_id=instance_id, instance=instance))  # noqa: B023 - it has begun
        )
        identified.get(timeout=SECONDS)
    gate.open()
    assert starting.pop().result(SECONDS).name
    for one in starting:
        assert refused(lambda: one.result(SECONDS)).code is grpc.StatusCode.PERMISSION_DENIED  # noqa: B023
    assert read == ["e-1", "a-1", "e-2", "e-3"]


@pytest.mark.parametrize("request_id", ["", uuid_of("r")], ids=["", "request_id"])
def test_a_large_request_is_not_read_on_the_event_loop(
    serve: Serve, request_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    loops: list[threading.Thread] = []

    def noting(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            threads.append(threading.current_thread())
            return function(*arguments)

        return call

    for name in ("parse", "is_understood", "_fingerprint"):
        monkeypatch.setattr(start, name, noting(getattr(start, name)))

    async def prepare(_: Any, request: Any, context: Any) -> None:
        loops.append(threading.current_thread())

    server = serve(fleet("CreateInstance", lambda *_: Instance(), prepare=prepare))
    server.create(instance=Instance(name="n" * 40_000), request_id=request_id)
    assert len(threads) == (3 if request_id else 2)
    (loop,) = loops
    assert loop not in threads


def test_the_event_loop_goes_round_between_two_large_bodies(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of any method: a caller may send it megabytes of fields that nobody knows."""
    read_in: list[int] = []
    rounds = 0
    is_over = False
    parse = operations.parse

    def go_round(loop: asyncio.AbstractEventLoop) -> None:
        nonlocal rounds
        rounds += 1
        if not is_over:
            loop.call_soon(go_round, loop)

    def noting(kind: Any, body: bytes) -> Any:
        if not rounds:
            go_round(asyncio.get_running_loop())
        read_in.append(rounds)
        return parse(kind, body)

    monkeypatch.setattr(operations, "parse", noting)
    server = serve(fleet("CreateInstance", lambda *_: Instance()))
    body = operations_pb2.GetOperationRequest(name="operations/absent").SerializeToString()
    calls = [
        server.channel.unary_unary("/google.longrunning.Operations/GetOperation").future(
            body + b"\x50\x01" * 10_000, timeout=SECONDS
        )
        for _ in range(20)
    ]
    assert {call.code() for call in calls} == {grpc.StatusCode.NOT_FOUND}
    is_over = True
    assert len(set(read_in)) == len(read_in) == 20


def test_a_limit_may_be_as_good_as_none() -> None:
    assert Limits(queue=sys.maxsize, waiters=sys.maxsize).queue == sys.maxsize


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "4", float("nan")], ids=repr)
def test_a_number_of_waiters_that_is_none_is_refused(wrong: Any) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(8))
    with pytest.raises(lro_grpc.ConfigurationError) as raised:
        lro_grpc.Operations("memory:").attach(server, max_waiters=wrong)
    assert f"max_waiters is {wrong!r}; give a whole number of 0" in raised.value.message


def test_what_a_limit_is_unless_it_is_set() -> None:
    assert Limits() == Limits(
        queue=10_000,
        waiters=50_000,
        streams=10_000,
        page_size=1000,
        request_bytes=2**28,
        per_caller=0.5,
    )
