"""A server is asked to go down by SIGTERM, and gives back what it has in its hands."""

from __future__ import annotations

import itertools
import threading
import uuid
from typing import TYPE_CHECKING

import grpc
import pytest
from killable import (
    AT_ONCE_SECONDS,
    Site,
    batch,
    create,
    delete,
    expected,
    expected_failure,
    outcome,
    reason,
    seen,
    snapshot,
    states,
)

from lro.v1 import state_pb2

if TYPE_CHECKING:
    from google.protobuf.message import Message

HEARTBEAT_SECONDS = 60
"""After which a server wakes up by itself."""

PARENT = "projects/p/locations/x1"


@pytest.fixture(params=["aio", "sync"])
def stack(request: pytest.FixtureRequest) -> str:
    return request.param


def test_a_drained_async_operation_goes_on_as_attempt_2_and_has_lost_nothing(
    site: Site, stack: str
) -> None:
    once = delete(PARENT, "once-3ms")  # one loss would be the end of it
    server = site.serve(server=stack, pause=["deleting/once-3ms"])
    name = server.start(once)
    server.reach("deleting/once-3ms")
    before = seen(server.get(name))
    server.drain()

    server = site.serve(server=stack)

    after = server.wait(name)
    assert outcome(after) == expected(once)
    assert (before.attempt, seen(after).attempt) == (1, 2)
    assert seen(after).start_time == before.start_time
    assert site.attempts(name) == [1, 2]


def test_an_operation_may_be_drained_any_number_of_times(site: Site) -> None:
    once = delete(PARENT, "once-noop")
    server = site.serve(pause=["deleting/once-noop"])
    name = server.start(once)
    for _ in range(3):
        server.reach("deleting/once-noop")
        server.drain()
        server = site.serve(pause=["deleting/once-noop"])
    server.reach("deleting/once-noop")
    server.drain()

    after = site.serve().wait(name)

    assert outcome(after) == expected(once)
    assert site.attempts(name) == [1, 2, 3, 4, 5]


def test_a_drained_operation_is_queued_in_the_file(site: Site, stack: str) -> None:
    """Kept there, and not claimed by the next server, while something else runs before it."""
    server = site.serve(server=stack, pause=["deleting/one-noop", "deleting/two-noop"])
    first, second = (server.start(delete(PARENT, own)) for own in ("one-noop", "two-noop"))
    server.reach("deleting/one-noop")
    server.drain()

    server = site.serve(server=stack, pause=["deleting/one-noop"])
    server.reach("deleting/one-noop")
    running, queued = seen(server.get(first)), seen(server.get(second))
    server.drain()

    assert (running.state, running.attempt) == (state_pb2.JOB_STATE_RUNNING, 2)
    assert (queued.state, queued.attempt) == (state_pb2.JOB_STATE_QUEUED, 0)
    server = site.serve(server=stack)
    assert seen(server.wait(first)).attempt == 3
    assert seen(server.wait(second)).attempt == 1


def test_a_drained_def_operation_goes_on_as_attempt_2(site: Site, stack: str) -> None:
    request = snapshot(PARENT, "taken-6ms")
    server = site.serve(server=stack, pause=["creating/taken-6ms"])
    name = server.start(request)
    server.reach("creating/taken-6ms")
    server.drain()
    assert site.files() == set()  # what its first attempt had begun was cleaned up by it

    after = site.serve(server=stack).wait(name)

    assert outcome(after) == expected(request)
    assert seen(after).attempt == 2


def test_a_thread_that_outstays_the_grace_does_not_keep_the_server_up(
    site: Site, stack: str
) -> None:
    request = snapshot(PARENT, "stuck-5ms")
    server = site.serve(server=stack, hold=["creating/stuck-5ms"], grace=0.2)
    name = server.start(request)
    server.reach("creating/stuck-5ms")
    server.drain()

    after = site.serve(server=stack).wait(name)

    assert outcome(after) == expected(request)
    assert seen(after).attempt == 2


def test_a_server_notices_at_once_when_it_is_asked_to_end_whatever_its_main_thread_sleeps_in(
    site: Site, stack: str
) -> None:
    server = site.serve(server=stack, signals="other")
    server.terminate()
    server.until_ended(HEARTBEAT_SECONDS / 3)


def test_a_cleanup_that_outlasts_the_grace_does_not_keep_the_server_up_when_it_has_ended(
    site: Site,
) -> None:
    request = create(PARENT, "slow-5ms")
    server = site.serve(hold=["creating/slow-5ms"], grace=0.2)
    name = server.start(request)
    server.reach("creating/slow-5ms")
    server.terminate()
    server.until_store_closed()
    server.release()
    server.until_ended(AT_ONCE_SECONDS)

    after = site.serve().wait(name)

    assert outcome(after) == expected(request)
    assert seen(after).attempt == 2


@pytest.mark.parametrize("kind", ["async", "def"])
def test_a_server_with_batches_that_have_only_begun_does_not_wait_for_its_grace(
    site: Site, kind: str
) -> None:
    server = site.serve(batch=kind)
    requests = [batch(PARENT, [f"n{n}-stop"]) for n in range(60)]
    calls = [server.starting(request) for request in requests]
    names = [call.result().name for call in calls]
    server.drain()

    server = site.serve(batch=kind)

    for name in names:
        server.cancel(name)
    assert {server.wait(name).error.code for name in names} == {1}
    assert site.files() == set()


@pytest.mark.parametrize("kind", ["async", "def"])
def test_a_drained_batch_goes_on_where_it_was(site: Site, kind: str) -> None:
    ids = ["d1-1ms", "d2-2ms", "d3-3ms"]
    request = batch(PARENT, ids)
    server = site.serve(batch=kind, pause=["creating/d2-2ms"])
    name = server.start(request)
    server.reach("creating/d2-2ms")
    server.drain()

    after = site.serve(batch=kind).wait(name)

    assert outcome(after) == expected(request)
    assert states(after) == ["READY"] * 3
    assert seen(after).attempt == 2
    built = [run.what for run in site.runs()[name] if run.what.startswith("create")]
    targets = [f"{PARENT}/instances/{ids[n]}" for n in (0, 1, 1, 2)]
    assert built == [f"create {target}" for target in targets]


@pytest.mark.parametrize("kind", ["async", "def"])
def test_a_batch_drained_while_it_rolls_back_rolls_back_to_the_end(site: Site, kind: str) -> None:
    ids = ["r1-1ms", "r2-2ms", "r3-fail"]
    server = site.serve(batch=kind, pause=["deleting/r2-2ms"])
    name = server.start(batch(PARENT, ids))
    server.reach("deleting/r2-2ms")
    server.drain()

    after = site.serve(batch=kind).wait(name)

    assert outcome(after) == expected_failure(f"{PARENT}/instances/r3-fail")
    assert states(after) == ["ROLLED_BACK", "ROLLED_BACK", "FAILED"]
    assert seen(after).attempt == 2
    assert site.files() == set()


@pytest.mark.parametrize("kind", ["async", "def"])
def test_a_cancelled_batch_drained_while_it_rolls_back_ends_cancelled(
    site: Site, kind: str
) -> None:
    ids = ["c1-1ms", "c2-2ms", "c3-3ms"]
    server = site.serve(batch=kind, pause=["creating/c2-2ms", "deleting/c1-1ms"])
    name = server.start(batch(PARENT, ids))
    server.reach("creating/c2-2ms")
    server.cancel(name)
    server.reach("deleting/c1-1ms")
    server.drain()

    after = site.serve(batch=kind).wait(name)

    assert after.error.code == 1
    assert states(after) == ["ROLLED_BACK", "FAILED", "FAILED"]
    assert site.files() == set()


def test_a_second_signal_in_a_drain_ends_the_server_and_loses_nothing(
    site: Site, stack: str
) -> None:
    """Who is in a hurry gets what a crash would leave, and no less (R3)."""
    once, queued = (delete(PARENT, own) for own in ("once-noop", "queued-noop"))
    building, slow = snapshot(PARENT, "building-5ms"), create(PARENT, "slow-5ms")
    held = ["creating/building-5ms", "creating/slow-5ms", "deleting/once-noop"]
    server = site.serve(server=stack, hold=held)
    lost = server.start(once)
    server.reach("deleting/once-noop")
    names = [server.start(request) for request in (building, slow, queued)]
    server.reach("creating/building-5ms", "creating/slow-5ms")
    waiting = server.waiting(names[0])
    server.terminate()
    assert not waiting.result().done  # it drains, and waits for what is held
    server.terminate()
    server.until_gone()

    server = site.serve(server=stack)

    for name, request in zip(names, (building, slow, queued), strict=True):
        assert outcome(server.wait(name)) == expected(request)
    assert reason(server.wait(lost).error) == "WORKER_LOST"  # it has one attempt, and was in it
    assert seen(server.get(names[0])).attempt == 2
    server.drain()
    assert site.integrity() == "ok"


def test_starts_while_a_server_drains_are_refused_or_kept(site: Site, stack: str) -> None:
    """What was answered is never lost (R1); what was not may be sent again (R2)."""
    server = site.serve(server=stack)
    started: dict[str, Message] = {}
    unanswered: list[Message] = []
    underway = threading.Event()

    def start(sender: int) -> None:
        for number in itertools.count():
            request_id = str(uuid.uuid4())
            request = create(PARENT, f"s{sender}n{number}-1ms", request_id=request_id)
            try:
                started[server.start(request)] = request
            except grpc.RpcError:
                unanswered.append(request)
                return
            underway.set()

    senders = [threading.Thread(target=start, args=[sender]) for sender in range(4)]
    for sender in senders:
        sender.start()
    assert underway.wait(AT_ONCE_SECONDS)
    server.drain()
    for sender in senders:
        sender.join()

    server = site.serve(server=stack)

    for request in unanswered:
        started[server.start(request)] = request
    for name, request in started.items():
        assert outcome(server.wait(name)) == expected(request)
    listed = server.page(PARENT, 1000).operations
    assert len(unanswered) == len(senders)
    assert {one.name for one in listed} == set(started) or len(listed) == 1000


def test_a_drained_server_leaves_a_sound_file(site: Site, stack: str) -> None:
    server = site.serve(server=stack)
    names = [server.start(create(PARENT, f"n{n}-{n}ms")) for n in range(20)]
    server.drain()

    assert site.integrity() == "ok"
    server = site.serve(server=stack)
    for n, name in enumerate(names):
        assert outcome(server.wait(name)) == expected(create(PARENT, f"n{n}-{n}ms"))
