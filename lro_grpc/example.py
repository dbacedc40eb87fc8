"""The example: a fleet of databases, a small service that does real work."""

from __future__ import annotations

from lro_grpc._example.service import FleetService

__all__ = ["FleetService"]
