"""The built wheel: what is in it, and what a package index shows of it."""

from __future__ import annotations

import email
import json
import re
import zipfile
from email.message import Message
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

pytestmark = [pytest.mark.codegen, pytest.mark.timeout(300)]


def test_the_wheel_ships_protos_stubs_and_type_marks(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "lro/py.typed",
        "lro/v1/state.proto",
        "lro/v1/state_pb2.py",
        "lro/v1/state_pb2.pyi",
        "lro/example/v1/fleet_service.proto",
        "lro_grpc/py.typed",
        "lro/example/v1/fleet_service_lro.py",
        "lro_grpc/_example/service.py",
    } <= names
    assert not [
        name for name in names if name.startswith(("google/", "tests/", "protos/", "examples/"))
    ]


# A package index


@pytest.fixture(scope="module")
def shown(wheel: Path) -> Message:
    """What an index is told of the package; its page is the body."""
    with zipfile.ZipFile(wheel) as files:
        (metadata,) = (name for name in files.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(files.read(metadata))


def test_no_link_of_the_indexs_page_leads_nowhere(shown: Message) -> None:
    assert shown["Description-Content-Type"] == "text/markdown"
    page = str(shown.get_payload())
    targets = re.findall(r"\]\(([^)]*)\)", page)
    assert [target for target in targets if not target.startswith("https://")] == []
    assert "<!--" not in page
    paths = set(re.findall(r"\(`([\w/.-]+)`\)", page))
    assert {"SECURITY.md", "docs/start/index.md"} <= paths
    assert [path for path in paths if not (ROOT / path).is_file()] == []


def test_the_source_archive_has_what_the_page_names() -> None:
    (included,) = re.findall(
        r"^\[tool.hatch.build.targets.sdist\]\ninclude = (.*)$",
        (ROOT / "pyproject.toml").read_text(),
        re.MULTILINE,
    )
    linked = re.findall(r"\]\(([\w/.-]+)\)", (ROOT / "README.md").read_text())
    assert {f"/{path.partition('/')[0]}" for path in linked} <= {*json.loads(included)}


def test_the_badges_say_what_is_true(shown: Message) -> None:
    says = {
        path.stem: re.findall(r"<title>(.*)</title>", path.read_text())[0]
        for path in ROOT.glob("docs/pictures/badge-*.svg")
    }
    versions = [
        one.rpartition(" ")[2]
        for one in shown.get_all("Classifier", [])
        if one.startswith("Programming Language :: Python :: 3.")
    ]
    assert shown["Requires-Python"] == f">={versions[0]}"
    assert says == {
        "badge-licence": f"licence: {shown['License-Expression']}",
        "badge-python": f"Python: {versions[0]} to {versions[-1]}",
        "badge-typed": "types: mypy and pyright, strict",
    }
    for name, words in says.items():
        assert f"![{words}](docs/pictures/{name}.svg)" in (ROOT / "README.md").read_text()
