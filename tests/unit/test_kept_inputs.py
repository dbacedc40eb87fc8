"""The fuzzer's targets, with the inputs that they begin with, and those that have failed once."""

from __future__ import annotations

import pytest
from fuzz import load
from target import KEPT

TARGETS = load()


@pytest.mark.parametrize("name", TARGETS)
def test_the_first_inputs_pass(name):
    for data in (b"", *TARGETS[name].seeds):
        TARGETS[name].check(data)


@pytest.mark.parametrize(
    "path", sorted(KEPT.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name}"
)
def test_what_has_failed_once_passes(path):
    TARGETS[path.parent.name].check(path.read_bytes())
