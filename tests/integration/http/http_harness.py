"""A gateway under test on a real HTTP server, called by plain sync code with http.client."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
import grpc.aio
from google.protobuf import empty_pb2

import lro_grpc
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc
from lro_grpc._http.gateway import gateway
from lro_grpc._http.listening import listening
from lro_grpc.stores import Store

SECONDS = 15
"""The longest that a test waits for an event, before it fails."""

PARENT = "projects/p/locations/l"
FLEET = "/lro.example.v1.FleetService"

Instance = fleet_service_pb2.Instance


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json", self
        return json.loads(self.body)

    @property
    def ok(self) -> Any:
        """The JSON of what has gone well."""
        assert self.status == 200, self
        return self.json


class Http:
    """Calls an HTTP server, each time on a connection of its own."""

    def __init__(self, port: int):
        self.port = port

    def send(
        self,
        method: str,
        path: str,
        value: Any = None,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Sends a request, the path as it is.

        Args:
            method: The HTTP method.
            path: The path, and the query if there is one.
            value: What the body is the JSON of.
            body: The body, in place of ``value``.
            headers: More headers.
        """
        sent = dict(headers or {})
        if value is not None:
            body = json.dumps(value).encode()
        if body is not None:
            sent.setdefault("content-type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        with contextlib.closing(connection):
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            lower = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, lower, response.read())

    def get(self, path: str, **how: Any) -> Reply:
        return self.send("GET", path, **how)

    def post(self, path: str, value: Any = None, **how: Any) -> Reply:
        return self.send("POST", path, value, **how)

    def connect(self) -> socket.socket:
        """Opens a bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)

    def events(self, path: str, **headers: str) -> Iterator[dict[str, str]]:
        """Gives server-sent events as a browser takes them apart, until the stream ends."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        with contextlib.closing(connection):
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            assert response.status == 200, response.read()
            assert response.getheader("content-type") == "text/event-stream; charset=utf-8"
            event: dict[str, str] = {}
            for line in response:
                field, _, value = line.decode().rstrip("\n").partition(": ")
                if field:
                    event[field] = value
                elif event:
                    yield event
                    event = {}


def start(http: Http, instance_id: str = "a", **fields: str) -> str:
    """Starts the creation of an instance, and returns the operation's name."""
    path = f"/v1/{PARENT}/instances?instanceId={instance_id}"
    name: str = http.post(path, {"schemaSql": "", **fields}).ok["name"]
    return name


def done(http: Http, name: str) -> dict[str, Any]:
    """Waits for an operation to end, and returns it."""
    operation: dict[str, Any] = http.get(f"/v1/{name}:wait?timeout=15s").ok
    assert operation["done"], operation
    return operation


class Fleet(fleet_service_pb2_grpc.FleetServiceServicer):
    """A fleet whose instances are created when the test opens the gate."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    @lro_grpc.method(pausable=True)
    def CreateInstance(self, request: Any, op: Any) -> Any:
        while not self.gate.wait(0.01):
            op.checkpoint()
        if request.instance_id == "bad":
            raise lro_grpc.LroError(
                "no such disk", code=lro_grpc.Code.NOT_FOUND, reason="NO_DISK", domain="fleet"
            )
        return Instance(name=f"{request.parent}/instances/{request.instance_id}")

    @CreateInstance.prepare
    def prepare_create_instance(self, request: Any, context: Any) -> Any:
        if request.instance_id == "refused":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today")
        return lro_grpc.Prepared(target=f"{request.parent}/instances/{request.instance_id}")

    @lro_grpc.method
    async def DeleteInstance(self, request: Any, op: Any) -> Any:
        del request, op
        return empty_pb2.Empty()


STARTS = {
    f"{FLEET}/CreateInstance": fleet_service_pb2.CreateInstanceRequest,
    f"{FLEET}/DeleteInstance": fleet_service_pb2.DeleteInstanceRequest,
}


class Gatewayed(Http):
    """Operations, and a gateway in front of them."""

    def __init__(self, port: int, operations: lro_grpc.Operations, drain: Callable[[], None]):
        super().__init__(port)
        self.operations = operations
        self.drain = drain
        """Winds the operations up, while the HTTP server goes on."""


@contextlib.contextmanager
def serving(
    where: str,
    servicer: Any = None,
    *,
    options: Mapping[str, Any] | None = None,
    attach: Mapping[str, Any] | None = None,
    store: str | Store = "memory:",
    plain: bool = False,
    add: Callable[[Any], None] = lambda registrar: None,
    interceptors: Sequence[Any] = (),
    wrap: Callable[[Any], Any] = lambda app: app,
    **how: Any,
) -> Iterator[Gatewayed]:
    """Serves while the context lasts.

    Args:
        where: "aio" for a gateway on the loop of the operations, "sync" for one beside a
            ``grpc.server``, "channel" for one that reaches them through a channel.
        servicer: The fleet.
        options: What the gateway is to be given.
        attach: What ``attach`` is to be given.
        store: As for ``Operations``.
        plain: Whether the gateway has a channel to the server for plain methods, or knows the
            services behind its channel.
        add: Adds more servicers.
        interceptors: Those of the server.
        wrap: Puts an app in front of the gateway.
        **how: More arguments of ``Operations``.
    """
    how = {"grace": timedelta(seconds=5), **how}
    operations = lro_grpc.Operations(store, **how)
    ready: futures.Future[tuple[int, asyncio.AbstractEventLoop]] = futures.Future()
    over = threading.Event()
    drained = threading.Event()
    stages: list[asyncio.Event] = []

    def prepare(server: Any) -> int:
        registrar = operations.attach(server, **(attach or {}))
        if servicer is not None:
            fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(servicer, registrar)
        add(registrar)
        port: int = server.add_insecure_port("127.0.0.1:0")
        return port

    async def serve_http(app: Any, drain: Callable[[], Any]) -> None:
        draining, stopping = asyncio.Event(), asyncio.Event()
        stages.extend((draining, stopping))
        async with listening(wrap(app), "127.0.0.1:0") as port:
            ready.set_result((port, asyncio.get_running_loop()))
            await draining.wait()
            await drain()
            drained.set()
            await stopping.wait()

    async def beside_aio() -> None:
        server = grpc.aio.server(interceptors=interceptors)
        target = f"127.0.0.1:{prepare(server)}"
        await operations.start()
        await server.start()

        async def drain() -> None:
            await operations.stop(lambda: server.stop(5))

        if where == "channel":
            services = operations.services if plain else ()
            async with grpc.aio.insecure_channel(target) as channel:
                app = gateway(channel=channel, services=services, starts=STARTS, **(options or {}))
                await serve_http(app, drain)
        elif plain:
            async with grpc.aio.insecure_channel(target) as channel:
                await serve_http(gateway(operations, channel=channel, **(options or {})), drain)
        else:
            await serve_http(gateway(operations, **(options or {})), drain)

    async def beside_sync() -> None:
        server = grpc.server(futures.ThreadPoolExecutor(8), interceptors=interceptors)
        target = f"127.0.0.1:{prepare(server)}"
        await asyncio.to_thread(operations.start_sync)
        server.start()

        async def drain() -> None:
            await asyncio.to_thread(operations.stop_sync, lambda: server.stop(5).wait())

        if plain:
            with grpc.insecure_channel(target) as channel:
                await serve_http(gateway(operations, channel=channel, **(options or {})), drain)
        else:
            await serve_http(gateway(operations, **(options or {})), drain)

    failed: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run((beside_sync if where == "sync" else beside_aio)())
        except BaseException as error:  # noqa: BLE001 - it is raised where the test is
            failed.append(error)
            if not ready.done():
                ready.set_exception(error)
        over.set()

    threading.Thread(target=run, daemon=True).start()
    port, loop = ready.result(SECONDS)

    def drain() -> None:
        loop.call_soon_threadsafe(stages[0].set)
        assert drained.wait(SECONDS)

    try:
        yield Gatewayed(port, operations, drain)
    finally:
        drain()
        loop.call_soon_threadsafe(stages[1].set)
        assert over.wait(SECONDS)
        assert failed == []
