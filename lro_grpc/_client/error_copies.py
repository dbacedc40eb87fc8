"""Copies of an error that several wait for: a traceback belongs to one thread."""

from __future__ import annotations

import copy

from lro_grpc._errors import LroError


def copy_of(error: LroError) -> LroError:
    """Returns an error for one more thread or task to raise, with a traceback of its own."""
    copied = copy.copy(error)
    copied.__cause__ = error.__cause__
    return copied
