"""Health over HTTP, for load balancers and probes.

==================  ==============================================================================
``GET /healthz``    200 while the server is to be sent calls, else 503: what the gRPC health service
                    says. From the signal on it is 503, though a lame duck still serves.
``GET /livez``      200 as long as the process answers at all. One that drains is not to be killed
                    for that, nor one that takes long to start.
==================  ==============================================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from starlette.types import ASGIApp

from lro_grpc._http.backend import Backend
from lro_grpc._http.described import Described, Shown
from lro_grpc._http.request import HttpRequest
from lro_grpc._http.responses import dumped, json_response
from lro_grpc._http.routing import Route, Template

READY, LIVE = "/healthz", "/livez"


def routes(backend: Backend) -> Iterator[Route]:
    """Yields the routes; they are for anyone.

    Args:
        backend: Knows whether the server is to be sent calls.
    """

    async def ready(http_request: HttpRequest, variables: Mapping[str, str]) -> ASGIApp:
        del http_request, variables
        return _response(is_well=await backend.is_serving())

    async def live(http_request: HttpRequest, variables: Mapping[str, str]) -> ASGIApp:
        del http_request, variables
        return _response(is_well=True)

    yield Route("GET", Template(READY), ready, described=_described("Ready"))
    yield Route("GET", Template(LIVE), live, described=_described("Live"))


def _described(name: str) -> Described:
    well, ill = (
        Shown(text, status=status, schema=_SCHEMA, name="health-status")
        for text, status in (("It is.", 200), ("It is not.", 503))
    )
    return Described(tag="health", name=name, answers=(well, ill) if name == "Ready" else (well,))


_SCHEMA = {
    "type": "object",
    "required": ["status"],
    "properties": {"status": {"type": "string", "enum": ["SERVING", "NOT_SERVING"]}},
}


def _response(*, is_well: bool) -> ASGIApp:
    if is_well:
        return json_response(dumped({"status": "SERVING"}))
    body = dumped({"status": "NOT_SERVING"})
    return json_response(body, status=503, headers={"retry-after": "1"})
