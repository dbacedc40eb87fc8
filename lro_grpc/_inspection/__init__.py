"""Reads the operations of any server: their types by reflection, and their summary."""

from __future__ import annotations
