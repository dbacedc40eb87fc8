from __future__ import annotations

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lro_grpc._errors import Code, InvalidNameError, to_status
from lro_grpc._operation import names

# Make.


def test_an_id_is_op_a_time_and_80_bits_in_base32():
    """S30: ASCII, lower case, at most 64 characters, the first one a letter."""
    assert names.new_id(0, lambda size: bytes(size)) == "op-" + "2" * 26
    assert names.new_id(33_999, lambda size: b"\xff" * size) == "op-22222222" + "33" + "z" * 16


@given(st.lists(st.integers(0, 253_402_300_799_999), min_size=2, max_size=2, unique=True))
def test_ids_have_the_order_of_their_times(milliseconds):
    first, second = (names.new_id(1000 * one, os.urandom) for one in sorted(milliseconds))
    assert first < second


def test_ids_differ_and_are_of_one_form():
    made = {names.new_id(1_700_000_000_000_000, os.urandom) for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch(r"op-[a-z2-7]{26}", one) for one in made)


@pytest.mark.parametrize(
    ("parent", "expected"),
    [
        ("", "operations/x"),
        ("projects/p", "projects/p/operations/x"),
        ("projects/p/locations/l", "projects/p/locations/l/operations/x"),
    ],
)
def test_a_name_is_its_parent_the_collection_and_the_id(parent, expected):
    assert names.operation_name(parent, "x") == expected


# Read.

ACCEPTED = {
    "operations/op-1": ("", "op-1"),
    "operations/1": ("", "1"),
    "operations/...": ("", "..."),
    "operations/A.b_c~d-9": ("", "A.b_c~d-9"),
    "operations/" + "x" * 128: ("", "x" * 128),
    "operations/operations": ("", "operations"),
    "projects/p/operations/x": ("projects/p", "x"),
    "projects/p/locations/l/operations/x": ("projects/p/locations/l", "x"),
    "projects/p/operations/x/operations/y": ("projects/p/operations/x", "y"),
    "projects/example.com:p/operations/x": ("projects/example.com:p", "x"),
    "projects/%41$&'()*+,;=@!/operations/x": ("projects/%41$&'()*+,;=@!", "x"),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_name_is_split_into_parent_and_id(name):
    assert names.split(name) == ACCEPTED[name]


REJECTED = {
    "nothing": "",
    "no collection": "x",
    "no id": "operations",
    "empty id": "operations/",
    "slash first": "/operations/x",
    "slash last": "operations/x/",
    "twice a slash": "projects//operations/x",
    "slash before all": "/projects/p/operations/x",
    "another collection": "jobs/x",
    "upper case": "Operations/x",
    "not last but one": "operations/x/y",
    "a dot": "operations/.",
    "two dots": "operations/..",
    "a dot above": "projects/./operations/x",
    "two dots above": "projects/../operations/x",
    "129 characters": "operations/" + "x" * 129,
    "a space": "operations/a b",
    "a line end": "operations/x\n",
    "a line end above": "projects/p\n/operations/x",
    "a dot and a line end": "operations/.\n",
    "no ASCII": "operations/\N{LATIN SMALL LETTER E WITH ACUTE}",
    "full width": "operations/\N{FULLWIDTH DIGIT ONE}",
    "NUL": "operations/x\0",
    "percent": "operations/%41",
    "query": "operations/x?y",
    "fragment above": "projects/p#q/operations/x",
    "a wildcard": "operations/*",
    "no ASCII above": "projects/\N{SNOWMAN}/operations/x",
    "256 characters above": "projects/" + "p" * 256 + "/operations/x",
    "a very long parent": "/".join(["p" * 250] * 5) + "/operations/x",
}


@pytest.mark.parametrize("name", REJECTED.values(), ids=REJECTED)
def test_what_is_no_name_is_an_invalid_argument(name):
    with pytest.raises(InvalidNameError) as caught:
        names.split(name)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert len(caught.value.message) < 400
    assert to_status(caught.value).details  # whatever its characters, they fit into a Status


@pytest.mark.parametrize(
    "parent", ["p", "projects/p", "projects/p/locations/l", "projects/-", "a/b/c", "p" * 255]
)
def test_a_parent_is_a_path(parent):
    names.check_parent(parent)


@pytest.mark.parametrize(
    "parent", ["", "/", "/p", "p/", "a//b", ".", "..", "a/..", "p" * 256, "a b", "p\n", "a/b?c"]
)
def test_what_is_no_path_is_no_parent(parent):
    with pytest.raises(InvalidNameError) as caught:
        names.check_parent(parent)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_the_collection_is_no_parent():
    """``operations`` asks for the list of names without a parent: nothing can be listed there."""
    with pytest.raises(InvalidNameError):
        names.check_parent(names.COLLECTION)


@pytest.mark.parametrize("name", ["", "p", "projects/p", "projects/-p/locations/l-", "a/***", "--"])
def test_a_name_without_a_wildcard_is_one_resources(name):
    names.check_one(name)


@pytest.mark.parametrize("name", ["-", "*", "**", "projects/-", "-/p", "projects/*/x", "a/**"])
def test_a_name_with_a_wildcard_is_that_of_several(name):
    with pytest.raises(InvalidNameError, match="stands for several") as caught:
        names.check_one(name)
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "text", ["", "-", "*", "**", ".", "..", "a/b", "a b", "é", "a?", "x" * 256]
)
def test_what_is_no_segment(text):
    assert not names.is_segment(text)
    assert names.is_segment("customJobs")


@pytest.mark.parametrize("text", ["", ".", "..", "a/b", "a b", "é", "x" * 129, "operations"])
def test_what_is_no_id(text):
    with pytest.raises(InvalidNameError, match="is not an operation's id") as caught:
        names.check_id(text)
    assert caught.value.code is Code.INVALID_ARGUMENT
    names.check_id("operations-1")


SEGMENT = st.from_regex(r"[A-Za-z0-9._~%!$&'()*+,;=:@-]{1,20}", fullmatch=True).filter(
    lambda one: one not in (".", "..")
)
ID = st.from_regex(r"[A-Za-z0-9._~-]{1,128}", fullmatch=True).filter(
    lambda one: one not in (".", "..")
)


@given(st.lists(SEGMENT, max_size=6).map("/".join).filter(lambda one: one != "operations"), ID)
def test_a_name_that_was_made_is_split_into_what_it_was_made_of(parent, operation_id):
    assert names.split(names.operation_name(parent, operation_id)) == (parent, operation_id)


@given(st.text(max_size=60) | st.from_regex(r"[a-z/.]*operations/[a-z./ ]*"))
def test_a_text_is_split_so_that_it_can_be_joined_again_or_refused(text):
    try:
        parent, operation_id = names.split(text)
    except InvalidNameError:
        return
    assert names.operation_name(parent, operation_id) == text


@pytest.mark.parametrize(
    ("candidates", "parent"),
    [
        (["projects/p/locations/l"], "projects/p/locations/l"),
        (["projects/p/locations/l/instances/i"], "projects/p/locations/l"),
        (["projects/p/locations/l/instances/i/backups/b"], "projects/p/locations/l"),
        (["projects/p/locations/l/locations/m"], "projects/p/locations/l"),
        (["projects/-/locations/-"], "projects/-/locations/-"),
        (["projects/example.com:p/locations/l"], "projects/example.com:p/locations/l"),
        # the first that has one counts: target, then parent, then name
        (["projects/a/locations/a/x/x", "projects/b/locations/b"], "projects/a/locations/a"),
        (["instances/i", "projects/b/locations/b"], "projects/b/locations/b"),
        (["", "", "projects/c/locations/c/instances/i"], "projects/c/locations/c"),
        # and without one there is none
        ([], ""),
        ([""], ""),
        (["projects/p"], ""),
        (["projects/p/locations"], ""),
        (["projects/p/locations/"], ""),
        (["projects//locations/l"], ""),
        (["folders/f/locations/l"], ""),
        (["/projects/p/locations/l"], ""),
        (["organizations/o/projects/p/locations/l"], ""),
        (["projects/p/zones/z/locations/l"], ""),
        (["Projects/p/Locations/l"], ""),
        (["//fleet.example.com/projects/p/locations/l"], ""),
    ],
)
def test_parent_of(candidates: list[str], parent: str) -> None:
    assert names.parent_of(candidates) == parent


def test_parent_of_looks_no_further_than_it_must() -> None:
    def candidates() -> object:
        yield "projects/p/locations/l"
        raise AssertionError("the second candidate was asked for")

    assert names.parent_of(candidates()) == "projects/p/locations/l"  # type: ignore[arg-type]
