"""The errors that RPCs end with: of this package's classes, and of gRPC's own."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from fake_operations import CANCEL, GET, WAIT, WATCH, FakeOperations, FakeServer, operation
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from pages import Page
from server_harness import Server, fleet, serving

import lro_grpc
from lro.example.v1 import fleet_service_lro, fleet_service_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sides import Side

PARENT = "projects/p/locations/l"

OF_A_CLIENT = {"OperationFailedError", "OperationCancelledError", "OperationTimeoutError"}
"""The errors that a client makes of an operation: they are about no RPC."""

KINDS = [
    kind
    for name in lro_grpc.__all__
    if inspect.isclass(kind := getattr(lro_grpc, name))
    and issubclass(kind, lro_grpc.LroError)
    and name not in OF_A_CLIENT
]
"""Every other error."""


def raised(kind: Any) -> lro_grpc.LroError:
    if kind is lro_grpc.LimitReachedError:
        return lro_grpc.LimitReachedError("no: try later", subject="queue")
    error: lro_grpc.LroError = kind("no: try later", metadata={"size": "9"})
    return error


@pytest.fixture(params=["sync", "aio"])
def refusing(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server whose ``prepare`` raises the error that the request names."""

    async def run(self: Any, request: Any, op: Any) -> Any:
        raise AssertionError

    def prepare(self: Any, request: Any, context: Any) -> None:
        raise raised(getattr(lro_grpc, request.instance_id))

    servicer = fleet("CreateInstance", run, prepare=prepare)
    with serving(request.param, servicer, error_domain="fleet.example") as one:
        yield one


def refusal(refusing: Server, sides: Any, kind: Any, *, is_async: bool) -> Any:
    side = sides["async" if is_async else "sync"](refusing.target)
    made = (
        fleet_service_lro.AsyncFleetServiceClient
        if is_async
        else fleet_service_lro.FleetServiceClient
    )
    client = made(side.channel, retry=None)
    request = fleet_service_pb2.CreateInstanceRequest(parent=PARENT, instance_id=kind.__name__)
    try:
        with pytest.raises(grpc.RpcError) as caught:
            side.run(client.CreateInstance(request))
        return caught.value
    finally:
        side.close()


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_error_of_a_prepare_arrives_as_the_class_that_it_is(
    refusing: Server, sides: Any, kind: Any, is_async: bool
) -> None:
    error = refusal(refusing, sides, kind, is_async=is_async)
    # These two are words of a service to its engine and deliverer; a caller sees their codes.
    of_code = {
        lro_grpc.RetryableError: lro_grpc.UnavailableError,
        lro_grpc.UndeliverableError: lro_grpc.LroError,
    }
    expected = of_code.get(kind, kind)
    assert isinstance(error, expected)
    assert type(error).__name__ == expected.__name__
    assert isinstance(error, grpc.aio.AioRpcError) is is_async
    sent = raised(kind)
    assert (error.code, error.message, error.reason) == (sent.code, sent.message, sent.reason)
    assert error.domain == (sent.domain or "fleet.example")
    assert error.metadata == sent.metadata
    assert error.details[1:] == sent.details


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_the_error_of_a_start_is_all_that_grpcs_own_is(
    refusing: Server, sides: Any, is_async: bool
) -> None:
    error = refusal(refusing, sides, lro_grpc.PermissionDeniedError, is_async=is_async)
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert error.details() == "no: try later"
    assert "grpc-status-details-bin" in dict(error.trailing_metadata())
    assert error.initial_metadata() is not None
    assert error.debug_error_string()
    status = rpc_status.from_call(error)
    assert (status.code, status.message) == (error.code, error.message)
    for same in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert type(same) is type(error)
        assert (str(same), same.code(), same.details()) == (
            str(error),
            error.code(),
            error.details(),
        )
        assert list(same.trailing_metadata()) == list(error.trailing_metadata())


CALLS = {
    GET: lambda client: client.get("operations/1"),
    WAIT: lambda client: client.wait("operations/1"),
    CANCEL: lambda client: client.cancel("operations/1"),
}


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize(
    "code", [one for one in grpc.StatusCode if one is not grpc.StatusCode.OK], ids=str
)
def test_the_error_of_every_code_is_caught_as_grpcs_own_stubs_have_it(
    side: Side, fake: FakeOperations, method: str, code: grpc.StatusCode
) -> None:
    fake.always(method, code)
    with pytest.raises(grpc.aio.AioRpcError if side.is_async else grpc.RpcError) as caught:
        side.run(CALLS[method](side.client(retry=None)))
    error: Any = caught.value
    assert isinstance(error, lro_grpc.LroError)
    assert error.code() is code
    assert error.code == lro_grpc.Code[code.name]
    assert error.details() == error.message == f"{method} says {code.name}"
    assert error.operation_name == "operations/1"
    assert str(error) == f"{code.name}: operations/1: {method} says {code.name}"


@pytest.mark.parametrize("wait", ["result", "exception", "updates", "done", "cancel"])
def test_the_error_of_any_call_of_a_future_is_grpcs_too(
    side: Side, fake: FakeOperations, wait: str
) -> None:
    for method in (WATCH, WAIT, GET, CANCEL):
        denied = grpc.StatusCode.PERMISSION_DENIED
        fake.always(method, [denied] if method == WATCH else denied)
    future = side.client().attach("operations/1")
    with pytest.raises(grpc.RpcError) as caught:
        side.run(side.items(future.updates()) if wait == "updates" else getattr(future, wait)())
    assert isinstance(caught.value, lro_grpc.PermissionDeniedError)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert str(caught.value).startswith("PERMISSION_DENIED: operations/1: ")


def test_the_error_of_a_list_names_no_operation(side: Side, fake: FakeOperations) -> None:
    fake.always("ListOperations", grpc.StatusCode.INTERNAL)
    with pytest.raises(grpc.RpcError) as caught:
        side.items(side.client().list("projects/p"))
    assert str(caught.value) == "INTERNAL: ListOperations says INTERNAL"


def test_an_answer_that_is_no_message_is_an_error_of_grpcs_on_both_sides(
    side: Side, server: FakeServer
) -> None:
    server.broken.add(GET)
    with pytest.raises(grpc.RpcError) as caught:
        side.run(side.client().get("operations/1"))
    assert caught.value.code() is grpc.StatusCode.INTERNAL


def test_a_failed_operation_is_no_failed_rpc(side: Side, fake: FakeOperations) -> None:
    fake.put(operation(error=lro_grpc.Code.NOT_FOUND))
    with pytest.raises(lro_grpc.OperationFailedError) as caught:
        side.run(side.client().attach("operations/1").result())
    assert not isinstance(caught.value, grpc.RpcError)
    assert str(caught.value) == "operations/1 failed: NOT_FOUND: the disk is full"


def test_a_foreign_servers_refusal_is_known_by_its_code_alone(
    side: Side, fake: FakeOperations
) -> None:
    """Its reason may be one of this package's by chance."""
    status = status_pb2.Status(code=lro_grpc.Code.NOT_FOUND, message="no")
    status.details.add().Pack(
        error_details_pb2.ErrorInfo(reason="OPERATION_NOT_FOUND", domain="o.example")
    )

    def refuse(request: Any, context: grpc.ServicerContext) -> Any:
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(grpc.StatusCode.NOT_FOUND, "no")

    fake.always(GET, refuse)
    with pytest.raises(grpc.RpcError) as caught:
        side.run(side.client().get("operations/1"))
    assert not isinstance(caught.value, lro_grpc.OperationNotFoundError)
    assert str(caught.value) == "NOT_FOUND (OPERATION_NOT_FOUND): operations/1: no"


def test_a_handler_that_lets_an_rpcs_error_through_fails_with_it(
    server: FakeServer, fake: FakeOperations
) -> None:
    """The operation's error is the RPC's; and the operation's own caller catches no RpcError."""
    fake.always(GET, grpc.StatusCode.RESOURCE_EXHAUSTED)

    def run(self: Any, request: Any, op: Any) -> Any:
        with grpc.insecure_channel(server.target) as channel:
            lro_grpc.OperationsClient(channel).get("operations/1")

    with serving("sync", fleet("CreateInstance", run)) as one:
        ended = one.done(one.create(instance_id="i").name)
    assert ended.error.code == lro_grpc.Code.RESOURCE_EXHAUSTED
    assert ended.error.message == "GetOperation says RESOURCE_EXHAUSTED"


def test_the_pages_except_block_goes_on_catching(
    server: FakeServer, fake: FakeOperations, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = Page("learn/errors.md").section("Old except clauses").blocks("python")
    with grpc.insecure_channel(server.target) as channel:
        client = lro_grpc.OperationsClient(channel)
        names: dict[str, Any] = {"client": client, "name": "operations/1", "grpc": grpc}
        block.run(**names)
        assert "there is no operations/1" in capsys.readouterr().out
        fake.always(GET, grpc.StatusCode.INTERNAL)
        fake.always(WAIT, grpc.StatusCode.INTERNAL)
        with pytest.raises(grpc.RpcError):
            block.run(**names)
