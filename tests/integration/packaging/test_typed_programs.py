"""The programs of the pages under mypy and pyright, strict, with what docs/learn/typing.md says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pages import Block, Page, every_page
from reader import make_stubs, write_protos

PAGE = Page("learn/typing.md")
SHELVES = ("README.md", "docs/start/", "docs/learn/")
(PYRIGHT,) = PAGE.section("Tell pyright").blocks("json")
UNTYPED = {"plain_server.py"}
"""Programs that cannot be strict: the page that has them says so."""

pytestmark = [pytest.mark.codegen, pytest.mark.timeout(300)]


def folders() -> list[dict[str, Block]]:
    """Returns the files of all pages, in as many folders as they need: a name is one file's."""
    found: list[dict[str, Block]] = []
    for page in every_page():
        files = page.files() if page.path.startswith(SHELVES) else {}
        fits = (
            folder
            for folder in found
            if all(folder[name].text == files[name].text for name in folder.keys() & files)
        )
        folder = next(fits, None)
        if folder is None:
            folder = {}
            found.append(folder)
        folder.update(files)
    return found


@pytest.fixture(scope="module", params=folders(), ids=lambda files: f"{len(files)} files")
def project(request: Any, installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with programs of the pages, their stubs, and the settings of the checkers."""
    folder = tmp_path_factory.mktemp("project")
    write_protos(folder)
    for name, block in request.param.items():
        (folder / name).write_text(block.text)
    (folder / "pyproject.toml").write_text(PAGE.files()["pyproject.toml"].text)
    (folder / "pyrightconfig.json").write_text(PYRIGHT.text)
    make_stubs(folder)
    (folder / "env").symlink_to(installed / "env")
    return folder


def programs(project: Path) -> list[str]:
    return sorted(
        one.name
        for one in project.glob("*.py")
        if one.name not in UNTYPED and not one.stem.endswith(("_pb2", "_pb2_grpc"))
    )


def mypy(project: Path, installed: Path) -> str:
    """Runs mypy, with a cache of the project's own: one of other settings is none for these."""
    python = f"--python-executable={installed / 'env' / 'bin' / 'python'}"
    return run(project, "mypy", python, "--no-pretty")


def run(project: Path, checker: str, *arguments: str) -> str:
    command = [sys.executable, "-m", checker, *arguments, *programs(project)]
    environment = {"PATH": "/usr/bin:/bin"}  # nothing in it leads to another lro_grpc
    return subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=200
    ).stdout


def test_mypy_has_no_complaint(project: Path, installed: Path) -> None:
    said = mypy(project, installed)
    assert said.startswith("Success: no issues found"), said


def test_pyright_has_no_complaint(project: Path) -> None:
    said = run(project, "basedpyright", "--outputjson", "--pythonpath=env/bin/python")
    found = json.loads(said)["generalDiagnostics"]
    shown = [f"{Path(one['file']).name}: {one['message']}" for one in found]
    assert shown == []


def test_the_stubs_of_mypy_protobuf_need_no_second_override(
    installed: Path, tmp_path: Path
) -> None:
    write_protos(tmp_path)
    settings = PAGE.files()["pyproject.toml"].text.rpartition("[[tool.mypy.overrides]]")[0]
    (tmp_path / "pyproject.toml").write_text(settings)
    make_stubs(tmp_path, types="--mypy_out=.")
    said = mypy(tmp_path, installed)
    assert said.startswith("Success: no issues found"), said
