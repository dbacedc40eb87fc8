"""Type checkers' view of the public names, from the installed wheel: mypy's and pyright's.

The names are loaded when they are asked for, by a function that a type checker must not see: it
would take every name for one of the package's, and would know the type of none.
"""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lro_grpc

pytestmark = [pytest.mark.codegen, pytest.mark.timeout(300)]

PUBLIC = ["lro_grpc"] + [
    f"lro_grpc.{file.stem}"
    for file in sorted(Path(lro_grpc.__file__).parent.glob("*.py"))
    if file.stem[0] != "_"
]
NAMES = [f"{path}.{name}" for path in PUBLIC for name in importlib.import_module(path).__all__]


FILES = ("all_names.py", "no_name.py", "misuses.py")
MISUSES = """
from datetime import timedelta

import lro_grpc

lro_grpc.method(timeout=timedelta(minutes=1), pausable=True)
lro_grpc.method(timeout="a minute")  # wrong
lro_grpc.method(pauseable=True)  # wrong
lro_grpc.method(retry=lambda error: None)  # wrong
lro_grpc.MethodOptions(exclusive=True, former_names=["/pkg.Service/Old"])
lro_grpc.MethodOptions(concurrency="many")  # wrong
"""


@pytest.fixture(scope="module")
def consumer(installed: Path) -> Path:
    """A project of a user: the wheel in an environment of its own, and a file that names it all."""
    folder = installed
    imports = "".join(f"import {path}\n" for path in PUBLIC)
    (folder / "all_names.py").write_text(
        imports + "".join(f"reveal_type({name})\n" for name in NAMES)
    )
    (folder / "no_name.py").write_text("import lro_grpc\n\nlro_grpc.Nothing\n")
    (folder / "misuses.py").write_text(MISUSES)
    return folder


Said = dict[str, list[str]]
"""What mypy says, by file."""
Found = dict[str, list[dict[str, object]]]
"""What pyright finds, by file."""


def mypy(consumer: Path, *files: str) -> Said:
    python = consumer / "env" / "bin" / "python"
    options = ["--strict", "--config-file=", f"--python-executable={python}", "--no-pretty"]
    lines = run(consumer, "mypy", *options, "--cache-dir=cache", *files).splitlines()
    return {file: [line for line in lines if line.startswith(f"{file}:")] for file in files}


def pyright(consumer: Path, *files: str) -> Found:
    python = consumer / "env" / "bin" / "python"
    (consumer / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    said = run(consumer, "basedpyright", "--outputjson", f"--pythonpath={python}", *files)
    found = json.loads(said)["generalDiagnostics"]
    return {file: [one for one in found if Path(one["file"]).name == file] for file in files}


def run(consumer: Path, checker: str, *arguments: str) -> str:
    command = [sys.executable, "-m", checker, *arguments]
    environment = {"PATH": "/usr/bin:/bin"}  # nothing in it leads to another lro_grpc
    done = subprocess.run(
        command, cwd=consumer, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


# One run of each is for several tests: it takes seconds to read what the package depends on.


@pytest.fixture(scope="module")
def said(consumer: Path) -> Said:
    return mypy(consumer, *FILES)


@pytest.fixture(scope="module")
def found(consumer: Path) -> Found:
    return pyright(consumer, *FILES)


def test_mypy_knows_the_type_of_each_public_name(said: Said) -> None:
    lines = said["all_names.py"]
    types = [re.search(r'note: Revealed type is "(.*)"$', line) for line in lines]
    assert all(types), "\n".join(lines)
    assert len(types) == len(NAMES)
    untyped = [name for name, one in zip(NAMES, types, strict=True) if one and one[1] == "Any"]
    assert untyped == []


def test_pyright_knows_the_type_of_each_public_name(found: Found) -> None:
    """The parameters of a generic class are unknown until it is used."""
    shown = found["all_names.py"]
    assert [one for one in shown if one["severity"] != "information"] == []
    assert len(shown) == len(NAMES)
    messages = [re.sub(r"type\[\w+\[(Unknown[, ]*)+\]\]", "", str(one["message"])) for one in shown]
    untyped = [message for message in messages if re.search(r'Unknown|is "Any"', message)]
    assert untyped == []


def test_a_name_that_is_not_there_is_an_error_for_both(said: Said, found: Found) -> None:
    assert any('error: Module has no attribute "Nothing"' in line for line in said["no_name.py"])
    errors = [one for one in found["no_name.py"] if one["severity"] == "error"]
    assert any('"Nothing" is not a known attribute' in str(one["message"]) for one in errors)


def test_a_wrong_option_of_a_method_is_an_error_for_both(said: Said, found: Found) -> None:
    lines = MISUSES.splitlines()
    expected = {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    lines = [line for line in said["misuses.py"] if ": error:" in line]
    assert {int(line.split(":")[1]) for line in lines if ": error:" in line} == expected
    errors = [one for one in found["misuses.py"] if one["severity"] == "error"]
    starts = [one["range"]["start"]["line"] + 1 for one in errors]  # type: ignore[index]
    assert set(starts) == expected
