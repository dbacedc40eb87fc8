"""The spans and the metrics of a server whose operations OpenTelemetry observes."""

from __future__ import annotations

import functools
import queue
import random
import re
import subprocess
import sys
import time
from concurrent import futures
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from opentelemetry import propagate, trace
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from pages import Page
from server_harness import (
    FLEET,
    PARENT,
    SECONDS,
    Gate,
    Held,
    Instance,
    defined_with,
    every_store,
    fleet,
    in_thread,
    response_of,
)

import lro_grpc
from lro.example.v1 import fleet_service_pb2
from lro_grpc.otel import OpenTelemetry
from lro_grpc.stores import ForwardingStore, MemoryStore
from lro_grpc.testing import Faults, FaultyStore, ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk.trace import ReadableSpan
    from server_harness import Server

    Serve = Callable[..., Server]

METHOD = f"{FLEET}/CreateInstance"
LIVE, OLDEST_READY = "lro.operation.live", "lro.operation.oldest_ready.age"
PENDING = "lro.delivery.pending"
NO_FAULTS = Faults(before=0, after=0, delay=0, disconnect=0)
OTHER = "/test.v1.Tests/RunOther"
REQUEST = fleet_service_pb2.CreateInstanceRequest(parent=PARENT, instance_id="i")


class Observer:
    """OpenTelemetry as a program sets it up, but for where it ends up."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = tracers.get_tracer("test")
        self.telemetry = OpenTelemetry(tracers, MeterProvider([self._reader]))

    def spans(self, name: str) -> Sequence[ReadableSpan]:
        """Returns the spans of a name that have ended, in the order in which they began."""
        found = [one for one in self._exporter.get_finished_spans() if one.name == name]
        return sorted(found, key=lambda one: one.start_time or 0)

    def span(self, name: str) -> ReadableSpan:
        (span,) = self.spans(name)
        return span

    @property
    def runs(self) -> Sequence[ReadableSpan]:
        return self.spans(f"run {METHOD}")

    @property
    def start(self) -> ReadableSpan:
        return self.span(f"start {METHOD}")

    def points(self, name: str) -> dict[tuple[tuple[str, Any], ...], Any]:
        """Returns a metric's points by their attributes."""
        return {
            tuple(sorted(point.attributes.items())): point
            for metric in self._metrics()
            if metric.name == name
            for point in metric.data.data_points
        }

    def values(self, name: str) -> dict[tuple[tuple[str, Any], ...], Any]:
        """Returns the values of a counter by their attributes."""
        return {attributes: point.value for attributes, point in self.points(name).items()}

    def instruments(self) -> dict[str, str]:
        """Returns the units of the metrics by their names."""
        return {metric.name: metric.unit for metric in self._metrics()}

    def _metrics(self) -> list[Any]:
        data = self._reader.get_metrics_data()
        scopes = [scope for of in data.resource_metrics for scope in of.scope_metrics]
        return [metric for scope in scopes for metric in scope.metrics]


@pytest.fixture
def observer() -> Observer:
    return Observer()


def attributes(**named: Any) -> tuple[tuple[str, Any], ...]:
    """Returns attributes as points have them: ``state`` is that of the operation."""
    keys = {"method": "lro.operation.method", "state": "lro.operation.state", "error": "error.type"}
    return tuple(sorted((keys[name], value) for name, value in named.items()))


def create(server: Server, headers: Any = (), **how: Any) -> str:
    operation = server.fleet.CreateInstance(
        REQUEST, metadata=tuple(dict(headers).items()), timeout=SECONDS, **how
    )
    return str(operation.name)


def of(handler_keyword: str, run: Callable[[Any, Any], Any], **options: Any) -> Any:
    """Returns a fleet whose handler has this keyword."""
    return fleet(
        "CreateInstance",
        defined_with(handler_keyword, lambda _, *arguments: run(*arguments)),
        **options,
    )


def carried(span: trace.Span) -> dict[str, str]:
    """Returns the headers that a caller inside a span sends."""
    headers: dict[str, str] = {}
    propagate.inject(headers, trace.set_span_in_context(span))
    return headers


def parent_id(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


# Traces


def test_an_attempt_is_in_the_trace_of_the_caller(
    serve: Serve, observer: Observer, handler_keyword: str
) -> None:
    server = serve(
        of(handler_keyword, lambda *_: Instance(name="made")), telemetry=observer.telemetry
    )
    with observer.tracer.start_as_current_span("the caller") as caller:
        name = create(server, carried(caller))
    server.done(name)
    server.stop()

    start, (run,) = observer.start, observer.runs
    assert parent_id(start) == caller.get_span_context().span_id
    assert parent_id(run) == start.context.span_id
    assert [link.context.span_id for link in run.links] == [start.context.span_id]
    assert {one.context.trace_id for one in (start, run)} == {caller.get_span_context().trace_id}
    assert (start.kind, run.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    operation = {"lro.operation.name": name, "lro.operation.method": METHOD}
    assert start.attributes == operation
    outcome = {"lro.operation.attempt": 1, "lro.operation.state": "JOB_STATE_SUCCEEDED"}
    assert run.attributes == {**operation, **outcome}
    assert (run.status.status_code, run.events) == (StatusCode.UNSET, ())


def test_what_a_handler_starts_is_in_the_trace_of_its_attempt(
    serve: Serve, observer: Observer, handler_keyword: str
) -> None:
    def start(request: Any, op: Any) -> Any:
        return op.start_operation(OTHER, request, key="other")

    async def run_async(request: Any, op: Any) -> Any:
        return Instance(name=(await start(request, op)).name)

    def run(request: Any, op: Any) -> Any:
        return Instance(name=start(request, op).name)

    def configure(operations: lro_grpc.Operations) -> None:
        methods = {
            f"/{METHOD}": run_async if handler_keyword == "async def" else run,
            OTHER: lambda request, op: Instance(),
        }
        for method, handler in methods.items():
            operations.add_method(method, handler, request=type(REQUEST), response=Instance)

    server = serve(configure=configure, telemetry=observer.telemetry)
    done = server.done(server.start(f"/{METHOD}", REQUEST).name)
    server.done(response_of(done).name)
    server.stop()
    started = observer.span(f"start {OTHER.removeprefix('/')}")
    assert parent_id(started) == observer.runs[0].context.span_id


def test_a_callers_tracestate_gets_to_the_run(serve: Serve, observer: Observer) -> None:
    server = serve(of("def", lambda *_: Instance()), telemetry=observer.telemetry)
    trace_id, span_id = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    headers = {"traceparent": f"00-{trace_id}-{span_id}-01", "tracestate": "one=1,two=2 3"}
    server.done(create(server, headers))
    server.stop()
    (run,) = observer.runs
    assert f"{run.context.trace_id:032x}" == trace_id
    assert dict(run.context.trace_state) == {"one": "1", "two": "2 3"}


@pytest.mark.parametrize(
    "headers",
    [{}, {"traceparent": "no such thing"}, {"traceparent-bin": b"\x00\xff"}],
    ids=["none", "malformed", "binary"],
)
def test_a_caller_without_a_trace_gets_one_for_start_and_runs(
    serve: Serve, observer: Observer, headers: Any
) -> None:
    server = serve(of("def", lambda *_: Instance()), telemetry=observer.telemetry)
    server.done(create(server, headers))
    server.stop()
    (run,) = observer.runs
    assert observer.start.parent is None
    assert run.parent is not None
    assert run.context.trace_id == observer.start.context.trace_id


def test_what_the_caller_does_not_sample_is_not_sampled(serve: Serve, observer: Observer) -> None:
    server = serve(of("def", lambda *_: Instance()), telemetry=observer.telemetry)
    unsampled = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-00"}
    server.done(create(server, unsampled))
    server.stop()
    assert (observer.runs, observer.spans(f"start {METHOD}")) == ([], [])
    assert observer.values("lro.operation.started") == {attributes(method=METHOD): 1}


class InstrumentedSync(grpc.ServerInterceptor):
    """Has a span for each RPC, as the instrumentation of a ``grpc.server`` has."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = continuation(handler_call_details)

        def serve(request: Any, context: Any) -> Any:
            with self._tracer.start_as_current_span("the server"):
                return handler.unary_unary(request, context)

        return _like(handler, serve)


class InstrumentedAio(grpc.aio.ServerInterceptor):
    """The same of a ``grpc.aio`` server."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)

        async def serve(request: Any, context: Any) -> Any:
            with self._tracer.start_as_current_span("the server"):
                return await handler.unary_unary(request, context)

        return _like(handler, serve)


def _like(handler: Any, serve: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        serve, handler.request_deserializer, handler.response_serializer
    )


def test_the_span_of_an_instrumented_server_is_the_parent(
    serve: Serve, observer: Observer, stack: str
) -> None:
    instrumented = (InstrumentedSync if stack == "sync" else InstrumentedAio)(observer.tracer)
    server = serve(
        of("def", lambda *_: Instance()),
        telemetry=observer.telemetry,
        interceptors=[instrumented],
    )
    with observer.tracer.start_as_current_span("the caller") as caller:
        create(server, carried(caller))
    server.stop()
    assert parent_id(observer.start) == observer.span("the server").context.span_id


def test_after_a_restart_the_next_attempt_is_in_the_same_trace(
    serve: Serve, handler_keyword: str, file_url: str
) -> None:
    held = Held(handler_keyword)
    first, second = Observer(), Observer()
    before = serve(held.servicer(), store=file_url, telemetry=first.telemetry)
    with first.tracer.start_as_current_span("the caller") as caller:
        name = create(before, carried(caller))
    held.next()
    before.stop()
    held.gate.open()
    after = serve(held.servicer(), store=file_url, telemetry=second.telemetry)
    assert response_of(after.done(name)).seed_rows == 2
    after.stop()

    (given_back,), (run,) = first.runs, second.runs
    assert parent_id(given_back) == parent_id(run) == first.start.context.span_id
    assert run.context.trace_id == caller.get_span_context().trace_id
    assert given_back.attributes["lro.operation.state"] == "JOB_STATE_QUEUED"
    assert given_back.status.status_code is StatusCode.UNSET
    assert run.attributes["lro.operation.attempt"] == 2
    assert run.attributes["lro.operation.state"] == "JOB_STATE_SUCCEEDED"
    assert second.values("lro.operation.started") == {}
    assert second.points("lro.operation.queue.duration")[attributes(method=METHOD)].count == 1


def test_each_attempt_of_a_retry_is_a_span(
    serve: Serve, observer: Observer, handler_keyword: str
) -> None:
    def run(request: Any, op: Any) -> Instance:
        if op.attempt == 1:
            raise lro_grpc.RetryableError("not yet", retry_after=timedelta(0))
        return Instance()

    server = serve(of(handler_keyword, run), telemetry=observer.telemetry)
    server.done(create(server))
    server.stop()

    failed, succeeded = observer.runs
    assert parent_id(failed) == parent_id(succeeded) == observer.start.context.span_id
    assert failed.attributes["lro.operation.state"] == "JOB_STATE_QUEUED"
    assert failed.attributes["error.type"] == "UNAVAILABLE"
    assert failed.status.status_code is StatusCode.ERROR
    assert "not yet" in (failed.status.description or "")
    (event,) = failed.events
    assert event.attributes["exception.type"] == "lro_grpc.RetryableError"
    assert "not yet" in str(event.attributes["exception.stacktrace"])
    assert "error.type" not in succeeded.attributes
    finished = attributes(method=METHOD, state="JOB_STATE_SUCCEEDED")
    assert observer.values("lro.operation.finished") == {finished: 1}
    retried = attributes(method=METHOD, state="JOB_STATE_QUEUED", error="UNAVAILABLE")
    assert set(observer.points("lro.operation.attempt.duration")) == {finished, retried}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (
            lro_grpc.LroError("none left", code=lro_grpc.Code.RESOURCE_EXHAUSTED),
            "RESOURCE_EXHAUSTED",
        ),
        (ZeroDivisionError("oh"), "INTERNAL"),
    ],
    ids=["meant", "unexpected"],
)
def test_what_a_handler_raises_is_recorded(
    serve: Serve, observer: Observer, handler_keyword: str, error: Exception, code: str
) -> None:
    def run(request: Any, op: Any) -> Instance:
        raise error

    server = serve(of(handler_keyword, run), telemetry=observer.telemetry)
    server.done(create(server))
    server.stop()
    (failed,) = observer.runs
    assert failed.attributes["lro.operation.state"] == "JOB_STATE_FAILED"
    assert failed.attributes["error.type"] == code
    assert failed.status.status_code is StatusCode.ERROR
    (event,) = failed.events
    assert str(event.attributes["exception.type"]).endswith(type(error).__name__)
    outcome = attributes(method=METHOD, state="JOB_STATE_FAILED", error=code)
    assert observer.values("lro.operation.finished") == {outcome: 1}


def test_a_cancel_is_no_error_of_the_run(serve: Serve, observer: Observer, held: Held) -> None:
    server = serve(held.servicer(), telemetry=observer.telemetry)
    name = create(server)
    held.next()
    server.cancel(name)
    server.done(name)
    server.stop()
    (run,) = observer.runs
    assert run.attributes["lro.operation.state"] == "JOB_STATE_CANCELLED"
    assert (run.status.status_code, run.events) == (StatusCode.UNSET, ())


def test_a_handler_that_does_not_stop_has_lost_its_operation(
    serve: Serve, observer: Observer
) -> None:
    held = Held("def")

    def run(request: Any, op: Any) -> Instance:
        held.began.put(op.name)
        held.gate.block()
        return Instance()

    server = serve(of("def", run), telemetry=observer.telemetry, grace=0.1)
    create(server)
    held.next()
    server.stop()
    held.gate.open()
    (lost,) = observer.runs
    assert "lro.operation.state" not in lost.attributes
    assert lost.attributes["error.type"] == "LEASE_LOST"
    assert lost.status.status_code is StatusCode.ERROR
    assert observer.values("lro.operation.attempt.active") == {attributes(method=METHOD): 0}


def test_a_handler_that_makes_no_progress_is_an_error(serve: Serve, observer: Observer) -> None:
    held, clock = Held("async def"), ManualClock()
    server = serve(
        held.servicer(progress_timeout=timedelta(minutes=1), max_attempts=1),
        telemetry=observer.telemetry,
        clock=clock,
        lease=timedelta(hours=1),
    )
    name = create(server)
    held.next()
    clock.advance(timedelta(minutes=2))
    server.done(name)
    server.stop()
    (stuck,) = observer.runs
    assert stuck.attributes["lro.operation.state"] == "JOB_STATE_FAILED"
    assert stuck.attributes["error.type"] == "ABORTED"
    assert stuck.status.status_code is StatusCode.ERROR


# What handlers do inside of them


def test_what_a_handler_does_is_inside_of_its_run(
    serve: Serve, observer: Observer, handler_keyword: str
) -> None:
    def run(request: Any, op: Any) -> Instance:
        with observer.tracer.start_as_current_span("the work"):
            return Instance()

    server = serve(of(handler_keyword, run), telemetry=observer.telemetry)
    server.done(create(server))
    server.stop()
    (run_span,) = observer.runs
    assert parent_id(observer.span("the work")) == run_span.context.span_id


def test_the_targets_of_a_batch_are_inside_of_its_run(
    serve: Serve, observer: Observer, handler_keyword: str
) -> None:
    def spanned(what: str, target: str) -> None:
        with observer.tracer.start_as_current_span(f"{what} {target}"):
            if (what, target) == ("create", "b"):
                raise lro_grpc.LroError("no b", code=lro_grpc.Code.ABORTED)

    create_one = defined_with(handler_keyword, functools.partial(spanned, "create"))
    delete_one = defined_with(handler_keyword, functools.partial(spanned, "delete"))

    def run(_: Any, request: Any, op: Any) -> Any:
        with observer.tracer.start_as_current_span("the batch"):
            op.batch(["a", "b"], create=create_one, delete=delete_one)
        return Instance()

    async def run_async(_: Any, request: Any, op: Any) -> Any:
        with observer.tracer.start_as_current_span("the batch"):
            await op.batch(["a", "b"], create=create_one, delete=delete_one)
        return Instance()

    servicer = fleet("CreateInstance", run if handler_keyword == "def" else run_async)
    server = serve(servicer, telemetry=observer.telemetry)
    server.done(create(server))
    server.stop()
    batch = observer.span("the batch")
    assert parent_id(batch) == observer.runs[0].context.span_id
    for name in ("create a", "create b", "delete a"):
        assert parent_id(observer.span(name)) == batch.context.span_id, name


# Metrics


def test_durations_are_by_the_operations_clock(serve: Serve, observer: Observer) -> None:
    held, clock = Held("async def"), ManualClock()
    server = serve(
        held.servicer(concurrency=1),
        telemetry=observer.telemetry,
        clock=clock,
        lease=timedelta(days=1),
    )
    first, second = create(server), create(server)
    held.next()
    clock.advance(timedelta(seconds=7))
    held.gate.open()
    server.done(first)
    server.done(second)
    server.stop()

    method = attributes(method=METHOD)
    outcome = attributes(method=METHOD, state="JOB_STATE_SUCCEEDED")
    assert observer.values("lro.operation.started") == {method: 2}
    assert observer.values("lro.operation.finished") == {outcome: 2}
    assert observer.values("lro.operation.attempt.active") == {method: 0}
    total = observer.points("lro.operation.duration")[outcome]
    assert (total.count, total.sum) == (2, 14)
    queued = observer.points("lro.operation.queue.duration")[method]
    assert (queued.count, queued.sum, queued.min) == (2, 7, 0)
    ran = observer.points("lro.operation.attempt.duration")[outcome]
    assert (ran.count, ran.sum, ran.max) == (2, 7, 7)


def test_an_operation_finishes_once_and_without_an_attempt_too(
    serve: Serve, observer: Observer
) -> None:
    held = Held("async def")
    server = serve(held.servicer(concurrency=1), telemetry=observer.telemetry)
    running, waiting = create(server), create(server)
    assert held.next() == running
    server.cancel(waiting)
    server.cancel(waiting)
    held.gate.open()
    server.done(running)
    server.cancel(running)
    server.delete(running)
    server.delete(waiting)
    server.stop()
    assert observer.values("lro.operation.finished") == {
        attributes(method=METHOD, state="JOB_STATE_SUCCEEDED"): 1,
        attributes(method=METHOD, state="JOB_STATE_CANCELLED", error="CANCELLED"): 1,
    }
    assert len(observer.runs) == 1


def test_a_request_that_is_sent_twice_starts_once(serve: Serve, observer: Observer) -> None:
    server = serve(of("def", lambda *_: Instance()), telemetry=observer.telemetry)
    request = fleet_service_pb2.CreateInstanceRequest(
        parent=PARENT, request_id="2f1c4a1e-8a3c-4d5e-9f60-718293a4b5c6"
    )
    names = {server.fleet.CreateInstance(request, timeout=SECONDS).name for _ in range(2)}
    server.done(*names)
    server.stop()
    assert len(names) == len(observer.spans(f"start {METHOD}")) == 1
    assert observer.values("lro.operation.started") == {attributes(method=METHOD): 1}


def test_watches_are_counted(serve: Serve, observer: Observer, held: Held) -> None:
    server = serve(held.servicer(), telemetry=observer.telemetry)
    name = create(server)
    held.next()
    streams = [server.watching(name) for _ in range(2)]
    for stream in streams:
        next(stream)
    assert observer.values("lro.operation.waiter.active") == {(): 2}
    held.gate.open()
    for stream in streams:
        assert [*stream][-1].operation.done
    server.stop()
    assert observer.values("lro.operation.waiter.active") == {(): 0}


def test_what_runs_and_who_waits_is_counted(serve: Serve, observer: Observer, held: Held) -> None:
    server = serve(
        held.servicer(),
        telemetry=observer.telemetry,
        limits=lro_grpc.Limits(waiters=1),
        max_waiters=1,
    )
    name = create(server)
    held.next()
    waits = {in_thread(lambda: server.wait(name)) for _ in range(2)}
    (answered,), _ = futures.wait(waits, SECONDS, futures.FIRST_COMPLETED)
    assert not answered.result().done  # for there was one place, which the other has
    assert observer.values("lro.operation.waiter.active") == {(): 1}
    assert observer.values("lro.operation.attempt.active") == {attributes(method=METHOD): 1}
    held.gate.open()
    (waited,) = waits - {answered}
    assert waited.result(SECONDS).done
    server.stop()
    assert observer.values("lro.operation.waiter.active") == {(): 0}
    assert observer.values("lro.operation.attempt.active") == {attributes(method=METHOD): 0}
    assert observer.instruments() == {
        "lro.operation.started": "{operation}",
        "lro.operation.finished": "{operation}",
        "lro.operation.duration": "s",
        "lro.operation.queue.duration": "s",
        "lro.operation.attempt.duration": "s",
        "lro.operation.attempt.active": "{attempt}",
        "lro.operation.waiter.active": "{call}",
        "lro.operation.wait.duration": "s",
        "lro.store.call.duration": "s",
    }


def until(observer: Observer, metric: str, expected: dict[Any, Any]) -> None:
    """Waits until a metric has exactly these values."""
    end = time.monotonic() + SECONDS
    while (values := observer.values(metric)) != expected:
        assert time.monotonic() < end, values


def states(method: str, **numbers: int) -> dict[Any, int]:
    """Returns the numbers of a method's states, 0 unless given."""
    every = ("QUEUED", "RUNNING", "UPDATING", "PAUSED", "CANCELLING")
    return {
        attributes(method=method, state=f"JOB_STATE_{one}"): numbers.get(one, 0) for one in every
    }


@every_store
def test_what_is_not_done_is_counted_now_and_then(
    serve: Serve, observer: Observer, store: Any
) -> None:
    """Whatever process has it in its hands, hidden or not, and of other methods together."""
    held, clock = Held("async def"), ManualClock()
    server = serve(
        held.servicer(concurrency=1),
        telemetry=observer.telemetry,
        clock=clock,
        store=store,
        lease=timedelta(days=1),
    )
    until(observer, LIVE, states(METHOD))
    assert observer.values(OLDEST_READY) == {attributes(method=METHOD): 0}
    units = observer.instruments()
    assert (units[LIVE], units[OLDEST_READY]) == ("{operation}", "s")
    names = [create(server) for _ in range(3)]
    held.next()
    server.delete(names[0])
    server.delete(names[2])
    clock.advance(timedelta(seconds=15))
    until(observer, LIVE, states(METHOD, RUNNING=1, QUEUED=2))
    (age,) = observer.values(OLDEST_READY).values()
    assert age >= 0
    held.gate.open()
    server.stop()
    assert (observer.values(LIVE), observer.values(OLDEST_READY)) == ({}, {})


def test_how_long_the_oldest_has_waited_is_told(serve: Serve, observer: Observer) -> None:
    held, clock = Held("async def"), ManualClock()
    server = serve(
        held.servicer(concurrency=1),
        telemetry=observer.telemetry,
        clock=clock,
        lease=timedelta(days=1),
    )
    create(server)
    held.next()
    create(server)
    clock.advance(timedelta(seconds=40))
    until(observer, OLDEST_READY, {attributes(method=METHOD): 40})
    held.gate.open()


def test_operations_of_methods_that_are_not_served_are_counted_together(
    serve: Serve, observer: Observer, file_url: str
) -> None:
    held = Held("async def")
    first = serve(held.servicer(concurrency=1), store=file_url, grace=0)
    for _ in range(2):
        create(first)
    held.next()
    first.stop()
    serve(fleet("DeleteInstance", lambda *_: None), telemetry=observer.telemetry, store=file_url)
    deletes = states(f"{FLEET}/DeleteInstance")
    until(observer, LIVE, {**deletes, attributes(method="other", state="JOB_STATE_QUEUED"): 2})
    assert set(observer.values(OLDEST_READY)) == {
        attributes(method=f"{FLEET}/DeleteInstance"),
        attributes(method="other"),
    }


def test_numbers_go_while_the_store_does_not_answer(serve: Serve, observer: Observer) -> None:
    clock = ManualClock()
    store = FaultyStore(MemoryStore(clock.now), random.Random(0), NO_FAULTS)
    serve(
        of("def", lambda *_: Instance()),
        telemetry=observer.telemetry,
        clock=clock,
        store=store,
        lease=timedelta(days=1),
    )
    for connected, expected in ((True, states(METHOD)), (False, {}), (True, states(METHOD))):
        store.connected = connected
        clock.advance(timedelta(seconds=15))
        until(observer, LIVE, expected)
        until(observer, PENDING, {attributes(): 0} if connected else {})


@every_store
def test_what_is_to_be_told_of_operations_that_are_done_is_counted(
    serve: Serve, observer: Observer, store: Any
) -> None:
    """Until it was told."""
    held, clock = Gate(), ManualClock()
    told: queue.Queue[str] = queue.Queue()

    def on_done(event: lro_grpc.CompletionEvent) -> None:
        told.put(event.id)
        held.block()

    server = serve(
        of("def", lambda *_: Instance()),
        telemetry=observer.telemetry,
        clock=clock,
        store=store,
        lease=timedelta(days=1),
        on_done=on_done,
    )
    until(observer, PENDING, {attributes(): 0})
    assert observer.instruments()[PENDING] == "{event}"
    for _ in range(2):
        server.done(create(server))
        told.get(timeout=SECONDS)
    clock.advance(timedelta(seconds=15))
    until(observer, PENDING, {attributes(): 2})
    held.open()


def test_numbers_are_told_though_telemetry_fails_each_time(serve: Serve) -> None:
    told: list[object] = []

    class Failing(OpenTelemetry):
        def counted(self, live: Any, *numbers: Any) -> None:
            told.extend([live] if live else [])
            raise RuntimeError("no room")

    clock = ManualClock()
    telemetry = Failing(meter_provider=MeterProvider())
    serve(of("def", lambda *_: Instance()), telemetry=telemetry, clock=clock)

    end = time.monotonic() + SECONDS
    while len(told) < 3:
        assert time.monotonic() < end
        clock.advance(timedelta(seconds=15))


def test_nothing_is_counted_where_metrics_go_nowhere(serve: Serve) -> None:
    """As where the program has no SDK."""
    counted: list[object] = []

    class Counting(ForwardingStore):
        async def counts(self, *arguments: Any, **options: Any) -> Any:
            counted.append(arguments)
            return await super().counts(*arguments, **options)

    for provider, number in ((NoOpMeterProvider(), 0), (MeterProvider(), 1)):
        clock = ManualClock()
        store = Counting(MemoryStore(clock.now))
        telemetry = OpenTelemetry(meter_provider=provider)
        server = serve(of("def", lambda *_: Instance()), telemetry=telemetry, store=store)
        server.done(create(server))
        server.stop()
        assert len(counted) == number


def test_the_stores_calls_are_timed(serve: Serve, observer: Observer, store: Any) -> None:
    server = serve(of("def", lambda *_: Instance()), telemetry=observer.telemetry, store=store)
    server.done(create(server))
    with pytest.raises(grpc.RpcError):
        server.get(f"{PARENT}/operations/none")
    server.stop()
    points = observer.points("lro.store.call.duration")
    calls = {dict(key)["lro.store.call"] for key in points}
    assert {"create", "apply_all", "operation", "leased"} <= calls
    assert points[("lro.store.call", "create"),].count == 1
    refused = ("error.type", "OperationNotFoundError"), ("lro.store.call", "operation")
    assert points[refused].count == 1


def test_no_metric_names_an_operation(serve: Serve, observer: Observer) -> None:
    server = serve(of("def", lambda *_: Instance()), telemetry=observer.telemetry)
    name = create(server)
    server.done(name)
    server.stop()
    seen = [str(observer.points(metric)) for metric in observer.instruments()]
    assert seen
    assert not [one for one in seen if name.rpartition("/")[2] in one]


# The page


def test_the_page_shows_how(tmp_path: Path) -> None:
    (example,) = Page("deploy/traces.md").texts("python")
    (tmp_path / "program.py").write_text(example + USE)
    ran = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert '"name": "start lro.example.v1.FleetService/CreateInstance"' in ran.stdout
    assert '"name": "run lro.example.v1.FleetService/CreateInstance"' in ran.stdout
    assert re.search(
        r"^INFO .*operations/\S+: SUCCEEDED \S*CreateInstance$",
        ran.stderr,
        re.MULTILINE,
    )


USE = """
from concurrent import futures
import grpc
from lro.example.v1 import fleet_service_pb2 as fleet, fleet_service_pb2_grpc as fleet_grpc

class Fleet(fleet_grpc.FleetServiceServicer):
    @lro_grpc.method
    def CreateInstance(self, request, op):
        return fleet.Instance()

server = grpc.server(futures.ThreadPoolExecutor(4))
fleet_grpc.add_FleetServiceServicer_to_server(Fleet(), operations.attach(server))
port = server.add_insecure_port("127.0.0.1:0")
operations.start_sync()
server.start()
with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
    stub = fleet_grpc.FleetServiceStub(channel)
    started = stub.CreateInstance(fleet.CreateInstanceRequest(parent="projects/p/locations/l"))
    lro_grpc.OperationsClient(channel).future(started, response=fleet.Instance).result()
operations.stop_sync(lambda: server.stop(5).wait())
"""
