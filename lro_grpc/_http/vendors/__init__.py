"""The HTTP APIs of the vendors' own services."""

from __future__ import annotations
