"""The pages of the console: a module for each kind, with a function for each route."""

from __future__ import annotations
