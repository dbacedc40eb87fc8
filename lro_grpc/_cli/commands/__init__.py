"""Commands of ``lro``, one module each."""

from __future__ import annotations
