"""Type checkers' view of the public names, from the installed wheel: mypy's and pyright's.

The names are loaded when they are asked for, by a function that a type checker must not see: it
would take every name for one of the package's, and would know the type of none.
"""

from __future__ import annotations

import importlib
import json
import re
import site
import subprocess
import sys
import venv
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


@pytest.fixture(scope="module")
def consumer(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of a user: the wheel in an environment of its own, and a file that names it all.

    What the wheel depends on, and the stubs of that, comes from the environment of the tests, so
    that nothing has to be fetched.
    """
    folder = tmp_path_factory.mktemp("consumer")
    venv.create(folder / "env", symlinks=True)
    packages = next((folder / "env").glob("lib/*/site-packages"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", packages]
    subprocess.run([*pip, wheel], check=True, timeout=100)
    (packages / "tests.pth").write_text("\n".join(site.getsitepackages()))
    imports = "".join(f"import {path}\n" for path in PUBLIC)
    (folder / "all_names.py").write_text(
        imports + "".join(f"reveal_type({name})\n" for name in NAMES)
    )
    (folder / "no_name.py").write_text("import lro_grpc\n\nlro_grpc.Nothing\n")
    return folder


def mypy(consumer: Path, file: str) -> str:
    python = consumer / "env" / "bin" / "python"
    options = ["--strict", "--config-file=", f"--python-executable={python}", "--no-pretty"]
    return run(consumer, "mypy", *options, "--cache-dir=cache", file)


def pyright(consumer: Path, *files: str) -> list[dict[str, object]]:
    python = consumer / "env" / "bin" / "python"
    (consumer / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    said = run(consumer, "basedpyright", "--outputjson", f"--pythonpath={python}", *files)
    return json.loads(said)["generalDiagnostics"]  # type: ignore[no-any-return]


def run(consumer: Path, checker: str, *arguments: str) -> str:
    command = [sys.executable, "-m", checker, *arguments]
    environment = {"PATH": "/usr/bin:/bin"}  # nothing in it leads to another lro_grpc
    done = subprocess.run(
        command, cwd=consumer, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def test_mypy_knows_the_type_of_each_public_name(consumer: Path) -> None:
    lines = mypy(consumer, "all_names.py").splitlines()
    types = [re.search(r'note: Revealed type is "(.*)"$', line) for line in lines[:-1]]
    assert all(types), "\n".join(lines)
    assert len(types) == len(NAMES)
    untyped = [name for name, one in zip(NAMES, types, strict=True) if one and one[1] == "Any"]
    assert untyped == []


def test_pyright_knows_the_type_of_each_public_name(consumer: Path) -> None:
    """The parameters of a generic class are unknown until it is used."""
    found = pyright(consumer, "all_names.py")
    assert [one for one in found if one["severity"] != "information"] == []
    assert len(found) == len(NAMES)
    messages = [re.sub(r"type\[\w+\[(Unknown[, ]*)+\]\]", "", str(one["message"])) for one in found]
    untyped = [message for message in messages if re.search(r'Unknown|is "Any"', message)]
    assert untyped == []


def test_a_name_that_is_not_there_is_an_error_for_both(consumer: Path) -> None:
    assert 'error: Module has no attribute "Nothing"' in mypy(consumer, "no_name.py")
    errors = [one for one in pyright(consumer, "no_name.py") if one["severity"] == "error"]
    assert any('"Nothing" is not a known attribute' in str(one["message"]) for one in errors)


@pytest.fixture(scope="module")
def reports(consumer: Path) -> Path:
    """The consumer with the README's typed client and service, and its settings of mypy."""
    python = consumer / "env" / "bin" / "python"
    (consumer / "reports.proto").write_text("".join(blocks(2, "proto")))
    (generate,) = blocks(5, "sh")
    arguments = generate.replace("--python_out=.", "--python_out=. --grpc_python_out=.").split()[1:]
    bin_ = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    command = [python, "-m", "lro_grpc._cli", *arguments]
    subprocess.run(command, cwd=consumer, env={"PATH": bin_}, check=True, timeout=100)
    client, service = blocks(5, "python")
    (consumer / "typed_client.py").write_text(client)
    (consumer / "typed_service.py").write_text(service)
    (consumer / "pyproject.toml").write_text("".join(blocks(5, "toml")))
    return consumer


def blocks(section: int, kind: str) -> list[str]:
    """Returns the code of a kind in a section of the README."""
    readme = (Path(lro_grpc.__file__).parents[1] / "README.md").read_text()
    text = readme[readme.index(f"\n## {section}. ") : readme.index(f"\n## {section + 1}. ")]
    return re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)


def test_the_readmes_typed_code_is_strict_with_the_readmes_settings(reports: Path) -> None:
    python = reports / "env" / "bin" / "python"
    files = ["typed_client.py", "typed_service.py"]
    settings = ["--config-file=pyproject.toml", f"--python-executable={python}"]
    said = run(reports, "mypy", *settings, "--no-pretty", "--cache-dir=cache2", *files)
    assert said == "Success: no issues found in 2 source files\n"
    assert pyright(reports, *files) == []


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


def test_a_wrong_option_of_a_method_is_an_error_for_both(reports: Path) -> None:
    (reports / "misuses.py").write_text(MISUSES)
    lines = MISUSES.splitlines()
    expected = {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    found = mypy(reports, "misuses.py").splitlines()
    assert {int(line.split(":")[1]) for line in found if ": error:" in line} == expected
    errors = [one for one in pyright(reports, "misuses.py") if one["severity"] == "error"]
    starts = [one["range"]["start"]["line"] + 1 for one in errors]  # type: ignore[index]
    assert set(starts) == expected
