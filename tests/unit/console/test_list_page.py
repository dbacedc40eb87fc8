"""The list, questions, troubles and texts: each word where it belongs."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from google.longrunning import operations_pb2
from sample_operations import NOW

from lro_grpc import _anys
from lro_grpc._console import texts
from lro_grpc._console.actions import ACTIONS, possible, said
from lro_grpc._console.list_page import filter_problem, list_page
from lro_grpc._console.questions import Question
from lro_grpc._console.rendering import Frame, render
from lro_grpc._console.row import row_of
from lro_grpc._console.trouble import trouble_of
from lro_grpc._errors import Code, InvalidArgumentError, LroError
from lro_grpc._filtering.parser import invalid

FRAME = Frame(target="server:443", now=NOW, prefix="/console")


# A filter that is wrong


@pytest.mark.parametrize(
    ("text", "position", "parts"),
    [
        ("state = RUNING AND a = b", 8, ("state = ", "RUNING", " AND a = b")),
        (
            "create_time > 2026-05-01T00:00:00Z)",
            34,
            ("create_time > 2026-05-01T00:00:00Z", ")", ""),
        ),
        ("a =", 3, ("a =", "␠", "")),
        ("", 0, ("", "␠", "")),
        ("<b> = \u202e", 6, ("<b> = ", "⟨U+202E⟩", "")),
    ],
)
def test_the_word_that_is_wrong_is_marked(
    text: str, position: int, parts: tuple[str, str, str]
) -> None:
    problem = filter_problem(text, invalid(text, position, "is no state"))
    assert (problem.before, problem.wrong, problem.after) == parts
    assert problem.why == "is no state"


@pytest.mark.parametrize("position", ["", "0", "-1", "7777777", "²", "x", "999"])
def test_a_position_of_another_server_marks_what_it_can(position: str) -> None:
    error = InvalidArgumentError("no such field", metadata={"position": position})
    problem = filter_problem("a = b", error)
    assert problem.why == "no such field"
    assert problem.before in ("", "a = b")


def test_a_wrong_filter_is_shown_with_the_list_s_own_form() -> None:
    text = "state = <RUNING>"
    page = list_page(
        (), parent="-", filter=text, problem=filter_problem(text, invalid(text, 8, "no"))
    )
    shown = render("list.html", FRAME, page=page, etag="")
    assert "<mark>&lt;</mark>" in shown
    assert 'value="state = &lt;RUNING&gt;"' in shown
    assert 'aria-invalid="true"' in shown


# Empty states


@pytest.mark.parametrize(
    ("query", "token", "words"),
    [("", "", "No operations yet"), ("a = b", "", "Nothing matches"), ("", "t", "Nothing older")],
)
def test_an_empty_list_says_why(query: str, token: str, words: str) -> None:
    page = list_page((), parent="projects/p", filter=query, token=token)
    shown = render("rows_part.html", FRAME, page=page)
    assert words in shown
    assert "data-name" not in shown


def test_one_chip_is_chosen_by_the_filter() -> None:
    chips = list_page((), parent="-", filter=" state = FAILED ", counts={"FAILED": "1,200+"}).chips
    assert [(one.word, one.count) for one in chips if one.is_chosen] == [("Failed", "1,200+")]


def test_a_page_of_long_texts_stays_within_its_bytes() -> None:
    """And says so in the rows that have no room."""
    row = row_of(operations_pb2.Operation(name='"' * 660), _anys.unpack)
    full = render(
        "rows_part.html", FRAME, page=list_page([row] * 50, parent="p", actions=("cancel",))
    )
    assert len(full.encode()) <= 512 * 1024
    page = list_page([row] * 500, parent="p", actions=("cancel",))
    assert [one.can_open for one in page.rows[:3]] == [True] * 3
    assert not page.rows[-1].can_open
    assert "The page is full" in page.rows[-1].note
    assert len(render("rows_part.html", FRAME, page=page).encode()) <= 1024 * 1024


# Questions


def question(verb: str, number: int, **more: object) -> Question:
    names = tuple(f"operations/{at}" for at in range(number))
    return Question(action=ACTIONS[verb], names=names, back="/console/", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("verb", ACTIONS)
def test_a_question_names_verb_and_number_and_its_button_says_it_again(verb: str) -> None:
    word = ACTIONS[verb].word
    one, many = (
        render("confirm.html", FRAME, question=question(verb, number)) for number in (1, 12)
    )
    first, _, rest = word.partition(" ")
    assert f"{first} this operation{' ' + rest if rest else ''}?" in one
    assert f"{first} the operation{' ' + rest if rest else ''}</button>" in one
    assert f"{first} 12 operations{' ' + rest if rest else ''}</button>" in many
    assert "and 4 more" in many
    assert ('name="reason"' in one) == (verb == "terminate")
    assert said(verb).endswith(".")


def test_more_than_twenty_want_their_number_typed() -> None:
    assert 'name="typed"' not in render("confirm.html", FRAME, question=question("cancel", 20))
    asked = question(
        "cancel", 21, is_bulk=True, filter="a = b", parent="-", wrong="That is not 21."
    )
    shown = render("confirm.html", FRAME, question=asked)
    assert "Type 21 to go on" in shown
    assert "That is not 21." in shown
    assert 'action="/console/bulk"' in shown


def test_a_verb_that_is_none_has_said_nothing() -> None:
    assert said("<script>") == ""


@pytest.mark.parametrize(
    ("state", "done", "verbs"),
    [
        ("QUEUED", False, ("pause", "cancel", "terminate")),
        ("PAUSED", False, ("resume", "cancel", "terminate")),
        ("CANCELLING", False, ("terminate",)),
        ("FAILED", True, ("rerun", "delete")),
    ],
)
def test_a_state_says_what_may_be_done(state: str, done: bool, verbs: tuple[str, ...]) -> None:
    assert possible(state, done=done) == verbs
    assert set(verbs) <= set(ACTIONS)


# Trouble


@pytest.mark.parametrize("code", [one for one in Code if one is not Code.OK])
def test_every_code_is_told(code: Code) -> None:
    trouble = trouble_of(LroError("dns:///db-7.internal:443 refused", code=code), again="/again")
    assert 400 <= trouble.status < 600
    shown = render("trouble.html", FRAME, trouble=trouble)
    assert code.name in shown
    assert "/again" in shown
    assert ("db-7.internal" in shown) == (code is not Code.UNAVAILABLE)
    assert f'data-trouble="{code.name}"' in render("part_trouble.html", FRAME, trouble=trouble)


def test_who_may_not_see_it_may_sign_in_as_another() -> None:
    trouble = trouble_of(LroError("no", code=Code.PERMISSION_DENIED), again="/console/?a=b")
    assert "Sign in" not in render("trouble.html", FRAME, trouble=trouble)
    signed = Frame(target="x", now=NOW, sign_in="authorization", signed_in=True)
    assert "signin?next=/console/%3Fa%3Db" in render("trouble.html", signed, trouble=trouble)


# Texts


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0, "0 ms"),
        (0.0421, "42 ms"),
        (0.0996, "0.1 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 m"),
        (61, "1 m 1 s"),
        (3_600, "1 h"),
        (3_601, "1 h"),
        (90_061, "1 d 1 h"),
        (1e9, "11574 d 1 h"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds: float | None, text: str) -> None:
    assert texts.took(seconds) == text


def test_times_are_told_in_utc() -> None:
    moment = datetime(2026, 11, 29, 7, 31, 6, 4_999, tzinfo=timezone(timedelta(hours=1)))
    assert texts.iso(moment) == "2026-11-29T06:31:06.004Z"
    assert texts.utc(moment) == "2026-11-29 06:31:06 UTC"
    first = datetime(1, 1, 1, tzinfo=timezone.utc)
    assert texts.iso(first) == "0001-01-01T00:00:00.000Z"


# Addresses


def test_an_address_is_below_the_prefix_and_holds_any_name() -> None:
    assert FRAME.url() == "/console/"
    assert FRAME.url("operation", name="a/b?c&d=\u202e%2F") == (
        "/console/operation?name=a/b%3Fc%26d%3D%E2%80%AE%252F"
    )
    assert FRAME.url("confirm", verb="cancel", name=["a", "b"], token="") == (
        "/console/confirm?verb=cancel&name=a&name=b"
    )
    assert FRAME.static("console.css").startswith("/console/static/console.css?v=")
