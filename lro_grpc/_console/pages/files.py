"""The static files, which a browser keeps for as long as they are the same."""

from __future__ import annotations

import functools
import gzip

from starlette.responses import Response

from lro_grpc._console import answers
from lro_grpc._console.answers import Rendered
from lro_grpc._console.assets import ASSETS
from lro_grpc._console.visit import Visit

_FOR_EVER = "public, max-age=31536000, immutable"


async def static(visit: Visit) -> Response:
    """Answers with a static file; the address has its hash, or else it is asked for again."""
    name = visit.request.path_params["file"]
    asset = ASSETS.get(name)
    if asset is None:
        return await visit.no_page()
    is_fresh = visit.query("v") == asset.digest
    headers = {"cache-control": _FOR_EVER if is_fresh else "no-cache"}
    return answers.part(visit.request, _packed(name), headers, asset.media_type)


@functools.lru_cache
def _packed(name: str) -> Rendered:
    asset = ASSETS[name]
    packed = gzip.compress(asset.content, mtime=0)
    return Rendered(asset.content, packed, f'"{asset.digest}"')
