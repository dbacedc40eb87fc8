"""Labels: which there are, and the text in which a record has them."""

from __future__ import annotations

import enum
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lro_grpc
from lro_grpc import ConfigurationError
from lro_grpc._operation import labels

KEYS = st.from_regex(r"\A[a-z][a-z0-9_-]{0,62}\Z")
VALUES = st.from_regex(r"\A[a-z0-9_-]{0,63}\Z")


class Env(str, enum.Enum):
    PROD = "prod"


@given(st.dictionaries(KEYS, VALUES, max_size=labels.MOST_LABELS))
def test_a_text_has_all_labels_in_the_order_of_their_keys(made: dict[str, str]) -> None:
    text = labels.packed(made)
    assert labels.is_sound(text)
    assert [*labels.unpacked(text)] == sorted(made.items())
    for key, value in made.items():
        assert f",{key}={value}," in text
        assert labels.value_in(text, key) == value
    assert labels.value_in(text, "no-such-key-in-it-" + "x" * 40) is None


def test_no_labels_are_an_empty_text() -> None:
    assert labels.packed({}) == ""
    assert [*labels.unpacked("")] == []
    assert labels.value_in("", "env") is None


def test_a_key_is_no_other_that_it_ends() -> None:
    assert labels.value_in(",e-env=a,env-e=b,", "env") is None


def test_texts_of_subclasses_count_by_their_characters() -> None:
    assert labels.packed({"env": Env.PROD}) == ",env=prod,"


@pytest.mark.parametrize(
    "text", [",", "env=prod", ",env=prod", ",env,", ",Env=prod,", ",env=Prod,", ",env=a=b,", ",,"]
)
def test_other_texts_are_not_sound(text: str) -> None:
    assert not labels.is_sound(text)


MISTAKES: dict[str, tuple[Any, str]] = {
    "upper case": ({"Env": "prod"}, "a label has the key 'Env'; a key is a to z, and then"),
    "a digit first": ({"1env": "prod"}, "a label has the key '1env'"),
    "an empty key": ({"": "prod"}, "a label has the key ''"),
    "a long key": ({"k" * 64: "prod"}, "a label has the key 'kkk"),
    "a key that is no text": ({1: "prod"}, "a label has the key 1"),
    "a line end": ({"env\n": "prod"}, r"a label has the key 'env\\n'"),
    "a letter beyond a to z": ({"é": "prod"}, "a label has the key 'é'"),
    "a value in capitals": ({"env": "Prod"}, "the label 'env' has the value 'Prod'; a value is at"),
    "a long value": ({"env": "v" * 64}, "the label 'env' has the value 'vvv"),
    "a comma": ({"env": "a,b=c"}, "the label 'env' has the value 'a,b=c'"),
    "a value that is no text": ({"env": 1}, "the label 'env' has the value 1"),
    "no value": ({"env": None}, "the label 'env' has the value None"),
    "bytes": ({"env": b"prod"}, "the label 'env' has the value b'prod'"),
    "no mapping": (["env"], r"labels is \['env'\]; give a mapping of keys to values, both texts"),
    "a text": ("env=prod", "labels is 'env=prod'; give a mapping"),
    "None": (None, "labels is None; give a mapping"),
    "too many": ({f"k{n}": "" for n in range(65)}, "there are 65 labels; give at most 64"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_is_no_label_is_refused_with_its_value(mistake: str) -> None:
    wrong, said = MISTAKES[mistake]
    with pytest.raises(ConfigurationError, match=said):
        lro_grpc.Prepared(labels=wrong)


def test_as_many_as_may_be_are_taken() -> None:
    most = {f"k{n:02}" + "k" * 60: "v" * 63 for n in range(64)}
    assert lro_grpc.Prepared(labels=MappingProxyType(most)).labels == most


def test_an_error_has_no_more_of_a_text_than_its_beginning() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        lro_grpc.Prepared(labels={"env": "x" * 1_000_000})
    assert len(refusal.value.message) < 1000
