"""Documents: what they name is there."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("tests/*.md"),
        *ROOT.glob("examples/**/*.md"),
    ],
)
INSIDE = [
    page
    for page in PAGES
    if page.name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "glossary.md", "conformance.md")
    or page.relative_to(ROOT).parent.name in ("design", "tests")
]
"""The pages on how the package is made."""

MODULES = {path.name for folder in ("lro_grpc", "tests") for path in (ROOT / folder).rglob("*.py")}


def without_blocks(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Returns the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def ids(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_the_tables_are_those_that_the_generator_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["generate.py", "--check"])
    assert runpy.run_path(str(ROOT / "docs" / "generate.py"))["main"]() == 0


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_what_a_page_links_to_is_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", without_blocks(page))
    for target, _, anchor in (link.partition("#") for link in links if "://" not in link):
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_what_a_page_links_to_elsewhere_is_an_address(page: Path) -> None:
    """Whether it answers is not asked, for tests reach no network."""
    links = re.findall(r"\]\(([^)\s]*://[^)\s]*)\)", without_blocks(page))
    parts = {link: urlsplit(link) for link in links}
    assert [
        one for one, part in parts.items() if part.scheme != "https" or "." not in part.netloc
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_a_page_has_no_marks_of_a_merge(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^(?:<{7}|>{7})", text, re.MULTILINE) == []


@pytest.mark.parametrize("page", INSIDE, ids=ids)
def test_the_files_and_folders_that_a_page_names_are_there(page: Path) -> None:
    """Each by its path from the root or from the page's folder; a module by its name alone, too."""
    named = re.findall(r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.py)`", page.read_text(encoding="utf-8"))
    missing = [
        name
        for name in named
        if not name.startswith(("google/", "projects/"))
        and not (ROOT / name).exists()
        and not (page.parent / name).exists()
        and name not in MODULES
    ]
    assert missing == []


def test_the_citation_is_of_the_version_that_is_built() -> None:
    files = (ROOT / "CITATION.cff", ROOT / "pyproject.toml")
    versions = [re.search(r'^version(?:: | = ")([\d.]+)', path.read_text(), re.M) for path in files]
    assert all(versions)
    assert len({found[1] for found in versions if found}) == 1


def test_the_map_of_the_tests_has_every_folder_and_every_helper() -> None:
    tests = ROOT / "tests"
    rows = set(re.findall(r"^\| `(.*?)`", (tests / "README.md").read_text(), re.MULTILINE))
    files = [path.relative_to(tests) for path in tests.rglob("*.py")]
    folders = {f"{path.parent}/" for path in files if path.name.startswith("test_")}
    helpers = {str(path) for path in files if not path.match("test_*.py")}
    assert rows == folders | {path for path in helpers if not path.endswith("conftest.py")}
