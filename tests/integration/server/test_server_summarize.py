"""SummarizeOperations, at a real server's edge."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from server_harness import (
    FLEET,
    PARENT,
    SECONDS,
    Held,
    Server,
    every_store,
    failure_of,
    metadata_of,
    refused,
    together,
)

import lro_grpc
from lro.v1 import state_pb2
from lro.v1.operation_control_service_pb2 import SummarizeOperationsRequest
from lro.v1.operation_summary_pb2 import SummarizeOperationsResponse
from lro_grpc._filtering.parser import MAX_LENGTH
from lro_grpc.stores import Counts, ForwardingStore, MemoryStore

Serve = Any

METHOD = f"{FLEET}/CreateInstance"
ANY_PARENT = "-"


def numbers(summary: SummarizeOperationsResponse) -> dict[str, int]:
    """Returns the numbers by state, of the one method that there is."""
    assert {one.method for one in summary.counts} <= {METHOD}
    name = state_pb2.JobState.Name
    return {name(one.state).removeprefix("JOB_STATE_"): one.count for one in summary.counts}


@every_store
def test_operations_are_summed_up(serve: Serve, held: Held, store: Any) -> None:
    server = serve(held.servicer(concurrency=1, pausable=True), store=store)
    running = server.create().name
    held.next()
    waiting, paused, ended = (server.create().name for _ in range(3))
    server.pause(paused)
    server.cancel(ended)
    told = server.summarize(PARENT)
    assert numbers(told) == {"QUEUED": 1, "RUNNING": 1, "PAUSED": 1, "CANCELLED": 1}
    assert not any(one.lower_bound for one in told.counts)
    assert (told.oldest_ready_operation, told.oldest_attempt_operation) == (waiting, running)
    assert told.oldest_ready_time == metadata_of(server.get(waiting)).update_time
    (attempt,) = server.describe(running).attempts
    assert told.oldest_attempt_start_time == attempt.start_time
    assert told.examined_count == 4
    assert not told.HasField("earliest_examined_create_time")
    done = server.summarize(PARENT, "done = true")
    assert numbers(done) == {"CANCELLED": 1}
    assert not done.HasField("oldest_ready_time")
    assert not done.HasField("oldest_attempt_start_time")


def test_a_hidden_operation_that_runs_is_counted_and_not_named(serve: Serve, held: Held) -> None:
    server = serve(held.servicer(concurrency=1))
    names = [server.create().name for _ in range(2)]
    held.next()
    for name in names:
        server.delete(name)
    told = server.summarize(PARENT)
    assert numbers(told) == {"QUEUED": 1, "RUNNING": 1}
    assert (told.oldest_ready_operation, told.oldest_attempt_operation) == ("", "")
    assert told.HasField("oldest_ready_time")
    assert told.HasField("oldest_attempt_start_time")
    assert told.examined_count == 0
    assert numbers(server.summarize(PARENT, "done = false")) == {}


def test_a_parent_is_what_a_list_takes(serve: Serve, held: Held) -> None:
    server = serve(held.servicer())
    server.create()
    for parent, number in {
        ANY_PARENT: 1,
        "projects/-/locations/l": 1,
        "projects/-/locations/-": 1,
        "operations": 0,
        "projects/none": 0,
        "-/p": 0,
    }.items():
        assert sum(one.count for one in server.summarize(parent).counts) == number, parent


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"parent": ""}, "INVALID_NAME"),
        ({"parent": "a b"}, "INVALID_NAME"),
        ({"parent": "é" * 600}, "INVALID_NAME"),
        ({"filter": "("}, "INVALID_FILTER"),
        ({"filter": "none = 1"}, "INVALID_FILTER"),
        ({"filter": "x" * (MAX_LENGTH + 1)}, "INVALID_FILTER"),
    ],
    ids=repr,
)
def test_what_is_wrong_is_refused(serve: Serve, wrong: dict[str, str], reason: str) -> None:
    server = serve()
    fields = {"parent": PARENT, **wrong}
    failure = refused(lambda: server.summarize(fields["parent"], fields.get("filter", "")))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.info.reason == reason


@pytest.mark.parametrize("wrong", [{}, {"parent": "a b"}, {"filter": "("}], ids=repr)
def test_a_stranger_learns_nothing_and_costs_nothing(serve: Serve, wrong: dict[str, str]) -> None:
    """The parent is what is asked about, as it was sent."""
    store = CountingStore()
    asked: list[tuple[str, str, object]] = []

    def authorize(access: Any) -> bool:
        asked.append((access.permission, access.resource, access.operation))
        return False

    server = serve(store=store, authorize=authorize)
    fields = {"parent": ANY_PARENT, "filter": "", **wrong}
    failure = refused(lambda: server.summarize(fields["parent"], fields["filter"]))
    assert failure.code is grpc.StatusCode.PERMISSION_DENIED
    assert asked == [("operations.summarize", fields["parent"], None)]
    assert store.asked == 0


def test_a_filter_that_tells_callers_needs_another_permission(serve: Serve, held: Held) -> None:
    """It is asked for each time, however young an answer there is."""
    allowed = {"operations.summarize", "operations.describe", "operations.start"}
    server = serve(
        held.servicer(),
        authorize=lambda access: access.permission in allowed,
        identify=lambda context: "ann",
    )
    server.create()
    held.next()
    assert numbers(server.summarize(PARENT, "caller = ann")) == {"RUNNING": 1}
    allowed.remove("operations.describe")
    assert numbers(server.summarize(PARENT, "done = false")) == {"RUNNING": 1}
    failure = refused(lambda: server.summarize(PARENT, "caller = ann"))
    assert failure.code is grpc.StatusCode.PERMISSION_DENIED


class CountingStore(ForwardingStore):
    """A store that notes how often it is asked, and answers as long as its gate is open."""

    def __init__(self) -> None:
        super().__init__(MemoryStore(lambda: 1_800_000_000_000_000))
        self.asked = 0
        self.under_way = 0
        self.most_under_way = 0
        self.gate: asyncio.Event | None = None

    async def counts(self, *arguments: Any, **options: Any) -> Counts:
        self.asked += 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if self.gate is not None:
                await self.gate.wait()
            await asyncio.sleep(0)
            return await super().counts(*arguments, **options)
        finally:
            self.under_way -= 1


def by_metadata(context: Any) -> str:
    return dict(context.invocation_metadata()).get("caller", "")


def test_a_young_answer_is_shared_by_the_calls_of_one_caller(serve: Serve) -> None:
    """One is made at a time, whoever asks."""
    store = CountingStore()
    server = serve(store=store, identify=by_metadata, max_waiters=None)
    ann, bob = server.client(("caller", "ann")), server.client(("caller", "bob"))
    answers = together(8, lambda number: (ann, bob)[number % 2].summarize(PARENT))
    assert answers == [SummarizeOperationsResponse()] * 8
    assert store.most_under_way == 1
    asked = store.asked
    assert 2 <= asked <= 8  # a busy machine may take longer than a second for them
    together(4, lambda number: ann.summarize(PARENT, f"progress_percent < {number + 1}"))
    assert store.asked == asked + 4
    assert store.most_under_way == 1


def test_an_answer_grows_old(serve: Serve, held: Held) -> None:
    server = serve(held.servicer())
    assert numbers(server.summarize(PARENT)) == {}
    server.create()
    held.next()
    for summary in watched(server):
        if numbers(summary) == {"RUNNING": 1}:
            return


def watched(server: Server) -> Iterator[SummarizeOperationsResponse]:
    """Yields one answer after another; fails if there are too many."""
    for _ in range(100_000):
        yield server.summarize(PARENT)
    raise AssertionError("the answer never changes")


class Barred:
    """A server whose store makes every summary wait, until it is let go."""

    def __init__(self, serve: Serve, store: CountingStore, **how: Any) -> None:
        self._store = store
        self.server = serve(store=store, **how)
        self._on_loop(self._shut())

    def go(self) -> None:
        self._on_loop(self._open())

    def call(self, timeout: float = SECONDS) -> Any:
        """Begins a call."""
        request = SummarizeOperationsRequest(parent=PARENT)
        return self.server.control.SummarizeOperations.future(request, timeout=timeout)

    def _on_loop(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self.server.operations.loop).result(SECONDS)

    async def _shut(self) -> None:
        self._store.gate = asyncio.Event()

    async def _open(self) -> None:
        assert self._store.gate is not None
        self._store.gate.set()


@pytest.mark.parametrize("stack", ["aio"], indirect=True)
def test_a_call_that_is_broken_off_keeps_its_turn_to_its_end(serve: Serve) -> None:
    """Else the next one would begin beside it, and so on."""
    store = CountingStore()
    barred = Barred(serve, store)
    for _ in range(3):
        failure = failure_of(barred.call(timeout=0.2).exception(SECONDS))
        assert failure.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert store.asked == 1
    barred.go()
    barred.server.summarize(PARENT)
    assert store.most_under_way == 1


@pytest.mark.parametrize("stack", ["aio"], indirect=True)
def test_no_more_calls_wait_than_may_stay_open(serve: Serve) -> None:
    """One is answered, and one waits for its turn."""
    ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
    barred = Barred(serve, CountingStore(), limits=lro_grpc.Limits(waiters=1))
    calls = [barred.call() for _ in range(5)]
    for call in calls:
        call.add_done_callback(ended.put)
    for _ in range(3):
        failure = failure_of(ended.get(timeout=SECONDS).exception())
        assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    barred.go()
    for _ in range(2):
        assert ended.get(timeout=SECONDS).result() == SummarizeOperationsResponse()
