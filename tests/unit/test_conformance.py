"""docs/design/conformance.md has a row for every rule, and each row is true of the tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TABLE = TESTS.parent / "docs" / "design" / "conformance.md"

RULES = {"P": 14, "S": 31, "D": 7, "C": 8, "R": 15}
"""How many there are of each family."""
IDS = [f"{family}{number + 1}" for family, count in RULES.items() for number in range(count)]

FILES = {path.name: path for path in TESTS.rglob("test_*.py") if path != Path(__file__)}
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TABLE.read_text().splitlines()
    if re.match(r"\| [A-Z]\d", line)
]


def cited_in(path: Path) -> set[str]:
    return set(re.findall(r"\b[PSDCR]\d+\b", path.read_text()))


def test_each_rule_has_one_row() -> None:
    assert [row[0] for row in ROWS] == IDS


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_names_the_tests_that_cite_it_or_says_why_there_is_none(row: list[str]) -> None:
    rule, what, how, tests = row
    assert what
    if not tests.startswith("`"):
        assert re.match(r"(Does not apply|Not yet): \S", tests)
        return
    assert how
    for name in tests.split(", "):
        path = FILES.get(name.strip("`"))
        assert path, f"{rule} names {name}, which is no test"
        assert rule in cited_in(path), f"{name} does not cite {rule}"


def test_what_the_tests_cite_is_a_rule() -> None:
    files = (path for path in TESTS.rglob("*.py") if path != Path(__file__))
    cited = {(rule, path.name) for path in files for rule in cited_in(path)}
    assert [(rule, name) for rule, name in sorted(cited) if rule not in IDS] == []


def test_what_the_package_cites_is_a_rule() -> None:
    """Its docstrings and comments give a rule by its id alone: the table explains it."""
    package = TESTS.parent / "lro_grpc"
    cited = {
        (rule, path.name)
        for path in [*package.rglob("*.py"), *(TESTS.parent / "protos").rglob("*.proto")]
        for line in path.read_text().splitlines()
        if "noqa" not in line
        for rule in re.findall(r"\b[PSDCR]\d+\b", line)
    }
    assert [(rule, name) for rule, name in sorted(cited) if rule not in IDS] == []
