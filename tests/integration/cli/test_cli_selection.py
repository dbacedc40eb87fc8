"""``lro terminate`` and ``rerun``, of operations selected by name, or by a filter and a yes."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import pytest
from cli_world import Fleet, World, add
from foreign_server import PARENT as MOON
from foreign_server import launch
from google.longrunning import operations_pb2
from lro_process import Lro
from pages import Page
from server_harness import PARENT, metadata_of, serving

from lro.v1 import batch_create_instances_pb2
from lro_grpc._cli.selection import Question
from lro_grpc._inspection.summary import read_summary

if TYPE_CHECKING:
    from foreign_server import Foreign

PAGE = Page("deploy/on-call.md")
_Status = batch_create_instances_pb2.BatchCreateInstanceStatus
TERMINATE = ("terminate", "--reason", "it hangs")
ALL = ("--filter", "verb = create")


def code(world: World, name: str) -> int:
    return world.server.get(name).error.code


@pytest.mark.parametrize("answer", ["y", ""])
def test_what_a_filter_finds_is_terminated_if_a_person_says_yes(world: World, answer: str) -> None:
    names = [world.create("hold", one) for one in ("one", "two")]
    done = world.done(world.create())
    exit_code, written = world.lro.on_terminal(*TERMINATE, *ALL, typed=f"{answer}\n", columns=300)
    said_yes = answer == "y"
    assert exit_code == (0 if said_yes else 1)
    assert "terminate 2 operations? [y/N]" in written
    assert f"{names[0]}  RUNNING" in written
    assert "nothing of it is undone" in written
    assert done.name not in written
    assert [code(world, name) for name in names] == [10 * said_yes] * 2
    assert ("nothing was done" in written) is not said_yes
    assert world.server.get(done.name) == done


@pytest.mark.parametrize("command", [TERMINATE, ("rerun",)], ids=["terminate", "rerun"])
def test_an_empty_filter_is_refused(world: World, command: tuple[str, ...]) -> None:
    name = world.create("hold", "one")
    refused = world.lro(*command, "--filter", " ", "--yes")
    assert refused.returncode == 2
    assert "an empty filter would match all" in refused.stderr
    assert code(world, name) == 0


def test_a_filter_without_a_terminal_needs_a_yes_and_stops_at_its_limit(world: World) -> None:
    done = world.done(world.create()).name
    needless = world.lro(*TERMINATE, done, "--dry-run")
    assert (needless.returncode, needless.stdout) == (
        0,
        f"{done} is done already, SUCCEEDED; there is nothing to terminate\n",
    )
    names = [world.create("hold", one) for one in ("one", "two", "three")]
    refused = world.lro(*TERMINATE, *ALL, stdin="y\n")
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert [code(world, name) for name in names] == [0, 0, 0]
    would = world.lro(*TERMINATE, *ALL, "--dry-run")
    assert (would.returncode, would.stderr) == (0, "")
    assert would.stdout.splitlines() == [
        f"would terminate {name}, which is RUNNING" for name in reversed(names)
    ]
    limited = world.lro(*TERMINATE, *ALL, "--limit", "2", "--yes", "--parent", PARENT)
    assert limited.returncode == 0
    assert limited.stderr == "lro: more than 2 match; these are the first 2\n"
    assert [code(world, name) for name in names] == [0, 10, 10]
    elsewhere = world.lro(*TERMINATE, *ALL, "--yes", "--parent", "projects/other")
    assert (elsewhere.returncode, elsewhere.stdout) == (0, "")
    assert elsewhere.stderr == "lro: no operation matches done = false AND verb = create\n"


def test_a_rehearsal_says_of_what_one_may_not_terminate() -> None:
    """And asks about the first of many alone."""
    asked: list[str] = []

    def authorize(call: Any) -> bool:
        asked.append(call.permission)
        return bool(call.permission != "operations.terminate")

    fleet = Fleet()
    with serving("sync", fleet, add=add, authorize=authorize) as server:
        try:
            world = World(fleet, server)
            name = world.create("hold", "one")
            would = world.lro(*TERMINATE, name, "--dry-run")
            assert (would.returncode, would.stderr) == (1, "")
            assert would.stdout == f"would not terminate {name}, which is RUNNING: you may not\n"
            many = world.lro(*TERMINATE, *[name] * 102, "--dry-run")
            assert asked.count("operations.terminate") == 101
            assert many.stdout.count("you may not") == 100
            assert many.stderr == "lro: whether you may was asked for the first 100 alone\n"
        finally:
            fleet.may_go_on.set()


def test_a_rehearsal_without_a_description_says_what_it_does_not_know() -> None:
    def authorize(call: Any) -> bool:
        return bool(call.permission != "operations.describe")

    fleet = Fleet()
    with serving("sync", fleet, add=add, authorize=authorize) as server:
        try:
            world = World(fleet, server)
            names = [world.create("hold", one) for one in ("one", "two")]
            would = world.lro(*TERMINATE, *names, "--dry-run")
            assert would.returncode == 0
            said = would.stdout.splitlines()
            assert said == [f"would terminate {name}, which is RUNNING" for name in names]
            unknown = "lro: whether you may terminate them is not known: PERMISSION_DENIED: "
            assert would.stderr.startswith(unknown)
            assert would.stderr.count("\n") == 1
        finally:
            fleet.may_go_on.set()


@pytest.mark.parametrize("selected", [(), ("operations/1", *ALL)], ids=["neither", "both"])
def test_names_or_a_filter_are_needed(world: World, selected: tuple[str, ...]) -> None:
    result = world.lro(*TERMINATE, *selected)
    assert result.returncode == 2
    assert "give the names of operations, or --filter" in result.stderr


def test_a_limit_has_a_bound(world: World) -> None:
    result = world.lro(*TERMINATE, *ALL, "--limit", "10001")
    assert result.returncode == 2
    assert "10000" in result.stderr


def test_a_question_has_few_lines_however_much_is_found() -> None:
    question = Question("sure of {}?", note="beware", warn=lambda one: f"{one.name} is a batch")
    for number in range(10_000):
        question.add(read_summary(operations_pb2.Operation(name=f"operations/{number}"), None))
    lines = str(question).splitlines()
    assert lines[19:22] == ["operations/19  RUNNING", "and 9980 more", "operations/0 is a batch"]
    assert lines[40:] == [
        *("operations/19 is a batch", "and 9980 more are warned of", "beware", "sure of 10000?")
    ]


def test_a_filter_that_ends_early_is_refused_and_not_completed(world: World) -> None:
    """``-target:two.`` is no filter, but with `` AND done = false`` behind it would be one."""
    name = world.create("hold", "one")
    result = world.lro(*TERMINATE, "--filter", "-target:two.", "--yes")
    assert result.returncode == 2
    assert result.stderr.startswith("lro: INVALID_ARGUMENT: filter")
    assert code(world, name) == 0


def test_an_operation_that_a_server_calls_a_dash_is_no_name_on_stdin(foreign: Foreign) -> None:
    one = launch(done=False)
    one.name = "-"
    foreign.put(one)
    selected = ("--filter", "verb = launch", "--parent", MOON)
    would = Lro(foreign.target)(*TERMINATE, *selected, "--dry-run", stdin=f"{MOON}/operations/1\n")
    assert would.stdout == "would terminate -, which is RUNNING\n"
    assert "-" in [getattr(one, "name", "") for one in foreign.requests]


def test_targets_that_stand_are_named_before_a_batch_is_terminated(world: World) -> None:
    name = world.batch()
    while True:
        statuses = metadata_of(world.server.get(name)).batch_create_instances_metadata
        states = {target: one.state for target, one in statuses.instance_statuses.items()}
        if states.get("one") == _Status.READY and states["two"] == _Status.CREATING:
            break
    other = world.create("hold")
    refused = world.lro(*TERMINATE, name, other)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"lro: terminate {name}? ")
    assert "--yes" in refused.stderr
    assert [code(world, one) for one in (name, other)] == [0, 10], "the others have their turn"
    exit_code, written = world.lro.on_terminal(*TERMINATE, name, typed="no\n", columns=300)
    assert exit_code == 1
    assert f"{name} was not terminated" in written
    assert f"{name} leaves what it has made: one, two\r\n" in written
    assert "`lro cancel` first" in written
    assert not world.server.get(name).done
    assert world.lro(*TERMINATE, name, "--yes").returncode == 0
    assert code(world, name) == 10


def test_what_has_failed_is_run_again_by_name(world: World) -> None:
    failed, running = world.done(world.create("fail")).name, world.create("hold")
    would = world.lro("rerun", failed, "--dry-run")
    assert (would.returncode, would.stdout) == (0, f"would run {failed} again\n")
    assert world.server.names() == [running, failed]
    result = world.lro("rerun", running, failed)
    assert result.returncode == 1
    assert result.stderr.startswith(f"lro: FAILED_PRECONDITION: {running} is RUNNING")
    (rerun,) = set(world.server.names()) - {running, failed}
    assert result.stdout == (
        f"run {failed} again as {rerun}; `lro wait {rerun}` tells what comes of it\n"
    )
    assert world.done(rerun).error.code == 8


def test_a_filter_leaves_out_what_has_succeeded_or_goes_on(world: World) -> None:
    failed = [world.done(world.create("fail", f"i{number}")).name for number in range(22)]
    world.done(world.create())
    world.create("hold")
    exit_code, written = world.lro.on_terminal("rerun", *ALL, typed="y\n", columns=300)
    assert exit_code == 0
    shown = "".join(f"{name}  FAILED\r\n" for name in reversed(failed[2:]))
    assert f"{shown}and 2 more\r\nrun 22 operations again? [y/N] " in written
    assert written.count(" again as ") == 22
    assert len(world.server.names()) == 2 * 22 + 2


def test_the_commands_of_the_page_work(world: World) -> None:
    name = world.create("hold")
    blocks = PAGE.texts("sh")
    for line in "".join(blocks).splitlines():
        command, *arguments = shlex.split(line.replace("NAME", name))
        assert command == "lro"
        result = world.lro(*arguments)
        assert result.returncode == 0, result.stderr


def test_a_filter_of_what_is_to_be_changed_may_tell_how_long_ago(world: World) -> None:
    name = world.create("hold")
    older = ("--filter", "create_time < now-1h", "--yes")
    assert "no operation matches" in world.lro(*TERMINATE, *older).stderr
    newer = ("--filter", "create_time > now-1h", "--yes")
    assert world.lro(*TERMINATE, *newer).returncode == 0
    assert code(world, name) == 10
    again = world.lro("rerun", *newer)
    assert (again.returncode, name in again.stdout) == (0, True)
