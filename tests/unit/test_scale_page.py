"""docs/design/scale.md: its table is what the simulation prints."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

DESIGN = Path(__file__).parents[2] / "docs" / "design"
PAGE = (DESIGN / "scale.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def routing() -> dict[str, Any]:
    return runpy.run_path(str(DESIGN / "routing.py"))


def test_the_table_is_that_of_the_simulation(routing: dict[str, Any]) -> None:
    assert f"\n{routing['table']()}\n" in PAGE


def test_all_of_a_project_is_in_one_database(routing: dict[str, Any]) -> None:
    databases = [f"database-{number}" for number in range(8)]
    parents = [f"projects/p/locations/{number}" for number in range(100)]
    (database,) = {routing["route"](parent, databases) for parent in parents}
    assert routing["route"]("projects/p", databases[::-1]) == database
