"""Clients of google.longrunning.Operations, sync and async, and the futures that they make."""

from __future__ import annotations
