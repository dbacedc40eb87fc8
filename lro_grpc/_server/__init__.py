"""Serves operations from a gRPC server."""

from __future__ import annotations
