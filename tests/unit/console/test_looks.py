"""The look of states and the colours of the style sheet: each is told apart, and can be read."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping

import pytest
from sample_operations import NOW

from lro.v1.operation_description_pb2 import OperationAttempt
from lro_grpc._console import looks
from lro_grpc._console.assets import ASSETS
from lro_grpc._console.list_page import list_page
from lro_grpc._console.rendering import Frame, render
from lro_grpc._operation.states import BATCH_INSTANCE, JOB

JOB_STATES = [one.name.removeprefix("JOB_STATE_") for one in JOB.states.values()]
INSTANCE_STATES = [one.name for one in BATCH_INSTANCE.states.values()]
OUTCOMES = [one.name for one in OperationAttempt.Outcome.DESCRIPTOR.values if one.number]
SHEET = ASSETS["console.css"].content.decode()
ICONS = render("icons.html", Frame(target="", now=NOW))
THEMES = ("light", "dark")

MOST_COMMON = ("bg", "surface", "raised")
TEXTS = (
    *("fg", "muted", "accent", "key", "text", "number"),
    *looks.COLOURS,
)


@pytest.mark.parametrize("state", [*JOB_STATES, *INSTANCE_STATES, *OUTCOMES])
def test_every_state_of_the_schema_has_a_look_of_its_own(state: str) -> None:
    assert state in looks.KNOWN
    look = looks.look_of(state)
    assert look.word.upper().replace(" ", "_") == state
    assert look.colour in looks.COLOURS
    assert f'id="i-{look.icon}"' in ICONS


def test_no_two_states_of_an_operation_look_alike() -> None:
    """Not by the icon alone, and so not to those who see no colours."""
    icons = [looks.look_of(one).icon for one in JOB_STATES]
    assert len(set(icons)) == len(icons)


@pytest.mark.parametrize("state", ["", "77", "SOMETHING_NEW", "<b>", "\u202e", "x" * 1_000])
def test_a_state_that_is_not_known_is_its_own_word_on_the_dashed_ring(state: str) -> None:
    look = looks.look_of(state)
    assert (look.colour, look.icon) == ("waiting", "queued")
    assert look.word.isprintable()
    assert len(look.word) < 80


def test_every_colour_of_a_state_has_a_class_a_token_and_an_icon_for_the_tab() -> None:
    for colour in looks.COLOURS:
        assert f".s-{colour} {{ --c: var(--{colour}); }}" in SHEET
        assert f"icon-{colour}.svg" in ASSETS


def test_every_state_one_looks_for_is_on_a_chip() -> None:
    """All but UPDATING, a moment of RUNNING."""
    chips = list_page([], parent="-").chips
    assert {one.filter for one in chips if one.look} == {
        f"state = {state}" for state in JOB_STATES if state != "UPDATING"
    }


def tokens(theme: str) -> Mapping[str, str]:
    """Returns the colours of a theme by their tokens, without those that are see-through."""
    at = THEMES.index(theme)
    found = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\);", SHEET)
    return {name: both[at] for name, *both in found}


def luminance(colour: str) -> float:
    """Returns how bright a colour is, from 0 to 1, as WCAG 2 has it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Returns the contrast of two colours, from 1 to 21."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def mixed(colour: str, part: float, ground: str) -> str:
    """Returns what ``color-mix(in srgb, …)`` does."""
    both = ((int(colour[at : at + 2], 16), int(ground[at : at + 2], 16)) for at in (1, 3, 5))
    return "#" + "".join(f"{round(over * part + under * (1 - part)):02x}" for over, under in both)


def readable(theme: str) -> Iterator[tuple[str, str, str]]:
    """Yields each text and the ground that it stands on: a name for both, and their colours."""
    have = tokens(theme)
    for text, ground in itertools.product(TEXTS, MOST_COMMON):
        yield f"{text} on {ground}", have[text], have[ground]
    yield "a primary button", have["on-accent"], have["accent"]
    yield "a grave button", have["surface"], have["failed"]
    for colour in looks.COLOURS:  # a count on a chip, and icons on a disc
        yield f"a count, {colour}", have["fg"], mixed(have[colour], 0.13, have["surface"])
        yield f"a mark on {colour}", have["surface"], have[colour]
    error = mixed(have["failed"], 0.08, have["surface"])
    for text in ("fg", "muted", "failed", "accent"):
        yield f"{text} on an error", have[text], error
    banner = mixed(have["cancelling"], 0.12, have["surface"])
    yield "a banner", have["fg"], banner
    yield "a link in a banner", have["accent"], banner
    chosen = mixed(have["accent"], 0.09, have["surface"])
    for text in ("fg", "muted", *looks.COLOURS):
        yield f"{text} in a chosen row", have[text], chosen


@pytest.mark.parametrize("theme", THEMES)
def test_every_text_can_be_read(theme: str) -> None:
    """WCAG's level AA asks for 4.5; here is more, so that a poor screen does, too."""
    least = {"light": 5.0, "dark": 6.0}[theme]
    found = {name: round(contrast(*colours), 2) for name, *colours in readable(theme)}
    assert len(found) > 70
    assert {name: ratio for name, ratio in found.items() if ratio < least} == {}


@pytest.mark.parametrize("theme", THEMES)
def test_bars_and_focus_are_seen(theme: str) -> None:
    """Of what is no text, WCAG asks for 3."""
    have = tokens(theme)
    for colour in (*looks.COLOURS, "focus"):
        track = mixed(have[colour], 0.17, have["surface"])
        assert contrast(have[colour], track) >= 3
        assert contrast(have[colour], have["bg"]) >= 3


def test_the_sheet_has_no_colour_but_in_its_tokens() -> None:
    """A colour elsewhere would be the same in both themes."""
    rest = re.sub(r"(--[\w-]+: )?light-dark\([^()]*\)", "", SHEET)
    assert re.findall(r"#[0-9a-f]{3,8}\b", rest) == []


def test_the_sheet_asks_for_nothing_from_elsewhere() -> None:
    assert "@import" not in SHEET
    assert "url(" not in SHEET
