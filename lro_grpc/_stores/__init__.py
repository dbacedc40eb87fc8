"""Stores of operations: their protocol, in memory, in SQLite, in PostgreSQL."""

from __future__ import annotations
