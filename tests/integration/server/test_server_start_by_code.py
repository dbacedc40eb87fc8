"""Operations that code of the server's own process starts: its other code, and its handlers."""

from __future__ import annotations

import asyncio
import logging
import queue
import signal
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import Int32Value, StringValue
from server_harness import (
    PARENT,
    SECONDS,
    Gate,
    Instance,
    Server,
    defined_with,
    in_thread,
    response_of,
    uuid_of,
)

import lro_grpc
from lro.example.v1 import fleet_service_pb2
from lro_grpc import Code

Serve = Any

PARENTS, CHILDREN = "/test.v1.Tests/RunParent", "/test.v1.Tests/RunChild"

Request = fleet_service_pb2.CreateInstanceRequest

both_twins = pytest.mark.parametrize("twin", ["async", "sync"])


def request(seed_rows: int = 0, **fields: Any) -> Any:
    instance = Instance(seed_rows=seed_rows)
    return Request(**{"parent": PARENT, "instance_id": "i", "instance": instance, **fields})


def start(twin: str, server: Server, *arguments: Any, **named: Any) -> Any:
    """Starts an operation in this thread, whose event loop is not that of the operations."""
    if twin == "sync":
        return server.operations.start_operation_sync(*arguments, **named)
    return asyncio.run(server.operations.start_operation(*arguments, **named))


class Service:
    """A method of instances; and one whose request has no ``request_id``, which starts them."""

    def __init__(self, keyword: str = "def") -> None:
        self.keyword = keyword
        self.prepared: list[tuple[str, dict[str, Any]]] = []
        self.callers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.refuse: Callable[[Any], None] = lambda _: None

    def prepare(self, request: Any, context: Any) -> Any:
        self.prepared.append((context.caller, dict(context.invocation_metadata())))
        assert (context.peer(), context.time_remaining()) == ("", None)
        self.refuse(context)
        return lro_grpc.Prepared(target=f"{request.parent}/instances/{request.instance_id}")

    def make(self, request: Any, op: Any) -> Any:
        self.callers.put(op.caller)
        return Instance(name=op.target, seed_rows=request.instance.seed_rows)

    def add_children(self, operations: lro_grpc.Operations, **options: Any) -> None:
        operations.add_method(
            CHILDREN,
            defined_with(self.keyword, self.make),
            request=Request,
            response=Instance,
            prepare=self.prepare,
            options=lro_grpc.MethodOptions(**options),
        )


def add_parents(operations: Any, keyword: str, run: Any, **options: Any) -> None:
    """Adds a method whose ``run`` is given what starts an operation, and awaits nothing."""

    async def run_async(request: Any, op: Any) -> Any:
        return await run(request, op)

    def run_sync(request: Any, op: Any) -> Any:
        """Drives the coroutine, which waits for nothing where the handler is a ``def``."""
        try:
            run(request, op).send(None)
        except StopIteration as ended:
            return ended.value
        raise AssertionError("it waits")

    operations.add_method(
        PARENTS,
        run_async if keyword == "async def" else run_sync,
        request=StringValue,
        response=StringValue,
        options=lro_grpc.MethodOptions(**options),
    )


async def started(op: Any, *arguments: Any, **named: Any) -> Any:
    """Starts an operation by a handler of either kind."""
    answer = op.start_operation(*arguments, **named)
    return await answer if asyncio.iscoroutine(answer) else answer


@both_twins
def test_code_starts_an_operation_as_an_rpc_does_but_for_the_guard(
    serve: Serve, twin: str, store: str
) -> None:
    service = Service()

    def identify(context: Any) -> str:
        return str(dict(context.invocation_metadata()).get("caller", "nobody"))

    server = serve(
        configure=service.add_children,
        store=store,
        identify=identify,
        authorize=lambda access: access.permission != "operations.start",
    )
    how = {"caller": "ann", "request_id": uuid_of("r"), "metadata": [("tenant", "t")]}
    operation = start(twin, server, CHILDREN, request(seed_rows=7), **how)
    assert operation.name.startswith(f"{PARENT}/operations/")
    done = server.done(operation.name)
    assert response_of(done) == Instance(name=f"{PARENT}/instances/i", seed_rows=7)
    assert service.callers.get(timeout=SECONDS) == "ann"
    assert service.prepared == [("ann", {"tenant": "t"})]

    assert start(twin, server, CHILDREN, request(seed_rows=7), **how) == done
    same = request(seed_rows=7, request_id=uuid_of("r"))
    assert start(twin, server, CHILDREN, same, caller="ann") == done
    with pytest.raises(lro_grpc.RequestIdReusedError):
        start(twin, server, CHILDREN, request(seed_rows=8), **how)
    other = start(twin, server, CHILDREN, same, caller="bob")
    assert other.name != done.name
    assert not start(twin, server, CHILDREN, request(validate_only=True)).name
    with pytest.raises(grpc.RpcError):
        server.start(CHILDREN, request())


async def _on_the_loop(operations: lro_grpc.Operations) -> tuple[Any, BaseException | None]:
    operation = await operations.start_operation(CHILDREN, request())
    try:
        operations.start_operation_sync(CHILDREN, request())
    except lro_grpc.ConfigurationError as error:
        return operation, error
    return operation, None


def test_on_the_loop_of_the_operations_only_the_async_twin_starts_one(serve: Serve) -> None:
    server = serve(configure=Service().add_children)
    loop = server.operations.loop
    assert loop is not None
    running = asyncio.run_coroutine_threadsafe(_on_the_loop(server.operations), loop)
    operation, error = running.result(SECONDS)
    assert response_of(server.done(operation.name)).name == f"{PARENT}/instances/i"
    assert error is not None
    assert "await start_operation there" in str(error)
    assert len(server.names()) == 1


@both_twins
def test_a_refusal_by_prepare_is_the_error(serve: Serve, twin: str) -> None:
    service = Service()
    server = serve(configure=service.add_children)

    def abort(context: Any) -> None:
        context.abort(grpc.StatusCode.NOT_FOUND, "no such network")

    def fail(_: Any) -> None:
        raise lro_grpc.LroError("no money", code=Code.FAILED_PRECONDITION, reason="POOR")

    for service.refuse, code, message in (
        (abort, Code.NOT_FOUND, "no such network"),
        (fail, Code.FAILED_PRECONDITION, "no money"),
    ):
        with pytest.raises(lro_grpc.LroError) as raised:
            start(twin, server, CHILDREN, request())
        assert (raised.value.code, raised.value.message) == (code, message)
        assert raised.value.domain == "test.v1.Tests"
    assert server.names() == []


@both_twins
def test_limits_and_exclusive_targets_count(serve: Serve, twin: str, gate: Gate) -> None:
    began: queue.SimpleQueue[str] = queue.SimpleQueue()

    class Slow(Service):
        def make(self, request: Any, op: Any) -> Any:
            began.put(op.name)
            gate.pass_by(op)
            return Instance()

    def configure(operations: lro_grpc.Operations) -> None:
        Slow().add_children(operations, exclusive=True, concurrency=1)

    server = serve(configure=configure, limits=lro_grpc.Limits(queue=1))
    first = start(twin, server, CHILDREN, request(instance_id="a"))
    assert began.get(timeout=SECONDS) == first.name
    with pytest.raises(lro_grpc.OperationInProgressError):
        start(twin, server, CHILDREN, request(instance_id="a"))
    start(twin, server, CHILDREN, request(instance_id="b"))
    with pytest.raises(lro_grpc.LimitReachedError):
        start(twin, server, CHILDREN, request(instance_id="c"))


@both_twins
def test_what_cannot_be_started_says_why(serve: Serve, twin: str) -> None:
    server = serve(configure=Service().add_children)
    for method in ("/test.v1.Tests/Other", "nonsense", None):
        with pytest.raises(lro_grpc.UnservedError, match="whose servicer was added here"):
            start(twin, server, method, request())
    with pytest.raises(lro_grpc.WrongTypeError, match="is a Int32Value"):
        start(twin, server, CHILDREN, Int32Value())
    with pytest.raises(lro_grpc.InvalidArgumentError, match="UUID of version 4"):
        start(twin, server, CHILDREN, request(), request_id="r")
    for wrong in ({"caller": 1}, {"request_id": b"r"}, {"metadata": [1]}, {"metadata": 1}):
        with pytest.raises(lro_grpc.ConfigurationError, match=next(iter(wrong))):
            start(twin, server, CHILDREN, request(), **wrong)
    server.stop()
    with pytest.raises(lro_grpc.UnavailableError, match="have not started, or drain") as raised:
        start(twin, server, CHILDREN, request())
    assert raised.value.reason == "NOT_STARTED"


def test_the_next_attempt_of_a_handler_finds_what_the_last_one_has_started(
    serve: Serve, handler_keyword: str, store: str
) -> None:
    service = Service(handler_keyword)
    found: list[str] = []
    errors: list[lro_grpc.LroError] = []

    async def run(_: Any, op: Any) -> Any:
        of_caller = request(request_id=uuid_of("of the caller"))
        for key in ("a", "b"):
            found.append((await started(op, CHILDREN, of_caller, key=key)).name)
        if op.attempt == 1:
            raise lro_grpc.RetryableError("once more", retry_after=timedelta(0))
        for method, sent, key in (
            (CHILDREN, request(seed_rows=1), "a"),
            (CHILDREN, request(), ""),
            (CHILDREN, StringValue(), "c"),
            ("/test.v1.Tests/Other", request(), "d"),
        ):
            with pytest.raises(lro_grpc.LroError) as raised:
                await started(op, method, sent, key=key)
            errors.append(raised.value)
        return StringValue()

    def configure(operations: lro_grpc.Operations) -> None:
        service.add_children(operations)
        add_parents(operations, handler_keyword, run)

    server = serve(configure=configure, store=store, identify=lambda _: "ann")
    operation = server.start(PARENTS, StringValue())
    done = server.done(operation.name)
    assert done.HasField("response"), done
    assert found[:2] == found[2:]
    assert len(set(found)) == 2
    assert sorted(server.names()) == sorted(set(found))
    assert [service.callers.get(timeout=SECONDS) for _ in range(2)] == ["ann", "ann"]
    assert [type(error) for error in errors] == [
        lro_grpc.RequestIdReusedError,
        lro_grpc.ConfigurationError,
        lro_grpc.WrongTypeError,
        lro_grpc.UnservedError,
    ]


def test_a_process_that_only_works_finds_what_a_servers_attempt_has_started(
    serve: Serve, handler_keyword: str, postgres: str
) -> None:
    service = Service(handler_keyword)
    found: queue.SimpleQueue[str] = queue.SimpleQueue()
    gate = Gate()

    async def run(_: Any, op: Any) -> Any:
        found.put((await started(op, CHILDREN, request(), key="child")).name)
        if op.attempt == 1:
            await gate.pass_by_async() if handler_keyword == "async def" else gate.pass_by(op)
        return StringValue(value=str(op.attempt))

    def configure(operations: lro_grpc.Operations) -> None:
        service.add_children(operations)
        add_parents(operations, handler_keyword, run)

    server = serve(configure=configure, store=postgres)
    server.start(PARENTS, StringValue())
    first = found.get(timeout=SECONDS)
    server.stop()
    worker = lro_grpc.Operations(postgres)
    configure(worker)
    second: list[Any] = []

    def end_it_then() -> str:
        try:
            return found.get(timeout=SECONDS)
        finally:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    worker.work_sync(ready=lambda: second.append(in_thread(end_it_then)))
    assert second[0].result(SECONDS) == first


class Lines(logging.Handler):
    """The lines of the log that have these words."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.found: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._words = words

    def emit(self, record: logging.LogRecord) -> None:
        if self._words in record.getMessage():
            self.found.put(f"{record.levelname} {record.getMessage()}")


def test_a_method_that_may_wait_for_itself_is_reported_once(
    serve: Serve, handler_keyword: str, gate: Gate
) -> None:
    began: queue.SimpleQueue[str] = queue.SimpleQueue()
    both_hold_a_slot = Gate()

    async def passed(gate: Gate, op: Any) -> None:
        if handler_keyword == "async def":
            await gate.pass_by_async()
        else:
            gate.pass_by(op)

    async def run(request: Any, op: Any) -> Any:
        if request.value:
            began.put(op.name)
            await passed(both_hold_a_slot, op)
            await started(op, PARENTS, StringValue(), key="inner")
            await passed(gate, op)
        return StringValue()

    def configure(operations: lro_grpc.Operations) -> None:
        add_parents(operations, handler_keyword, run, concurrency=2)

    lines = Lines("which is not done")
    log = logging.getLogger("lro_grpc")
    log.addHandler(lines)
    try:
        server = serve(configure=configure, sweep=timedelta(seconds=0.05))
        names = [server.start(PARENTS, StringValue(value="outer")).name for _ in range(2)]
        assert sorted(began.get(timeout=SECONDS) for _ in names) == sorted(names)
        both_hold_a_slot.open()
        line = lines.found.get(timeout=SECONDS)
        gate.open()
        for name in names:
            assert server.done(name).HasField("response")
        server.stop()
    finally:
        log.removeHandler(lines)
    assert line.startswith(f"WARNING all 2 slots of {PARENTS} are held by attempts")
    assert lines.found.empty()
