"""Parts that tests of services and of stores are made of."""

from __future__ import annotations
