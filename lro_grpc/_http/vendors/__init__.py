"""vendors: say what it is."""

from __future__ import annotations
