"""The runtime below everything: threads, event loops, time."""

from __future__ import annotations
