"""docs/reference/filters.md: its examples are filters, its fields and limits those of the code."""

from __future__ import annotations

import re

import pytest
from pages import Page

from lro_grpc._filtering.fields import SHORT_NAMES
from lro_grpc._filtering.parser import parse
from lro_grpc.filtering import MAX_DEPTH, MAX_LENGTH, MAX_TERMS

PAGE = Page("reference/filters.md")
EXAMPLES = [
    *PAGE.texts("filter")[0].splitlines(),
    *re.findall(r"`([^`\n]* (?:AND|OR) [^`\n]*)`", PAGE),
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_a_filter(example: str) -> None:
    parse(example)


def test_it_has_every_field() -> None:
    table = PAGE.split("## Fields")[1].split("## Values")[0]
    rows = "".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE))
    assert sorted(re.findall(r"`([^`]*)`", rows)) == sorted(SHORT_NAMES)


def test_it_has_the_limits() -> None:
    limits = PAGE.split("## Limits")[1]
    assert f"{MAX_LENGTH} characters, parentheses {MAX_DEPTH} deep, {MAX_TERMS} values" in limits
