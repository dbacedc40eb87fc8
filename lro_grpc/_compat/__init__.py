"""Operations of Google's own clients, as futures of this package; needs the extra ``compat``."""

from __future__ import annotations
