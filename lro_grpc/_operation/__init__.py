"""Operations as values, and the pure rules by which they change."""

from __future__ import annotations
