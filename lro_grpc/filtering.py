"""Filters of List methods (AIP-160), for a store or a List of one's own."""

from __future__ import annotations

from lro_grpc._filtering.expression import Filter
from lro_grpc._filtering.parser import MAX_DEPTH, MAX_LENGTH, MAX_TERMS

__all__ = ["MAX_DEPTH", "MAX_LENGTH", "MAX_TERMS", "Filter"]
