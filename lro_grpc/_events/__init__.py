"""Completion events on their way to others."""

from __future__ import annotations
