"""The forms in which values travel over gRPC: metadata, errors, methods and their messages."""

from __future__ import annotations
