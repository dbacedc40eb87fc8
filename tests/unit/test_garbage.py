"""What is loaded is left out of the search for unreachable cycles; what comes later is not."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

import pytest

from lro_grpc._runtime.garbage import search_less

if TYPE_CHECKING:
    from collections.abc import Iterator


class Cycle:
    """An object that refers to itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    """Has the search be as it was before."""
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


def test_what_is_loaded_is_not_searched() -> None:
    loaded = Cycle()
    here = weakref.ref(loaded)
    search_less()
    del loaded
    gc.collect()
    assert here() is not None


def test_what_comes_later_is_searched() -> None:
    search_less()
    here = weakref.ref(Cycle())
    gc.collect()
    assert here() is None


def test_what_was_unreachable_before_is_freed() -> None:
    here = weakref.ref(Cycle())
    search_less()
    assert here() is None


def test_new_objects_are_searched_more_rarely() -> None:
    before, *others = gc.get_threshold()
    search_less()
    now, *same = gc.get_threshold()
    assert now > before
    assert same == others
