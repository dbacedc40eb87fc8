"""Engines: operations are claimed, their handlers run."""

from __future__ import annotations
