"""One server is killed with operations in every state, and another takes up its file (R1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from google.longrunning import operations_pb2
from killable import (
    Server,
    Site,
    batch,
    create,
    delete,
    expected,
    expected_content,
    id_of,
    names_of,
    outcome,
    reason,
    seen,
    snapshot,
    states,
)

from lro.v1 import state_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

PARENT = "projects/p/locations/x1"

FINISHED: dict[str, Message] = {
    "succeeded": create(PARENT, "old-3ms"),
    "succeeded def": snapshot(PARENT, "old-2ms"),
    "without work": create(PARENT, "old-noop"),
    "failed": create(PARENT, "old-fail"),
    "deleted": delete(PARENT, "gone-1ms"),
    "batch": batch(PARENT, ["o1-1ms", "o2-1ms"]),
    "failed batch": batch(PARENT, ["o3-1ms", "o4-fail", "o5-1ms"]),
    "cancelled": create(PARENT, "cancelled-2ms"),
}
RUNNING: dict[str, Message] = {
    "async": create(PARENT, "running-7ms"),
    "def": snapshot(PARENT, "running-8ms"),
    "failing async": create(PARENT, "doomed-fail"),
    "failing def": snapshot(PARENT, "doomed2-fail"),
}
ONCE = delete(PARENT, "once-1ms")
CANCELLING: dict[str, Message] = {
    "async": create(PARENT, "unwanted-1ms"),
    "def": snapshot(PARENT, "unwanted2-1ms"),
}
QUEUED = delete(PARENT, "running-7ms")

JobState = state_pb2.JobState


@dataclass
class Crash:
    """What was seen before the kill, and the server after it."""

    site: Site
    server: Server
    names: dict[str, str]
    before: dict[str, bytes]
    pages: list[list[str]]
    token: str

    def before_it(self, what: str) -> operations_pb2.Operation:
        return operations_pb2.Operation.FromString(self.before[what])

    def after_it(self, what: str) -> operations_pb2.Operation:
        return self.server.wait(self.names[what])


@pytest.fixture(scope="module", params=["aio", "sync"])
def crash(request: pytest.FixtureRequest, new_site: Callable[[], Site]) -> Crash:
    site = new_site()
    held = {**RUNNING, **{f"cancelling {stack}": one for stack, one in CANCELLING.items()}}
    holds = [f"creating/{id_of(names_of(one)[0])}" for one in held.values()]
    holds.append("deleting/once-1ms")
    server = site.serve(server=request.param, hold=holds, pause=["creating/cancelled-2ms"])
    names = {what: server.start(one) for what, one in FINISHED.items()}
    server.reach("creating/cancelled-2ms")
    server.cancel(names["cancelled"])
    for what in FINISHED:
        server.wait(names[what])
    names |= {what: server.start(one) for what, one in held.items()}
    names["once"] = server.start(ONCE)
    server.reach(*holds)
    names["queued"] = server.start(QUEUED)
    for stack in CANCELLING:
        server.cancel(names[f"cancelling {stack}"])
    first = server.page(PARENT, 4)
    second = server.page(PARENT, 4, first.next_page_token)
    rest = server.page(PARENT, 100, second.next_page_token)
    before = {what: server.get_bytes(name) for what, name in names.items()}
    server.kill()
    pages = [[one.name for one in page.operations] for page in (first, second, rest)]
    after = site.serve(server=request.param)
    return Crash(site, after, names, before, pages, first.next_page_token)


@pytest.mark.parametrize("what", FINISHED)
def test_a_finished_operation_is_unchanged_byte_for_byte(crash: Crash, what: str) -> None:
    """R4."""
    assert crash.before_it(what).done
    assert crash.server.get_bytes(crash.names[what]) == crash.before[what]


@pytest.mark.parametrize("what", [what for what in FINISHED if what != "cancelled"])
def test_a_finished_operation_is_not_run_again(crash: Crash, what: str) -> None:
    assert outcome(crash.after_it(what)) == expected(FINISHED[what])
    assert crash.site.attempts(crash.names[what]) == [1]


def test_a_cancelled_operation_stays_cancelled(crash: Crash) -> None:
    assert crash.after_it("cancelled").error.code == 1
    assert crash.site.attempts(crash.names["cancelled"]) == [1]


@pytest.mark.parametrize("what", RUNNING)
def test_a_running_operation_runs_again_as_attempt_2_and_ends_as_it_would_have(
    crash: Crash, what: str
) -> None:
    before = crash.before_it(what)
    assert (seen(before).state, seen(before).attempt) == (JobState.JOB_STATE_RUNNING, 1)

    after = crash.after_it(what)

    assert seen(after).attempt == 2
    assert outcome(after) == expected(RUNNING[what])
    assert crash.site.attempts(crash.names[what]) == [1, 2]


@pytest.mark.parametrize("what", RUNNING)
def test_a_running_operation_keeps_when_it_was_created_and_first_started(
    crash: Crash, what: str
) -> None:
    before, after = seen(crash.before_it(what)), seen(crash.after_it(what))
    assert after.create_time == before.create_time
    assert after.start_time == before.start_time
    assert after.end_time.ToNanoseconds() > before.update_time.ToNanoseconds()


def test_what_a_running_operation_builds_is_on_the_disk_once_and_whole(crash: Crash) -> None:
    crash.after_it("def")
    name = f"{PARENT}/snapshots/running-8ms"
    assert crash.site.content("running-8ms") == expected_content(name)
    assert not [file for file in crash.site.files() if "running-8ms.partial" in file]


def test_an_operation_that_may_run_once_only_fails_with_aborted(crash: Crash) -> None:
    before = crash.before_it("once")
    assert (seen(before).state, seen(before).attempt) == (JobState.JOB_STATE_RUNNING, 1)

    after = crash.after_it("once")

    assert (after.error.code, reason(after.error)) == (10, "WORKER_LOST")
    assert seen(after).state == JobState.JOB_STATE_FAILED
    assert crash.site.attempts(crash.names["once"]) == [1]


def test_a_queued_operation_runs_as_attempt_1(crash: Crash) -> None:
    before = crash.before_it("queued")
    assert (seen(before).state, seen(before).attempt) == (JobState.JOB_STATE_QUEUED, 0)

    after = crash.after_it("queued")

    assert outcome(after) == expected(QUEUED)
    assert seen(after).attempt == 1
    assert crash.site.attempts(crash.names["queued"]) == [1]


@pytest.mark.parametrize("stack", CANCELLING)
def test_an_acknowledged_cancel_ends_the_operation_without_another_attempt(
    crash: Crash, stack: str
) -> None:
    what = f"cancelling {stack}"
    before = crash.before_it(what)
    assert not before.done
    assert seen(before).state == JobState.JOB_STATE_CANCELLING

    after = crash.after_it(what)

    assert after.error.code == 1
    assert seen(after).state == JobState.JOB_STATE_CANCELLED
    assert seen(after).cancel_requested
    assert crash.site.attempts(crash.names[what]) == [1]


def test_a_page_token_from_before_the_kill_goes_on_where_it_was(crash: Crash) -> None:
    second = crash.server.page(PARENT, 4, crash.token)
    assert [one.name for one in second.operations] == crash.pages[1]
    rest = crash.server.page(PARENT, 100, second.next_page_token)
    assert [one.name for one in rest.operations] == crash.pages[2]
    assert not rest.next_page_token


def test_all_operations_are_listed_in_the_same_order_as_before(crash: Crash) -> None:
    page = crash.server.page(PARENT, 100)
    listed = [one.name for one in page.operations]
    assert listed == [name for names in crash.pages for name in names]
    assert sorted(listed) == sorted(crash.names.values())


def test_the_last_bytes_are_the_same_after_another_kill(site: Site) -> None:
    server = site.serve(hold=["creating/again-4ms"])
    request = create(PARENT, "again-4ms", request_id="2e0f8ee0-7e3c-4f37-a7f4-bf57ad6ee6ae")
    doomed = batch(PARENT, ["n1-1ms", "n2-fail"])
    name = server.start(request)
    server.reach("creating/again-4ms")
    server.kill()
    server = site.serve()
    failed = server.start(doomed)
    server.wait(name)
    server.wait(failed)
    last = {one: server.get_bytes(one) for one in (name, failed)}
    server.kill()

    server = site.serve(server="sync")

    assert {one: server.get_bytes(one) for one in (name, failed)} == last
    assert states(server.get(failed)) == ["ROLLED_BACK", "FAILED"]
    assert server.started(request).SerializeToString() == last[name]
    assert site.attempts(name) == [1, 2]
