"""The contract of a store as tests, a module for each subject."""

from __future__ import annotations
