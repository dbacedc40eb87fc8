"""Texts as PostgreSQL can have them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lro_grpc._stores.postgres.texts import text_from, text_of

TEXTS = st.text("\0\1\2\3a\U0001f600", max_size=8)


@given(text=TEXTS | st.text())
def test_a_text_comes_back_as_it_was(text: str) -> None:
    assert text_from(text_of(text)) == text


@given(text=TEXTS)
def test_no_text_is_written_with_a_nul(text: str) -> None:
    assert "\0" not in text_of(text)


@given(one=TEXTS, other=TEXTS)
def test_two_texts_keep_their_order_and_their_beginnings(one: str, other: str) -> None:
    assert (text_of(one) < text_of(other)) == (one < other)
    assert text_of(one).startswith(text_of(other)) == one.startswith(other)
