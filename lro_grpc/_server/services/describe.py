"""DescribeOperation: all that is known of an operation, for those who run the service.

A caller that may get an operation need not be one that may see this: it has its permission, and the
FULL view, with the request, another one besides.

**The request** may hold secrets. It is shown without the fields that its proto marks as sensitive
(``redaction``), and then as the method's own ``redact`` makes it. If neither can tell what is
sensitive, or ``redact`` fails, its size alone is shown: not to show is the safe mistake.

**Actions** are what the caller could request now: each of their events is tried on the record, and
counts if something came of it; then ``authorize`` is asked as it would be by that RPC. A rerun is
no event, and asks a second time, with the request that it starts.

What is large is worked out in a thread: a request may have a million fields.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from google.longrunning import operations_pb2
from google.protobuf import timestamp_pb2
from google.protobuf.message import DecodeError, Message

from lro.v1 import operation_control_service_pb2
from lro.v1.operation_description_pb2 import (
    CompletionDelivery,
    DescribeOperationResponse,
    OperationAttempt,
)
from lro_grpc import _anys
from lro_grpc._engine.handler import Handler
from lro_grpc._errors import InvalidArgumentError, LimitReachedError, UnservedError
from lro_grpc._operation import labels, metadata, redaction
from lro_grpc._operation.attempts import AttemptRecord
from lro_grpc._operation.completion import Completion
from lro_grpc._operation.events import (
    Cancel,
    Delete,
    Event,
    Pause,
    Resume,
    Terminate,
    apply_safely,
)
from lro_grpc._operation.record import Record
from lro_grpc._operation.size import LISTED_BYTES
from lro_grpc._operation.states import PAUSED
from lro_grpc._runtime.clock import Micros
from lro_grpc._runtime.interrupts import only_errors
from lro_grpc._runtime.log import OperationLog
from lro_grpc._runtime.repeated_lines import PROCESS
from lro_grpc._runtime.threads import BoundedThreads
from lro_grpc._server.guarded_store import GuardedStore
from lro_grpc._server.rpc.call import Behavior, Call, parse
from lro_grpc._server.services.start import Starter
from lro_grpc._server.unserved import Unserved
from lro_grpc._stores.store import Store
from lro_grpc._wire.proto_plus import as_declared, protobuf_message

_Request = operation_control_service_pb2.DescribeOperationRequest
_Response = DescribeOperationResponse
_View = operation_control_service_pb2.OperationDescriptionView
_FULL = operation_control_service_pb2.OPERATION_DESCRIPTION_VIEW_FULL

METHOD = "/lro.v1.OperationControlService/DescribeOperation"

_SMALL = 16 * 1024
"""The most bytes of an operation and its request that are described on the event loop."""

_MOST_WAITING = 32
"""The most descriptions that wait for the thread."""

_LARGE_PARTS = ("request", "metadata", "attempts")
"""The fields that are left out, in this order, of what would be too large for clients."""


class _Action(NamedTuple):
    """A request that a caller may make about an operation."""

    action: _Response.Action.ValueType
    permission: str
    method: str
    request: type[Message]
    event: Event | None
    """None for a rerun, which changes no record."""


class _Question(NamedTuple):
    """A question to ``authorize``, as an RPC that the caller may make would ask it."""

    permission: str
    resource: str
    request: Message
    operation: Record | None


class _Possible(NamedTuple):
    """An action that would change something, if the caller is allowed all that it takes."""

    action: _Action
    questions: Sequence[_Question]


class DescribeService:
    """Describes operations.

    Args:
        store: The operations, behind the guard.
        served: All that this process serves, by the methods of operations.
        starters: The starts of the methods, by their own names.
        unserved: Knows why nobody goes on with an operation.
        cancel: The event of a cancel.
        operation_bytes: The most bytes of an operation.
    """

    def __init__(
        self,
        store: GuardedStore,
        served: Mapping[str, Handler],
        starters: Mapping[str, Starter],
        unserved: Unserved,
        cancel: Cancel,
        operation_bytes: int,
    ) -> None:
        self._store = store
        self._served = served
        self._starters = starters
        self._unserved = unserved
        self._most_bytes = operation_bytes + LISTED_BYTES
        self._thread = BoundedThreads(1, waiting=_MOST_WAITING)
        operations = "/google.longrunning.Operations/{}Operation"
        control = "/lro.v1.OperationControlService/{}Operation"
        events: tuple[tuple[str, str, Any, Event | None], ...] = (
            ("Cancel", operations, operations_pb2, cancel),
            ("Pause", control, operation_control_service_pb2, Pause()),
            ("Resume", control, operation_control_service_pb2, Resume()),
            ("Rerun", control, operation_control_service_pb2, None),
            ("Terminate", control, operation_control_service_pb2, Terminate("…")),
            ("Delete", operations, operations_pb2, Delete()),
        )
        self._actions = [
            _Action(
                _Response.Action.Value(verb.upper()),
                f"operations.{verb.lower()}",
                service.format(verb),
                getattr(module, f"{verb}OperationRequest"),
                event,
            )
            for verb, service, module, event in events
        ]

    def methods(self) -> Mapping[str, Behavior]:
        """Returns its method by its full name."""
        return {METHOD: self.describe}

    async def describe(self, body: bytes, call: Call) -> bytes:
        """Returns the description of an operation."""
        request = parse(_Request, body)
        admitted = await self._store.admit("operations.describe", request.name, request, call)
        is_full = request.view == _FULL
        if is_full:
            await self._store.admit("operations.describeFull", request.name, request, call)
        if request.view not in _View.values():
            raise InvalidArgumentError(f"view is {request.view}, which is none; give BASIC or FULL")
        record, attempts = await admitted.read_attempts(request.name)
        rerun = await admitted.store.latest_rerun(record.name) if record.done else ""
        reads_request = is_full or record.done  # a rerun is about it
        size = len(record.operation) + (len(record.request) if reads_request else 0)
        if size <= _SMALL:
            response = self._response(record, attempts, is_full)
            possible = self._possible(record)
        else:
            response, possible = await self._in_thread(record, attempts, is_full)
        response.rerun_operation = rerun
        if await self._waits_for_key(admitted.store, record):
            response.wait_reasons[:] = [
                _Response.CONCURRENCY_KEY if one == _Response.QUEUED else one
                for one in response.wait_reasons
            ]
        if admitted.store.exclusive:
            response.ClearField("lease_expire_time")  # the lease lasts as long as the process
        if record.notify and record.done:
            completion = await admitted.store.read_completion(record.name, record.create_time)
            response.delivery.CopyFrom(_delivery(completion))
        for one in possible:
            if await self._is_allowed(one, call):
                response.actions.append(one.action.action)
        fields: Any = response
        for part in _LARGE_PARTS:
            if response.ByteSize() > self._most_bytes:
                fields.ClearField(part)
        return response.SerializeToString()

    async def _in_thread(
        self, record: Record, attempts: Sequence[AttemptRecord], is_full: bool
    ) -> tuple[_Response, Sequence[_Possible]]:
        if self._thread.is_full:
            raise LimitReachedError(
                f"{_MOST_WAITING} large operations wait to be described; try again later",
                subject=METHOD,
            )

        def work() -> tuple[_Response, Sequence[_Possible]]:
            return self._response(record, attempts, is_full), self._possible(record)

        made: tuple[_Response, Sequence[_Possible]] = await self._thread.run("lro-describe", work)
        return made

    def _response(
        self, record: Record, attempts: Sequence[AttemptRecord], is_full: bool
    ) -> _Response:
        response = _Response(
            method=record.method.removeprefix("/"),
            caller=record.caller,
            request_size_bytes=len(record.request),
            attempts=map(_attempt, attempts),
            failed_attempt_count=record.failed_attempts,
            max_attempts=record.max_attempts,
            wait_reasons=self._wait_reasons(record),
            source_operation=record.source_operation,
            operator_caller=record.operator,
            exclusive_target=record.exclusive_target,
            priority=record.priority,
            concurrency_key=record.concurrency_key,
            labels=dict(labels.unpacked(record.labels)),
        )
        response.operation.ParseFromString(record.operation)
        metadata.fill(response.metadata, record, clear=False)
        for time, value in (
            (response.schedule_time, record.scheduled_time),
            (response.deadline_time, record.deadline_time),
            (response.lease_expire_time, record.lease_expire_time),
        ):
            _set_time(time, value)
        request = self._request(record) if is_full else None
        if request is not None:
            response.request.CopyFrom(_anys.pack(request))
        return response

    def _wait_reasons(self, record: Record) -> Sequence[_Response.WaitReason.ValueType]:
        if record.state == PAUSED:
            return [_Response.PAUSED]
        if not record.claimable:
            return []
        reasons = []
        if record.scheduled_time:
            reasons.append(_Response.SCHEDULED)
        if self._unserved.why(record):
            reasons.append(_Response.NO_HANDLER)
        return reasons or [_Response.QUEUED]

    async def _waits_for_key(self, store: Store, record: Record) -> bool:
        """Returns whether an operation is ready, and its key has no free place.

        No other process is asked for the places: only what is served here is known to have some.
        """
        handler = self._served.get(record.method)
        places = handler.concurrency_per_key if handler is not None else None
        if not places or not record.concurrency_key or not record.is_ready:
            return False
        held = await store.held_of_key(record.method, record.concurrency_key, places)
        return held >= places

    def _request(self, record: Record) -> Message | None:
        """Returns the request as it may be shown; None if it may not."""
        handler = self._served.get(record.method)
        if handler is None:
            return None
        kind: type[Any] = handler.request_class
        if handler.redact is None and not redaction.is_annotated(kind.DESCRIPTOR):
            return None
        try:
            request: Message = redaction.redacted(kind.FromString(record.request))
        except DecodeError:
            return None
        if handler.redact is None:
            return request
        try:
            with only_errors("redact"):
                shown = protobuf_message(handler.redact(as_declared(request, handler.request)))
        except Exception as error:  # noqa: BLE001 - the request is not shown then, whatever it was
            # Without its words, which may repeat what nobody is to see.
            where = traceback.extract_tb(error.__traceback__)[-1]
            failure = f"raised {type(error).__name__} in {where.filename}:{where.lineno}"
        else:
            if shown is None or type(shown) is kind:
                return shown
            failure = f"returned {type(shown).__qualname__}, not {kind.DESCRIPTOR.full_name}"
        text = (
            f"{record.name}: the redact of {handler.method} has {failure}; its request is not shown"
        )
        log = OperationLog(record)
        PROCESS.say(logging.ERROR, text, kind=("redact", handler.method), log=log)
        return None

    def _possible(self, record: Record) -> Sequence[_Possible]:
        """Returns the requests that would change something."""
        possible = []
        for action in self._actions:
            questions = [_about(record, action)]
            if action.event is None:
                start = self._about_start(record)
                if start is None:
                    continue
                questions.append(start)
            elif not _changes(action.event, record):
                continue
            possible.append(_Possible(action, questions))
        return possible

    def _about_start(self, record: Record) -> _Question | None:
        """Returns the question about the start that a rerun is; None if it cannot be run again."""
        handler = self._served.get(record.method)
        if handler is None or not record.done:
            return None
        try:
            resource, request = self._starters[handler.method].about_rerun(record)
        except UnservedError:
            return None
        return _Question("operations.start", resource, request, None)

    async def _is_allowed(self, possible: _Possible, call: Call) -> bool:
        for one in possible.questions:
            if not await self._store.allows(
                one.permission,
                one.resource,
                one.request,
                possible.action.method,
                call,
                operation=one.operation,
            ):
                return False
        return True


def _about(record: Record, action: _Action) -> _Question:
    request = action.request()
    setattr(request, "name", record.name)  # noqa: B010 - a Message has no fields of its own
    return _Question(action.permission, record.name, request, record)


def _changes(event: Event, record: Record) -> bool:
    after = apply_safely(event, record, record.update_time)
    return isinstance(after, Record) and after is not record


def _attempt(one: AttemptRecord) -> OperationAttempt:
    outcome: Any = one.outcome
    attempt = OperationAttempt(number=one.number, worker=one.worker, outcome=outcome)
    _set_time(attempt.start_time, one.start_time)
    _set_time(attempt.end_time, one.end_time)
    if one.error:
        attempt.error.ParseFromString(one.error)
    return attempt


def _delivery(completion: Completion | None) -> CompletionDelivery:
    """Returns how far a completion is; None was told, for it was there before its record was."""
    if completion is None:
        return CompletionDelivery(state=CompletionDelivery.SUCCEEDED)
    delivery = CompletionDelivery(
        state=CompletionDelivery.FAILED if completion.given_up else CompletionDelivery.PENDING,
        attempt_count=completion.attempt_count,
    )
    if not completion.given_up:
        _set_time(delivery.next_attempt_time, completion.next_time)
    if completion.error:
        delivery.error.ParseFromString(completion.error)
    return delivery


def _set_time(time: timestamp_pb2.Timestamp, value: Micros) -> None:
    if value:
        time.FromMicroseconds(value)
