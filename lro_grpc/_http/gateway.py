"""What puts a gateway together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import grpc.aio
from google.protobuf.message import Message
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from lro_grpc._errors import ConfigurationError
from lro_grpc._http.app import Gateway, OnLoop
from lro_grpc._http.backend import Backend, ChannelBackend, LocalBackend
from lro_grpc._http.method_routes import Rules, methods_of, routes
from lro_grpc._http.request import BodyLimits
from lro_grpc._http.routing import VendorApi
from lro_grpc._http.vendors.azure_face import AzureFace
from lro_grpc._http.vendors.deployment_manager import DeploymentManager
from lro_grpc._http.vendors.longrunning import Longrunning
from lro_grpc._server.jobs.kind import JobKind
from lro_grpc._server.operations import Operations


def gateway(
    operations: Operations | None = None,
    *,
    channel: grpc.aio.Channel | None = None,
    starts: Mapping[str, type[Message]] | None = None,
    jobs: Sequence[JobKind] = (),
    rules: Rules | None = None,
    prefix: str = "/v1",
    public_url: str = "",
    allow_origins: Sequence[str] = (),
    max_body: int = 4 * 1024 * 1024,
    body_timeout: timedelta = timedelta(seconds=30),
) -> ASGIApp:
    """Returns an ASGI app that serves operations over HTTP.

    It stands in front of operations in this process, or of a server behind a channel::

        app = gateway(operations)
        app = gateway(channel=grpc.aio.insecure_channel("127.0.0.1:50051"))

    ``identify`` and ``authorize`` of the operations hold here too: what they are given as metadata
    are the request's headers. A server behind a channel is sent them as metadata.

    Args:
        operations: The operations, once their methods are added.
        channel: Leads to a server of google.longrunning.Operations.
        starts: The long-running methods of that server, ``/pkg.Service/Method``, and the types of
            their requests. Those of ``operations`` are known.
        jobs: The kinds of jobs of that server. Those of ``operations`` are known.
        rules: Where long-running methods and those of jobs are, by their full names. Unless given,
            their ``google.api.http`` annotations tell; without one, jobs are where the AIPs put
            them, and a long-running method is not reached over HTTP.
        prefix: What the paths of google.longrunning begin with.
        public_url: What links in answers begin with, such as ``https://example.com``; they are
            relative to the server unless given.
        allow_origins: The origins whose pages may call (CORS), such as ``https://example.com``;
            none unless given.
        max_body: How many bytes a request's body may have.
        body_timeout: How long it may take to come.

    Raises:
        ConfigurationError: If there is nothing to stand in front of, or a rule cannot be.
    """
    if (operations is None) == (channel is None):
        raise ConfigurationError("give the gateway either operations or a channel")
    backend: Backend
    if operations is not None:
        backend = LocalBackend(operations)
        methods = methods_of(operations.requests, operations.jobs, rules or {}, prefix)
    else:
        assert channel is not None
        backend = ChannelBackend(channel)
        kinds = [(kind, list(kind.methods)) for kind in jobs]
        methods = methods_of(starts or {}, kinds, rules or {}, prefix)
    apis: list[VendorApi] = [
        Longrunning(backend, prefix),
        AzureFace(backend, public_url),
        DeploymentManager(backend, public_url),
    ]
    bounds = BodyLimits(max_body, body_timeout.total_seconds())
    app: ASGIApp = Gateway(apis, routes(methods, backend, apis), bounds)
    if operations is not None:
        app = OnLoop(app, operations)
    if allow_origins:
        app = CORSMiddleware(
            app,
            allow_origins=allow_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["*"],
            expose_headers=["Retry-After", "Operation-Location"],
        )
    return app
