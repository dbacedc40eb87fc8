"""Stores: the protocol, and those that there are."""

from __future__ import annotations
