"""Operations over HTTP, as vendors' own clients speak it; needs the extra ``http``."""

from __future__ import annotations

from lro_grpc._extras import extra
from lro_grpc._server.jobs.kind import JobKind

with extra("http"):
    from lro_grpc._http.gateway import gateway
    from lro_grpc._http.listening import listening, listening_in_thread

__all__ = ["JobKind", "gateway", "listening", "listening_in_thread"]
