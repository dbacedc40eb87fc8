"""Regular expressions of strangers: RE2's meaning, and time in proportion to the text."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lro_grpc._filtering.patterns import MOST_POSITIONS, Pattern, PatternError, escaped

CHARACTERS = "ab0-.c_ \né"


def expressions() -> st.SearchStrategy[str]:
    """Expressions that RE2 and Python read alike."""
    atoms = st.sampled_from(
        [
            *("a", "b", "0", ".", "[ab]", "[^a]", "[a-c-]", "[]a]", r"[\w.]", r"[^\d]", "(?:)"),
            *(r"\d", r"\D", r"\w", r"\W", r"\.", r"\-", r"\n", "é", "-", " ", "]", "}"),
        ]
    )
    counts = st.sampled_from(
        ["*", "+", "?", "*?", "+?", "??", "{2}", "{0}", "{0,2}", "{1,3}", "{2,}", "{0,}?"]
    )
    return st.recursive(
        atoms,
        lambda parts: st.one_of(
            st.builds("({}){}".format, parts, counts),
            st.builds("(?P<x>{})".format, atoms),
            st.builds("(?:{}|{})".format, parts, parts),
            st.builds("{}{}".format, parts, parts),
        ),
        max_leaves=8,
    )


@settings(deadline=None, max_examples=300)
@given(expressions(), st.lists(st.text(CHARACTERS, max_size=8), max_size=5))
@example("(a|b)*a(a|b){3}", ["abab", "ababb", "baaa", "abbbb"])
@example("(a*)*", ["", "a", "b"])
@example("(a{2,3}){2}", ["aaaa", "aaaaaa", "aaa", "aaaaaaa"])
@example("|a", ["", "a"])
def test_it_matches_what_python_matches(expression: str, texts: list[str]) -> None:
    try:
        theirs = re.compile(expression, re.ASCII)
    except re.error:
        return  # a group's name twice
    ours = Pattern(expression)
    for text in texts:
        assert ours.matches(text) == bool(theirs.fullmatch(text)), text


@settings(deadline=None)
@given(st.text())
def test_any_text_is_an_expression_or_is_refused_with_its_place(text: str) -> None:
    place = 0
    try:
        Pattern(text).matches(text)
    except PatternError as error:
        place = error.position
    assert 0 <= place <= len(text)
    assert Pattern(escaped(text[:100])).matches(text[:100])


@pytest.mark.parametrize(
    ("expression", "matching", "others"),
    [
        (r"\s", [" ", "\t", "\n", "\r", "\f"], ["\v", "\u2003", ""]),  # as RE2, unlike Python
        (r"\d", ["0", "7", "9"], ["/", ":", "\u0663"]),
        (r"\w", ["_"], ["é"]),
        (".", ["x", "é", "\U0001f600"], ["\n", ""]),
        ("^a$", ["a"], ["^a$"]),
        ("^a|b$|^$", ["a", "b", ""], ["ab"]),
        (r"\^a\$", ["^a$"], ["a"]),
        ("a{,2}", ["a{,2}"], ["a", "aa"]),
        ("a{x}{", ["a{x}{"], []),
        ("[a-c][]x][^]x]", ["b]y", "cxz"], ["b]]"]),
        (r"[\]\-a]", ["]", "-", "a"], ["\\"]),
        ("[a-]", ["a", "-"], []),
        ("(?P<name>a)(?<other>b)(?:c)", ["abc"], []),
        (r"\t\n\r\f\v\a", ["\t\n\r\f\v\a"], []),
        ("", [""], ["a"]),
        ("()*", [""], ["a"]),
        ("plain", ["plain"], ["plai", "plainx", ""]),
    ],
)
def test_it_means_what_re2_means(expression: str, matching: list[str], others: list[str]) -> None:
    pattern = Pattern(expression)
    assert [text for text in (*matching, *others) if pattern.matches(text)] == matching
    assert [
        text
        for text in (*matching, *others)
        if Pattern(f"x(?:{pattern.unanchored})").matches(f"x{text}")
    ] == matching


@pytest.mark.parametrize(
    ("expression", "position", "says"),
    [
        ("a**", 2, "repeats what is repeated"),
        ("a*??", 3, "repeats what is repeated"),
        ("a*+", 2, "repeats what is repeated"),
        ("a{2}{3}", 4, "repeats what is repeated"),
        ("*a", 0, "nothing to repeat"),
        ("a|+", 2, "nothing to repeat"),
        ("({2})", 1, "nothing to repeat"),
        ("a{3,2}", 6, "3 times at least, and 2 at most"),
        ("(a", 0, "has no end"),
        ("a(b(c)", 1, "has no end"),
        ("a)", 1, "closes no group"),
        ("[a", 0, "has no end"),
        ("[]", 0, "has no end"),
        ("[b-a]", 2, "no range"),
        (r"[\d-z]", 3, "no range"),
        ("[[:alpha:]]", 1, "list the characters"),
        ("(?i)a", 0, "only (?:x)"),
        ("(?=a)", 0, "only (?:x)"),
        ("a(^b)", 2, "at either end only"),
        ("a$b", 1, "at either end only"),
        *((f"a{escape}", 1, f"{escape[:2]} is not supported")
          for escape in (r"\b", r"\B", r"\A", r"\z", r"\pL", r"\x41", r"\Qa\E", r"\1", "\\é")),
        ("a\\", 1, "\\ is not supported"),
        ("(" * 51 + ")" * 51, 50, "more than 50 deep"),
        ("a" * 501, 501, "more than 500"),
        ("(a|b){251}", 10, "more than 500"),
        ("((a{10}){10}){10}", 17, "more than 500"),
        ("a{999999999}", 12, "more than 500"),
    ],
)  # fmt: skip
def test_what_is_none_or_not_supported_is_refused(
    expression: str, position: int, says: str
) -> None:
    with pytest.raises(PatternError) as caught:
        Pattern(expression)
    assert says in str(caught.value)
    assert caught.value.position == position


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "expression",
    [
        "(a*)*b",
        "(a|a)*b",
        "((a?){20}){20}b",
        "(a|b)*a(a|b){240}b",
        "(.*)*(.*)*(.*)*x",
        "(a|b|.)*ab",
    ],
)
def test_time_grows_with_the_text_alone(expression: str) -> None:
    """A matcher that tries again would not come back."""
    pattern = Pattern(expression)
    assert not pattern.matches("ab" * 10_000 + "a")
    assert pattern.size <= MOST_POSITIONS
    assert len(pattern._after) <= 4096  # what it keeps has a bound, too
    assert len(pattern._masks) <= 4096
    for start in range(0, 100_000, 1000):
        pattern.matches("".join(map(chr, range(start + 100, start + 1000))).replace("\ud800", ""))
    assert len(pattern._masks) <= 4096


def test_what_all_texts_begin_with_costs_nothing() -> None:
    pattern = Pattern("projects/p/operations/(?:op-.*)")
    assert pattern.prefix == "projects/p/operations/op-"
    assert pattern.size == 2
    assert Pattern("ab|cd").prefix == ""
    assert Pattern("ab*").prefix == "a"
    assert Pattern("^ab$").prefix == "ab"


CHARACTERS_OF_NAMES = "abcdefghijklmnopqrstuvwxyz0123456789-_." * 3


@pytest.mark.parametrize(
    "expression",
    [
        *("(.?){499}", "((a?){22}){22}", "(a|b)*a(a|b){240}", "[a-z]{499}", "x{0}" * 1000),
        *(
            f"({empty}a){{499}}"
            for empty in ("|" * 3900, "(|)" * 1300, "()*" * 1300, "(){9}" * 700)
        ),
        *(
            f"(.|[{members}]){{240}}"
            for members in ("é" * 3900, "".join(map(chr, range(500, 4400))))
        ),
        f"({'(' * 47}a{'*)' * 47}){{499}}",
    ],
    ids=lambda expression: f"{expression[:9]}...{expression[-9:]}",
)
def test_its_work_is_in_proportion_to_its_limits(expression: str) -> None:
    lines = 0

    def count(*_: object) -> Any:
        nonlocal lines
        lines += 1
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        Pattern(expression).matches(CHARACTERS_OF_NAMES)
    finally:
        sys.settrace(before)
    assert lines < 2_000_000
