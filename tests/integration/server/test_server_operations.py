"""The rules of google.longrunning.Operations but List (P1, P2, P7 to P9), at a server's edge."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from concurrent import futures
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2
from google.protobuf import duration_pb2, empty_pb2
from google.rpc import code_pb2
from server_harness import (
    OPERATIONS,
    PARENT,
    SECONDS,
    Held,
    Instance,
    async_handler,
    elapsed,
    error_info,
    errors_logged,
    every_store,
    fleet,
    metadata_of,
    on_grpc_server,
    refused,
    response_of,
)

from lro.v1 import state_pb2
from lro_grpc.stores import ForwardingStore, MemoryStore

Serve = Any

LONG = 100.0
"""Seconds: a Wait that lasts so long is seen to last."""


GET = f"/{OPERATIONS}/GetOperation"


async def done_at_once(self: Any, request: Any, op: Any) -> Any:
    return Instance(name="done")


def get_bytes(server: Any, name: str) -> bytes:
    request = operations_pb2.GetOperationRequest(name=name)
    answer: bytes = server.call(GET, request.SerializeToString())
    return answer


@pytest.mark.parametrize("worker", [None, "pod-1"])
def test_the_history_names_the_process_that_has_run_an_attempt(
    serve: Serve, worker: str | None
) -> None:
    store = MemoryStore(lambda: 1_800_000_000_000_000)
    server = serve(fleet("CreateInstance", done_at_once), store=store, worker=worker)
    name = server.create().name
    server.done(name)
    _, (attempt,) = asyncio.run(store.read_attempts(name))
    assert attempt.worker == (worker or f"{socket.gethostname()}:{os.getpid()}")


# Get (P1, P2)


def test_done_has_exactly_one_result_and_never_changes(serve: Serve, store: str) -> None:
    """R4: there is one outcome, and it stays."""
    server = serve(fleet("CreateInstance", done_at_once), store=store)
    name = server.create().name
    assert server.done(name).WhichOneof("result") == "response"
    once = get_bytes(server, name)
    server.cancel(name)
    server.wait(name)
    assert get_bytes(server, name) == once


def test_a_done_operation_is_the_same_bytes_after_a_restart(serve: Serve, file_url: str) -> None:
    server = serve(fleet("CreateInstance", done_at_once), store=file_url)
    name = server.create().name
    server.done(name)
    once = get_bytes(server, name)
    server.stop()
    assert get_bytes(serve(fleet("CreateInstance", done_at_once), store=file_url), name) == once


# Cancel (P8)


def test_cancel_ends_a_running_operation_with_code_1(serve: Serve, held: Held, store: str) -> None:
    server = serve(held.servicer(), store=store)
    name = server.create().name
    held.next()
    request = operations_pb2.CancelOperationRequest(name=name)
    answer = server.call(f"/{OPERATIONS}/CancelOperation", request.SerializeToString())
    assert empty_pb2.Empty.FromString(answer) == empty_pb2.Empty()
    ended = server.done(name)
    assert ended.error.code == code_pb2.CANCELLED
    assert error_info(ended.error).domain == "lro-grpc"
    metadata = metadata_of(ended)
    assert metadata.state == state_pb2.JOB_STATE_CANCELLED
    assert metadata.cancel_requested
    assert server.names() == [name]  # it is not deleted
    assert server.get(name) == ended


def test_cancel_is_seen_at_once(serve: Serve, gate: Any) -> None:
    """The handler may take its time; the next Get shows that the cancel is requested."""

    def run(self: Any, request: Any, op: Any) -> Any:
        gate.block()
        return Instance(name="finished all the same")

    server = serve(fleet("CreateInstance", run))
    name = server.create().name
    running = server.wait(name, 0)
    while metadata_of(running).state != state_pb2.JOB_STATE_RUNNING:
        running = server.wait(name, 0.01)
    server.cancel(name)
    cancelling = server.get(name)
    assert not cancelling.done
    assert metadata_of(cancelling).state == state_pb2.JOB_STATE_CANCELLING
    gate.open()
    # "It may complete despite cancellation" (P8).
    assert response_of(server.done(name)).name == "finished all the same"


def test_cancel_of_a_done_operation_is_ok_and_changes_nothing(serve: Serve, store: str) -> None:
    server = serve(fleet("CreateInstance", done_at_once), store=store)
    name = server.create().name
    ended = server.done(name)
    server.cancel(name)
    server.cancel(name)
    assert server.get(name) == ended


def test_cancel_twice_is_ok(serve: Serve, held: Held) -> None:
    server = serve(held.servicer())
    name = server.create().name
    held.next()
    server.cancel(name)
    server.cancel(name)
    ended = server.done(name)
    server.cancel(name)
    assert server.get(name) == ended
    assert ended.error.code == code_pb2.CANCELLED


@every_store
def test_cancel_before_the_first_attempt_means_the_handler_never_runs(
    serve: Serve, held: Held, store: str
) -> None:
    server = serve(held.servicer(concurrency=1), store=store)
    first = server.create().name
    assert held.next() == first
    second = server.create().name
    server.cancel(second)
    ended = server.done(second)
    assert ended.error.code == code_pb2.CANCELLED
    assert metadata_of(ended).attempt == 0
    held.gate.open()
    server.done(first)
    third = server.create().name
    assert held.next() == third


# Delete (P7, S20)


@every_store
def test_delete_takes_the_name_at_once_and_does_not_cancel(
    serve: Serve, held: Held, store: str
) -> None:
    server = serve(held.servicer(concurrency=1), store=store)
    name = server.create().name
    held.next()
    server.delete(name)
    for call in (server.get, server.cancel, server.delete, server.wait):
        failure = refused(lambda call=call: call(name))
        assert failure.code is grpc.StatusCode.NOT_FOUND
        assert failure.info.reason == "OPERATION_NOT_FOUND"
    assert server.names() == []

    behind = server.create().name  # its turn comes when the deleted one has run to its end
    assert held.began.empty()
    held.gate.open()
    assert held.next() == behind
    server.done(behind)
    assert server.names() == [behind]


@every_store
def test_delete_of_a_done_operation(serve: Serve, store: str) -> None:
    server = serve(fleet("CreateInstance", done_at_once), store=store)
    kept, gone = server.create().name, server.create().name
    server.done(gone)
    server.done(kept)
    server.delete(gone)
    assert refused(lambda: server.get(gone)).code is grpc.StatusCode.NOT_FOUND
    assert server.names() == [kept]


def test_delete_outlives_the_server(serve: Serve, held: Held, file_url: str) -> None:
    server = serve(held.servicer(), store=file_url)
    name = server.create().name
    held.next()
    server.delete(name)
    server.stop()
    again = serve(held.servicer(), store=file_url)
    assert refused(lambda: again.get(name)).code is grpc.StatusCode.NOT_FOUND
    assert again.names() == []
    held.gate.open()


def test_a_waiter_of_an_operation_that_is_deleted_is_answered(serve: Serve, held: Held) -> None:
    server = serve(held.servicer())
    name = server.create().name
    held.next()
    waiting = server.waiting(name)
    server.get(name)  # the Wait was before it on the same connection
    server.delete(name)
    assert refused(waiting.result).code is grpc.StatusCode.NOT_FOUND


# Wait (P9)


def test_wait_answers_at_once_when_done(serve: Serve) -> None:
    server = serve(fleet("CreateInstance", done_at_once))
    name = server.create().name
    ended = server.done(name)
    again, seconds = elapsed(lambda: server.wait(name, LONG, deadline=LONG))
    assert again == ended
    assert seconds < SECONDS


@async_handler
def test_wait_answers_as_soon_as_the_operation_is_done(serve: Serve, held: Held) -> None:
    server = serve(held.servicer())
    name = server.create().name
    held.next()
    waiting = server.waiting(name, LONG, deadline=LONG)
    server.get(name)
    assert not waiting.done()
    held.gate.open()
    ended, seconds = elapsed(waiting.result)
    assert ended.done
    assert seconds < SECONDS
    assert ended == server.get(name)


@async_handler
def test_many_wait_for_one_operation(serve: Serve, held: Held) -> None:
    server = serve(held.servicer(), max_waiters=10)
    name = server.create().name
    held.next()
    waiting = [server.waiting(name, 60) for _ in range(10)]
    server.get(name)
    held.gate.open()
    assert all(one.result().done for one in waiting)


@async_handler
def test_wait_answers_the_latest_state_after_its_timeout(serve: Serve, held: Held) -> None:
    server = serve(held.servicer())
    name = server.create().name
    held.next()
    latest, seconds = elapsed(lambda: server.wait(name, 0.2, deadline=LONG))
    assert latest == server.get(name)
    assert not latest.done
    assert 0.2 <= seconds < SECONDS


@async_handler
def test_wait_answers_before_a_deadline_that_is_shorter_than_its_timeout(
    serve: Serve, held: Held
) -> None:
    server = serve(held.servicer())
    name = server.create().name
    held.next()
    # Of such a deadline the margin is the longest that there is. After it there is no answer.
    latest, seconds = elapsed(lambda: server.wait(name, 60, deadline=5))
    assert not latest.done
    assert seconds > 0.5


@async_handler
@pytest.mark.parametrize("limit", [0, None, 1e9, 315_576_000_000])
def test_wait_lasts_no_longer_than_the_server_lets_it(
    serve: Serve, held: Held, limit: float | None
) -> None:
    """An overlong timeout is clamped, none at all means the server's limit, 0 means now."""
    longest = LONG if limit == 0 else 0.2
    server = serve(held.servicer(), max_wait=timedelta(seconds=longest))
    name = server.create().name
    held.next()
    latest, seconds = elapsed(lambda: server.wait(name, limit, deadline=LONG))
    assert not latest.done
    assert seconds < SECONDS
    assert limit == 0 or seconds >= longest


@async_handler
def test_wait_without_timeout_and_deadline(serve: Serve, held: Held) -> None:
    server = serve(held.servicer(), max_wait=timedelta(seconds=0.2))
    name = server.create().name
    held.next()
    latest, seconds = elapsed(lambda: server.wait(name, deadline=None))
    assert not latest.done
    assert 0.2 <= seconds < SECONDS


@pytest.mark.parametrize(("seconds", "nanos"), [(-1, 0), (0, -1), (-5, -500), (-(10**11), 0)])
def test_a_negative_timeout_is_refused(serve: Serve, seconds: int, nanos: int) -> None:
    server = serve(fleet("CreateInstance", done_at_once))
    name = server.create().name
    request = operations_pb2.WaitOperationRequest(name=name)
    request.timeout.CopyFrom(duration_pb2.Duration(seconds=seconds, nanos=nanos))
    failure = refused(lambda: server.lro.WaitOperation(request, timeout=SECONDS))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.info.reason == "INVALID_TIMEOUT"


class Mute(MemoryStore):
    """A store each of whose notices is lost."""

    def subscribe(self, listener: Any) -> Any:
        """Takes the listener's name, and never calls."""
        return lambda: None


@async_handler
@pytest.mark.parametrize("stack", ["aio"], indirect=True)
def test_a_wait_ends_though_every_notice_of_the_end_is_lost(serve: Serve, held: Held) -> None:
    """R9: a waiter looks by itself now and then, as the engine does for what is to be run."""
    store = Mute(lambda: time.time_ns() // 1000)
    server = serve(held.servicer(), store=store, sweep=timedelta(seconds=0.1))
    name = server.create().name
    waiting = server.waiting(name)
    assert held.next() == name
    held.gate.open()
    assert waiting.result(SECONDS).done


def test_progress_does_not_end_a_wait(serve: Serve, gate: Any) -> None:
    async def run(self: Any, request: Any, op: Any) -> Any:
        op.progress(50, "half")
        await gate.pass_by_async()
        return Instance()

    server = serve(fleet("CreateInstance", run))
    name = server.create().name
    waiting = server.waiting(name)
    with pytest.raises(grpc.FutureTimeoutError):
        waiting.result(0.4)
    assert metadata_of(server.get(name)).progress_percent == 50
    gate.open()
    assert waiting.result(SECONDS).done


class CountsReads(ForwardingStore):
    """A store that counts the reads of operations."""

    reads = 0

    async def operation(self, name: str) -> bytes:
        """Counts one, and passes it on."""
        self.reads += 1
        return await super().operation(name)


def test_a_wait_sleeps_through_all_progress(serve: Serve, gate: Any) -> None:
    """It reads when it begins and when the operation ends, however often that has changed."""

    async def run(self: Any, request: Any, op: Any) -> Any:
        await gate.pass_by_async()
        for row in range(50):
            await op.checkpoint(Instance(seed_rows=row))
            await asyncio.sleep(0)  # a call that was woken would read now
        return Instance()

    store = CountsReads(MemoryStore(lambda: time.time_ns() // 1000))
    server = serve(fleet("CreateInstance", run), store=store)
    name = server.create().name
    waits = [server.waiting(name) for _ in range(3)]
    server.wait(name, 0)  # the others are in by then
    before = store.reads
    gate.open()
    assert all(wait.result(SECONDS).done for wait in waits)
    assert store.reads - before <= 2 * len(waits)


@async_handler
def test_clients_that_stop_waiting_are_nobodys_failure(
    serve: Serve, held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that goes away is no error of the server's, and leaves nothing behind."""
    server = serve(held.servicer(), max_waiters=8)
    name = server.create().name
    held.next()
    gone = [server.waiting(name) for _ in range(4)]
    hurried = [server.waiting(name, deadline=0.01) for _ in range(4)]
    server.get(name)
    for call in gone:
        call.cancel()
    for call in hurried:
        with contextlib.suppress(grpc.RpcError):
            call.result(SECONDS)
    for _ in range(3):  # by then the server has noticed
        assert not server.wait(name, 0.05).done
    held.gate.open()
    assert server.done(name).HasField("response")
    server.stop()
    assert errors_logged(caplog) == []


# max_waiters: on a grpc.server each Wait holds a thread


@on_grpc_server
@async_handler
def test_above_max_waiters_a_wait_answers_at_once(serve: Serve, held: Held) -> None:
    server = serve(held.servicer(), max_waiters=2, threads=4)
    name = server.create().name
    held.next()
    waiting = [server.waiting(name) for _ in range(6)]
    answered = [one.result() for one in first_of(waiting, 4)]
    assert [operation.done for operation in answered] == [False] * 4
    patient = [one for one in waiting if not one.done()]
    assert len(patient) == 2
    assert server.get(name).name == name  # the other threads serve on
    held.gate.open()
    assert all(one.result(SECONDS).done for one in patient)


@on_grpc_server
@async_handler
def test_no_waiters_at_all(serve: Serve, held: Held) -> None:
    server = serve(held.servicer(), max_waiters=0, threads=1)
    name = server.create().name
    held.next()
    latest, seconds = elapsed(lambda: server.wait(name, deadline=LONG))
    assert not latest.done
    assert seconds < SECONDS


@on_grpc_server
@async_handler
def test_a_client_that_goes_away_frees_its_place(serve: Serve, held: Held) -> None:
    server = serve(held.servicer(), max_waiters=2, threads=5)
    name = server.create().name
    held.next()
    for _ in range(3):  # more often than there are places and threads
        waiting = [hold(server, name) for _ in range(2)]
        for one in waiting:
            one.cancel()
    waiting = [hold(server, name) for _ in range(2)]
    held.gate.open()
    assert all(one.result(SECONDS).done for one in waiting)


@on_grpc_server
@async_handler
def test_a_wait_that_is_over_frees_its_place(serve: Serve, held: Held) -> None:
    server = serve(held.servicer(), max_waiters=1, threads=4)
    name = server.create().name
    held.next()
    for _ in range(3):
        assert not server.wait(name, 0.02).done
        assert refused(lambda: server.wait("operations/none")).code is grpc.StatusCode.NOT_FOUND
    waiting = hold(server, name)
    held.gate.open()
    assert waiting.result(SECONDS).done


@pytest.mark.parametrize("stack", ["aio"], indirect=True)
@async_handler
def test_on_grpc_aio_all_may_wait(serve: Serve, held: Held) -> None:
    server = serve(held.servicer(), max_waiters=1)
    name = server.create().name
    held.next()
    waiting = [server.waiting(name) for _ in range(200)]
    server.get(name)
    assert not any(one.done() for one in waiting)
    held.gate.open()
    assert all(one.result(SECONDS).done for one in waiting)


def first_of(calls: list[Any], count: int) -> list[Any]:
    """Returns the calls that are over, once there are so many."""
    over = [futures.Future() for _ in range(count)]
    slots = iter(over)
    for call in calls:
        call.add_done_callback(
            lambda done: (slot := next(slots, None)) is not None and slot.set_result(done)
        )
    return [slot.result(SECONDS) for slot in over]


def hold(server: Any, name: str) -> Any:
    """Returns a Wait that the server holds; while all places are taken it answers at once."""
    for _ in range(1000):
        waiting = server.waiting(name)
        try:
            latest = waiting.result(0.15)
        except grpc.FutureTimeoutError:
            return waiting
        assert not latest.done
    raise AssertionError("no place was freed")


def test_names_without_a_parent_work_alike(serve: Serve) -> None:
    """P1, P10: such a name begins with the collection, which is also what to list."""
    server = serve(fleet("CreateInstance", done_at_once))
    name = server.create(parent="").name
    assert name.startswith("operations/")
    assert server.done(name) == server.get(name)
    assert server.names("operations") == [name]
    assert server.names(PARENT) == []
    server.delete(name)
    assert server.names("operations") == []
