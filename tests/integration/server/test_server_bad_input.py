"""Requests that cannot be right: the canonical code with ErrorInfo, nothing stored or logged."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from declared import FIELD, Declared, Rpc
from google.longrunning import operations_pb2
from server_harness import (
    FLEET,
    OPERATIONS,
    PARENT,
    SECONDS,
    Failure,
    Instance,
    Server,
    errors_logged,
    fleet,
    refused,
    serving,
    uuid_of,
)

import lro_grpc
from lro.example.v1 import fleet_service_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Serve = Any

REQUESTS = {
    "GetOperation": operations_pb2.GetOperationRequest,
    "ListOperations": operations_pb2.ListOperationsRequest,
    "CancelOperation": operations_pb2.CancelOperationRequest,
    "DeleteOperation": operations_pb2.DeleteOperationRequest,
    "WaitOperation": operations_pb2.WaitOperationRequest,
}
CREATE = f"/{FLEET}/CreateInstance"
EVERY_METHOD = [*(f"/{OPERATIONS}/{method}" for method in REQUESTS), CREATE]
BY_NAME = sorted(set(REQUESTS) - {"ListOperations"})

# AIP-193's own patterns (S21)
REASON = re.compile(r"[A-Z][A-Z0-9_]+[A-Z0-9]")
KEY = re.compile(r"[a-z][a-zA-Z0-9-_]+")


@pytest.fixture(scope="module", params=["sync", "aio"])
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Path]]:
    """A server with one operation that is done, and its file."""
    path = tmp_path_factory.mktemp("bad_input") / "operations.db"

    async def run(self: Any, request: Any, op: Any) -> Any:
        return Instance()

    with serving(
        request.param,
        fleet("CreateInstance", run),
        store=f"sqlite:///{path}",
        options=[("grpc.max_receive_message_length", 200_000)],
    ) as server:
        server.done(server.create().name)
        yield server, path


def stored(path: Path) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT * FROM operations").fetchall()


@pytest.fixture
def server(shared: tuple[Server, Path], caplog: pytest.LogCaptureFixture) -> Iterator[Server]:
    """The server, which after the test has stored and logged nothing, and serves on."""
    server, path = shared
    before = stored(path)
    yield server
    assert stored(path) == before
    assert errors_logged(caplog) == []
    assert len(server.names()) == 1


def call(server: Server, method: str, **fields: Any) -> bytes:
    body = REQUESTS[method](**fields).SerializeToString()
    return server.call(f"/{OPERATIONS}/{method}", body)


def assert_is(failure: Failure, code: grpc.StatusCode, reason: str) -> None:
    assert failure.code is code
    assert failure.message
    info = failure.info
    assert info.reason == reason
    assert info.domain == "lro-grpc"
    assert REASON.fullmatch(info.reason)
    assert all(KEY.fullmatch(key) for key in info.metadata)


MALFORMED = [
    "x",
    "operations",
    "operations/",
    "/operations/op-1",
    "operations/a/b",
    "operations/.",
    "operations/..",
    "operations/a b",
    "operations/é",
    "operations/a\x00",
    "operations/a\n",
    "operations/a?b=c",
    "operations/" + "a" * 129,
    "Operations/a",
    "//operations/a",
    "projects//operations/a",
    "operations/operations/a",
    "projects/../operations/a",
    "projects/p q/operations/a",
    f"{'p' * 256}/operations/a",
    f"{'/'.join(['p'] * 600)}/operations/a",
    "'; DROP TABLE operations; --",
    "x" * 100_000,
]


@pytest.mark.parametrize("name", MALFORMED, ids=lambda name: repr(name[:30]))
def test_a_malformed_name_is_an_invalid_argument(server: Server, name: str) -> None:
    for method in BY_NAME:
        failure = refused(lambda method=method: call(server, method, name=name))
        assert_is(failure, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_NAME")


@pytest.mark.parametrize(
    "name",
    [
        "operations/op-none",
        f"{PARENT}/operations/op-none",
        "operations/" + "a" * 128,
        f"{'/'.join(['p' * 255] * 4)}/operations/a",
        "operations/%27%20OR%201=1/operations/a",
    ],
    ids=lambda name: repr(name[:30]),
)
def test_an_unknown_name_is_not_found(server: Server, name: str) -> None:
    """S19, S20: what it is not, to those who may ask."""
    for method in BY_NAME:
        failure = refused(lambda method=method: call(server, method, name=name))
        assert_is(failure, grpc.StatusCode.NOT_FOUND, "OPERATION_NOT_FOUND")
        assert failure.info.metadata["name"] == name


@pytest.mark.parametrize("method", REQUESTS)
def test_an_empty_request_names_nothing(server: Server, method: str) -> None:
    failure = refused(lambda: server.call(f"/{OPERATIONS}/{method}", b""))
    assert_is(failure, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_NAME")


@pytest.mark.parametrize(
    "body",
    [
        b"\xff",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x0a\x05abc",  # a string that is longer than the message
        b"\x0a\x02\xff\xfe",  # a string that is not UTF-8
        b"not a message at all",
        b"\x00",  # field 0
        b"\x0b",  # a group that does not end
        bytes(range(256)) * 50,
    ],
    ids=lambda body: repr(body[:12]),
)
@pytest.mark.parametrize("method", EVERY_METHOD, ids=lambda m: m.rpartition("/")[2])
def test_an_unparsable_body_is_an_invalid_argument(
    server: Server, method: str, body: bytes
) -> None:
    failure = refused(lambda: server.call(method, body))
    assert_is(failure, grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST")


@pytest.mark.parametrize("method", REQUESTS)
def test_unknown_fields_are_ignored(server: Server, method: str) -> None:
    """A newer client may send what this server has not heard of."""
    unknown = b"\xfa\x3f\x03new"
    request = REQUESTS[method](name=PARENT if method == "ListOperations" else "operations/none")
    body = request.SerializeToString() + unknown
    if method == "ListOperations":
        assert server.call(f"/{OPERATIONS}/{method}", body)
    else:
        failure = refused(lambda: server.call(f"/{OPERATIONS}/{method}", body))
        assert failure.code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("length", [1_000, 20_000, 100_000])
def test_a_long_filter_is_refused_as_a_short_one_is(server: Server, length: int) -> None:
    """An error travels in the trailers, whose size is limited: it must not repeat the request."""
    text = "x" * length + " ="
    failure = refused(lambda: call(server, "ListOperations", name=PARENT, filter=text))
    assert_is(failure, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FILTER")


def test_a_long_page_token_is_refused_as_a_short_one_is(server: Server) -> None:
    failure = refused(lambda: call(server, "ListOperations", name=PARENT, page_token="A" * 100_000))
    assert_is(failure, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")


@pytest.mark.parametrize("length", [1_000, 20_000])
def test_a_long_request_id_is_refused_as_a_short_one_is(
    serve: Serve, length: int, caplog: pytest.LogCaptureFixture
) -> None:
    fields = {"name": FIELD.TYPE_STRING, "request_id": FIELD.TYPE_STRING}
    declared = Declared({"MakeThing": Rpc(info=("Thing", "Progress"))}, {"Query": fields})
    ask = declared.message("Query")
    method = declared.method("MakeThing")

    def configure(operations: lro_grpc.Operations) -> None:
        thing = declared.message("Thing")
        operations.add_method(method, lambda _, op: thing(), request=ask, response=thing)

    server = serve(configure=configure)
    request_id = "x" * length
    server.start(method, ask(name="a", request_id=request_id))
    failure = refused(lambda: server.start(method, ask(name="b", request_id=request_id)))
    assert_is(failure, grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert errors_logged(caplog) == []


@pytest.mark.parametrize("method", [f"/{OPERATIONS}/GetOperation", CREATE])
def test_a_message_above_the_limit_is_refused_by_grpc(server: Server, method: str) -> None:
    failure = refused(lambda: server.call(method, b"\x0a" * 200_001))
    assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert failure.status is None  # grpc's own refusal has no details


@pytest.mark.parametrize(
    "method",
    [
        f"/{OPERATIONS}/CreateOperation",
        f"/{OPERATIONS}/getOperation",
        "/google.longrunning.operations/GetOperation",
        f"/{FLEET}/NoSuchMethod",
        "/x",
    ],
)
def test_an_unknown_method_is_unimplemented(server: Server, method: str) -> None:
    """There is no ``CreateOperation`` (P12)."""
    assert refused(lambda: server.call(method, b"")).code is grpc.StatusCode.UNIMPLEMENTED


def test_a_start_with_every_text_at_its_strangest_is_stored_as_it_is(serve: Serve) -> None:
    seen: list[Any] = []

    async def run(self: Any, request: Any, op: Any) -> Any:
        seen.append(request)
        return Instance()

    server = serve(fleet("CreateInstance", run))
    request = fleet_service_pb2.CreateInstanceRequest(
        parent="\x00☃'\"; --",
        instance_id="\U0001f600" * 1000,
        request_id=uuid_of("r"),
        instance=Instance(schema_sql="\n\x00' OR 1=1"),
    )
    first = server.fleet.CreateInstance(request, timeout=SECONDS)
    assert server.done(first.name).HasField("response")
    assert server.fleet.CreateInstance(request, timeout=SECONDS).name == first.name
    assert seen == [request]
