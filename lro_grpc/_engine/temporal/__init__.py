"""The engine on Temporal: it delivers operations to the workers; needs the extra ``temporal``."""

from __future__ import annotations
