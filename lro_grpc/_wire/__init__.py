"""Values on their way over gRPC."""

from __future__ import annotations
