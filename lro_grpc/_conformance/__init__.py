"""The contracts of a store and of an engine as tests, a module for each subject."""

from __future__ import annotations
