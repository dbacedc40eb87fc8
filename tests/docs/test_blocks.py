"""Every block of code of every page is run by the page's test, or at least what its language is."""

from __future__ import annotations

import ast
import configparser
import importlib.metadata
import json
import re
import shlex
import subprocess
from collections.abc import Callable
from functools import cache
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pages import PRINTED, ROOT, RUN, Block, Page, every_page

from lro_grpc._cli.app import app
from lro_grpc._cli.loaded_later import loaded
from lro_grpc._cli.parameters import with_times
from lro_grpc._filtering.parser import parse as parse_filter


def sections(text: str) -> list[str]:
    """Returns the names of the sections of a unit of systemd, whose keys may be there twice."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.read_string(text)
    return parser.sections()


PAGES = every_page()
INSIDE = [page for page in PAGES if page.path.startswith("docs/")]
BLOCKS = [block for page in PAGES for block in page.every_block()]
CHECKED = [block for block in BLOCKS if not block.shown]
TESTS = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
READERS: dict[str, Callable[[str], Any]] = {
    "ini": sections,
    "json": json.loads,
    "yaml": lambda text: [*yaml.safe_load_all(text)],
}
TAKES = re.compile(r"\.(blocks|texts)\(")


def of(*languages: str) -> list[Any]:
    return [pytest.param(one, id=str(one)) for one in CHECKED if one.language in languages]


@cache
def by_page() -> dict[str, list[Path]]:
    """Returns the tests of each page."""
    found: dict[str, list[Path]] = {}
    for path in TESTS:
        for page in re.findall(r'\bPage\("([^"]+)"\)', path.read_text(encoding="utf-8")):
            found.setdefault(page, []).append(path)
    return found


@pytest.mark.parametrize("block", of("python"))
def test_python_compiles(block: Block) -> None:
    assert block.compiled()


@pytest.mark.parametrize("page", INSIDE, ids=lambda page: page.path)
def test_a_page_with_blocks_that_can_be_run_has_a_test(page: Page) -> None:
    to_run = [str(block) for block in page.blocks() if block.language in RUN]
    assert not to_run or by_page().get(page.path.removeprefix("docs/"), []), to_run


@pytest.mark.parametrize("path", sorted({*chain(*by_page().values())}), ids=str)
def test_the_blocks_that_a_test_takes_are_used(path: Path) -> None:
    """A name that is unpacked from a page's blocks, and not read, is one that is not run."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    taken = {
        name.id
        for statement in tree.body
        if isinstance(statement, ast.Assign) and TAKES.search(ast.unparse(statement.value))
        for target in statement.targets
        for name in ast.walk(target)
        if isinstance(name, ast.Name)
    }
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    assert taken <= {name.id for name in names if isinstance(name.ctx, ast.Load)}


@pytest.mark.parametrize("block", of("sh"))
def test_a_shell_can_read_it_and_the_commands_of_ours_are_real(block: Block) -> None:
    run = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for program, *words in commands(block.text):
        if program == "lro" and words[0] != "protoc":
            parse(words)
            for before, word in pairwise(words):
                if before == "--filter":
                    assert parse_filter(with_times(word))
        elif program == "make":
            assert targets(words) <= TARGETS
        elif program == "pip":
            extras = [one for word in words for one in re.findall(r"^lro-grpc\[(.*)\]", word)]
            assert {one for found in extras for one in found.split(",")} <= EXTRAS


@pytest.mark.parametrize("block", of(*READERS))
def test_what_programs_read_can_be_read(block: Block) -> None:
    assert READERS[block.language](block.text)


def test_there_is_a_rule_for_each_language() -> None:
    known = PRINTED | RUN | READERS.keys() | {"sh"}
    assert {str(one): one.language for one in CHECKED if one.language not in known} == {}


def test_what_is_only_shown_says_why() -> None:
    assert [str(one) for one in BLOCKS if one.shown and len(one.shown.split()) < 3] == []


# What a block names


EXTRAS = {*importlib.metadata.metadata("lro-grpc").get_all("Provides-Extra", [])}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def commands(script: str) -> list[list[str]]:
    """Lists the simple commands of a script, each as its words, without their variables."""
    found: list[list[str]] = [[]]
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&()")
        lexer.commenters = "#"
        for word in lexer:
            if re.fullmatch(r"[|;&()]+", word):
                found.append([])
            elif found[-1] or not re.match(r"\w+=", word):
                found[-1].append(word)
        found.append([])
    return [words for words in found if words]


def targets(words: list[str]) -> set[str]:
    return {word for word in words if "=" not in word and not word.startswith("-")}


def parse(words: list[str]) -> None:
    """Has the command ``lro`` read its options; it refuses those that it does not have."""
    command: Any = typer.main.get_command(app)
    rest = [word for word in words if word != "…"]
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        command = loaded(command.commands[rest.pop(0)])
    context = command.context_class(command, info_name="lro", **command.context_settings)
    command.make_parser(context).parse_args(args=rest)
