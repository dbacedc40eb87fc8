"""``--help`` on a terminal of 80 columns: nothing is cut, and nothing is wider."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from lro_process import run

from lro_grpc._cli.app import app
from lro_grpc._cli.loaded_later import loaded


def commands(group: Any, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yields a command, and those below it, with what is typed for each."""
    yield names, loaded(group)
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, *names, name)


ALL = {" ".join(typed): one for typed, one in commands(typer.main.get_command(app))}
WITH_HELP = [typed for typed in ALL if typed != "protoc"]  # that has protoc's own


@functools.cache
def help_of(typed: str) -> str:
    shown = run([*typed.split(), "--help"], {**os.environ, "COLUMNS": "80"}, Path("/"))
    assert (shown.returncode, shown.stderr) == (0, "")
    return shown.stdout


@pytest.mark.parametrize("typed", WITH_HELP)
def test_help_has_every_option_in_full(typed: str) -> None:
    shown = help_of(typed)
    options = [
        name
        for parameter in ALL[typed].params
        if parameter.param_type_name == "option" and not parameter.hidden
        for name in (*parameter.opts, *parameter.secondary_opts)
    ]
    assert "--help" in shown
    assert [name for name in options if not re.search(rf"(?<!\S){name}(?![\w-])", shown)] == []


@pytest.mark.parametrize("typed", WITH_HELP)
def test_help_has_every_command_and_its_text_in_full(typed: str) -> None:
    shown = " ".join(help_of(typed).split())
    for name, command in getattr(ALL[typed], "commands", {}).items():
        assert f" {name} {' '.join(command.help.split())}" in shown


@pytest.mark.parametrize("typed", WITH_HELP)
def test_help_fits_and_brackets_once(typed: str) -> None:
    shown = help_of(typed)
    assert [line for line in shown.splitlines() if len(line) > 80] == []
    usage = shown.partition("\n\n")[0]
    assert "[[" not in usage
    assert "…" not in usage  # beside the "..." of several
