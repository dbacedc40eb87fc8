"""Claims operations and runs their handlers."""

from __future__ import annotations
