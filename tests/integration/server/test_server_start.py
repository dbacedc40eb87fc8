"""Starting an operation: prepare, names, metadata, request_id and validate_only."""

from __future__ import annotations

import asyncio
import inspect
import queue
import threading
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from declared import FIELD, Declared, Rpc
from google.longrunning import operations_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from server_harness import (
    FLEET,
    PARENT,
    SECONDS,
    Gate,
    Held,
    Instance,
    Server,
    defined_with,
    elapsed,
    errors_logged,
    failure_of,
    fleet,
    metadata_of,
    refused,
    response_of,
    together,
    uuid_of,
)

import lro_grpc
from lro.example.v1 import fleet_service_pb2
from lro.v1 import state_pb2
from lro_grpc.stores import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable

Serve = Any

CREATE = f"/{FLEET}/CreateInstance"


def done_at_once(self: Any, request: Any, op: Any) -> Any:
    del self
    return Instance(name=f"{request.parent}/instances/{request.instance_id}", seed_rows=op.attempt)


def counting(handler_keyword: str = "async def") -> tuple[Callable[..., Any], list[str]]:
    """Returns a handler, and the list of the operations that it has run."""
    ran: list[str] = []

    def run(self: Any, request: Any, op: Any) -> Any:
        ran.append(op.name)
        return done_at_once(self, request, op)

    return defined_with(handler_keyword, run), ran


# From start to done (P1, P2, P12)


def test_the_start_answers_before_the_handler_is_through(
    serve: Serve, held: Held, store: str
) -> None:
    """An operation can be seen as soon as its start is answered (P12)."""
    server = serve(held.servicer(), store=store)
    started = server.create(instance_id="i")
    assert server.names() == [started.name]
    assert held.next() == started.name
    running = server.get(started.name)
    assert running.WhichOneof("result") is None  # P2
    assert not running.done
    assert metadata_of(running).state == state_pb2.JOB_STATE_RUNNING

    held.gate.open()
    ended = server.done(started.name)
    assert response_of(ended) == Instance(name=f"{PARENT}/instances/i", seed_rows=1)
    assert metadata_of(ended).state == state_pb2.JOB_STATE_SUCCEEDED


def test_the_metadata_shows_what_is_done_to_what(serve: Serve, held: Held) -> None:
    server = serve(held.servicer())
    started = metadata_of(server.create(instance_id="i"))
    held.next()
    held.gate.open()
    (name,) = server.names()
    ended = metadata_of(server.done(name))
    assert started.target == ended.target == f"{PARENT}/instances/i"
    assert started.verb == ended.verb == "create"
    assert started.api_version == ended.api_version == "v1"
    assert ended.attempt == 1
    times = [started.create_time, ended.start_time, ended.end_time]
    instants = [time.ToNanoseconds() for time in times]
    assert instants == sorted(instants)
    assert all(instants)


def test_an_operation_is_created_at_the_stores_time(serve: Serve, held: Held) -> None:
    """Whatever the clock of the server says: others that share the store have other clocks."""
    server = serve(held.servicer(), store=MemoryStore(lambda: 1_800_000_000_000_000))
    started = metadata_of(server.create(instance_id="i"))
    assert started.create_time.ToMicroseconds() == 1_800_000_000_000_000


def test_an_operations_name_is_under_its_parent_and_unguessable(
    serve: Serve, handler_keyword: str
) -> None:
    run, _ = counting(handler_keyword)
    server = serve(fleet("CreateInstance", run))
    names = {server.create().name for _ in range(20)}
    assert len(names) == 20
    for name in names:
        parent, _, operation_id = name.rpartition("/operations/")
        assert parent == PARENT
        assert operation_id.startswith("op-")
        assert len(operation_id) == 3 + 26


# The parent of the name, and the conventional fields


@pytest.mark.parametrize(
    ("prepared", "parent", "expected"),
    [
        (None, PARENT, PARENT),
        (None, f"{PARENT}/instances/i/backups/b", PARENT),
        (None, "folders/1", ""),
        (None, "", ""),
        (None, "projects/p/locations", ""),
        (lro_grpc.Prepared(target="projects/t/locations/t/x/y"), PARENT, "projects/t/locations/t"),
        (lro_grpc.Prepared(target="instances/i"), PARENT, PARENT),
        (lro_grpc.Prepared(target=f"{PARENT}/i/i", parent="folders/9"), PARENT, "folders/9"),
        (lro_grpc.Prepared(target=f"{PARENT}/i/i", parent=""), PARENT, ""),
    ],
)
def test_the_parent_is_prepared_or_found_in_target_or_request(
    serve: Serve, prepared: lro_grpc.Prepared | None, parent: str, expected: str
) -> None:
    def prepare(self: Any, request: Any, context: Any) -> Any:
        del self, request, context
        return prepared

    run, _ = counting()
    server = serve(fleet("CreateInstance", run, prepare=prepare))
    operation = server.create(parent=parent)
    assert operation.name.rpartition("operations/")[0] == (f"{expected}/" if expected else "")
    assert metadata_of(operation).target == (prepared.target if prepared else "")
    assert server.names(expected or "operations") == [operation.name]


@pytest.mark.parametrize(
    "parent",
    [
        "projects/a b/locations/l",
        "projects/é/locations/l",
        "projects/../locations/l",
        "projects/a\nb/locations/l",
        f"projects/{'p' * 2000}/locations/l",
    ],
)
def test_no_operation_gets_a_name_that_cannot_be_asked_for(serve: Serve, parent: str) -> None:
    """A request's parent is the caller's own text; a name made of it has to be one (P1)."""
    run, ran = counting()
    server = serve(fleet("CreateInstance", run))
    try:
        name = server.create(parent=parent).name
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT  # noqa: PT017
        assert server.names("operations") == ran == []
    else:
        assert server.get(name).name == server.done(name).name == name
        assert server.names(name.rpartition("/operations/")[0] or "operations") == [name]
        server.cancel(name)
        server.delete(name)


@pytest.mark.parametrize(
    ("method", "request_message", "verb"),
    [
        ("CreateInstance", fleet_service_pb2.CreateInstanceRequest(parent=PARENT), "create"),
        (
            "BatchCreateInstances",
            fleet_service_pb2.BatchCreateInstancesRequest(parent=PARENT),
            "batchCreate",
        ),
        (
            "TakeSnapshot",
            fleet_service_pb2.TakeSnapshotRequest(name=f"{PARENT}/instances/i"),
            "takeSnapshot",
        ),
        (
            "DeleteInstance",
            fleet_service_pb2.DeleteInstanceRequest(name=f"{PARENT}/instances/i"),
            "delete",
        ),
    ],
)
def test_the_verb_is_the_methods_own_and_the_parent_is_in_either_field(
    serve: Serve, gate: Gate, method: str, request_message: Any, verb: str
) -> None:
    async def run(self: Any, request: Any, op: Any) -> Any:
        await gate.pass_by_async()

    server = serve(fleet(method, run))
    operation = server.start(f"/{FLEET}/{method}", request_message)
    metadata = metadata_of(operation)
    assert (metadata.verb, metadata.api_version) == (verb, "v1")
    assert operation.name.startswith(f"{PARENT}/operations/op-")


def test_the_options_override_verb_and_api_version(serve: Serve) -> None:
    run, _ = counting()
    server = serve(fleet("CreateInstance", run, verb="conjure", api_version="v9"))
    metadata = metadata_of(server.create())
    assert (metadata.verb, metadata.api_version) == ("conjure", "v9")


def prepare_with_verb(verb: Any) -> Any:
    return lambda self, request, context: lro_grpc.Prepared(verb=verb)


@pytest.mark.parametrize("verb", ["insert", ""])
def test_a_prepare_knows_the_verb_of_its_request(serve: Serve, verb: str) -> None:
    run, _ = counting()
    server = serve(fleet("CreateInstance", run, prepare=prepare_with_verb(verb), verb="conjure"))
    assert metadata_of(server.create()).verb == verb


def test_a_verb_that_is_no_text_is_refused(serve: Serve) -> None:
    run, ran = counting()
    server = serve(fleet("CreateInstance", run, prepare=prepare_with_verb(5)))
    failure = refused(server.create)
    assert failure.code is grpc.StatusCode.INTERNAL
    assert ran == []


def test_the_options_limit_how_many_run_at_a_time(serve: Serve, held: Held) -> None:
    """S6: what may not run yet may be queued."""
    server = serve(held.servicer(concurrency=2))
    started = [server.create(instance_id=f"i{n}").name for n in range(4)]
    assert {held.next(), held.next()} == set(started[:2])
    waiting = metadata_of(server.get(started[2]))
    assert waiting.state == state_pb2.JOB_STATE_QUEUED
    assert not waiting.HasField("start_time")
    assert held.began.empty()
    held.gate.open()
    assert all(server.done(name).HasField("response") for name in started)
    assert {held.next(), held.next()} == set(started[2:])


def test_the_options_max_attempts_is_kept_with_the_operation(serve: Serve, file_url: str) -> None:
    """Lost on its only attempt, the operation ends ABORTED and does not run again (R3)."""
    stuck = threading.Event()
    ran: queue.SimpleQueue[str] = queue.SimpleQueue()

    def run(self: Any, request: Any, op: Any) -> Any:
        ran.put(op.name)
        stuck.wait(SECONDS)
        return Instance()

    servicer = fleet("CreateInstance", run, max_attempts=1)
    first = serve(servicer, store=file_url, grace=0.05)
    name = first.create().name
    assert ran.get(timeout=SECONDS) == name
    first.stop()  # its thread cannot be stopped, so nobody gives the operation back

    second = serve(servicer, store=file_url)
    assert second.operations.recovered == 1
    ended = second.done(name)
    stuck.set()
    assert ended.error.code == code_pb2.ABORTED
    assert ran.empty()


# Prepare (S3): what it raises or aborts with is the RPC's own error


@pytest.fixture(params=["def", "async def"])
def prepare_keyword(request: pytest.FixtureRequest) -> str:
    return request.param


def prepared_by(
    serve: Serve, prepare_keyword: str, prepare: Callable[..., Any], **how: Any
) -> tuple[Server, list[str]]:
    """Serves a fleet whose prepare is this; ``prepare`` takes the request and the context."""

    def bound(self: Any, request: Any, context: Any) -> Any:
        del self
        return prepare(request, context)

    run, ran = counting()
    stack = defined_with(prepare_keyword, bound)
    return serve(fleet("CreateInstance", run, prepare=stack), **how), ran


def test_a_prepare_that_agrees_names_the_target(serve: Serve, prepare_keyword: str) -> None:
    server, _ = prepared_by(
        serve, prepare_keyword, lambda request, _: lro_grpc.Prepared(target=request.instance_id)
    )
    assert metadata_of(server.create(instance_id="mine")).target == "mine"


def test_a_prepare_may_return_nothing(serve: Serve, prepare_keyword: str) -> None:
    server, _ = prepared_by(serve, prepare_keyword, lambda _, __: None)
    assert server.done(server.create().name).HasField("response")


def test_a_prepare_sends_metadata_beside_the_servers_own(
    serve: Serve, prepare_keyword: str
) -> None:
    more = (("quota-left", "7"), ("cost-bin", b"\xff"))

    def prepare(self: Any, request: Any, context: Any) -> None:
        context.send_initial_metadata(more)
        context.set_trailing_metadata(more)

    async def prepare_async(self: Any, request: Any, context: Any) -> None:
        await context.send_initial_metadata(more)
        context.set_trailing_metadata(more)

    run, _ = counting()
    chosen = prepare if prepare_keyword == "def" else prepare_async
    server = serve(fleet("CreateInstance", run, prepare=chosen), poll_after=timedelta(seconds=2))
    operation, call = server.fleet.CreateInstance.with_call(
        fleet_service_pb2.CreateInstanceRequest(parent=PARENT), timeout=SECONDS
    )
    assert operation.name
    sent = dict(call.initial_metadata())
    assert sent == {**dict(more), "lro-poll-after-ms": "2000"}
    assert dict(call.trailing_metadata()) == dict(more)


def test_a_prepare_raises_an_lro_error_with_details(
    serve: Serve, prepare_keyword: str, caplog: pytest.LogCaptureFixture
) -> None:
    violation = error_details_pb2.BadRequest.FieldViolation(field="instance_id", description="no")
    bad_request = error_details_pb2.BadRequest(field_violations=[violation])

    def prepare(request: Any, context: Any) -> Any:
        raise lro_grpc.LroError(
            "instance_id 'é' is not allowed",
            code=lro_grpc.Code.FAILED_PRECONDITION,
            reason="BAD_ID",
            metadata={"instance_id": "x"},
            details=[bad_request],
        )

    server, ran = prepared_by(serve, prepare_keyword, prepare)
    failure = refused(server.create)
    assert failure.code is grpc.StatusCode.FAILED_PRECONDITION
    assert failure.message == "instance_id 'é' is not allowed"
    assert failure.info == error_details_pb2.ErrorInfo(
        reason="BAD_ID", domain=FLEET, metadata={"instance_id": "x"}
    )
    assert failure.status is not None
    kept = [d for d in failure.status.details if d.Is(bad_request.DESCRIPTOR)]
    assert [error_details_pb2.BadRequest.FromString(d.value) for d in kept] == [bad_request]
    assert server.names() == []
    assert ran == []
    assert errors_logged(caplog) == []


def aborting(prepare_keyword: str, abort: Callable[[Any], Any]) -> Callable[..., Any]:
    """Returns a prepare with the keyword that aborts: on grpc.aio an ``async def`` awaits it."""

    def plain(self: Any, request: Any, context: Any) -> Any:
        abort(context)
        raise AssertionError("abort has returned")

    async def awaiting(self: Any, request: Any, context: Any) -> Any:
        aborted = abort(context)
        if inspect.isawaitable(aborted):
            await aborted
        raise AssertionError("abort has returned")

    return plain if prepare_keyword == "def" else awaiting


def test_a_prepare_aborts(
    serve: Serve, prepare_keyword: str, caplog: pytest.LogCaptureFixture
) -> None:
    run, ran = counting()
    prepare = aborting(
        prepare_keyword, lambda context: context.abort(grpc.StatusCode.NOT_FOUND, "no such fleet")
    )
    server = serve(fleet("CreateInstance", run, prepare=prepare))
    failure = refused(server.create)
    assert failure.code is grpc.StatusCode.NOT_FOUND
    assert failure.message == "no such fleet"
    assert server.names() == []
    assert ran == []
    assert errors_logged(caplog) == []


class _Status(grpc.Status):
    """A Status as grpc_status.rpc_status.to_status makes it."""

    def __init__(self, status: status_pb2.Status) -> None:
        self.code = grpc.StatusCode.RESOURCE_EXHAUSTED
        self.details = status.message
        self.trailing_metadata = (("grpc-status-details-bin", status.SerializeToString()),)


def test_a_prepare_aborts_with_a_status(serve: Serve, prepare_keyword: str) -> None:
    info = error_details_pb2.ErrorInfo(reason="NO_ROOM", domain="fleet.example.com")
    status = status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="the fleet is full")
    status.details.add().Pack(info)
    run, _ = counting()
    prepare = aborting(prepare_keyword, lambda context: context.abort_with_status(_Status(status)))
    server = serve(fleet("CreateInstance", run, prepare=prepare))
    failure = refused(server.create)
    assert failure.status == status
    assert failure.info == info
    assert server.names() == []


@pytest.mark.parametrize("code", [grpc.StatusCode.OK, 5, None])
def test_a_prepare_aborts_with_what_refuses_nothing(
    serve: Serve, prepare_keyword: str, code: Any
) -> None:
    """It is UNKNOWN, as gRPC makes it: an abort is never an answer."""
    run, _ = counting()
    prepare = aborting(prepare_keyword, lambda context: context.abort(code, None))
    server = serve(fleet("CreateInstance", run, prepare=prepare))
    assert refused(server.create).code is grpc.StatusCode.UNKNOWN
    assert server.names() == []


def test_a_prepare_fails_unexpectedly(
    serve: Serve, prepare_keyword: str, caplog: pytest.LogCaptureFixture
) -> None:
    def prepare(request: Any, context: Any) -> Any:
        raise RuntimeError("the password is tiger")

    server, ran = prepared_by(serve, prepare_keyword, prepare)
    failure = refused(server.create)
    assert failure.code is grpc.StatusCode.INTERNAL
    assert failure.info.reason == "UNEXPECTED"
    assert failure.info.domain == "lro-grpc"
    incident = failure.info.metadata["incident"]
    assert incident in failure.message
    assert failure.status is not None
    assert b"tiger" not in failure.status.SerializeToString()
    (logged,) = errors_logged(caplog)
    assert incident in logged
    assert "tiger" in caplog.text
    assert server.names() == []
    assert ran == []
    assert refused(server.create).info.metadata["incident"] != incident  # the server goes on


def test_a_new_id_that_exits_ends_neither_the_call_nor_the_server(serve: Serve) -> None:
    ids: Any = iter([SystemExit(3), KeyboardInterrupt(), "op-1"])

    def new_id(request: Any) -> str:
        one = next(ids)
        if isinstance(one, BaseException):
            raise one
        return str(one)

    server = serve(fleet("CreateInstance", lambda self, request, op: Instance()), new_id=new_id)
    for _ in range(2):
        assert refused(server.create).info.reason == "UNEXPECTED"
    assert server.create().name.endswith("/op-1")


def test_a_prepare_that_sets_a_code_has_refused_the_start(
    serve: Serve, prepare_keyword: str
) -> None:
    """gRPC's other way to fail an RPC; a caller that gets it must not have started anything."""

    def prepare(request: Any, context: Any) -> Any:
        context.set_code(grpc.StatusCode.PERMISSION_DENIED)
        context.set_details("not yours")

    server, ran = prepared_by(serve, prepare_keyword, prepare)
    failure = refused(server.create)
    assert (failure.code, failure.message) == (grpc.StatusCode.PERMISSION_DENIED, "not yours")
    assert server.names() == ran == []


def test_a_prepare_that_fails_after_it_has_set_a_code_leaks_nothing(
    serve: Serve, prepare_keyword: str
) -> None:
    def prepare(request: Any, context: Any) -> Any:
        context.set_code(grpc.StatusCode.PERMISSION_DENIED)
        raise RuntimeError("the password is tiger")

    server, ran = prepared_by(serve, prepare_keyword, prepare)
    failure = refused(server.create)
    assert failure.code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INTERNAL)
    assert "tiger" not in failure.message
    assert server.names() == ran == []


def test_a_prepare_that_calls_next_once_too_often_is_answered(
    serve: Serve, prepare_keyword: str
) -> None:
    """``StopIteration`` is what no asyncio future carries; the caller needs an answer still."""

    def prepare(request: Any, context: Any) -> Any:
        if request.instance_id == "bad":
            next(iter(()))

    server, _ = prepared_by(serve, prepare_keyword, prepare)
    request = fleet_service_pb2.CreateInstanceRequest(parent=PARENT, instance_id="bad")
    failure = refused(lambda: server.fleet.CreateInstance(request, timeout=30))
    assert failure.code is grpc.StatusCode.INTERNAL
    assert failure.info.reason == "UNEXPECTED"
    assert server.done(server.create(instance_id="good").name).HasField("response")


@pytest.mark.parametrize(
    ("message", "metadata"),
    [("rows", {"rows": 5}), ("no file caf\udce9", {}), (ValueError("not a text"), {})],
    ids=["number", "surrogate", "not-a-text"],
)
def test_a_prepares_error_that_protobuf_cannot_carry_is_an_error_with_details_still(
    serve: Serve, prepare_keyword: str, message: Any, metadata: Any
) -> None:
    def prepare(request: Any, context: Any) -> Any:
        raise lro_grpc.LroError(message, code=lro_grpc.Code.NOT_FOUND, metadata=metadata)

    server, _ = prepared_by(serve, prepare_keyword, prepare)
    failure = refused(server.create)
    assert failure.code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INTERNAL)
    assert failure.info.reason


def test_a_prepares_error_with_more_details_than_trailers_hold_keeps_its_code(
    serve: Serve, prepare_keyword: str
) -> None:
    """gRPC ends an RPC with RESOURCE_EXHAUSTED, which clients retry, when trailers are too big."""
    violations = [
        error_details_pb2.BadRequest.FieldViolation(field=f"rows[{n}].name", description="empty")
        for n in range(1000)
    ]

    def prepare(request: Any, context: Any) -> Any:
        raise lro_grpc.LroError(
            "1000 rows have no name",
            code=lro_grpc.Code.FAILED_PRECONDITION,
            reason="NAMELESS_ROWS",
            details=[error_details_pb2.BadRequest(field_violations=violations)],
        )

    server, _ = prepared_by(serve, prepare_keyword, prepare)
    failure = refused(server.create)
    assert failure.code is grpc.StatusCode.FAILED_PRECONDITION
    assert failure.info.reason == "NAMELESS_ROWS"


def test_a_prepare_that_returns_something_else_is_refused(
    serve: Serve, prepare_keyword: str
) -> None:
    server, ran = prepared_by(serve, prepare_keyword, lambda _, __: "projects/p")
    failure = refused(server.create)
    assert failure.code is grpc.StatusCode.INTERNAL
    assert "Prepared" in failure.message
    assert CREATE in failure.message
    assert ran == []


def test_a_prepare_sees_the_call(serve: Serve, prepare_keyword: str) -> None:
    """Its context is the RPC's own: it has the metadata, the deadline and the peer."""
    seen: list[Any] = []

    def prepare(request: Any, context: Any) -> Any:
        metadata = dict(tuple(pair) for pair in context.invocation_metadata())
        seen.append((metadata.get("x-tenant"), context.peer(), context.time_remaining()))

    server, _ = prepared_by(serve, prepare_keyword, prepare)
    request = fleet_service_pb2.CreateInstanceRequest(parent=PARENT)
    server.fleet.CreateInstance(request, timeout=SECONDS, metadata=[("x-tenant", "acme")])
    ((tenant, peer, remaining),) = seen
    assert tenant == "acme"
    assert peer.startswith("ipv4:127.0.0.1:")
    assert 0 < remaining < 2 * SECONDS  # gRPC may round a deadline up


def test_a_slow_prepare_keeps_nobody_else_from_being_served(serve: Serve, gate: Gate) -> None:
    entered = threading.Event()

    def prepare(self: Any, request: Any, context: Any) -> Any:
        if request.instance_id == "slow":
            entered.set()
            gate.block()

    run, _ = counting()
    server = serve(fleet("CreateInstance", run, prepare=prepare))
    slow = fleet_service_pb2.CreateInstanceRequest(parent=PARENT, instance_id="slow")
    starting = server.fleet.CreateInstance.future(slow, timeout=SECONDS)
    assert entered.wait(SECONDS)
    assert server.done(server.create(instance_id="quick").name).HasField("response")
    assert not starting.done()
    gate.open()
    assert starting.result(SECONDS).name in server.names()


@pytest.mark.parametrize("stack", ["sync"], indirect=True)
def test_as_many_prepares_run_at_a_time_as_the_server_has_threads(serve: Serve, gate: Gate) -> None:
    entered: queue.SimpleQueue[str] = queue.SimpleQueue()

    def prepare(self: Any, request: Any, context: Any) -> Any:
        entered.put(request.instance_id)
        gate.block()

    run, _ = counting()
    server = serve(fleet("CreateInstance", run, prepare=prepare), threads=40)
    starting = []
    for number in range(40):
        request = fleet_service_pb2.CreateInstanceRequest(parent=PARENT, instance_id=f"i{number}")
        starting.append(server.fleet.CreateInstance.future(request, timeout=SECONDS))
    together_in = {entered.get(timeout=30) for _ in range(40)}
    assert len(together_in) == 40
    gate.open()
    assert len({one.result(SECONDS).name for one in starting}) == 40


def preparing() -> int:
    """Returns how many threads are in a ``prepare``."""
    return sum(thread.name == "lro-prepare" for thread in threading.enumerate())


@pytest.mark.parametrize("stack", ["aio"], indirect=True)
def test_a_thread_of_a_prepare_is_one_of_so_many_whoever_calls(serve: Serve, gate: Gate) -> None:
    """The starts beyond them wait for their turn; those whose caller gives up leave the queue."""
    entered: queue.SimpleQueue[str] = queue.SimpleQueue()

    def prepare(self: Any, request: Any, context: Any) -> Any:
        entered.put(request.instance_id)
        gate.block()

    run, _ = counting()
    server = serve(fleet("CreateInstance", run, prepare=prepare))

    def starting(number: int) -> Any:
        request = fleet_service_pb2.CreateInstanceRequest(parent=PARENT, instance_id=f"i{number}")
        return server.fleet.CreateInstance.future(request, timeout=SECONDS)

    first = [starting(number) for number in range(200)]
    for _ in range(64):
        entered.get(timeout=SECONDS)
    server.list()  # all that were sent before it are in
    assert preparing() == 64
    gone = first[::2]  # of those that run, and of those that wait
    for one in gone:
        one.cancel()
    server.list()
    assert preparing() == 64  # a thread cannot be ended
    gate.open()
    assert len({one.result(SECONDS).name for one in first[1::2]}) == 100
    assert entered.qsize() <= 100


@pytest.mark.parametrize("stack", ["aio"], indirect=True)
def test_a_start_is_refused_when_as_many_wait_for_their_prepare_as_may(
    serve: Serve, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lro_grpc._server.operations._PREPARES_WAITING", 20)

    def prepare(self: Any, request: Any, context: Any) -> Any:
        gate.block()

    run, _ = counting()
    server = serve(fleet("CreateInstance", run, prepare=prepare))
    request = fleet_service_pb2.CreateInstanceRequest(parent=PARENT)
    ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for _ in range(64 + 20 + 9):
        server.fleet.CreateInstance.future(request, timeout=SECONDS).add_done_callback(ended.put)
    for _ in range(9):
        failure = failure_of(ended.get(timeout=SECONDS).exception())
        assert (failure.code, failure.info.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "LIMIT_REACHED",
        )
        assert dict(failure.info.metadata) == {"subject": CREATE}
    gate.open()
    assert len({ended.get(timeout=SECONDS).result().name for _ in range(64 + 20)}) == 84
    assert server.create().name


def test_a_prepare_sees_the_caller_that_was_identified(serve: Serve, prepare_keyword: str) -> None:
    seen: list[Any] = []

    def prepare(request: Any, context: Any) -> Any:
        seen.append(context.caller)

    server, _ = prepared_by(serve, prepare_keyword, prepare, identify=lambda context: "ann")
    server.create()
    server.create(validate_only=True)
    assert seen == ["ann", "ann"]
    server, _ = prepared_by(serve, prepare_keyword, prepare)
    server.create()
    assert seen[2:] == [""]


def test_a_prepare_that_never_ends_keeps_no_server_from_stopping(serve: Serve, gate: Gate) -> None:
    entered = threading.Event()

    def prepare(self: Any, request: Any, context: Any) -> Any:
        entered.set()
        gate.block()

    run, ran = counting()
    server = serve(fleet("CreateInstance", run, prepare=prepare), grace=0.1)
    request = fleet_service_pb2.CreateInstanceRequest(parent=PARENT)
    starting = server.fleet.CreateInstance.future(request, timeout=SECONDS)
    assert entered.wait(SECONDS)
    _, seconds = elapsed(server.stop)
    assert seconds < SECONDS
    assert isinstance(starting.exception(SECONDS), grpc.RpcError)
    assert ran == []


def test_a_caller_that_gives_up_in_prepare_is_nobodys_failure(
    serve: Serve, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    entered = threading.Event()

    def prepare(self: Any, request: Any, context: Any) -> Any:
        if request.instance_id == "slow":
            entered.set()
            gate.block()

    run, _ = counting()
    server = serve(fleet("CreateInstance", run, prepare=prepare))
    slow = fleet_service_pb2.CreateInstanceRequest(parent=PARENT, instance_id="slow")
    starting = server.fleet.CreateInstance.future(slow, timeout=SECONDS)
    assert entered.wait(SECONDS)
    starting.cancel()
    for _ in range(3):
        server.done(server.create().name)
    gate.open()
    server.done(server.create().name)
    server.stop()
    assert errors_logged(caplog) == []


# Fields of the request that only look conventional


@pytest.mark.parametrize(
    "fields",
    [
        {"request_id": FIELD.TYPE_INT64},
        {"request_id": FIELD.TYPE_BYTES},
        {"request_id": "google.rpc.Status"},
        {"request_id": "string*"},
        {"validate_only": FIELD.TYPE_STRING},
        {"validate_only": "google.rpc.Status"},
        {"parent": "string*"},
        {"name": "string*"},
        {"parent": "google.rpc.Status"},
        {"name": FIELD.TYPE_BYTES},
    ],
    ids=str,
)
def test_a_request_field_of_another_kind_has_no_meaning_here(
    serve: Serve, fields: dict[str, int | str]
) -> None:
    """By name and type, as for the metadata: else a service's own field would break its start."""
    declared = Declared({"Make": Rpc()}, {"Mine": fields})
    mine, thing = declared.message("Mine"), declared.message("Thing")
    (field,) = mine.DESCRIPTOR.fields
    request = mine()
    if field.type == FIELD.TYPE_MESSAGE:
        getattr(request, field.name).code = 7
    elif field.is_repeated:
        getattr(request, field.name).extend([PARENT, PARENT])
    else:
        kinds = {FIELD.TYPE_INT64: 7, FIELD.TYPE_BYTES: PARENT.encode(), FIELD.TYPE_STRING: "x"}
        setattr(request, field.name, kinds[field.type])

    async def run(request: Any, op: Any) -> Any:
        return thing()

    def configure(operations: lro_grpc.Operations) -> None:
        operations.add_method("/acme.v1.Things/Make", run, request=mine, response=thing)

    server = serve(configure=configure)
    names = [server.start("/acme.v1.Things/Make", request).name for _ in range(2)]
    assert len(set(names)) == 2
    assert all(name.startswith("operations/") for name in names)
    assert all(server.done(name).HasField("response") for name in names)


# request_id (S22, R2)

FIRST = {"instance_id": "i", "request_id": "0b9a6b4e-6a1c-4bb0-a8f4-9e7a3ef4d0b1"}


def test_the_same_request_is_started_once(serve: Serve, handler_keyword: str, store: str) -> None:
    run, ran = counting(handler_keyword)
    server = serve(fleet("CreateInstance", run), store=store)
    name = server.create(**FIRST).name
    assert server.create(**FIRST).name == name
    ended = server.done(name)
    assert server.create(**FIRST) == ended  # the state as it is now: done at once (S11)
    assert server.names() == ran == [name]


def test_without_a_request_id_each_request_is_a_new_one(serve: Serve, store: str) -> None:
    run, _ = counting()
    server = serve(fleet("CreateInstance", run), store=store)
    assert server.create(instance_id="i").name != server.create(instance_id="i").name


def test_concurrent_duplicates_start_one_operation(
    serve: Serve, handler_keyword: str, store: str
) -> None:
    run, ran = counting(handler_keyword)
    server = serve(fleet("CreateInstance", run), store=store, threads=32)
    answers = together(24, lambda _: server.create(**FIRST))
    (name,) = {answer.name for answer in answers}
    server.done(name)
    assert server.names() == ran == [name]


def test_many_requests_each_sent_by_several_threads(
    serve: Serve, handler_keyword: str, store: str
) -> None:
    run, ran = counting(handler_keyword)
    server = serve(fleet("CreateInstance", run), store=store, threads=32)
    answers = together(
        24, lambda n: server.create(instance_id="i", request_id=uuid_of(f"r{n % 6}"))
    )
    names = {n: {a.name for a in answers[n::6]} for n in range(6)}
    assert [len(same) for same in names.values()] == [1] * 6
    for (name,) in names.values():
        server.done(name)
    assert sorted(ran) == sorted(name for (name,) in names.values())


def test_another_request_under_the_same_id_is_refused(serve: Serve, store: str) -> None:
    run, _ = counting()
    server = serve(fleet("CreateInstance", run), store=store)
    name = server.create(**FIRST).name
    failure = refused(lambda: server.create(**{**FIRST, "instance_id": "another"}))
    assert failure.code is grpc.StatusCode.ALREADY_EXISTS
    assert failure.info.reason == "REQUEST_ID_REUSED"
    assert failure.info.domain == "lro-grpc"
    assert failure.info.metadata["request_id"] == FIRST["request_id"]
    assert server.names() == [name]


def test_a_request_is_another_one_by_what_only_a_later_release_knows(
    serve: Serve, store: str
) -> None:
    """Under an id it is refused, and ``prepare`` gets all of it, to pass it on."""
    seen: list[bytes] = []

    def prepare(_: Any, request: Any, context: Any) -> lro_grpc.Prepared:
        seen.append(request.SerializeToString())
        return lro_grpc.Prepared()

    run, _ = counting()
    server = serve(fleet("CreateInstance", run, prepare=prepare), store=store)
    known = fleet_service_pb2.CreateInstanceRequest(parent=PARENT, **FIRST)
    later = [
        fleet_service_pb2.CreateInstanceRequest.FromString(known.SerializeToString() + field)
        for field in (b"\xc2\x3e\x01a", b"\xc2\x3e\x01b")
    ]
    method = f"/{FLEET}/CreateInstance"
    name = server.start(method, later[0]).name
    assert server.start(method, later[0]).name == name
    failures = [refused(partial(server.start, method, other)) for other in (later[1], known)]
    assert [one.info.reason for one in failures] == ["REQUEST_ID_REUSED"] * 2
    assert seen[0] == later[0].SerializeToString()


def test_concurrent_requests_under_one_id_start_one_operation(serve: Serve, store: str) -> None:
    run, ran = counting()
    server = serve(fleet("CreateInstance", run), store=store, threads=32)
    answers = together(16, lambda n: server.create(**{**FIRST, "instance_id": f"i{n % 2}"}))
    started = {a.name for a in answers if isinstance(a, operations_pb2.Operation)}
    codes = [a.code() for a in answers if isinstance(a, grpc.RpcError)]
    assert len(started) == 1
    assert codes == [grpc.StatusCode.ALREADY_EXISTS] * 8
    (name,) = started
    server.done(name)
    assert ran == [name]


def test_the_id_belongs_to_method_and_parent(serve: Serve, store: str) -> None:
    run, _ = counting()
    server = serve(fleet("CreateInstance", run), store=store)
    here = server.create(**FIRST)
    there = server.create(parent="projects/p/locations/other", **FIRST)
    assert here.name != there.name
    assert server.create(parent="projects/p/locations/other", **FIRST).name == there.name


def test_the_id_outlives_the_server(serve: Serve, file_url: str) -> None:
    run, ran = counting()
    first = serve(fleet("CreateInstance", run), store=file_url)
    name = first.create(**FIRST).name
    ended = first.done(name)
    first.stop()
    second = serve(fleet("CreateInstance", run), store=file_url)
    assert second.create(**FIRST) == ended
    failure = refused(lambda: second.create(**{**FIRST, "instance_id": "another"}))
    assert failure.info.reason == "REQUEST_ID_REUSED"
    assert ran == [name]


def test_the_id_of_a_deleted_operation_is_free_when_that_has_ended(
    serve: Serve, held: Held, store: str
) -> None:
    """Until then the same request would run twice at once (P7, R2)."""
    server = serve(held.servicer(), store=store)
    first = server.create(**FIRST).name
    assert held.next() == first
    ended = threading.Event()
    server.operations.store.subscribe(
        lambda _, one: ended.set() if one.name == first and one.done else None
    )
    server.delete(first)
    for request in (FIRST, {**FIRST, "instance_id": "another"}):
        failure = refused(lambda request=request: server.create(**request))
        assert failure.code is grpc.StatusCode.ABORTED
        assert failure.info.reason == "DELETED_OPERATION_IN_PROGRESS"
        assert failure.info.metadata["request_id"] == FIRST["request_id"]
        assert "still runs" in failure.message
        assert first not in failure.message
    assert server.names() == []
    held.gate.open()
    assert ended.wait(SECONDS)
    second = server.create(**FIRST).name
    assert second != first
    assert held.next() == second
    assert server.create(**FIRST).name == second
    server.done(second)
    server.delete(second)
    third = server.create(**FIRST).name
    assert third not in (first, second)
    assert server.names() == [third]


class Exists:
    """A service whose prepare refuses what exists already, as AIP-133 wants it."""

    def __init__(self, how: str, prepare_keyword: str) -> None:
        self.existing: set[str] = set()
        self.prepared = 0
        self._how = how
        self._keyword = prepare_keyword
        self.before_check: Callable[[], Any] = lambda: None

    def servicer(self) -> Any:
        async def run(_: Any, request: Any, op: Any) -> Any:
            self.existing.add(request.instance_id)
            return Instance(name=request.instance_id)

        def check(request: Any) -> bool:
            self.prepared += 1
            self.before_check()
            return request.instance_id in self.existing

        def prepare(_: Any, request: Any, context: Any) -> None:
            if check(request):
                if self._how == "abort":
                    context.abort(grpc.StatusCode.ALREADY_EXISTS, "taken")
                raise lro_grpc.LroError("taken", code=lro_grpc.Code.ALREADY_EXISTS)

        async def prepare_async(_: Any, request: Any, context: Any) -> None:
            if await asyncio.to_thread(check, request):
                if self._how == "abort":
                    aborted = context.abort(grpc.StatusCode.ALREADY_EXISTS, "taken")
                    if inspect.isawaitable(aborted):
                        await aborted
                raise lro_grpc.LroError("taken", code=lro_grpc.Code.ALREADY_EXISTS)

        chosen = prepare if self._keyword == "def" else prepare_async
        return fleet("CreateInstance", run, prepare=chosen)


@pytest.mark.parametrize("how", ["raise", "abort"])
def test_a_duplicate_after_the_resource_exists_gives_the_first_operation(
    serve: Serve, prepare_keyword: str, how: str
) -> None:
    service = Exists(how, prepare_keyword)
    server = serve(service.servicer())
    ended = server.done(server.create(**FIRST).name)
    assert server.create(**FIRST) == ended
    failure = refused(lambda: server.create(instance_id="i"))  # a new request is refused
    assert failure.code is grpc.StatusCode.ALREADY_EXISTS
    assert failure.message == "taken"


@pytest.mark.parametrize("how", ["raise", "abort"])
def test_a_duplicate_that_is_overtaken_in_its_prepare_gives_the_first_operation(
    serve: Serve, prepare_keyword: str, how: str
) -> None:
    """Both duplicates are in prepare when neither is stored; the second looks too late."""
    service = Exists(how, prepare_keyword)
    server = serve(service.servicer())
    first_in = threading.Event()
    go_on = threading.Event()

    def before_check() -> None:
        if not first_in.is_set():
            first_in.set()
            assert go_on.wait(SECONDS)

    service.before_check = before_check
    request = fleet_service_pb2.CreateInstanceRequest(parent=PARENT, **FIRST)
    late = server.fleet.CreateInstance.future(request, timeout=SECONDS)
    assert first_in.wait(SECONDS)
    ended = server.done(server.create(**FIRST).name)
    go_on.set()
    assert late.result(SECONDS) == ended
    assert service.prepared == 2


# validate_only (S8)


def test_validate_only_stores_nothing(serve: Serve, handler_keyword: str, store: str) -> None:
    run, ran = counting(handler_keyword)
    server = serve(fleet("CreateInstance", run), store=store)
    answer = server.create(validate_only=True, **FIRST)
    assert answer.done
    assert answer.name == ""
    assert response_of(answer) == Instance()
    assert server.names() == []
    live = server.create(**FIRST)  # the id was not used up
    assert server.done(live.name).HasField("response")
    assert server.names() == ran == [live.name]


def test_validate_only_makes_the_same_checks(serve: Serve, prepare_keyword: str) -> None:
    service = Exists("raise", prepare_keyword)
    server = serve(service.servicer())
    server.done(server.create(instance_id="i").name)
    live = refused(lambda: server.create(instance_id="i"))
    checked = refused(lambda: server.create(instance_id="i", validate_only=True))
    assert checked == live
    assert service.prepared == 3


def by_request(request: Any) -> str:
    assert isinstance(request, fleet_service_pb2.CreateInstanceRequest)
    return str(request.instance_id)


def test_a_new_id_is_made_of_the_request(serve: Serve) -> None:
    run, ran = counting()
    server = serve(fleet("CreateInstance", run), new_id=by_request)
    name = f"{PARENT}/operations/build-7"
    assert server.create(instance_id="build-7").name == name
    assert server.done(name).done
    taken = refused(lambda: server.create(instance_id="build-7"))
    assert (taken.code, taken.info.reason) == (grpc.StatusCode.ALREADY_EXISTS, "NAME_TAKEN")
    assert name in taken.message
    assert ran == [name]


@pytest.mark.parametrize(
    "wrong", ["", "a/b", "..", "caf\N{LATIN SMALL LETTER E WITH ACUTE}", 129 * "x"]
)
def test_a_new_id_that_can_end_no_name_is_refused(serve: Serve, wrong: str) -> None:
    run, ran = counting()
    server = serve(fleet("CreateInstance", run), new_id=by_request)
    failure = refused(lambda: server.create(instance_id=wrong))
    assert (failure.code, failure.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_NAME")
    assert repr(wrong[:20])[:-1] in failure.message
    assert (server.names(), ran) == ([], [])


def test_a_new_id_that_is_no_text_is_the_services_mistake(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(fleet("CreateInstance", done_at_once), new_id=lambda _: 7)
    assert refused(server.create).code is grpc.StatusCode.INTERNAL
    assert "new_id returned 7" in caplog.text


async def _new_id(request: Any) -> str:
    return "made"


def test_a_new_id_that_nobody_would_await_is_refused() -> None:
    with pytest.raises(lro_grpc.ConfigurationError, match="new_id is a coroutine function"):
        lro_grpc.Operations("memory:", new_id=_new_id)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        "r",
        "6ba7b810-9dad-11d1-80b4-00c04fd430c8",  # of version 1
        "f81d4fae7dec41d0a76500a0c91e6bf6",
        "{f81d4fae-7dec-41d0-a765-00a0c91e6bf6}",
        "f81d4fae-7dec-41d0-a765-00a0c91e6bf6\n",
        "f81d4fae-7dec-41d0-c765-00a0c91e6bf6",  # of another variant
    ],
)
def test_a_request_id_is_a_uuid4_where_it_is_declared_as_one(serve: Serve, wrong: str) -> None:
    run, ran = counting()
    server = serve(fleet("CreateInstance", run))
    failure = refused(lambda: server.create(request_id=wrong))
    assert (failure.code, failure.info.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_REQUEST_ID",
    )
    assert dict(failure.info.metadata) == {"field": "request_id", "value": wrong}
    assert f"request_id is {wrong!r}" in failure.message
    assert failure.status is not None
    (violation,) = [
        one
        for detail in failure.status.details
        if detail.Is(error_details_pb2.BadRequest.DESCRIPTOR)
        for one in error_details_pb2.BadRequest.FromString(detail.value).field_violations
    ]
    assert violation.field == "request_id"
    assert ran == []


def test_a_request_id_is_any_text_where_nothing_is_declared(serve: Serve) -> None:
    declared = Declared({"MakeThing": Rpc()}, {"Query": {"request_id": FIELD.TYPE_STRING}})
    method, query = declared.method("MakeThing"), declared.message("Query")

    def configure(operations: lro_grpc.Operations) -> None:
        thing = declared.message("Thing")
        operations.add_method(method, lambda _, op: thing(), request=query, response=thing)

    server = serve(configure=configure)
    first = server.start(method, query(request_id="any text"))
    assert server.start(method, query(request_id="any text")).name == first.name
