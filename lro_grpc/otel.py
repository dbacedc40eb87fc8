"""OpenTelemetry for operations: spans and metrics. Needs the extra ``otel``.

Give it to the server, and configure the SDK as for any other library::

    operations = lro_grpc.Operations(telemetry=lro_grpc.otel.OpenTelemetry())

Spans
-----

============================  ========  ==========================================================
name                          kind      what it spans
============================  ========  ==========================================================
``start {service}/{method}``  PRODUCER  the storing of a new operation
``run {service}/{method}``    CONSUMER  one attempt, from its claim until its outcome is stored
============================  ========  ==========================================================

The start is a child of the RPC's current span, as an instrumented server has one, or else of the
context in the RPC's metadata. Its own context is stored with the operation. Every attempt is a
child of that start, in whichever process it runs, be it after a restart, a retry or a pause: so
one trace shows an operation with all of its attempts, and is sampled as a whole. The messaging
conventions allow it for messages that are processed one by one, as operations are; the link to the
message's creation, which they ask for, is there as well.

=========================  ======================================================================
attribute of spans         meaning
=========================  ======================================================================
``lro.operation.name``     the operation: ``[{parent}/]operations/{id}``
``lro.operation.method``   the method that started it: ``{package}.{service}/{method}``
``lro.operation.attempt``  of a run: the attempt's number
``lro.operation.state``    of a run: the operation's ``lro.v1.JobState`` after it, such as
                           ``JOB_STATE_SUCCEEDED``, or ``JOB_STATE_QUEUED`` if another attempt
                           follows; absent if the attempt has lost its operation
``error.type``             the name of the error's ``google.rpc.Code``, such as ``NOT_FOUND``;
                           ``LEASE_LOST`` if the attempt has lost its operation, or was given up
=========================  ======================================================================

An exception that a handler raises is recorded on its run. A cancel is no error of the run.

Metrics
-------

==================================  =============  =============  =================================
name                                instrument     unit           attributes
==================================  =============  =============  =================================
``lro.operation.started``           counter        {operation}    method
``lro.operation.finished``          counter        {operation}    method, state, ``error.type``
``lro.operation.duration``          histogram      s              method, state, ``error.type``
``lro.operation.queue.duration``    histogram      s              method
``lro.operation.attempt.duration``  histogram      s              method, state, ``error.type``
``lro.operation.attempt.active``    updowncounter  {attempt}      method
``lro.operation.live``              gauge          {operation}    method, state
``lro.operation.oldest_ready.age``  gauge          s              method
``lro.delivery.pending``            gauge          {event}
``lro.operation.waiter.active``     updowncounter  {call}
``lro.operation.wait.duration``     histogram      s              ``lro.wait.end``
``lro.store.call.duration``         histogram      s              ``lro.store.call``, ``error.type``
==================================  =============  =============  =================================

``method`` and ``state`` stand for ``lro.operation.method`` and ``lro.operation.state``; the
operation's name is in no metric. ``duration`` is from the start until the operation is done,
``queue.duration`` from the moment an attempt could begin until it does. Waiters are the RPCs that
stay open in WaitOperation, WatchOperation and WatchOperations, and each operation that is watched
by the last. ``wait.duration`` is of each WaitOperation that was answered; ``lro.wait.end`` says why
it was: the operation is ``done``; the ``timeout`` of the request is over; so is the ``deadline`` of
the RPC, but for the time that the answer takes; so is the server's ``max_wait``; the server is in
its ``drain``; or there was ``no_place`` for one more call that waits. ``lro.store.call`` is a
method of ``lro_grpc.stores.Store``; its ``error.type`` is the exception's class.

The three gauges are of the store, whichever process works on its operations, counted every 15
seconds. So each replica tells the same numbers: take their maximum (``max by``), never their sum.
Nothing is counted unless metrics go anywhere, and nothing is told while the store does not answer.

* ``live`` is of operations that are not done: up to 100,000 of a method and a state, hidden ones
  included. ``method`` is one that the process serves, and ``other`` for all the rest.
* ``oldest_ready.age`` is how long the oldest operation that could begin has waited for a free
  place, 0 if none does.
* ``delivery.pending`` is of completion events that wait to be delivered, or to be delivered again:
  up to 10,000, and none that was given up.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

from lro_grpc._errors import Code, LroError
from lro_grpc._extras import extra
from lro_grpc._operation.record import Record
from lro_grpc._operation.states import JOB
from lro_grpc._operation.telemetry import InvocationMetadata
from lro_grpc._runtime import clock

with extra("otel"):
    from opentelemetry import context, metrics, propagate, trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

__all__ = [
    "OpenTelemetry",
]

_SCOPE = "lro_grpc"
_NAME = "lro.operation.name"
_METHOD = "lro.operation.method"
_ATTEMPT = "lro.operation.attempt"
_STATE = "lro.operation.state"
_CALL = "lro.store.call"
_WAIT_END = "lro.wait.end"
_ERROR = "error.type"

_LONG = (0.01, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 600, 1800, 3600, 14400, 43200, 86400)
_SHORT = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
"""The bounds of histograms, in seconds."""

_MOST_TRACESTATE = 512
"""Characters of a ``tracestate`` that have to be kept, says W3C Trace Context; more is dropped."""

_w3c = TraceContextTextMapPropagator()


class OpenTelemetry:
    """Reports operations to OpenTelemetry; see the module for the names.

    Args:
        tracer_provider: Makes the spans; the global one unless given.
        meter_provider: Makes the metrics; the global one unless given.
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._tracer = trace.get_tracer(_SCOPE, tracer_provider=tracer_provider)
        meter = metrics.get_meter(_SCOPE, meter_provider=meter_provider)

        def seconds(name: str, bounds: tuple[float, ...], description: str) -> metrics.Histogram:
            return meter.create_histogram(
                name, "s", description, explicit_bucket_boundaries_advisory=bounds
            )

        self._started = meter.create_counter(
            "lro.operation.started", "{operation}", "Operations that were started."
        )
        self._finished = meter.create_counter(
            "lro.operation.finished", "{operation}", "Operations that are done."
        )
        self._duration = seconds(
            "lro.operation.duration", _LONG, "From the start until the operation is done."
        )
        self._queue_duration = seconds(
            "lro.operation.queue.duration", _LONG, "From when an attempt could begin until it does."
        )
        self._attempt_duration = seconds(
            "lro.operation.attempt.duration", _LONG, "From a claim until its outcome is stored."
        )
        self._active = meter.create_up_down_counter(
            "lro.operation.attempt.active", "{attempt}", "Attempts that run."
        )
        self._waiters = meter.create_up_down_counter(
            "lro.operation.waiter.active", "{call}", "RPCs that stay open to wait."
        )
        self._wait_duration = seconds(
            "lro.operation.wait.duration", _LONG, "How long a WaitOperation waits."
        )
        self._meter_provider = meter_provider
        self._live: Sequence[metrics.Observation] = ()
        self._oldest_ready: Sequence[metrics.Observation] = ()
        self._pending: Sequence[metrics.Observation] = ()
        # The callbacks run in a thread of the reader's: they read what was counted last.
        meter.create_observable_gauge(
            "lro.operation.live",
            [lambda _: self._live],
            "{operation}",
            "Operations of all processes that are not done.",
        )
        meter.create_observable_gauge(
            "lro.operation.oldest_ready.age",
            [lambda _: self._oldest_ready],
            "s",
            "How long the oldest operation that is ready has been so.",
        )
        meter.create_observable_gauge(
            "lro.delivery.pending",
            [lambda _: self._pending],
            "{event}",
            "Completion events of all processes that wait to be delivered.",
        )
        self._call_duration = seconds(
            "lro.store.call.duration", _SHORT, "How long the store takes to answer."
        )

    @contextlib.contextmanager
    def starting(self, record: Record, metadata: InvocationMetadata) -> Iterator[Record]:
        """See :class:`lro_grpc.Telemetry`."""
        method = _method(record)
        with self._tracer.start_as_current_span(
            f"start {method}",
            _context_of_call(metadata),
            trace.SpanKind.PRODUCER,
            {_NAME: record.name, _METHOD: method},
        ):
            yield record._replace(trace_context=_current_trace_context())

    def attempt(self, record: Record) -> _Attempt:
        """See :class:`lro_grpc.Telemetry`."""
        method = _method(record)
        started = _stored_context(record.trace_context)
        creation = trace.get_current_span(started).get_span_context()
        span = self._tracer.start_span(
            f"run {method}",
            started,
            trace.SpanKind.CONSUMER,
            {_NAME: record.name, _METHOD: method, _ATTEMPT: record.attempt},
            [trace.Link(creation)] if creation.is_valid else None,
        )
        return _Attempt(span, method, self._active, self._attempt_duration)

    def changed(self, before: Record | None, after: Record) -> None:
        """See :class:`lro_grpc.Telemetry`."""
        method = {_METHOD: _method(after)}
        if before is None:
            self._started.add(1, method)
            return
        if after.attempt != before.attempt:
            ready = max(before.update_time, before.scheduled_time)
            self._queue_duration.record(_seconds(ready, after.update_time), method)
        if after.done and not before.done:
            outcome = {**method, **_outcome(after)}
            self._finished.add(1, outcome)
            self._duration.record(_seconds(after.create_time, after.end_time), outcome)

    def answered(self, call: str, seconds: float, error: BaseException | None) -> None:
        """See :class:`lro_grpc.Telemetry`."""
        attributes = {_CALL: call}
        if error is not None:
            attributes[_ERROR] = type(error).__qualname__
        self._call_duration.record(seconds, attributes)

    @property
    def wants_counts(self) -> bool:
        """Whether metrics go anywhere: only those of an SDK do."""
        provider = self._meter_provider or metrics.get_meter_provider()
        return not type(provider).__module__.startswith("opentelemetry.metrics")

    def counted(
        self,
        live: Mapping[tuple[str, int], int],
        oldest_ready: Mapping[str, float],
        pending_deliveries: int | None,
    ) -> None:
        """Takes how many operations are not done, or not told of, for the next reader."""
        self._live = [
            metrics.Observation(
                number, {_METHOD: method.removeprefix("/"), _STATE: JOB.name_of(state)}
            )
            for (method, state), number in live.items()
        ]
        self._oldest_ready = [
            metrics.Observation(age, {_METHOD: method.removeprefix("/")})
            for method, age in oldest_ready.items()
        ]
        numbers = [] if pending_deliveries is None else [pending_deliveries]
        self._pending = [metrics.Observation(number) for number in numbers]

    def waiting(self, change: int) -> None:
        """See :class:`lro_grpc.Telemetry`."""
        self._waiters.add(change)

    def wait_ended(self, reason: str, seconds: float) -> None:
        """See :class:`lro_grpc.Telemetry`."""
        self._wait_duration.record(seconds, {_WAIT_END: reason})


class _Attempt:
    """One attempt; see :class:`lro_grpc.AttemptTelemetry`."""

    def __init__(
        self,
        span: trace.Span,
        method: str,
        active: metrics.UpDownCounter,
        duration: metrics.Histogram,
    ) -> None:
        self._span = span
        self._method = {_METHOD: method}
        self._active = active
        self._duration = duration
        self._error: dict[str, str] = {}
        self._what: str | None = None
        self._is_over = False
        active.add(1, self._method)

    def current(self) -> AbstractContextManager[trace.Span]:
        return trace.use_span(self._span, record_exception=False, set_status_on_exception=False)

    def failed(self, error: BaseException, code: int) -> None:
        self._error = {_ERROR: Code(code).name}
        self._what = error.message if isinstance(error, LroError) else str(error)
        self._span.record_exception(error)

    def ended(self, record: Record | None, seconds: float) -> None:
        if self._is_over:
            return
        self._is_over = True
        outcome = {_ERROR: "LEASE_LOST"} if record is None else {**self._error, **_outcome(record)}
        if outcome.get(_ERROR, Code.CANCELLED.name) != Code.CANCELLED.name:
            self._span.set_status(trace.StatusCode.ERROR, self._what)
        self._span.set_attributes(outcome)
        self._span.end()
        self._active.add(-1, self._method)
        self._duration.record(seconds, {**self._method, **outcome})


def _method(record: Record) -> str:
    """Returns a method's name as the conventions write it: ``{package}.{service}/{method}``."""
    return record.method.removeprefix("/")


def _outcome(record: Record) -> dict[str, str]:
    outcome = {_STATE: JOB.name_of(record.state)}
    if record.error_code:
        outcome[_ERROR] = Code(record.error_code).name
    return outcome


def _seconds(begin: int, end: int) -> float:
    return clock.seconds(max(0, end - begin))


def _context_of_call(metadata: InvocationMetadata) -> context.Context:
    """Returns the context of the RPC's current span, or else that in its metadata."""
    present = context.get_current()
    if trace.get_current_span(present).get_span_context().is_valid:
        return present
    carrier: dict[str, list[str]] = {}
    for key, value in metadata():
        if isinstance(value, str):
            carrier.setdefault(key, []).append(value)
    return propagate.extract(carrier, present)


def _current_trace_context() -> str:
    """Returns the current span as a record keeps it: ``traceparent[ tracestate]``."""
    carrier: dict[str, str] = {}
    _w3c.inject(carrier)
    state = carrier.get("tracestate", "")
    kept = [carrier.get("traceparent", ""), state if len(state) <= _MOST_TRACESTATE else ""]
    return " ".join(filter(None, kept))


def _stored_context(trace_context: str) -> context.Context:
    """Returns the context that a record keeps; an empty one if it keeps none."""
    parent, _, state = trace_context.partition(" ")
    return _w3c.extract({"traceparent": parent, "tracestate": state}, context.Context())
