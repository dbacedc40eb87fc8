"""Whatever a caller sends: an answer, or a documented error and nothing stored.

Bodies are random bytes, messages with random fields, and valid messages with some bytes changed.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import sqlite3
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.longrunning import operations_pb2
from google.protobuf import duration_pb2, empty_pb2
from google.rpc import code_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from server_harness import (
    FLEET,
    OPERATIONS,
    PARENT,
    SECONDS,
    Failure,
    Instance,
    Server,
    errors_logged,
    failure_of,
    fleet,
    refused,
    serving,
    uuid_of,
)

import lro_grpc
from lro.example.v1 import fleet_service_pb2
from lro.v1 import operation_control_service_pb2 as control

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

CONTROL = "lro.v1.OperationControlService"
CREATE = f"/{FLEET}/CreateInstance"
RERUN = f"/{CONTROL}/RerunOperation"
NAME = f"{PARENT}/operations/1"
"""The first operation of a server, which is done."""

PAGED = "projects/p/locations/paged"

FUZZING = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

INVALID = grpc.StatusCode.INVALID_ARGUMENT
MISSING = grpc.StatusCode.NOT_FOUND

TEXT = st.text(max_size=30) | st.sampled_from(
    [
        NAME,
        PARENT,
        "operations",
        "operations/",
        f"{PARENT}/operations/none",
        "",
        "projects/-/locations/-",
    ]
)
WORDS = (
    *("done", "name", "state", "metadata", "metadata.state", "metadata.create_time", "error.code"),
    *("RUNNING", "true", "3", '"a"', '"2030-01-01T00:00:00Z"', "a*", "*", "-", ".", ":", "(", ")"),
    *("=", "!=", "<", "<=", ">", ">=", "AND", "OR", "NOT"),
)
FILTER = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join) | TEXT
DURATION = st.builds(
    duration_pb2.Duration,
    seconds=st.integers(-(2**63), 2**63 - 1),
    nanos=st.integers(-(2**31), 2**31 - 1),
)
INSTANCE = st.builds(Instance, name=TEXT, schema_sql=TEXT, seed_rows=st.integers(-1, 2))

# Each method's messages, what it answers with, and the codes with which it may refuse.
METHODS: dict[str, tuple[st.SearchStrategy[Message], type[Message], set[grpc.StatusCode]]] = {
    f"/{OPERATIONS}/GetOperation": (
        st.builds(operations_pb2.GetOperationRequest, name=TEXT),
        operations_pb2.Operation,
        {INVALID, MISSING},
    ),
    f"/{OPERATIONS}/ListOperations": (
        st.builds(
            operations_pb2.ListOperationsRequest,
            name=TEXT,
            filter=FILTER,
            page_size=st.integers(-(2**31), 2**31 - 1),
            page_token=st.just("") | TEXT,
            return_partial_success=st.booleans(),
        ),
        operations_pb2.ListOperationsResponse,
        {INVALID},
    ),
    f"/{OPERATIONS}/CancelOperation": (
        st.builds(operations_pb2.CancelOperationRequest, name=TEXT),
        empty_pb2.Empty,
        {INVALID, MISSING},
    ),
    f"/{OPERATIONS}/WaitOperation": (
        st.builds(operations_pb2.WaitOperationRequest, name=TEXT, timeout=DURATION),
        operations_pb2.Operation,
        {INVALID, MISSING},
    ),
    f"/{CONTROL}/PauseOperation": (
        st.builds(control.PauseOperationRequest, name=TEXT),
        empty_pb2.Empty,
        {INVALID, MISSING, grpc.StatusCode.FAILED_PRECONDITION},
    ),
    f"/{CONTROL}/ResumeOperation": (
        st.builds(control.ResumeOperationRequest, name=TEXT),
        empty_pb2.Empty,
        {INVALID, MISSING, grpc.StatusCode.FAILED_PRECONDITION},
    ),
    f"/{CONTROL}/TerminateOperation": (
        st.builds(control.TerminateOperationRequest, name=TEXT, reason=TEXT),
        control.TerminateOperationResponse,
        {INVALID, MISSING, grpc.StatusCode.FAILED_PRECONDITION},
    ),
    RERUN: (
        st.builds(
            control.RerunOperationRequest,
            name=TEXT,
            request_id=TEXT,
            validate_only=st.booleans(),
        ),
        control.RerunOperationResponse,
        {INVALID, MISSING, grpc.StatusCode.FAILED_PRECONDITION},
    ),
    f"/{CONTROL}/WatchOperation": (
        st.builds(control.WatchOperationRequest, name=TEXT),
        control.WatchOperationResponse,  # one at most, for every operation there is done
        {INVALID, MISSING},
    ),
    CREATE: (
        st.builds(
            fleet_service_pb2.CreateInstanceRequest,
            parent=TEXT,
            instance_id=TEXT,
            instance=INSTANCE,
            request_id=st.sampled_from(["", uuid_of("one"), uuid_of("two")]) | TEXT,
            validate_only=st.booleans(),
        ),
        operations_pb2.Operation,
        {INVALID, grpc.StatusCode.ALREADY_EXISTS},
    ),
    f"/{OPERATIONS}/DeleteOperation": (  # last, for it may take away what the others look at
        st.builds(operations_pb2.DeleteOperationRequest, name=TEXT),
        empty_pb2.Empty,
        {INVALID, MISSING},
    ),
}

# AIP-193's own patterns (S21)
REASON = re.compile(r"[A-Z][A-Z0-9_]{0,61}[A-Z0-9]")
KEY = re.compile(r"[a-z][a-zA-Z0-9-_]{0,63}")


@st.composite
def changed(draw: st.DrawFn, messages: st.SearchStrategy[Message]) -> bytes:
    """The bytes of a message, some of them changed, repeated, added or left out."""
    body = draw(messages).SerializeToString()
    for _ in range(draw(st.integers(1, 3))):
        begin, end = sorted(draw(st.integers(0, len(body))) for _ in range(2))
        part = draw(st.sampled_from([b"", body[begin:end] * 2]) | st.binary(max_size=4))
        body = body[:begin] + part + body[end:]
    return body


def bodies(method: str) -> st.SearchStrategy[bytes]:
    messages, _, _ = METHODS[method]
    whole = messages.map(lambda message: message.SerializeToString())
    return whole | changed(messages) | st.binary(max_size=60)


class Fuzzed:
    """A server, and what is in its file."""

    def __init__(self, server: Server, file: sqlite3.Connection) -> None:
        self.server = server
        self._file = file

    def stored(self) -> list[tuple[Any, ...]]:
        return self._file.execute("SELECT * FROM operations").fetchall()

    def answer(self, method: str, body: bytes) -> bytes | Failure:
        try:
            return self.server.call(method, body)
        except grpc.RpcError as error:
            return failure_of(error)


@pytest.fixture(scope="module", params=["sync", "aio"])
def fuzzed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fuzzed]:
    path = tmp_path_factory.mktemp("fuzz") / "operations.db"
    numbers = itertools.count(1)

    async def run(self: Any, request: Any, op: Any) -> Any:
        return Instance(name=request.instance_id)

    async def prepare(self: Any, request: Any, context: Any) -> None:
        if request.instance.seed_rows < 0:
            raise lro_grpc.InvalidArgumentError("seed_rows is negative", reason="TOO_FEW_ROWS")

    with serving(
        request.param,
        fleet("CreateInstance", run, prepare=prepare),
        store=f"sqlite:///{path}",
        new_id=lambda _: str(next(numbers)),
    ) as server:
        assert server.done(server.create().name).name == NAME
        with contextlib.closing(sqlite3.connect(path)) as file:
            yield Fuzzed(server, file)


@pytest.fixture(autouse=True)
def _serves_on(fuzzed: Fuzzed, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """After each test the server has logged no error, and answers as ever."""
    yield
    assert errors_logged(caplog) == []
    assert fuzzed.server.done(fuzzed.server.create().name).HasField("response")


def assert_documented(failure: Failure, codes: set[grpc.StatusCode]) -> None:
    assert failure.code in codes, failure
    assert failure.message
    info = failure.info
    assert REASON.fullmatch(info.reason)
    assert info.domain in ("lro-grpc", FLEET)
    assert all(KEY.fullmatch(key) for key in info.metadata), info


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.rpartition("/")[2])
@FUZZING
@given(data=st.data())
def test_whatever_is_sent_is_answered_or_refused_for_a_reason(
    fuzzed: Fuzzed, method: str, data: st.DataObject
) -> None:
    _, answered_with, codes = METHODS[method]
    before = fuzzed.stored()
    answer = fuzzed.answer(method, data.draw(bodies(method), label="body"))
    if isinstance(answer, Failure):
        assert_documented(answer, codes)
        assert fuzzed.stored() == before
        return
    message: Any = answered_with.FromString(answer)
    started = message.operation if method == RERUN else message
    if method in (CREATE, RERUN) and started.name:
        fuzzed.server.done(started.name)  # so that nothing changes any more


SHARED_WATCH = f"/{CONTROL}/WatchOperations"
NAMES = st.lists(TEXT, max_size=5)
WATCHES = st.builds(
    control.WatchOperationsRequest, names=NAMES, ends_only=st.booleans(), dropped_names=NAMES
)


@FUZZING
@given(
    sent=st.lists(
        WATCHES.map(lambda one: one.SerializeToString()) | changed(WATCHES) | st.binary(max_size=60)
    )
)
def test_whatever_is_sent_on_one_stream_each_name_is_answered_or_the_stream_is_refused(
    fuzzed: Fuzzed, sent: list[bytes]
) -> None:
    """Every operation there is done."""
    call = fuzzed.server.channel.stream_stream(SHARED_WATCH)
    try:
        answers = [
            control.WatchOperationsResponse.FromString(one)
            for one in call(iter(sent), timeout=SECONDS)
        ]
    except grpc.RpcError as error:
        assert_documented(failure_of(error), {INVALID})
        return
    added = [n for one in sent for n in control.WatchOperationsRequest.FromString(one).names]
    answered = {operation.name for answer in answers for operation in answer.operations}
    unwatched = [one for answer in answers for one in answer.unwatched_operations]
    assert {one.error.code for one in unwatched} <= {
        code_pb2.INVALID_ARGUMENT,
        code_pb2.NOT_FOUND,
    }
    assert answered | {one.name for one in unwatched} == {*added}


@pytest.fixture(scope="module")
def page_token(fuzzed: Fuzzed) -> str:
    for _ in range(2):
        fuzzed.server.done(fuzzed.server.create(parent=PAGED).name)
    token: str = fuzzed.server.list(PAGED, page_size=1).next_page_token
    assert fuzzed.server.list(PAGED, page_token=token).operations
    return token


@FUZZING
@given(data=st.data())
def test_a_page_token_with_a_bit_changed_is_refused(
    fuzzed: Fuzzed, page_token: str, data: st.DataObject
) -> None:
    token = bytearray(page_token.encode())
    token[data.draw(st.integers(0, len(token) - 1))] ^= 1 << data.draw(st.integers(0, 6))
    _assert_refused(fuzzed, PAGED, token.decode())


@FUZZING
@given(parent=st.from_regex(r"[a-z]{1,9}(/[a-z]{1,9}){0,4}", fullmatch=True).filter(PAGED.__ne__))
def test_a_page_token_of_another_parent_is_refused(
    fuzzed: Fuzzed, page_token: str, parent: str
) -> None:
    _assert_refused(fuzzed, parent, page_token)


def _assert_refused(fuzzed: Fuzzed, parent: str, token: str) -> None:
    failure = refused(lambda: fuzzed.server.list(parent, page_token=token))
    assert failure.info.reason == "INVALID_PAGE_TOKEN"
    assert_documented(failure, {INVALID})
