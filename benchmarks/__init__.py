"""Measurements, each beside its own baseline in the same run."""

from __future__ import annotations
