"""Inspection of any server's operations: their types by reflection, their summary."""

from __future__ import annotations
