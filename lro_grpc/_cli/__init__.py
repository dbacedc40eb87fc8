"""The command ``lro``; needs the extra ``cli``."""

from __future__ import annotations
