"""Tests of the console in a real browser: a package, so that it has one browser for all of them."""

from __future__ import annotations
