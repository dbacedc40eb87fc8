"""Pages about operations, for the person on call; needs the extra ``console``."""

from __future__ import annotations

from lro_grpc._extras import extra

with extra("console"):
    from lro_grpc._console.console import console

__all__ = ["console"]
