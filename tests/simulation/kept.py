"""The seeds that have failed once."""

from __future__ import annotations

from pathlib import Path

REGRESSIONS = Path(__file__).parent / "regressions.txt"
"""One a line, such as ``memory:7``; what comes after a ``#`` says what it was."""
