"""docs/design/glossary.md: in order, each word once, and where the code has it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "design" / "glossary.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text(encoding="utf-8").splitlines()[2:]
    if line.startswith("| ") and not line.startswith("| word |")
]


def test_the_words_are_in_order_and_each_is_there_once() -> None:
    words = [word.lower() for word, _, _ in ROWS]
    assert words == sorted(set(words))


@pytest.mark.parametrize(("word", "meaning", "where"), ROWS, ids=[row[0] for row in ROWS])
def test_a_word_is_where_the_glossary_says(word: str, meaning: str, where: str) -> None:
    assert meaning.endswith(".")
    for place in where.split(", "):
        found = re.fullmatch(r"(?:`(\w+)` in )?`(lro_grpc/[\w/]+\.py)`", place)
        assert found, f"the place of {word!r} is given as `Name` in `lro_grpc/….py`"
        name, path = found.groups()
        assert (ROOT / path).exists(), f"see docs/design/glossary.md: {path}"
        code = (ROOT / path).read_text(encoding="utf-8")
        assert not name or re.search(rf"\b{name}\b", code), f"{name} is not in {path}"
