"""Five documented ways to show an operation, a module each, named by its vendor."""

from __future__ import annotations
