"""The names that the shell completes, by the protocol of typer's own scripts."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from foreign_server import PARENT as MOON
from foreign_server import launch
from google.longrunning import operations_pb2
from lro_process import Lro
from server_harness import PARENT

if TYPE_CHECKING:
    from cli_world import World
    from foreign_server import Foreign


def completed(lro: Lro, line: str) -> list[str]:
    """Returns the proposals for the last word of a line."""
    words = line.split(" ")
    result = lro(_LRO_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1))
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.split()


def printed(lro: Lro, shell: str, line: str) -> str:
    """Returns the text that a shell is given for the last word of a line."""
    words = line.split(" ")
    result = lro(
        _LRO_COMPLETE=f"complete_{shell}",
        COMP_WORDS=line,
        COMP_CWORD=str(len(words) - 1),
        _TYPER_COMPLETE_ARGS=line,
        _TYPER_COMPLETE_WORD_TO_COMPLETE=words[-1],
        _TYPER_COMPLETE_FISH_ACTION="get-args",
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


@pytest.mark.parametrize(
    "typed",
    ["", "pro", "projects/", "projects/p", "projects/p/loc", f"{PARENT}/", f"{PARENT}/operations/"],
)
def test_a_name_is_completed_from_any_part_of_it(world: World, typed: str) -> None:
    names = [world.done(world.create()).name for _ in range(2)]
    assert sorted(completed(world.lro, f"lro get {typed}")) == sorted(names)


def test_a_name_is_completed_within_its_parent(world: World) -> None:
    world.create()
    assert completed(world.lro, "lro get projects/q/locations/l/operations/") == []
    assert completed(world.lro, "lro get folders/f/") == []
    name = world.create()
    assert completed(world.lro, f"lro get {name[:-3]}") == [name]


@pytest.mark.parametrize("command", ["wait", "watch", "cancel", "pause", "resume", "terminate"])
def test_done_operations_are_not_proposed_where_nothing_is_left_to_do(
    world: World, command: str
) -> None:
    world.done(world.create())
    name = world.create("hold")
    assert completed(world.lro, f"lro {command} ") == [name]


def test_several_names_are_completed(world: World) -> None:
    names = [world.done(world.create()).name for _ in range(2)]
    assert sorted(completed(world.lro, f"lro delete {names[0]} ")) == sorted(names)


def test_a_parent_is_completed(world: World) -> None:
    for _ in range(2):
        world.create()
    assert completed(world.lro, "lro list ") == [PARENT]


def test_the_connection_of_the_line_is_used(foreign: Foreign) -> None:
    name = foreign.put(launch())
    nowhere = Lro("127.0.0.1:1", LRO_METADATA="x-user=me")
    assert completed(nowhere, f"lro get --target {foreign.target} {MOON}/") == [name]
    assert foreign.metadata[-1]["x-user"] == "me"


@pytest.mark.parametrize(
    ("line", "proposed"),
    [
        ("lro re", ["resume", "rerun"]),
        ("lro db mi", ["migrate"]),
        ("lro get --t", ["--timeout", "--target", "--tls"]),
        ("lro get --tls -", "--output -o --as --attempts --request --timeout --target --ca-cert"),
        ("lro get --timeout=5s --t", ["--target", "--tls"]),
        ("lro get --metadata a=b --me", ["--metadata"]),
        ("lro db copy --h", ["--help"]),
        ("lro serve --worker", ["--workers"]),
        ("lro list -- --t", []),
        ("lro nothing --t", []),
        ("lro --ver", ["--version"]),
        ("lro get --output ", ["table", "json", "yaml"]),
    ],
)
def test_the_names_of_commands_and_options_are_completed(
    line: str, proposed: list[str] | str
) -> None:
    found = completed(Lro("127.0.0.1:1"), line)
    if isinstance(proposed, str):
        proposed = proposed.split()
        found = found[: len(proposed)]
    assert found == proposed


def test_the_help_of_an_option_is_shown_where_the_shell_has_room() -> None:
    lro = Lro("127.0.0.1:1")
    assert printed(lro, "fish", "lro list --lim") == (
        "--limit\tThe most operations to list; all unless given.\n"
    )
    assert printed(lro, "zsh", "lro ver").strip() == "_files"
    assert printed(lro, "powershell", "lro pau") == "pause:::Ask to pause operations.\n"


@pytest.mark.parametrize("line", ["lro re", "lro db mi", "lro get --t", "lro serve --l"])
def test_neither_a_command_is_loaded_for_a_name_nor_what_it_needs(line: str) -> None:
    code = """
import sys
from lro_grpc._cli.__main__ import main
sys.argv = ["lro"]
main()
print(*({"grpc", "google.protobuf", "pydantic", "rich"} & set(sys.modules)), end="")
print(*(one for one in sys.modules if one.startswith("lro_grpc._cli.")), sep=" ", end="")
"""
    words = line.split(" ")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "_LRO_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    *proposed, loaded = done.stdout.splitlines()
    assert proposed
    assert loaded == "lro_grpc._cli.__main__ lro_grpc._cli.listed"


HOSTILE = [
    r"projects/\$(touch pwned)/operations/1",
    r"projects/\$(reboot)/operations/2",
    "projects/$(reboot)/operations/3",  # by the grammar of names it is one
    "projects/`reboot`/operations/4",
    "projects/'&reboot&'/operations/5",
    'projects/"));reboot;((/operations/6',
    "projects/a\x1b]0;owned\x07/operations/7",
    "projects/a\nreboot/operations/8",
    "projects/a b/operations/9",
    "projects/!!/operations/10",
    "projects/*/operations/11",
    "projects/\u202egpj/operations/12",
    "~root/operations/13",
    "--target=evil.example/operations/14",
    "-h/operations/15",
    "=reboot/operations/16",
    "@args/operations/17",
    "projects/p/operations/$(reboot)",
    "operations/",
    "",
]


@pytest.mark.parametrize(
    ("command", "shell"),
    [
        *(("get", shell) for shell in ("bash", "zsh", "fish", "powershell")),
        *((command, "zsh") for command in ("wait", "list")),
    ],
)
def test_a_hostile_server_gives_the_shell_nothing_but_plain_names(
    foreign: Foreign, command: str, shell: str
) -> None:
    good = "projects/acme-1/locations/eu_1.x~2/jobs/a@b:c%2F+d/operations/op-1"
    foreign.put(operations_pb2.Operation(name=good))
    honest = printed(Lro(foreign.target), shell, f"lro {command} ")
    for name in HOSTILE:
        foreign.put(operations_pb2.Operation(name=name))
    assert "acme-1" in honest
    assert printed(Lro(foreign.target), shell, f"lro {command} ") == honest


@pytest.mark.parametrize(
    "line",
    [
        "lro get ",
        "lro list pro",
        "lro get --key /dev/null ",
        "lro get -H nonsense ",
        "lro get --ca-cert no-such-file ",
    ],
)
def test_errors_propose_nothing_and_print_nothing(line: str) -> None:
    assert completed(Lro("127.0.0.1:1"), line) == []


def test_commands_are_completed_and_the_script_can_be_shown(world: World) -> None:
    assert completed(world.lro, "lro wa") == ["wait", "watch"]
    shown = world.lro("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert "_LRO_COMPLETE=complete_bash" in shown.stdout


def test_the_options_of_a_wait_are_completed(world: World) -> None:
    for command in ("wait", "watch"):
        assert completed(world.lro, f"lro {command} --p") == ["--poll"]
