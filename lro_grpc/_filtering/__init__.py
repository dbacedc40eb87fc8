"""Filters of lists (AIP-160)."""

from __future__ import annotations
