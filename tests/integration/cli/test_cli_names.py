"""Names on stdin, durations, and a list of everything."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml
from server_harness import PARENT

if TYPE_CHECKING:
    from cli_world import World


def test_a_list_without_a_parent_has_everything(world: World) -> None:
    other = "projects/q/locations/l"
    parents = (PARENT, other, "folders/f")  # the last one makes a name without a parent
    names = [world.server.create(parent=parent).name for parent in parents]
    assert names[2].startswith("operations/")
    for name in names:
        world.done(name)
    result = world.lro("list", "-q")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split() == names[::-1]
    assert world.lro("list", other, "-q").stdout.split() == [names[1]]


def test_an_empty_list_has_a_hint_at_a_mistyped_parent(world: World) -> None:
    world.create()
    result = world.lro("list", "projects/pp/locations/l")
    assert result.returncode == 0
    assert result.stderr == (
        "lro: no operations of projects/pp/locations/l; `lro list` shows those of all parents\n"
    )
    assert world.lro("list", PARENT, "--filter", "state = PAUSED").stderr == ""
    assert world.lro("list", PARENT).stderr == ""


def test_an_empty_list_has_a_hint_at_a_parent_with_its_collection(world: World) -> None:
    name = world.create()
    assert world.lro("list", f"{PARENT}/operations").stderr == (
        f"lro: no operations of {PARENT}/operations; a parent is named without its collection:"
        f" lro list {PARENT}\n"
    )
    assert world.lro("list", name).stderr == (
        f"lro: no operations of {name}; that is the name of one: lro get {name}\n"
    )


def test_a_filter_that_nothing_matches_has_a_hint_at_small_letters(world: World) -> None:
    world.create()
    hint = "and is a text that it looks for; the operator is AND\n"
    told = world.lro("list", "-q", "--filter", "method = x and state = RUNNING")
    assert (told.returncode, told.stdout, told.stderr) == (0, "", f"lro: {hint}")
    told = world.lro("rerun", "--filter", "verb = x and state = RUNNING", "--yes")
    assert told.stderr.endswith(f"verb = x and state = RUNNING; {hint}")
    assert world.lro("list", "--filter", "target = and").stderr == ""


def test_names_come_from_stdin(world: World) -> None:
    names = [world.create("hold") for _ in range(2)]
    listed = world.lro("list", "-q", "--filter", "done = false").stdout
    assert sorted(listed.split()) == sorted(names)
    cancelled = world.lro("cancel", "-", "--wait", stdin=f"\n{listed}  \n")
    assert cancelled.returncode == 3
    lines = world.lro("get", "-", "-o", "json", stdin=listed).stdout.splitlines()
    assert [json.loads(line)["name"] for line in lines] == listed.split()
    assert all(json.loads(line)["done"] for line in lines)
    documents = yaml.safe_load_all(world.lro("wait", "-", "-o", "yaml", stdin=listed).stdout)
    assert [one["name"] for one in documents] == listed.split()
    deleted = world.lro("delete", "-", stdin=listed)
    assert deleted.stdout == "".join(f"deleted {name}\n" for name in listed.split())
    assert world.lro("list", "-q").stdout == ""
    assert world.lro("get", "-", stdin="").returncode == 0


def test_of_several_names_on_stdin_one_that_fails_ends_none_of_the_others(world: World) -> None:
    name = world.create()
    result = world.lro("get", "-", stdin=f"{PARENT}/operations/none\n{name}\n")
    assert result.returncode == 1
    assert "NOT_FOUND" in result.stderr
    assert name in result.stdout


@pytest.mark.parametrize("timeout", ["30s", "5m", "1h", "30.5", "30000ms"])
def test_a_timeout_has_a_unit_or_is_in_seconds(world: World, timeout: str) -> None:
    assert world.lro("wait", world.create(), "--timeout", timeout).returncode == 0


def test_a_timeout_with_a_unit_is_kept(world: World) -> None:
    result = world.lro("wait", world.create("hold"), "--timeout", "50ms")
    assert result.returncode == 4


@pytest.mark.parametrize("timeout", ["s", "5 parsecs", "nan", "0"])
def test_what_is_no_duration_is_wrong_usage(world: World, timeout: str) -> None:
    result = world.lro("list", PARENT, "--timeout", timeout)
    assert result.returncode == 2
    assert "--timeout" in result.stderr


def test_several_are_watched_one_after_another(world: World) -> None:
    names = [world.create() for _ in range(2)]
    lines = world.lro("watch", "-", "-o", "json", stdin="\n".join(names)).stdout.splitlines()
    done = [one["name"] for one in map(json.loads, lines) if one.get("done")]
    assert done == names


@pytest.mark.parametrize("dialect", ["longrunning", "vertex_ai"])
def test_each_of_several_in_a_dialect_is_a_line_or_a_document(world: World, dialect: str) -> None:
    names = [world.create() for _ in range(2)]
    for name in names:
        world.done(name)
    command = ["get", "-", "--as", dialect, "-o"]
    result = world.lro(*command, "json", stdin="\n".join(names))
    assert result.stderr == ""
    assert [json.loads(line)["name"] for line in result.stdout.splitlines()] == names
    documents = yaml.safe_load_all(world.lro(*command, "yaml", stdin="\n".join(names)).stdout)
    assert [one["name"] for one in documents] == names


def test_a_file_of_windows_has_names_too(world: World) -> None:
    names = [world.create() for _ in range(2)]
    result = world.lro("wait", "-", stdin="\ufeff" + "\r\n".join([*names, ""]))
    assert (result.returncode, result.stderr) == (0, "")


CTRL_D = "\x04"


@pytest.mark.parametrize("command", ["get", "wait", "watch", "delete"])
@pytest.mark.parametrize("end", ["\n", CTRL_D])
def test_names_may_be_typed_up_to_ctrl_d(world: World, command: str, end: str) -> None:
    """Within a line, Ctrl-D ends the line; the next one ends the names, and no third is needed."""
    name = world.done(world.create()).name
    code, written = world.lro.on_terminal(command, "-", typed=name + end + CTRL_D)
    assert code == 0
    assert written.count(name) >= 2  # as it was typed, and as it is shown
    assert ("deleted" if command == "delete" else "SUCCEEDED") in written


@pytest.mark.parametrize("command", ["get", "wait", "watch", "cancel"])
def test_a_closed_stdin_has_no_names(world: World, command: str) -> None:
    result = world.lro(command, "-", stdin=None)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
