"""A console under test on a real HTTP server, in front of a real gRPC server, called with httpx."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import httpx
from google.longrunning import operations_pb2, operations_pb2_grpc

import lro_grpc
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc
from lro_grpc import testing
from lro_grpc.console import console
from lro_grpc.http import listening_in_thread

SECONDS = 15
"""The longest that a test waits for an event, before it fails."""

PARENT = "projects/p/locations/l"

OWN = {"sec-fetch-site": "same-origin"}
"""The header by which a browser says that a form is of the page's own site."""


class Fleet(fleet_service_pb2_grpc.FleetServiceServicer):
    """Creates instances when the test opens the gate; "bad" fails, "steps" moves before it."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    @lro_grpc.method(pausable=True)
    def CreateInstance(self, request: Any, op: Any) -> Any:
        if request.instance_id == "steps":
            for percent in range(100):
                op.progress(percent)
                op.checkpoint()
                self.gate.wait(0.02)
        op.progress(10, "allocating")
        while not self.gate.wait(0.01):
            op.checkpoint()
        if request.instance_id == "bad":
            raise lro_grpc.LroError("no such disk", code=lro_grpc.Code.NOT_FOUND, reason="NO_DISK")
        return fleet_service_pb2.Instance(name=f"{request.parent}/instances/{request.instance_id}")


class Served:
    """A fleet that is served, and its operations.

    Args:
        fleet: The service.
        served: Its server.
    """

    def __init__(self, fleet: Fleet, served: testing.Served) -> None:
        self.fleet = fleet
        self.served = served
        self.target = served.target
        self.client = served.client

    def start(self, instance_id: str = "a") -> str:
        """Starts the creation of an instance, and returns the operation's name."""
        stub = fleet_service_pb2_grpc.FleetServiceStub(self.served.channel)
        request = fleet_service_pb2.CreateInstanceRequest(parent=PARENT, instance_id=instance_id)
        name: str = stub.CreateInstance(request).name
        return name

    def finish(self, name: str) -> None:
        """Opens the gate, and waits for the end of an operation."""
        self.fleet.gate.set()
        self.client.wait(name, timeout=SECONDS)


@contextlib.contextmanager
def serving(**options: Any) -> Iterator[Served]:
    """Serves a fleet while the context lasts.

    Args:
        **options: Of ``lro_grpc.Operations``.
    """
    fleet = Fleet()
    add = fleet_service_pb2_grpc.add_FleetServiceServicer_to_server
    with testing.serve(fleet, add, **options) as served:
        try:
            yield Served(fleet, served)
        finally:
            fleet.gate.set()


class Foreign(operations_pb2_grpc.OperationsServicer):
    """Someone else's server, which has Get, List and Cancel; it records what it is asked."""

    def __init__(self) -> None:
        self.target = ""
        self.operations: dict[str, operations_pb2.Operation] = {}
        self.calls: list[str] = []
        self.metadata: list[dict[str, Any]] = []
        self.cancelled: list[str] = []
        self.deleted: list[str] = []
        self.refusal: tuple[grpc.StatusCode, str] | None = None
        """The error that every call ends with."""
        self.gate = threading.Event()
        """Lets the calls that wait go on."""
        self.gate.set()
        self.has_delete = False
        self.has_wait = False
        self.changed = threading.Event()
        """Lets a Wait end."""
        self.most_in_page = 1_000

    def put(self, *ids: str, done: bool = False, **fields: Any) -> str:
        """Adds operations, and returns the name of the last one."""
        for one in ids:
            name = f"{PARENT}/operations/{one}"
            self.operations[name] = operations_pb2.Operation(name=name, done=done, **fields)
        return name

    def GetOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._note("Get", context)
        return self._find(request.name, context)

    def ListOperations(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._note("List", context)
        begin = int(request.page_token or 0) if request.page_token.isdigit() else 0
        if request.page_token and not request.page_token.isdigit():
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such page")
        end = begin + min(request.page_size or 50, self.most_in_page)
        found = list(self.operations.values())
        more = str(end) if end < len(found) else ""
        return operations_pb2.ListOperationsResponse(
            operations=found[begin:end], next_page_token=more
        )

    def CancelOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        from google.protobuf import empty_pb2

        self._note("Cancel", context)
        self._find(request.name, context)
        self.cancelled.append(request.name)
        return empty_pb2.Empty()

    def DeleteOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        from google.protobuf import empty_pb2

        self._note("Delete", context)
        if not self.has_delete:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "there is no Delete")
        self._find(request.name, context)
        del self.operations[request.name]
        self.deleted.append(request.name)
        return empty_pb2.Empty()

    def WaitOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._note("Wait", context)
        if not self.has_wait:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "there is no Wait")
        self.changed.wait(request.timeout.seconds or SECONDS)
        return self._find(request.name, context)

    def _find(self, name: str, context: grpc.ServicerContext) -> operations_pb2.Operation:
        if name not in self.operations:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no {name}")
        return self.operations[name]

    def _note(self, call: str, context: grpc.ServicerContext) -> None:
        self.calls.append(call)
        self.metadata.append(dict(context.invocation_metadata()))
        self.gate.wait(SECONDS)
        if self.refusal is not None:
            context.abort(*self.refusal)


@contextlib.contextmanager
def serving_foreign() -> Iterator[Foreign]:
    """Serves someone else's operations while the context lasts."""
    foreign = Foreign()
    options = [("grpc.max_send_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(32), options=options)
    operations_pb2_grpc.add_OperationsServicer_to_server(foreign, server)
    foreign.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield foreign
    finally:
        foreign.gate.set()
        foreign.changed.set()
        server.stop(None).wait()


@contextlib.contextmanager
def browsing(app: Any, path: str = "", **options: Any) -> Iterator[httpx.Client]:
    """Serves an app over HTTP while the context lasts, and gives a browser without script."""
    with listening_in_thread(app, "127.0.0.1:0") as port:
        url = f"http://127.0.0.1:{port}{path}"
        with httpx.Client(base_url=url, timeout=SECONDS, headers=OWN, **options) as browser:
            yield browser


@contextlib.contextmanager
def consoled(target: str, **options: Any) -> Iterator[httpx.Client]:
    """Serves a console in front of a server while the context lasts, and gives a browser."""
    with browsing(console(target=target, **options)) as browser:
        yield browser


def names_in(page: httpx.Response) -> list[str]:
    """Returns the operations that a list shows, in its order."""
    return re.findall(r'<tr [^>]*data-name="([^"]+)"', page.text)


def until(ask: Callable[[], httpx.Response], *texts: str) -> httpx.Response:
    """Asks until an answer has texts: what has been asked for is shared for a second."""
    end = time.monotonic() + SECONDS
    while True:
        answer = ask()
        if all(text in answer.text for text in texts):
            return answer
        assert time.monotonic() < end, (texts, answer.text)


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Makes calls side by side, and returns what they return."""
    with futures.ThreadPoolExecutor(len(calls)) as pool:
        return [one.result(SECONDS) for one in [pool.submit(call) for call in calls]]
