from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lro_grpc import paging
from lro_grpc._errors import Code, InvalidArgumentError, InvalidPageTokenError
from lro_grpc.paging import PageTokens

TOKENS = PageTokens(b"k" * 32)
POSITION = (123456789).to_bytes(8, "big")
ARGUMENTS = ("projects/p/locations/l", "state=RUNNING")


# Sizes (S12).


@pytest.mark.parametrize(
    ("asked", "size"), [(0, 50), (1, 1), (999, 999), (1000, 1000), (1001, 1000), (10**9, 1000)]
)
def test_a_size_is_defaulted_and_clamped(asked, size):
    assert paging.page_size(asked) == size


@pytest.mark.parametrize("asked", [-1, -(2**31)])
def test_a_negative_size_is_an_invalid_argument(asked):
    with pytest.raises(InvalidArgumentError) as caught:
        paging.page_size(asked)
    assert caught.value.reason == "INVALID_PAGE_SIZE"
    assert caught.value.metadata == {"page_size": str(asked)}


# Tokens (S13, S15).


def refused(token: str, *arguments: str, tokens: PageTokens = TOKENS) -> None:
    with pytest.raises(InvalidPageTokenError) as caught:
        tokens.read(token, *arguments)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.reason == "INVALID_PAGE_TOKEN"


@given(st.binary(max_size=100), st.lists(st.text(st.characters(codec="utf-8")), max_size=3))
def test_a_token_gives_its_position_back_to_the_same_request(position, arguments):
    assert TOKENS.read(TOKENS.make(position, *arguments), *arguments) == position


def test_a_token_is_the_same_for_every_server_with_the_key():
    token = TOKENS.make(POSITION, *ARGUMENTS)
    assert PageTokens(b"k" * 32).read(token, *ARGUMENTS) == POSITION


def test_a_token_is_fit_for_a_url():
    for number in range(200):
        token = TOKENS.make(number.to_bytes(8, "big"), *ARGUMENTS)
        assert re.fullmatch(r"[A-Za-z0-9_-]+", token)


@given(st.integers(0, 2**63 - 1))
def test_the_position_does_not_show_in_the_token(number):
    """Nor its bytes as text, and near positions give tokens that have nothing in common."""
    position = number.to_bytes(8, "big")
    raw = base64.urlsafe_b64decode(TOKENS.make(position, *ARGUMENTS))
    assert position not in raw
    assert str(number).encode() not in raw or number < 1000
    following = base64.urlsafe_b64decode(TOKENS.make((number + 1).to_bytes(8, "big"), *ARGUMENTS))
    assert sum(a == b for a, b in zip(raw, following, strict=True)) < 8


@pytest.mark.parametrize(
    "others",
    [
        (),
        ("projects/p/locations/l",),
        ("projects/p/locations/l", ""),
        ("projects/p/locations/m", "state=RUNNING"),
        ("state=RUNNING", "projects/p/locations/l"),
        ("projects/p/locations/l", "state=RUNNING", ""),
        ("projects/p/locations/", "lstate=RUNNING"),
        ("projects/p/locations/lstate=RUNNING",),
    ],
)
def test_a_token_of_a_request_with_other_arguments_is_refused(others):
    refused(TOKENS.make(POSITION, *ARGUMENTS), *others)


def test_a_token_under_another_key_is_refused():
    refused(PageTokens(b"x" * 32).make(POSITION, *ARGUMENTS), *ARGUMENTS)


def test_every_changed_character_is_noticed():
    token = TOKENS.make(POSITION, *ARGUMENTS)
    for place, character in enumerate(token):
        other = "A" if character != "A" else "B"
        refused(token[:place] + other + token[place + 1 :], *ARGUMENTS)


def test_a_token_that_was_cut_or_prolonged_is_refused():
    token = TOKENS.make(POSITION, *ARGUMENTS)
    for length in range(len(token)):
        refused(token[:length], *ARGUMENTS)
    for more in ("A", "AAAA", "====AAAA", "=", "==", "====", " ", "\n", "\0"):
        refused(token + more, *ARGUMENTS)
    refused(token * 2, *ARGUMENTS)


@given(st.binary(min_size=1, max_size=40), st.data())
def test_every_changed_bit_is_noticed(position, data):
    token = bytearray(TOKENS.make(position, *ARGUMENTS).encode())
    token[data.draw(st.integers(0, len(token) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    refused(token.decode("latin-1"), *ARGUMENTS)


def test_the_bytes_of_a_position_are_no_token():
    refused(base64.urlsafe_b64encode(POSITION).decode(), *ARGUMENTS)
    refused(base64.urlsafe_b64encode(bytes(16) + POSITION).decode(), *ARGUMENTS)
    refused("123456789", *ARGUMENTS)


@pytest.mark.parametrize(
    "token", ["", "=", "A", "AAA", "\N{SNOWMAN}", "\N{FULLWIDTH LATIN CAPITAL LETTER A}" * 32]
)
def test_what_is_no_base64_is_refused(token):
    refused(token, *ARGUMENTS)


@given(
    st.text(max_size=80)
    | st.binary(max_size=60).map(lambda b: base64.urlsafe_b64encode(b).decode())
)
def test_whatever_else_a_caller_sends_is_refused(token):
    refused(token, *ARGUMENTS)


def test_a_short_key_is_a_mistake():
    with pytest.raises(ValueError, match="16"):
        PageTokens(b"k" * 15)
