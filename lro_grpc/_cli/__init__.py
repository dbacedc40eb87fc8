"""The ``lro`` command."""

from __future__ import annotations
