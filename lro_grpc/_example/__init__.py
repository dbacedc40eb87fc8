"""The example: a fleet of databases, a small service that does real work."""

from __future__ import annotations
