"""Puts a console together: the way to a server, its callers, the pages, and the guard before them.

The way of a request:

1. ``security`` refuses it if a stranger's page has sent it. ``app`` finds its route.
2. ``visit`` knows its caller. A function of ``pages`` asks ``source``, for them, what the server
   says. Lists and operations that several look at are asked for, and rendered, once (``shared``).
3. ``source`` calls the server by the calls of this package's own client, over one of ``servers``: a
   channel, or the operations of this process.
4. In a worker thread, ``operation_page`` and its neighbours make texts of messages, whose types are
   ``types_of_server``'s; ``rendering`` makes a page of them. ``answers`` packs and sends it.

An error, wherever it was raised, ends in ``visit``, and is a page of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

import grpc
import grpc.aio
from starlette.types import ASGIApp

from lro_grpc._client.connection import CallMetadata
from lro_grpc._console.app import make_app
from lro_grpc._console.security import Callers
from lro_grpc._console.servers import CHANNEL_OPTIONS, ChannelServer, LocalServer, Server
from lro_grpc._console.source import Source
from lro_grpc._console.visit import Site
from lro_grpc._errors import ConfigurationError
from lro_grpc._http.app import OnLoop
from lro_grpc._operation.names import ANY_PARENT
from lro_grpc._server.operations import Operations

_PREFIX = re.compile(r"(?:/[\w.~-]+)*", re.ASCII)


def console(
    operations: Operations | None = None,
    *,
    channel: grpc.aio.Channel | Callable[[], grpc.aio.Channel] | None = None,
    target: str = "",
    parents: Sequence[str] = (),
    metadata: CallMetadata = (),
    sign_in: str = "",
    forward: Collection[str] = (),
    read_only: bool = False,
    hosts: Collection[str] = (),
    prefix: str = "",
) -> ASGIApp:
    """Returns an ASGI app with pages about operations, for the person on call.

    It stands beside operations in this process, or in front of any server of
    google.longrunning.Operations::

        app = console(operations)
        app = console(target="127.0.0.1:50051")

    The server decides what a caller sees and does: each call has the caller's own credentials, and
    the console keeps nothing. Beside operations in this process ``identify`` and ``authorize``
    hold.

    Args:
        operations: The operations, once their methods are added.
        channel: Leads to the server; or a function that makes the channel, called on the event loop
            on which the app is used. A channel of your own takes answers of 4 MiB at most unless
            its ``grpc.max_receive_message_length`` says more.
        target: The server's address, as pages show it, and as their ``lro`` commands have it.
            Without a channel it is where one leads to, without TLS.
        parents: Parents to choose from, such as ``projects/p/locations/l``; the first is the one
            whose operations the first page shows. All operations unless given, on servers that
            take ``-`` for any parent.
        metadata: Metadata of the console's own, sent with every call.
        sign_in: The metadata by which the server knows its callers, such as ``authorization``; a
            page asks for its value. The browser keeps that in a cookie until it is closed.
        forward: Headers that a proxy in front sets, and that become metadata, such as
            ``x-user``. The proxy must not let them in from outside.
        read_only: Whether it shows only, and requests no action.
        hosts: The names by which browsers reach it; an address and ``localhost`` need not be given.
            A request for any other host is refused (DNS rebinding).
        prefix: The path at which browsers reach it, such as ``/ops``, whether or not a proxy in
            front takes it off. The path at which the app is mounted unless given.

    Raises:
        ConfigurationError: If it is given several of operations, a channel and a target to connect
            to, or none, or the channel is none of ``grpc.aio``, or a header, a host or the prefix
            is none.
    """
    if not _PREFIX.fullmatch(prefix):
        raise ConfigurationError(
            f"the prefix {prefix!r} is no beginning of paths; give one such as /console, without a"
            " slash at its end"
        )
    server = _server(operations, channel, target)
    site = Site(
        source=Source(server),
        callers=Callers(tuple(metadata), forward, sign_in, target),
        target=target,
        parents=tuple(parents) or (ANY_PARENT,),
        read_only=read_only,
        prefix=prefix,
    )
    app = make_app(site, hosts)
    return app if operations is None else OnLoop(app, operations)


def _server(
    operations: Operations | None,
    channel: grpc.aio.Channel | Callable[[], grpc.aio.Channel] | None,
    target: str,
) -> Server:
    if operations is not None:
        if not isinstance(operations, Operations) or channel is not None:
            raise ConfigurationError(
                f"the console stands beside operations, or in front of a channel; it was given"
                f" {operations!r} and {channel!r}"
            )
        return LocalServer(operations)
    if isinstance(channel, grpc.Channel):
        raise ConfigurationError(
            f"the console needs a grpc.aio.Channel, and was given {channel!r}; make it by"
            " grpc.aio.insecure_channel or grpc.aio.secure_channel"
        )
    if channel is None:
        if not target:
            raise ConfigurationError("give the console operations, a channel or a target")
        return ChannelServer(lambda: grpc.aio.insecure_channel(target, CHANNEL_OPTIONS))
    if callable(channel):
        return ChannelServer(channel)
    made = channel
    return ChannelServer(lambda: made)
