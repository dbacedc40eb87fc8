"""Generated code under a strict type checker: nothing to cast, and nothing wrong gets through."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from zoo_protos import ROOT

pytestmark = [pytest.mark.codegen, pytest.mark.timeout(300)]

HERE = Path(__file__).parent


def mypy(program: Path, *paths: Path) -> list[str]:
    """Returns what mypy, strict, finds in a program and in what it imports."""
    found = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", "--hide-error-context", program],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": os.pathsep.join(map(str, [*paths, ROOT]))},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert found.stderr == ""
    return [line for line in found.stdout.splitlines() if ": note: " not in line]


def test_a_program_needs_no_cast() -> None:
    program = HERE / "uses_fleet.py"
    assert not re.search(r"\bcast\b|type: ignore", program.read_text().partition('"""\n')[2])
    assert mypy(program) == []


def test_what_is_wrong_is_refused() -> None:
    program = HERE / "misuses_fleet.py"
    lines = program.read_text().splitlines()
    wrong = {number for number, line in enumerate(lines, start=1) if "# wrong: " in line}
    found = [re.match(r".*misuses_fleet\.py:(\d+): error: ", line) for line in mypy(program)]
    assert {int(one[1]) if one else 0 for one in found} == wrong
