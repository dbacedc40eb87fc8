"""A server is killed in the middle of batches, at each moment that matters to one of them.

All the batches of one test run stand still at their own moments when the process is killed, so
that one kill and one restart serve for all.
"""

from __future__ import annotations

from concurrent import futures
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from google.longrunning import operations_pb2
from killable import (
    Server,
    Site,
    batch,
    expected,
    expected_content,
    expected_failure,
    names_of,
    outcome,
    reason,
    seen,
    states,
    statuses,
)

from lro.v1 import state_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

PARENT = "projects/p/locations/x1"
IN_PAIRS = "projects/p/locations/x2"

PENDING, CREATING, READY = "PENDING_CREATE", "CREATING", "READY"
DELETING, FAILED, ROLLED_BACK = "DELETING", "FAILED", "ROLLED_BACK"

# What the four targets are when the process is killed, at each moment of a batch of which the
# third fails. What was built or deleted a moment ago counts as not yet built or deleted.
FAILING: dict[str, list[str]] = {
    "creating/1": [CREATING, PENDING, PENDING, PENDING],
    "created/1": [CREATING, PENDING, PENDING, PENDING],
    "creating/2": [READY, CREATING, PENDING, PENDING],
    "created/2": [READY, CREATING, PENDING, PENDING],
    "creating/3": [READY, READY, CREATING, PENDING],
    "deleting/2": [READY, DELETING, FAILED, FAILED],
    "deleted/2": [READY, DELETING, FAILED, FAILED],
    "deleting/1": [DELETING, ROLLED_BACK, FAILED, FAILED],
    "deleted/1": [DELETING, ROLLED_BACK, FAILED, FAILED],
}
SUCCEEDING: dict[str, list[str]] = {
    "creating/1": [CREATING, PENDING, PENDING, PENDING],
    "created/2": [READY, CREATING, PENDING, PENDING],
    "creating/4": [READY, READY, READY, CREATING],
    "created/4": [READY, READY, READY, CREATING],
}
# Cancelled when the server stands still there, too busy to take notice before it is killed.
CANCELLED: dict[str, list[str]] = {
    "creating/2": [READY, CREATING, PENDING, PENDING],
    "created/2": [READY, CREATING, PENDING, PENDING],
    "creating/4": [READY, READY, READY, CREATING],
}
# Cancelled while the third target is built, which is stopped by it; killed in the rollback.
ROLLING_BACK: dict[str, list[str]] = {
    "deleting/2": [READY, DELETING, FAILED, FAILED],
    "deleted/2": [READY, DELETING, FAILED, FAILED],
    "deleting/1": [DELETING, ROLLED_BACK, FAILED, FAILED],
    "deleted/1": [DELETING, ROLLED_BACK, FAILED, FAILED],
}
# Two at a time, of which the second fails while the first still builds, which stands still.
IN_PAIRS_BEFORE = [CREATING, FAILED, PENDING, PENDING]


@dataclass
class Case:
    """One batch, and the moment in it at which the server is killed."""

    ids: list[str]
    request: Message
    point: str
    states: list[str]
    cancel: bool = False
    pause: str = ""
    name: str = ""
    before: operations_pb2.Operation | None = None

    @property
    def targets(self) -> list[str]:
        return names_of(self.request)


@dataclass
class Crash:
    """The batches, and the server after the kill."""

    site: Site
    server: Server
    cases: dict[tuple[str, str], Case]


def _case(tag: str, moment: str, before: list[str], *, failing: int = 0, **more: object) -> Case:
    kind, _, number = moment.partition("/")
    ids = [f"{tag}-{n}-{'fail' if n == failing else f'{n}ms'}" for n in range(1, 5)]
    return Case(ids, batch(PARENT, ids), f"{kind}/{ids[int(number) - 1]}", before, **more)


def _cases() -> dict[tuple[str, str], Case]:
    cases = {}
    for moment, before in FAILING.items():
        cases["failing", moment] = _case(f"f{len(cases)}", moment, before, failing=3)
    for moment, before in SUCCEEDING.items():
        cases["succeeding", moment] = _case(f"s{len(cases)}", moment, before)
    for moment, before in CANCELLED.items():
        cases["cancelled", moment] = _case(f"c{len(cases)}", moment, before, cancel=True)
    for moment, before in ROLLING_BACK.items():
        case = _case(f"r{len(cases)}", moment, before, cancel=True)
        case.pause = f"creating/{case.ids[2]}"
        cases["rolling back", moment] = case
    pairs = _case("p", "creating/1", IN_PAIRS_BEFORE, failing=2)
    pairs.request = batch(IN_PAIRS, pairs.ids)
    cases["in pairs", "creating/1"] = pairs
    return cases


@pytest.fixture(scope="module", params=["async", "def"])
def crash(request: pytest.FixtureRequest, new_site: Callable[[], Site]) -> Crash:
    site = new_site()
    cases = _cases()
    holds = [case.point for case in cases.values()]
    pauses = [case.pause for case in cases.values() if case.pause]
    server = site.serve(batch=request.param, hold=holds, pause=pauses)
    for case in cases.values():
        case.name = server.start(case.request)
    for case in cases.values():
        server.reach(case.pause or case.point)
        if case.cancel:
            server.cancel(case.name)
    server.reach(*holds)
    for case in cases.values():
        case.before = server.get_when(case.name, lambda one, case=case: states(one) == case.states)
    server.kill()
    return Crash(site, site.serve(batch=request.param), cases)


def moments(kind: str, of: dict[str, list[str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("key", [(kind, moment) for moment in of], ids=list(of))


ALL_FAILING = moments("failing", FAILING)
ALL_SUCCEEDING = moments("succeeding", SUCCEEDING)
ALL_CANCELLED = moments("cancelled", CANCELLED)
ALL_ROLLING_BACK = moments("rolling back", ROLLING_BACK)


def _ended(crash: Crash, key: tuple[str, str]) -> tuple[Case, operations_pb2.Operation]:
    """Returns a case and its operation at the end, which has taken one more attempt."""
    case = crash.cases[key]
    assert case.before is not None
    assert not case.before.done
    assert seen(case.before).attempt == 1
    assert seen(case.before).cancel_requested == case.cancel
    after = crash.server.wait(case.name)
    assert seen(after).attempt == 2
    assert crash.site.attempts(case.name) == [1, 2]
    return case, after


def _left(crash: Crash, case: Case) -> list[str]:
    """The files of a case that are on the disk, partial ones included."""
    return [file for file in crash.site.files() if any(own_id in file for own_id in case.ids)]


def _count(crash: Crash, case: Case, verb: str) -> list[int]:
    """How often each target was created, or deleted, in both processes together."""
    begun = [run.what for run in crash.site.runs()[case.name]]
    return [begun.count(f"{verb} {target}") for target in case.targets]


def _check_never_picked(status: object, failed: str = "") -> None:
    assert (status.error.code, reason(status.error)) == (10, "BATCH_ABORTED")
    assert status.error_msg == status.error.message
    assert failed in status.error.message


@ALL_FAILING
def test_a_batch_whose_third_target_fails_ends_rolled_back_and_with_its_error(
    crash: Crash, key: tuple[str, str]
) -> None:
    case, after = _ended(crash, key)

    assert states(after) == [ROLLED_BACK, ROLLED_BACK, FAILED, FAILED]
    failure = expected_failure(case.targets[2])
    assert outcome(after) == failure
    first, second, third, fourth = statuses(after)
    assert (third.error, third.error_msg) == (failure, failure.message)
    _check_never_picked(fourth, failed=case.targets[2])
    assert not first.HasField("error")
    assert not second.HasField("error")
    assert seen(after).state == state_pb2.JOB_STATE_FAILED


@ALL_FAILING
def test_a_batch_whose_third_target_fails_leaves_nothing_on_the_disk(
    crash: Crash, key: tuple[str, str]
) -> None:
    case, _ = _ended(crash, key)
    assert _left(crash, case) == []


@ALL_FAILING
def test_a_failing_batch_repeats_only_what_the_kill_has_cut_off(
    crash: Crash, key: tuple[str, str]
) -> None:
    case, _ = _ended(crash, key)
    cut_off = case.states
    again = [int(state == CREATING) for state in cut_off]
    assert _count(crash, case, "create") == [1 + again[0], 1 + again[1], 1 + again[2], 0]
    undone_again = [int(state == DELETING) for state in cut_off]
    assert _count(crash, case, "delete") == [1 + undone_again[0], 1 + undone_again[1], 0, 0]


@ALL_SUCCEEDING
def test_a_batch_that_succeeds_ends_ready_and_with_every_file_whole(
    crash: Crash, key: tuple[str, str]
) -> None:
    case, after = _ended(crash, key)

    assert states(after) == [READY] * 4
    assert outcome(after) == expected(case.request)
    assert seen(after).state == state_pb2.JOB_STATE_SUCCEEDED
    assert sorted(_left(crash, case)) == sorted(case.ids)
    for own_id, target in zip(case.ids, case.targets, strict=True):
        assert crash.site.content(own_id) == expected_content(target)


@ALL_SUCCEEDING
def test_a_batch_that_succeeds_builds_a_ready_target_only_once(
    crash: Crash, key: tuple[str, str]
) -> None:
    case, _ = _ended(crash, key)
    assert _count(crash, case, "create") == [1 + (state == CREATING) for state in case.states]
    assert _count(crash, case, "delete") == [0] * 4


@ALL_CANCELLED
def test_a_batch_cancelled_right_before_the_kill_is_rolled_back_by_the_next_attempt(
    crash: Crash, key: tuple[str, str]
) -> None:
    case, after = _ended(crash, key)

    begun = [state != PENDING for state in case.states]
    assert states(after) == [ROLLED_BACK if was_begun else FAILED for was_begun in begun]
    assert after.error.code == 1
    assert seen(after).state == state_pb2.JOB_STATE_CANCELLED
    for status, was_begun in zip(statuses(after), begun, strict=True):
        if not was_begun:
            _check_never_picked(status)
    assert _left(crash, case) == []
    assert _count(crash, case, "create") == [int(was_begun) for was_begun in begun]
    assert _count(crash, case, "delete") == [int(was_begun) for was_begun in begun]


@ALL_ROLLING_BACK
def test_a_cancelled_batch_killed_during_its_rollback_is_rolled_back_to_the_end(
    crash: Crash, key: tuple[str, str]
) -> None:
    case, after = _ended(crash, key)

    assert states(after) == [ROLLED_BACK, ROLLED_BACK, FAILED, FAILED]
    assert after.error.code == 1
    assert seen(after).state == state_pb2.JOB_STATE_CANCELLED
    assert statuses(after)[2].error.code == 1
    _check_never_picked(statuses(after)[3])
    assert _left(crash, case) == []
    assert _count(crash, case, "create") == [1, 1, 1, 0]
    undone_again = [int(state == DELETING) for state in case.states]
    assert _count(crash, case, "delete") == [1 + undone_again[0], 1 + undone_again[1], 0, 0]


def test_a_target_that_was_building_beside_the_one_that_failed_is_rolled_back(
    crash: Crash,
) -> None:
    case, after = _ended(crash, ("in pairs", "creating/1"))

    assert states(after) == [ROLLED_BACK, FAILED, FAILED, FAILED]
    assert outcome(after) == expected_failure(case.targets[1])
    _check_never_picked(statuses(after)[2], failed=case.targets[1])
    assert _left(crash, case) == []
    assert _count(crash, case, "create") == [1, 1, 0, 0]
    assert _count(crash, case, "delete") == [1, 0, 0, 0]


@pytest.mark.parametrize("stack", ["async", "def"])
def test_one_batch_killed_at_every_moment_in_turn_ends_the_same(site: Site, stack: str) -> None:
    case = _case("t", "creating/1", [], failing=3)
    for moment in FAILING:
        kind, _, number = moment.partition("/")
        point = f"{kind}/{case.ids[int(number) - 1]}"
        server = site.serve(batch=stack, hold=[point])
        case.name = case.name or server.start(case.request)
        server.reach(point)
        server.kill()

    server = site.serve(batch=stack)

    after = server.wait(case.name)
    assert states(after) == [ROLLED_BACK, ROLLED_BACK, FAILED, FAILED]
    assert outcome(after) == expected_failure(case.targets[2])
    assert seen(after).attempt == len(FAILING) + 1
    assert site.files() == set()


@pytest.mark.parametrize("stack", ["async", "def"])
def test_every_batch_ends_when_many_are_cancelled_at_their_very_beginning(
    site: Site, stack: str
) -> None:
    server = site.serve(batch=stack)

    def start_and_cancel(number: int) -> str:
        name = server.start(batch(PARENT, [f"n{number}-stop", f"m{number}-1ms"]))
        server.cancel(name)
        return name

    with futures.ThreadPoolExecutor(4) as pool:
        names = list(pool.map(start_and_cancel, range(100)))

    assert {server.wait(name).error.code for name in names} == {1}
    assert site.files() == set()


@pytest.mark.parametrize("stack", ["async", "def"])
def test_a_target_cut_off_by_a_kill_is_not_left_behind_when_its_batch_is_cancelled_at_once(
    site: Site, stack: str
) -> None:
    ids = [f"n{number}-200ms" for number in range(100)]
    server = site.serve(batch=stack, hold=[f"created/{own_id}" for own_id in ids])
    names = [call.result().name for call in [server.starting(batch(PARENT, [i])) for i in ids]]
    server.reach(*[f"created/{own_id}" for own_id in ids])
    server.kill()
    assert site.files() == set(ids)

    server = site.serve(batch=stack)

    for call in [server.cancelling(name) for name in names]:
        call.result()
    built = {
        own_id
        for own_id, name in zip(ids, names, strict=True)
        if states(server.wait(name)) == [READY]
    }
    assert site.files() == built
    assert len(built) < len(ids), "no cancel came in time"


@pytest.mark.parametrize("stack", ["async", "def"])
def test_a_batch_cancelled_before_the_next_attempt_drives_it_is_rolled_back_all_the_same(
    site: Site, stack: str
) -> None:
    case = _case("e", "creating/2", CANCELLED["creating/2"])
    server = site.serve(batch=stack, hold=[case.point])
    name = server.start(case.request)
    server.reach(case.point)
    server.kill()
    beginning = f"beginning/{case.ids[0]}"
    server = site.serve(batch=stack, pause=[beginning])
    server.reach(beginning)
    server.cancel(name)

    after = server.wait(name)

    assert after.error.code == 1
    assert site.files() == set()
    assert states(after) == [ROLLED_BACK, ROLLED_BACK, FAILED, FAILED]


CANCELLED_TOO_LATE = pytest.mark.parametrize(
    "point", ["deleting/2", "deleted/2", "deleting/1", "deleted/1"]
)


@pytest.mark.parametrize("stack", ["async", "def"])
@CANCELLED_TOO_LATE
def test_a_cancel_does_not_stop_the_rollback_of_a_batch_that_has_failed(
    site: Site, point: str, stack: str
) -> None:
    case = _case("l", point, FAILING[point], failing=3)
    server = site.serve(batch=stack, hold=[case.point])
    name = server.start(case.request)
    server.reach(case.point)
    server.cancel(name)
    server.release()

    after = server.wait(name)

    assert states(after) == [ROLLED_BACK, ROLLED_BACK, FAILED, FAILED]
    assert site.files() == set()
    assert outcome(after) == expected_failure(case.targets[2])
    assert seen(after).cancel_requested


@pytest.mark.parametrize("stack", ["async", "def"])
@CANCELLED_TOO_LATE
def test_a_failed_batch_cancelled_and_killed_in_its_rollback_is_rolled_back_to_the_end(
    site: Site, point: str, stack: str
) -> None:
    case = _case("l", point, FAILING[point], failing=3)
    server = site.serve(batch=stack, hold=[case.point])
    name = server.start(case.request)
    server.reach(case.point)
    server.cancel(name)
    server.kill()

    after = site.serve(batch=stack).wait(name)

    assert states(after) == [ROLLED_BACK, ROLLED_BACK, FAILED, FAILED]
    assert site.files() == set()
    assert outcome(after) == expected_failure(case.targets[2])
    assert seen(after).attempt == 2
