"""A gateway from HTTP to the operations of a server; needs the extra ``http``."""

from __future__ import annotations
