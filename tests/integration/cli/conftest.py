from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cli_world import Fleet, World, add
from foreign_server import Foreign, serving_foreign
from server_harness import serving

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def world() -> Iterator[World]:
    fleet = Fleet()
    with serving("sync", fleet, add=add) as server:
        try:
            yield World(fleet, server)
        finally:
            fleet.may_go_on.set()


@pytest.fixture
def foreign() -> Iterator[Foreign]:
    with serving_foreign("v1") as one:
        yield one
