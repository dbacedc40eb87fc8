"""One operation in its five documented forms, a module each."""

from __future__ import annotations
