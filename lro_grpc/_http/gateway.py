"""Puts a gateway together: a backend, the vendors' APIs in front of it, and the app.

The way of a request:

1. ``app`` takes it to the loop of the operations, whatever the form of its target
   (``request_target``), refuses it if a stranger's page has sent it (``origins``), and finds its
   route (``routing``).
2. The route is one of a vendor (``vendors``), or of a method of the service (``method_routes``), or
   answers probes (``health``), or tells of the API itself (``about``). It makes the RPC's request
   message, mostly by the rules of ``google.api.http`` (``transcoding``). A body is read from a
   caller whom ``identify`` knows, and within limits (``bodies``).
3. ``backend`` calls the RPC: in this process, or through a channel (``channel_calls``), as each
   plain method is. The caller's headers are its
   metadata, so ``identify`` and ``authorize`` hold.
4. The vendor shows the answer in its dialect (``_dialects``), and ``responses`` sends it.

An error, wherever it was raised, ends in ``app``: the vendor with the prefix of the path gives it a
body, and its code gives it an HTTP status.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import grpc
import grpc.aio
from google.protobuf.message import Message
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from lro_grpc._durations import Duration
from lro_grpc._errors import ConfigurationError
from lro_grpc._http import about, health
from lro_grpc._http.app import Beside, Gateway, OnLoop
from lro_grpc._http.backend import Backend, Calls, ChannelBackend, LocalBackend
from lro_grpc._http.bodies import Bodies, BodyLimits
from lro_grpc._http.channel_calls import calls_on
from lro_grpc._http.comments import Comments
from lro_grpc._http.method_routes import (
    Rules,
    methods_of,
    names_in,
    routes,
    routes_of_others,
    starts_in,
)
from lro_grpc._http.origins import Origins
from lro_grpc._http.routing import VendorApi
from lro_grpc._http.vendors.azure_face import AzureFace
from lro_grpc._http.vendors.deployment_manager import DeploymentManager
from lro_grpc._http.vendors.longrunning import SERVICES, Longrunning
from lro_grpc._runtime.clock import as_duration
from lro_grpc._runtime.options import check_flag, check_number
from lro_grpc._server.jobs.kind import JobKind
from lro_grpc._server.operations import Operations


def gateway(
    operations: Operations | None = None,
    *,
    channel: grpc.aio.Channel | grpc.Channel | None = None,
    services: Sequence[str] = (),
    starts: Mapping[str, type[Message]] | None = None,
    jobs: Sequence[JobKind] = (),
    rules: Rules | None = None,
    prefix: str | Sequence[str] = "/v1",
    public_url: str = "",
    allow_origins: Sequence[str] = (),
    allowed_hosts: Sequence[str] = (),
    openapi: bool = True,
    docs: bool = False,
    comments: bytes = b"",
    console: bool | ASGIApp = False,
    max_body: int = 4 * 1024 * 1024,
    body_timeout: Duration = timedelta(seconds=30),
    max_values: int = 100_000,
    max_bodies: int = 64 * 1024 * 1024,
) -> ASGIApp:
    """Returns an ASGI app that serves operations over HTTP.

    It stands in front of operations in this process, or of a server behind a channel; or of
    operations and a channel to their own server, on which it calls the methods that start nothing::

        app = gateway(operations)
        app = gateway(operations, channel=grpc.aio.insecure_channel("127.0.0.1:50051"))
        app = gateway(channel=grpc.aio.insecure_channel("127.0.0.1:50051"))

    ``identify`` and ``authorize`` of the operations hold here, too, with the request's headers as
    metadata. A server behind a channel gets the headers as metadata.

    Args:
        operations: The operations, once their methods are added.
        channel: Leads to a server of google.longrunning.Operations. Beside operations that are
            attached to a ``grpc.server`` it is a ``grpc.Channel``; by itself, one of ``grpc.aio``.
        services: The services of that server, such as ``pkg.Service``, whose methods are called
            where their ``google.api.http`` annotations put them; their ``_pb2`` modules are
            imported. Those of ``operations`` are known.
        starts: The long-running methods of that server, ``/pkg.Service/Method``, and the types of
            their requests. Those of ``operations`` are known.
        jobs: The kinds of jobs of that server. Those of ``operations`` are known.
        rules: The paths of methods, by the methods' full names. A method without a rule is where
            its ``google.api.http`` annotation puts it; without an annotation, a job's method is
            where the AIPs put it, and any other is not reached over HTTP. Nor is one that streams.
        prefix: The beginning of the paths of google.longrunning, such as ``/v1``, or several of
            them. Starts are where their rules put them.
        public_url: The beginning of links in responses, such as ``https://example.com``; links are
            relative to the server unless given.
        allow_origins: The origins whose pages may call (CORS), such as ``https://page.example``;
            none but the server's own unless given.
        allowed_hosts: The names by which clients reach the server, such as ``api.example.com``, or
            ``*.example.com`` for all below a name; ``*`` for any. An address, ``localhost`` and the
            host of ``public_url`` need not be given. A request for any other host is refused: else
            a stranger's page could call under a name of its own (DNS rebinding).
        openapi: Whether ``/openapi.json`` describes the API to anyone.
        docs: Whether ``/docs`` is a page that shows it, and calls it with what its reader gives.
        comments: The comments in it: what ``protoc --include_source_info --include_imports
            --descriptor_set_out`` has written for the services' protos.
        console: Whether pages for the person on call are at ``/console``, which needs the extra of
            that name; or the app of :func:`lro_grpc.console.console`, made with options of your
            own. ``allow_origins`` does not let other pages call it.
        max_body: The most bytes of a request's body.
        body_timeout: The longest time that a body may take to arrive.
        max_values: The most values in the JSON of a body, names of members included; to convert one
            takes some ten microseconds.
        max_bodies: The most bytes of all bodies that have arrived so far and are not converted yet;
            above it the answer is 503. The first 16 KiB of each are not counted.

    Raises:
        ConfigurationError: If neither operations nor a channel is given, or a channel that cannot
            be used, or what is of a channel's server beside operations, or a service that is not
            known, or a rule is malformed, or one puts a method that changes something at GET, or a
            prefix, a host or ``public_url`` is none, or a number or the time cannot be, or
            ``/docs`` is at the path of a method, or ``comments`` is no descriptor set.
    """
    if operations is None and channel is None:
        raise ConfigurationError("give the gateway operations, a channel, or both")
    if operations is not None and not isinstance(operations, Operations):
        raise ConfigurationError(
            f"the gateway stands in front of operations, and was given {operations!r}; a channel is"
            " given by its name, gateway(channel=...)"
        )
    if channel is not None and not isinstance(channel, (grpc.aio.Channel, grpc.Channel)):
        raise ConfigurationError(f"channel is {channel!r}; give a channel of grpc.aio, or of grpc")
    if operations is None and isinstance(channel, grpc.Channel):
        raise ConfigurationError(
            f"the gateway needs a grpc.aio.Channel, and was given {channel!r}; make it by"
            " grpc.aio.insecure_channel or grpc.aio.secure_channel"
        )
    if (
        operations is not None
        and operations.serves_in_threads
        and isinstance(channel, grpc.aio.Channel)
    ):
        raise ConfigurationError(
            f"the operations are attached to a grpc.server, and have a loop of their own, on which"
            f" {channel!r} cannot be used; make the channel by grpc.insecure_channel or"
            " grpc.secure_channel"
        )
    if public_url and not (isinstance(public_url, str) and _PUBLIC_URL.fullmatch(public_url)):
        raise ConfigurationError(
            f"public_url is {public_url!r}, with which no link can begin; give one such as"
            " https://example.com or https://example.com/path"
        )
    if isinstance(services, str):
        raise ConfigurationError(f"services is {services!r}; give a list of names")
    of_a_server = {"services": services, "starts": starts, "jobs": jobs}
    for option, given in of_a_server.items():
        if operations is not None and given:
            raise ConfigurationError(
                f"{option} is for a server behind a channel, and was given {given!r} beside"
                f" operations, whose {option} are known: leave it out"
            )
    check_flag("openapi", openapi)
    check_flag("docs", docs)
    numbers = {"max_body": max_body, "max_values": max_values, "max_bodies": max_bodies}
    for option, number in numbers.items():
        check_number(option, number)
    body_timeout = as_duration("body_timeout", body_timeout)
    prefixes = _checked(prefix)
    backend: Backend
    plain_calls: Calls
    if operations is not None:
        backend = LocalBackend(operations)
        plain_calls = backend if channel is None else calls_on(channel)
        plain = () if channel is None else operations.plain_methods
        methods = methods_of(operations.requests, operations.jobs, plain, rules or {}, prefixes)
        services = [*operations.services]
    else:
        assert isinstance(channel, grpc.aio.Channel)
        backend = plain_calls = ChannelBackend(channel)
        services = [service for service in services if service not in SERVICES]
        kinds = [(kind, list(kind.methods)) for kind in jobs]
        starts = {**starts_in(services), **(starts or {})}
        methods = methods_of(starts, kinds, names_in(services), rules or {}, prefixes)
        services = [*services, *(method.name.split("/")[1] for method in methods)]
    longrunning = [Longrunning(backend, one) for one in prefixes]
    apis: list[VendorApi] = [
        *longrunning,
        AzureFace(backend, public_url),
        DeploymentManager(backend, public_url),
    ]
    longest_first = sorted(apis, key=lambda api: len(api.prefix), reverse=True)
    own_services = sorted({*services} - SERVICES)
    own = [*routes(methods, backend, plain_calls, apis)]
    served = [
        *(route for api in longest_first for route in api.routes()),
        *own,
        *health.routes(backend),
    ]
    all_routes = [
        *served,
        *about.routes(
            own_services,
            apis,
            own,
            served,
            public_url=public_url,
            comments=Comments(comments),
            has_document=openapi,
            has_page=docs,
            more={
                **({"console": f"{CONSOLE}/"} if console else {}),
                "health": [health.READY, health.LIVE],
            },
        ),
        *routes_of_others(own_services, methods),
        *(route for one in longrunning for route in one.routes_of_long_names()),
    ]
    bodies = Bodies(BodyLimits(max_body, body_timeout.total_seconds(), max_values, max_bodies))
    origins = Origins(allow_origins, allowed_hosts, public_url)
    app: ASGIApp = Gateway(apis, all_routes, bodies, origins)
    if operations is not None:
        app = OnLoop(app, operations)
    if allow_origins:
        app = CORSMiddleware(
            app,
            allow_origins=allow_origins,
            allow_methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["*"],
            expose_headers=["Retry-After", "Operation-Location"],
        )
    if console is True:
        leads = channel if operations is None and isinstance(channel, grpc.aio.Channel) else None
        console = console_beside(operations, leads, public_url, allowed_hosts)
    return Beside(app, console, CONSOLE) if console else app


def console_beside(
    operations: Operations | None,
    channel: grpc.aio.Channel | None,
    public_url: str,
    allowed_hosts: Sequence[str],
    **options: Any,
) -> ASGIApp:
    """Returns the console that is mounted beside a gateway.

    Args:
        operations: As of the gateway.
        channel: Likewise.
        public_url: Likewise; browsers reach the console below it.
        allowed_hosts: Likewise.
        **options: More options of the console.
    """
    from lro_grpc._console.console import console  # needs an extra of its own

    public = urlsplit(public_url)
    path = public.path.rstrip("/")
    return console(
        operations,
        channel=channel,
        hosts=[*allowed_hosts, *([public.netloc] if public.netloc else [])],
        prefix=f"{path}{CONSOLE}" if path else "",
        **options,
    )


CONSOLE = "/console"
"""The path of the console."""

_PREFIX = re.compile(r"(?:/[\w.~-]+)*", re.ASCII)
_PUBLIC_URL = re.compile(
    r"https?://(?:[\w.-]+|\[[\da-f:.]+\])(?::\d+)?(?:/[\w.~%!$&'()*+,;=:@/-]*)?", re.ASCII | re.I
)


def _checked(prefix: str | Sequence[str]) -> Sequence[str]:
    """Returns the prefixes, each of them once and the longest first."""
    prefixes = {prefix} if isinstance(prefix, str) else {*prefix}
    for one in prefixes:
        if not isinstance(one, str) or not _PREFIX.fullmatch(one):
            raise ConfigurationError(
                f"the prefix {one!r} is no beginning of paths; give one such as /v1, without a"
                " slash at its end"
            )
        if f"{one}/".startswith(f"{CONSOLE}/"):
            raise ConfigurationError(
                f"the prefix {one!r} is within {CONSOLE}, the path of the console; give another one"
            )
    if not prefixes:
        raise ConfigurationError("the gateway has no prefix; give it one such as /v1")
    return sorted(prefixes, key=len, reverse=True)
