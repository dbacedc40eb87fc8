"""The error for what a benchmark needs and this machine has not."""

from __future__ import annotations


class NeededError(Exception):
    """Something is missing; the text says what, and how to have it."""
