"""Durable long-running operations for gRPC services."""

from __future__ import annotations
