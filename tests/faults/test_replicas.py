"""Three replicas on one PostgreSQL: what their callers were promised holds whatever fails.

``LRO_FAULT_SEED`` repeats a choice of faults and calls (not their exact timing).
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from killable import PATIENCE_SECONDS, create, delete, expected, outcome, snapshot
from load import Board
from partition import Cut
from replica_faults import Fault, Faults
from replica_load import ended, load_on
from replicas import LEASE_SECONDS, THREE, Replicas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from google.protobuf.message import Message
    from killable import Site
    from postgres_server import PostgresServer
    from replicas import Replica

    Begin = Callable[..., Replicas]

SEED = int(os.environ.get("LRO_FAULT_SEED", "0")) or random.SystemRandom().getrandbits(32)
PARENT = "projects/p/locations/x1"
STARTS = 200
CALM_SECONDS = (0.5, 2.5)
QUEUE = 4


@pytest.fixture
def begin(site: Site, killable_postgres: PostgresServer) -> Iterator[Begin]:
    """Begins replicas, each with its options."""
    with contextlib.ExitStack() as ending:

        def replicas(options: Sequence[Mapping[str, Any]] = THREE) -> Replicas:
            return ending.enter_context(
                contextlib.closing(Replicas(site, killable_postgres, options))
            )

        yield replicas


@pytest.mark.parametrize(
    "faults", [[*Fault], [Fault.CRASH] * 3], ids=["whatever fails", "kill -9 of Postgres"]
)
@pytest.mark.timeout(300)
def test_nothing_acknowledged_is_lost_or_doubled(begin: Begin, faults: list[Fault]) -> None:
    """Nor ends twice, goes back, or outlives the answer to its cancel (R4, R7, R8, R10, R11)."""
    print(f"LRO_FAULT_SEED={SEED}")
    choose, board, replicas = random.Random(SEED), Board(), begin()
    nemesis = Faults(replicas, board, choose)
    with load_on(replicas, board, choose, starts=STARTS):
        for fault in choose.sample(faults, len(faults)):
            threading.Event().wait(choose.uniform(*CALM_SECONDS))
            nemesis.make(fault)

    verdict = ended(replicas, board)

    assert verdict.problems == []
    assert board.unanswered, "no fault has met a start"


def test_what_a_frozen_replica_makes_of_its_attempts_when_it_wakes_changes_nothing(
    begin: Begin,
) -> None:
    """Their operations have later attempts by then (R5)."""
    late: dict[str, Message] = {
        "async": create(PARENT, "async-noop"),
        "def": snapshot(PARENT, "def-noop"),
    }
    stopped: dict[str, Message] = {
        "async": create(PARENT, "async-5ms"),
        "def": snapshot(PARENT, "def-5ms"),
    }
    hold = [f"creating/{kind}-noop" for kind in late]
    pause = [f"creating/{kind}-5ms" for kind in stopped]
    replicas = begin([{"hold": hold, "pause": pause}])
    (frozen,) = replicas.all
    started = {
        frozen.client.start(one): one for requests in (late, stopped) for one in requests.values()
    }
    frozen.server.reach(*hold, *pause)
    (other,) = begin([{"server": "sync"}]).all

    frozen.server.freeze()
    for name, request in started.items():
        assert outcome(other.client.wait(name)) == expected(request)
    ended = {name: other.client.get_bytes(name) for name in started}
    frozen.server.thaw()
    frozen.server.release()

    end = time.monotonic() + PATIENCE_SECONDS
    while (lost := _noted(replicas.site, "lost")) != 2 and time.monotonic() < end:
        threading.Event().wait(0.05)
    assert lost == 2, "those that stood still were not stopped with LEASE_LOST"
    frozen.server.drain()
    for name in started:
        assert replicas.site.attempts(name) == [1, 2]
        assert other.client.get_bytes(name) == ended[name]


def _noted(site: Site, what: str) -> int:
    return sum(run.what == what for runs in site.runs().values() for run in runs)


def test_operations_of_a_killed_replica_are_taken_over_and_no_others(begin: Begin) -> None:
    """Once its lease is over, and nothing of a healthy one (R6)."""
    request, lease = create(PARENT, "held-noop"), {"lease": 2 * LEASE_SECONDS}
    replicas = begin([{**lease, "hold": ["creating/held-noop"]}])
    (killed,) = replicas.all
    taken_over = killed.client.start(request)
    killed.server.reach("creating/held-noop")
    alive = begin([{**lease, "server": "sync"}, lease]).all

    killed.server.kill()

    long = alive[0].client.start(create(PARENT, f"long-{int(2600 * LEASE_SECONDS)}ms"))
    assert outcome(alive[0].client.wait(taken_over)) == expected(request)
    assert replicas.site.attempts(taken_over) == [1, 2]
    alive[1].client.wait(long)
    assert replicas.site.attempts(long) == [1]


@pytest.mark.parametrize("cut", [Cut.STALL, Cut.RESET])
def test_behind_a_network_that_is_cut_no_call_hangs_and_none_elsewhere_notices(
    begin: Begin, cut: Cut
) -> None:
    apart, other = begin([{}, {"server": "sync"}]).all
    name = other.client.start(create(PARENT, "before-noop"))
    apart.client.wait(name)
    asking: Sequence[Callable[[], Any]] = (
        lambda: apart.client.start(create(PARENT, "during-noop", request_id=str(uuid.uuid4()))),
        lambda: apart.client.get(name),
        lambda: apart.client.wait_for(name, PATIENCE_SECONDS),
        lambda: apart.client.cancel(name),
        lambda: apart.client.page(PARENT, 10),
    )

    apart.network.cut(cut)

    for ask in asking:
        with pytest.raises(grpc.RpcError) as refused:
            ask()
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    other.client.wait(other.client.start(create(PARENT, "elsewhere-noop")))
    apart.network.mend()
    _until_it_answers(lambda: apart.client.get(name))
    apart.client.wait(_until_it_answers(lambda: apart.client.start(create(PARENT, "after-noop"))))


def _until_it_answers(ask: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return ask()
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > end:
                raise
            threading.Event().wait(0.05)


def test_a_start_whose_commit_had_no_answer_is_found_by_the_next_one_of_its_request_id(
    begin: Begin,
) -> None:
    replicas = begin([{}, {"server": "sync"}])
    apart, other = replicas.all
    request = create(PARENT, "once-noop", request_id=str(uuid.uuid4()))

    apart.network.mute_after(request.instance_id.encode())  # only the record's own bytes have it
    with pytest.raises(grpc.RpcError) as refused:
        apart.client.start(request)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    (committed,) = other.client.page(PARENT, 10).operations
    assert other.client.start(request) == committed.name
    apart.network.mend()

    assert _until_it_answers(lambda: apart.client.start(request)) == committed.name
    assert outcome(apart.client.wait(committed.name)) == expected(request)
    assert [one.name for one in apart.client.page(PARENT, 10).operations] == [committed.name]
    assert replicas.site.attempts(committed.name) == [1]


def _look_round(replica: Replica) -> None:
    """Returns once a replica has an operation behind it: at first it asks for what others left.

    As long as it does, it tells them of its own starts, and they may be the ones to begin them.
    """
    replica.client.wait(replica.client.start(delete(PARENT, "first-noop")))


def test_a_target_is_exclusive_on_all_replicas(begin: Begin) -> None:
    one, other = begin([{"hold": ["deleting/target-noop"]}, {"server": "sync"}]).all
    _look_round(one)
    first = one.client.start(delete(PARENT, "target-noop"))
    one.server.reach("deleting/target-noop")

    with pytest.raises(grpc.RpcError) as refused:
        other.client.start(delete(PARENT, "target-noop"))
    assert refused.value.code() is grpc.StatusCode.ABORTED
    one.server.release()
    other.client.wait(first)
    other.client.wait(other.client.start(delete(PARENT, "target-noop")))


def test_a_page_token_of_one_replica_is_good_on_the_next_one(begin: Begin) -> None:
    replicas = begin()
    started = {
        replicas.all[number % 3].client.start(create(PARENT, f"{number}-noop"))
        for number in range(10)
    }
    listed, token = [], ""
    for number in range(10):
        page = replicas.all[number % 3].client.page(PARENT, 3, token)
        listed += [operation.name for operation in page.operations]
        token = page.next_page_token
        if not token:
            break
    assert len(listed) == len({*listed}) == 10
    assert {*listed} == started


def test_a_queue_that_one_replica_has_filled_is_full_on_the_next_one(begin: Begin) -> None:
    """About: the next one counts what waits once a second (R15)."""
    limit = {"queue": QUEUE, "hold": [f"deleting/{kind}-noop" for kind in "ab"]}
    one, other = begin([limit, {**limit, "server": "sync"}]).all
    for replica, kind in ((one, "a"), (other, "b")):  # one at a time runs: the others wait
        _look_round(replica)
        replica.client.start(delete(PARENT, f"{kind}-noop"))
        replica.server.reach(f"deleting/{kind}-noop")
    for number in range(QUEUE):
        one.client.start(delete(PARENT, f"{number}-noop"))
    with pytest.raises(grpc.RpcError) as refused:
        one.client.start(delete(PARENT, "more-noop"))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    assert _started_until_refused(other, QUEUE) < QUEUE, "it has counted its own ones only"


def _started_until_refused(replica: Replica, most: int) -> int:
    """Starts an operation at a time, and returns after how many the queue was full."""
    for number in range(most):
        try:
            replica.client.start(delete(PARENT, f"other{number}-noop"))
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
            return number
        threading.Event().wait(1.5)  # in which it counts once more
    return most
