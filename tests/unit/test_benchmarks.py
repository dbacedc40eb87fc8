"""The benchmarks, which no other test runs, can be loaded."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if path.stem[0] != "_")


@pytest.mark.parametrize("module", MODULES)
def test_a_benchmark_can_be_loaded(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    assert importlib.import_module(f"benchmarks.{module}").__doc__ is not None
