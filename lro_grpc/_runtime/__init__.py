"""Threads, event loops and time."""

from __future__ import annotations
