"""``examples/``: each program prints what its docstring says, and ends by itself."""

from __future__ import annotations

import ast
import doctest
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
UNTYPED = {"by_hand.py", "moved_over.py"}
"""A service on gRPC's own stubs, some of which have no types."""
WRITTEN = sorted(
    path for path in EXAMPLES.rglob("*.py") if not re.search(r"_(lro|pb2)\.py$", path.name)
)
"""All but what is generated."""
TYPED = [path for path in WRITTEN if path.name not in UNTYPED]
STUBBED = sorted({path.parent for path in EXAMPLES.rglob("*.proto")})


def docstring(program: Path) -> str:
    return ast.get_docstring(ast.parse(program.read_text(encoding="utf-8"))) or ""


PROGRAMS = [path for path in WRITTEN if "$ python " in docstring(path)]


def ids(path: Path) -> str:
    return path.relative_to(EXAMPLES).as_posix()


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("program", PROGRAMS, ids=ids)
def test_a_program_prints_what_its_docstring_says(program: Path, tmp_path: Path) -> None:
    command, _, expected = docstring(program).partition("$ python ")[2].partition("\n")
    assert command == program.name
    shown = run(program, cwd=tmp_path)
    pattern = f"{expected}\n".replace("…", "...")
    assert doctest.OutputChecker().check_output(pattern, shown, doctest.ELLIPSIS), shown


@pytest.mark.parametrize("program", WRITTEN, ids=ids)
def test_a_program_is_short_below_its_docstring(program: Path) -> None:
    """A real one, which has a page of its own, may be longer."""
    lines = program.read_text(encoding="utf-8").splitlines()
    is_real = program.parent != EXAMPLES and (program.parent / "README.md").exists()
    assert len(lines) - len(docstring(program).splitlines()) <= (200 if is_real else 60)


def test_the_table_has_every_program() -> None:
    table = re.findall(r"^\| \[`(.*?)`\]", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert sorted(table) == [ids(path) for path in PROGRAMS]


@pytest.mark.codegen
@pytest.mark.parametrize("folder", STUBBED, ids=ids)
def test_the_stubs_are_what_the_command_of_the_page_writes(folder: Path, tmp_path: Path) -> None:
    (command,) = re.findall(
        r"^lro (protoc .*)$", (EXAMPLES / "README.md").read_text(), re.MULTILINE
    )
    (proto,) = folder.glob("*.proto")
    shutil.copy(proto, tmp_path)
    arguments = command.replace("reports.proto", proto.name).split()
    run("-m", "lro_grpc._cli", *arguments, cwd=tmp_path)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert {name: (folder / name).read_text() for name in written} == written


@pytest.mark.codegen
def test_mypy_accepts_them_strict() -> None:
    paths = os.pathsep.join(map(str, STUBBED))
    command = [sys.executable, "-m", "mypy", "--no-error-summary", *TYPED]
    environment = {**os.environ, "MYPYPATH": paths}
    said = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100
    )
    assert said.stdout + said.stderr == ""


@pytest.mark.codegen
def test_pyright_accepts_them_strict(tmp_path: Path) -> None:
    paths = [str(path) for path in (ROOT, ROOT / "generated", *STUBBED)]
    settings = tmp_path / "pyrightconfig.json"
    settings.write_text(json.dumps({"typeCheckingMode": "strict", "extraPaths": paths}))
    command = ["-m", "basedpyright", "--pythonpath", sys.executable, "--project", settings]
    assert run(*command, *TYPED, cwd=tmp_path) == "0 errors, 0 warnings, 0 notes\n"
