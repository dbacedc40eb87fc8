"""Two that would serve google.longrunning.Operations on one server: refused, whoever is first."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent import futures
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import pytest
from google.longrunning import operations_pb2_grpc

import lro_grpc
from lro.v1 import operation_control_service_pb2_grpc
from lro_grpc._server.rpc.rivals import check_alone
from lro_grpc.http import gateway

Make = Callable[..., Any]


@pytest.fixture
def make(stack: str) -> Make:
    """Makes servers of the stack."""

    async def make_aio(**how: Any) -> grpc.aio.Server:
        return grpc.aio.server(**how)

    if stack == "aio":
        return lambda **how: asyncio.run(make_aio(**how))
    return lambda **how: grpc.server(futures.ThreadPoolExecutor(2), **how)


def operations() -> lro_grpc.Operations:
    return lro_grpc.Operations("memory:")


def add_other(server: Any) -> None:
    servicer = operations_pb2_grpc.OperationsServicer()
    operations_pb2_grpc.add_OperationsServicer_to_server(servicer, server)


def add_registered(server: Any) -> None:
    """As adders do that a newer gRPC has generated."""
    service = "google.longrunning.Operations"
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: b"")
    server.add_registered_method_handlers(service, {"GetOperation": handler})
    if isinstance(server, grpc.aio.Server):  # earlier ones ignore what is registered only
        generic = grpc.method_handlers_generic_handler(service, {"GetOperation": handler})
        server.add_generic_rpc_handlers((generic,))


def add_control(server: Any) -> None:
    servicer = operation_control_service_pb2_grpc.OperationControlServiceServicer()
    operation_control_service_pb2_grpc.add_OperationControlServiceServicer_to_server(
        servicer, server
    )


def start(ours: lro_grpc.Operations) -> None:
    """Starts the operations, as ``run`` does, and stops them if that succeeds."""

    async def stop() -> None: ...

    async def start() -> None:
        await ours.start()
        await ours.stop(stop)

    asyncio.run(start())


HOW_TO_ADD = pytest.mark.parametrize("add", [add_other, add_registered, add_control])


@HOW_TO_ADD
def test_a_servicer_that_the_server_has_is_refused(make: Make, add: Any) -> None:
    server = make()
    add(server)
    with pytest.raises(lro_grpc.ConfigurationError, match="another servicer of") as raised:
        operations().attach(server)
    assert raised.value.reason == "SERVED_TWICE"
    assert "fallback=" in raised.value.message


@HOW_TO_ADD
def test_a_servicer_that_is_added_to_the_registrar_is_refused(make: Make, add: Any) -> None:
    registrar = operations().attach(make())
    with pytest.raises(lro_grpc.ConfigurationError, match="another servicer of"):
        add(registrar)


@HOW_TO_ADD
def test_a_servicer_that_is_added_to_the_server_itself_is_refused_at_the_start(
    make: Make, add: Any
) -> None:
    server, ours = make(), operations()
    ours.attach(server)
    add(server)
    with pytest.raises(lro_grpc.ConfigurationError, match="another servicer of"):
        start(ours)


def test_a_servicer_that_a_server_is_made_with_is_refused(make: Make) -> None:
    class Methods(grpc.ServiceRpcHandler):
        def service_name(self) -> str:
            return "google.longrunning.Operations"

        def service(self, handler_call_details: Any) -> None:
            return None

    with pytest.raises(lro_grpc.ConfigurationError, match="another servicer of"):
        operations().attach(make(handlers=[Methods()]))


def test_other_operations_on_the_server_are_refused(make: Make) -> None:
    server = make()
    registrar = operations().attach(server)
    for one in (server, registrar):
        with pytest.raises(lro_grpc.ConfigurationError, match="hide each other's operations"):
            operations().attach(one)


def test_operations_on_another_server_are_refused(make: Make) -> None:
    ours = operations()
    registrar = ours.attach(make())
    for server in (make(), registrar):
        with pytest.raises(lro_grpc.ConfigurationError, match="attached to a server already"):
            ours.attach(server)


def test_operations_that_were_refused_may_be_attached_elsewhere(make: Make) -> None:
    ours, taken = operations(), make()
    add_other(taken)
    with pytest.raises(lro_grpc.ConfigurationError):
        ours.attach(taken)
    ours.attach(make())
    start(ours)


class Proxy(grpc.GenericRpcHandler):
    """Serves whatever nobody else does."""

    def service(self, handler_call_details: Any) -> Any:
        del handler_call_details
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request)


def test_a_handler_of_all_the_rest_that_is_asked_first_is_refused(make: Make) -> None:
    server = make()
    server.add_generic_rpc_handlers((Proxy(),))
    with pytest.raises(lro_grpc.ConfigurationError, match="add it after operations"):
        operations().attach(server)


class ByMetadata(grpc.GenericRpcHandler):
    """Takes calls by a header that every call of its clients has."""

    def service(self, details: Any) -> Any:
        return {"other": None}[dict(details.invocation_metadata)["x-service"]]


def test_a_handler_that_wants_more_of_a_call_is_no_rival(make: Make) -> None:
    server, ours = make(), operations()
    server.add_generic_rpc_handlers((ByMetadata(),))
    ours.attach(server)
    start(ours)


def test_a_server_with_other_services_and_a_handler_of_all_the_rest_is_none(make: Make) -> None:
    """Such as a proxy's, which is asked for what nobody else serves."""
    server, ours = make(), operations()
    registrar = ours.attach(server)
    handlers = {"Look": grpc.unary_unary_rpc_method_handler(lambda request, context: request)}
    for one in (server, registrar):
        one.add_registered_method_handlers("other.v1.Other", handlers)
        generic = grpc.method_handlers_generic_handler("other.v1.Other", handlers)
        one.add_generic_rpc_handlers((generic,))
    server.add_generic_rpc_handlers((Proxy(),))
    start(ours)


def test_operations_without_a_server_start() -> None:
    """As those behind a gateway alone."""
    ours = operations()
    gateway(ours)
    start(ours)


@pytest.mark.parametrize(
    "inside",
    [
        {},
        {"_state": SimpleNamespace()},
        {"_state": SimpleNamespace(generic_handlers=None, registered_method_handlers=None)},
        {"_state": SimpleNamespace(generic_handlers={1: 2}, registered_method_handlers=[None, 3])},
        {"_server": None},
        {"_server": SimpleNamespace(handlers={b"/a": 1, "/": 2, "name": 3}, others=([None], 4))},
    ],
)
def test_a_server_that_shows_nothing_is_refused_nothing(inside: dict[str, Any]) -> None:
    """As one of another gRPC may: what is looked at there has no public name."""
    check_alone(SimpleNamespace(**inside))


def test_a_server_that_is_gone_by_the_start_is_no_harm(make: Make) -> None:
    ours = operations()
    with contextlib.suppress(lro_grpc.ConfigurationError):
        ours.attach(make())
    start(ours)
