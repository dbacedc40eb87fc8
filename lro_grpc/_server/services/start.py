"""The start of an operation: from a request to a stored record, once for a ``request_id``.

A caller that has had no answer sends its request again, under the same ``request_id``. It must get
the operation that the first one has started, whatever has happened since (S22). The same request is
the one with the same fingerprint: its fields, and its caller. Hence the order:

1. **The guard**, before anything of the request is checked (S19).
2. **The same request, sent before**: its operation is the answer, as it is now. This comes before
   ``prepare``, for the first request may have made the very thing that lets ``prepare`` refuse:
   "that instance exists".
3. **``prepare``**, the service's own check. Its error is the RPC's own, and nothing is stored (S3).
   But if it refuses, step 2 is repeated: the same request may have overtaken this one in between.
   An operation of another request under the id makes it a ``RequestIdReusedError``, as in step 5.
4. **``validate_only``** ends here, with an operation that has no name and is stored nowhere (S8).
   An operation that is too large to be read is refused before that.
5. **The store** decides: of the same requests at once, it keeps one, and gives it to all of them;
   another request under the same id is refused there. The steps before only look.

A full queue refuses at step 5, but not a request whose operation has taken the last place itself;
so there, too, the same request is looked for once more.

**To run an operation again** is a start, too, from the request of one that is done, in the same
order. What is repeated under one ``request_id`` is not the request here but the rerun; so the new
operation has an id that is made of the source's name and the ``request_id``, and is looked for by
that. It has no ``request_id`` of its own: the source's stays the source's, and sent again it still
answers with that. Caller and parent are the source's as well: an operator's rights must not get
into another caller's work, nor the work out of that caller's sight.

**Code of this process** starts operations in the same order, without a question by the guard. Its
``request_id`` comes beside the request, too, for some requests have no field for one.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from google.longrunning import operations_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from lro_grpc import _anys
from lro_grpc._engine.handler import Handler
from lro_grpc._errors import (
    LIBRARY_DOMAIN,
    ConfigurationError,
    InvalidArgumentError,
    LimitReachedError,
    LroError,
    MalformedRequestError,
    OperationDamagedError,
    OperationNotFoundError,
    OperationTooLargeError,
    UnservedError,
    cut,
)
from lro_grpc._operation import labels, names, publication, record, size
from lro_grpc._operation.batch_states import CODE_BYTES, BatchStates, fault_in
from lro_grpc._operation.fit import is_understood
from lro_grpc._operation.telemetry import NO_TELEMETRY, Telemetry
from lro_grpc._runtime.clock import Micros, micros
from lro_grpc._runtime.interrupts import only_errors
from lro_grpc._runtime.log import log_rerun, log_started
from lro_grpc._runtime.repeated_lines import PROCESS
from lro_grpc._runtime.threads import BoundedThreads
from lro_grpc._server.decorator import MethodOptions, Prepared
from lro_grpc._server.guarded_store import Admitted, GuardedStore
from lro_grpc._server.large_requests import LargeRequests
from lro_grpc._server.limits import Queues
from lro_grpc._server.rpc.call import Call, parse
from lro_grpc._server.services import method_names
from lro_grpc._stores.refusals import (
    NAME_TAKEN,
    check_same_request,
    deleted_in_progress,
    in_progress,
    request_id_reused,
)
from lro_grpc._stores.store import Now
from lro_grpc._wire.field_formats import declares_uuid4, is_uuid4
from lro_grpc._wire.proto_plus import as_declared, protobuf_message

LONGEST_DELAY = timedelta(days=365)
"""The longest time from a start to its first attempt that may be asked for."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class _Read(NamedTuple):
    """A request that was read."""

    request: Any
    body: bytes
    is_understood: bool
    """Whether all of it was understood."""


class Given(NamedTuple):
    """The part of an operation that code gives with its start: it wins over ``prepare``."""

    labels: Mapping[str, str] = {}
    """Labels beside those of ``prepare``."""
    delay: Micros | None = None
    """The time before its first attempt; None for that of ``prepare``."""


_NOTHING_GIVEN = Given()
_NOTHING_PREPARED = Prepared()


class Starter:
    """The RPC of one long-running method.

    Args:
        handler: The method's handler.
        prepare: The service's own check of a request, if there is one.
        options: The options of its decorator.
        retention: For how long a done operation is kept, unless the options say it.
        store: The operations, behind the guard.
        queues: Keeps a place in the queue for each start.
        operation_bytes: The most bytes of an operation.
        now: Returns the store's time.
        new_id: Makes an operation's id, of its request; without, ``names.new_id`` does.
        threads: Where a ``prepare`` that is a ``def`` runs.
        large_requests: Reads what is large, and bounds it.
        telemetry: Observes the starts.
        expect: Is called with a new operation before it is stored.
        notifies: Whether the ends of the operations are to be told.
    """

    def __init__(
        self,
        handler: Handler,
        prepare: Callable[[Any, Any], Any] | None,
        options: MethodOptions,
        retention: timedelta,
        store: GuardedStore,
        queues: Queues,
        operation_bytes: int,
        now: Now,
        new_id: Callable[[Any], str] | None,
        threads: BoundedThreads,
        large_requests: LargeRequests,
        telemetry: Telemetry = NO_TELEMETRY,
        *,
        expect: Callable[[record.Record], None],
        notifies: bool = False,
    ) -> None:
        self._handler = handler
        self._prepare = prepare
        self._options = options
        self._store = store
        self._queues = queues
        self._operation_bytes = operation_bytes
        self._now = now
        self._new_id = new_id
        self._threads = threads
        self._large_requests = large_requests
        self._telemetry = telemetry
        self._expect = expect
        self._request = handler.request_class
        self._metadata = handler.metadata_class
        fields = {field.name: field for field in self._request.DESCRIPTOR.fields}
        kinds = {name: field.type for name, field in fields.items() if not field.is_repeated}
        self._has_request_id = kinds.get("request_id") == FieldDescriptor.TYPE_STRING
        self._takes_uuids = self._has_request_id and declares_uuid4(fields["request_id"])
        self._has_validate_only = kinds.get("validate_only") == FieldDescriptor.TYPE_BOOL
        self._parent_fields = [
            field for field in ("parent", "name") if kinds.get(field) == FieldDescriptor.TYPE_STRING
        ]
        verb, version = options.verb, options.api_version
        self._template = publication.Template(
            handler.method,
            self._metadata.DESCRIPTOR.full_name,
            exclusive=options.exclusive,
            timeout=micros(options.timeout or timedelta(0)),
            retention=micros(options.retention or retention),
            max_attempts=options.max_attempts,
            pausable=options.pausable,
            notify=notifies,
            verb=method_names.verb_of(handler.method) if verb is None else verb,
            api_version=(
                method_names.api_version_of(handler.method) if version is None else version
            ),
        )

    @property
    def request_class(self) -> type[Message]:
        """Protobuf's own class of the request's type."""
        return self._request

    @property
    def error_domain(self) -> str:
        """``ErrorInfo.domain`` of the method's errors that name none."""
        return self._handler.error_domain

    async def start(
        self,
        body: bytes,
        call: Call,
        request_id: str = "",
        given: Given = _NOTHING_GIVEN,
    ) -> bytes:
        """Stores an operation for a request, or finds the one that the request has started (S22).

        Args:
            body: The serialized request.
            call: The RPC, or the call by code of this process.
            request_id: In place of the request's own; empty for that.
            given: What code gives beside ``prepare``.

        Returns:
            The serialized Operation.
        """
        caller = await self._store.identify(call)
        read = await self._large_requests.read_first(body, caller, self._read, body)
        admitted = await self._admit(read, call)
        with self._large_requests.entry(body, admitted.caller, self._handler.method):
            return await self._start(read, admitted, call, request_id, given)

    async def _start(
        self,
        read: _Read,
        admitted: Admitted,
        call: Call,
        request_id: str,
        given: Given,
    ) -> bytes:
        request, body, understood = read
        caller = admitted.caller
        request_id = self._request_id(request, request_id)
        fingerprint = b""
        if request_id:
            fingerprint = await self._large_requests.read(body, _fingerprint, request, caller)
            if same := await self._same(admitted, request_id, fingerprint):
                return _answered(call, same)
        try:
            prepared = await self._prepared(request, call)
        except Exception as refusal:
            # The same request may have got here first, and changed what prepare looks at.
            for one in await self._earlier(admitted, request_id):
                if one.deleted:
                    continue
                if one.fingerprint == fingerprint:
                    return _answered(call, one)
                if one.parent == self._parent(Prepared(), request):
                    raise request_id_reused(one) from refusal
            raise
        made = self._made(
            prepared,
            given,
            self._parent(prepared, request),
            self._made_id(request),
            {
                "request": body,
                "request_id": request_id,
                "fingerprint": fingerprint,
                "caller": caller,
                "request_understood": understood,
            },
        )
        if self._has_validate_only and request.validate_only:
            return await self._validated(admitted, prepared)
        if self._handler.former_names:  # the store looks for an id within one method
            for one in await self._earlier(admitted, request_id):
                if one.method != made.method and one.parent == made.parent:
                    return _answered(call, check_same_request(one, made))
        try:
            is_random = self._new_id is None
            stored = await self._store_new(admitted, made, call, is_random=is_random)
        except LimitReachedError:
            # The same request may have filled the queue itself.
            if same := await self._same(admitted, request_id, fingerprint):
                return _answered(call, same)
            raise
        if stored.name == made.name:
            log_started(stored)
        return _answered(call, stored)

    async def rerun(
        self, source: record.Record, request_id: str, call: Call, *, validate_only: bool
    ) -> bytes:
        """Stores an operation that runs another one again, or finds the one that does so already.

        Args:
            source: The operation to run again, which is done.
            request_id: The caller's id for this rerun; empty for none.
            call: The RPC.
            validate_only: Whether to make the checks alone.

        Returns:
            The serialized Operation.

        Raises:
            UnservedError: If this server does not understand the request of the source.
        """
        read = await self._large_requests.read_first(
            source.request, call.caller, self._read_again, source
        )
        admitted = await self._admit(read, call)
        with self._large_requests.entry(source.request, admitted.caller, self._handler.method):
            return await self._rerun(
                source, read, request_id, admitted, call, validate_only=validate_only
            )

    async def _rerun(
        self,
        source: record.Record,
        read: _Read,
        request_id: str,
        admitted: Admitted,
        call: Call,
        *,
        validate_only: bool,
    ) -> bytes:
        request, body, understood = read
        operation_id = (
            names.new_id(source.create_time, _digest_of(source, request_id))
            if request_id
            else names.new_id(self._now(), os.urandom)
        )

        async def same() -> record.Record | None:
            """Returns the operation that the same rerun has stored; None if there is none."""
            return await _rerun_of(source, operation_id, admitted) if request_id else None

        if earlier := await same():
            return _answered(call, earlier)
        try:
            prepared = await self._prepared(request, call)
        except Exception:
            # The same rerun may have got here first, and changed what prepare looks at.
            if earlier := await same():
                return _answered(call, earlier)
            raise
        made = self._made(
            prepared,
            _NOTHING_GIVEN,
            source.parent,
            operation_id,
            {
                "request": body,
                "caller": source.caller,
                "request_understood": understood,
                "source_operation": source.name,
                "operator": admitted.caller,
            },
        )
        if validate_only:
            return await self._validated(admitted, prepared)
        try:
            stored = await self._store_new(admitted, made, call, is_random=not request_id)
        except LroError as error:
            # The same rerun may have the name, the target, or the last place in the queue.
            if earlier := await same():
                return _answered(call, earlier)
            if error.reason == NAME_TAKEN and request_id:
                raise deleted_in_progress(request_id) from error
            raise
        log_rerun(source, stored)
        return _answered(call, stored)

    def about_rerun(self, source: record.Record) -> tuple[str, Message]:
        """Returns the resource and the request about which a rerun asks for ``operations.start``.

        Raises:
            UnservedError: If this server does not understand the request of the source.
        """
        request = self._read_again(source).request
        return self._resource(request), request

    async def _admit(self, read: _Read, call: Call) -> Admitted:
        """Lets in a start.

        The guard is asked with the request, so that is read first. Until the call is let in, its
        request is counted nowhere, and all that it has is a turn among its caller's to be read: a
        caller that may start nothing takes no room from others, and learns not how much they have
        (S19).
        """
        resource = self._resource(read.request)
        return await self._store.admit(
            "operations.start", resource, read.request, call, named=False
        )

    def _read_again(self, source: record.Record) -> _Read:
        """Returns the request of an operation, for a rerun."""
        kind = self._request
        try:
            request: Any = parse(kind, source.request)
        except MalformedRequestError as error:
            raise _unfit(source, kind) from error
        if self._has_request_id:
            request.ClearField("request_id")
        if self._has_validate_only:
            request.ClearField("validate_only")
        understood = is_understood(parse(kind, source.request))
        if source.request_understood and not understood:
            raise _unfit(source, kind)
        return _Read(request, request.SerializeToString(), understood)

    def _made(
        self,
        prepared: Prepared,
        given: Given,
        parent: str,
        operation_id: str,
        values: dict[str, Any],
    ) -> record.Record:
        """Returns a new record, which is not too large.

        Args:
            prepared: What ``prepare`` has returned.
            given: What code gives beside it.
            parent: The parent of its name.
            operation_id: Its id.
            values: Its fields that neither of these nor the method's options give.

        Raises:
            InvalidArgumentError: If the operation is too large, or is to begin too late.
        """
        now = self._now()
        if prepared is not _NOTHING_PREPARED:
            values |= {
                "target": prepared.target,
                "handler_metadata": self._handler_metadata(prepared),
                "batch": self._batch(prepared),
                "priority": prepared.priority,
                "concurrency_key": prepared.concurrency_key,
            }
            if prepared.verb is not None:
                values["verb"] = prepared.verb
        if prepared.labels or given.labels:
            values["labels"] = self._labels({**prepared.labels, **given.labels})
        schedule_time = self._schedule_time(prepared, given.delay, now)
        made = self._template.create(parent, operation_id, now, values, schedule_time=schedule_time)
        self._check_size(made, room=CODE_BYTES * len(prepared.batch_targets))
        return made

    async def _store_new(
        self, admitted: Admitted, made: record.Record, call: Call, *, is_random: bool
    ) -> record.Record:
        """Stores a new record, which takes a place in its queue meanwhile.

        Args:
            admitted: Stores it.
            made: The record.
            call: The call.
            is_random: Whether its id is. Another one may have the name of any other id, and is not
                to be claimed out of its turn, which the engine would do.
        """
        if self._options.concurrency_per_key and not made.concurrency_key:
            PROCESS.say(
                logging.WARNING,
                f"an operation of {self._handler.method} has no concurrency_key, so that its"
                " concurrency_per_key does not bound it; return one from its prepare, such as"
                " context.caller where Operations(identify=…) names callers",
                extra={"method": self._handler.method},
            )
        with self._queues.entry(made), self._telemetry.starting(made, call.metadata) as new:
            if is_random:
                self._expect(new)
            return await admitted.store.create(new)

    def _read(self, body: bytes) -> _Read:
        request = parse(self._request, body)
        if is_understood(request):
            return _Read(request, body, is_understood=True)
        # Nothing of it must be missing where it is run.
        return _Read(parse(self._request, body), body, is_understood=False)

    def _request_id(self, request: Any, given: str) -> str:
        """Returns the caller's id for the start; empty for none."""
        request_id: str = given or (request.request_id if self._has_request_id else "")
        if self._takes_uuids:
            check_request_id(request_id)
        return request_id

    def _made_id(self, request: Message) -> str:
        if self._new_id is None:
            return names.new_id(self._now(), os.urandom)
        with only_errors("new_id"):
            made = self._new_id(self._declared(request))
        if not isinstance(made, str):
            raise ConfigurationError(
                f"new_id returned {made!r} for {self._handler.method}; return a text",
                metadata={"method": self._handler.method},
            )
        names.check_id(made)
        return made

    def _declared(self, request: Message) -> Any:
        """Returns a request as the service has declared its type."""
        kind = self._handler.request
        return request if kind is self._request else as_declared(request, kind)

    def _resource(self, request: Message) -> str:
        """Returns the resource of a start, as far as the request names one by itself."""
        for field in self._parent_fields:
            if named := getattr(request, field):
                return str(named)
        return self._handler.method

    async def _same(
        self, admitted: Admitted, request_id: str, fingerprint: bytes
    ) -> record.Record | None:
        """Returns the operation that the same request has started; None if there is none."""
        earlier = await self._earlier(admitted, request_id)
        visible = (one for one in earlier if not one.deleted)
        return next((one for one in visible if one.fingerprint == fingerprint), None)

    async def _earlier(self, admitted: Admitted, request_id: str) -> Sequence[record.Record]:
        """Returns the operations that requests under the id have started, one a parent at most."""
        if not request_id:
            return ()
        found: list[record.Record] = []
        for method in self._handler.names:
            found += await admitted.store.find_request(method, request_id, admitted.caller)
        return found

    async def _prepared(self, request: Message, call: Call) -> Prepared:
        if self._prepare is None:
            return _NOTHING_PREPARED
        prepared = await call.run("prepare", self._prepare, self._declared(request), self._threads)
        if prepared is not None and not isinstance(prepared, Prepared):
            raise ConfigurationError(
                f"the prepare of {self._handler.method} returned {type(prepared).__qualname__};"
                " return lro_grpc.Prepared(...) or None",
                metadata={"method": self._handler.method},
            )
        prepared = prepared or _NOTHING_PREPARED
        if self._options.exclusive and not prepared.target:
            raise ConfigurationError(
                f"{self._handler.method} is exclusive, and its prepare has named no target;"
                " return lro_grpc.Prepared(target=...)",
                metadata={"method": self._handler.method},
            )
        if self._options.exclusive:
            names.check_one(prepared.target)
        return prepared

    def _handler_metadata(self, prepared: Prepared) -> bytes:
        """Returns the handler's own metadata fields, as they are to begin with."""
        if prepared.metadata is None:
            return b""
        message = protobuf_message(prepared.metadata)
        if not isinstance(message, self._metadata):
            raise ConfigurationError(
                f"the prepare of {self._handler.method} returned metadata of the type"
                f" {type(prepared.metadata).__qualname__}; the method's own is"
                f" {self._metadata.DESCRIPTOR.full_name}",
                metadata={"method": self._handler.method},
            )
        return message.SerializeToString()

    def _batch(self, prepared: Prepared) -> bytes:
        """Returns the batch that the operation begins with; empty for none."""
        targets = prepared.batch_targets
        if targets == ():
            return b""
        fault = fault_in(targets)
        if fault:
            raise ConfigurationError(
                f"the prepare of {self._handler.method} returned"
                f" batch_targets={cut(repr(targets))}; {fault}",
                metadata={"method": self._handler.method},
            )
        return BatchStates.begin(list(targets)).serialized() if targets else b""

    def _labels(self, all_labels: Mapping[str, str]) -> str:
        if fault := labels.fault_in(all_labels):
            raise ConfigurationError(
                f"the labels of an operation of {self._handler.method} are none: {fault}",
                metadata={"method": self._handler.method},
            )
        return labels.packed(all_labels)

    def _schedule_time(self, prepared: Prepared, delay: Micros | None, now: Micros) -> Micros:
        """Returns the time before which the first attempt does not begin; 0 for none."""
        if delay is not None:
            return now + delay if delay else 0
        if prepared.schedule_time is None:
            return 0
        time = micros(prepared.schedule_time - _EPOCH)
        if time - now > micros(LONGEST_DELAY):
            raise InvalidArgumentError(
                f"an operation of {self._handler.method} was to begin not before"
                f" {prepared.schedule_time.isoformat()}; give a time within the next"
                f" {LONGEST_DELAY.days} days",
                reason="SCHEDULE_TIME_TOO_LATE",
                domain=LIBRARY_DOMAIN,
                metadata={"schedule_time": prepared.schedule_time.isoformat()},
            )
        return time

    def _check_size(self, made: record.Record, *, room: int) -> None:
        try:
            size.check(made, self._operation_bytes, room=room)
        except OperationTooLargeError as error:
            raise InvalidArgumentError(
                error.message, reason=error.reason, domain=error.domain, metadata=error.metadata
            ) from error

    def _parent(self, prepared: Prepared, request: Message) -> str:
        parent = prepared.parent
        if parent is None:
            named = [getattr(request, field) for field in self._parent_fields]
            parent = names.parent_of([prepared.target, *named])
        if parent:
            names.check_one_parent(parent)
        return parent

    async def _validated(self, admitted: Admitted, prepared: Prepared) -> bytes:
        """Returns a done operation without a name and with an empty response (S8)."""
        if self._options.exclusive:
            holder = await admitted.store.exclusive_holder(prepared.target)
            if holder:
                try:
                    found = await admitted.store.read(holder)
                except (OperationNotFoundError, OperationDamagedError):  # it may go on all the same
                    found = None
                raise in_progress(prepared.target, found, caller=admitted.caller)
        response = _anys.pack(self._handler.response_class())
        return operations_pb2.Operation(done=True, response=response).SerializeToString()


def check_request_id(request_id: str) -> None:
    """Checks that a ``request_id`` is empty, or a UUID of version 4.

    Raises:
        InvalidArgumentError: If it is not.
    """
    if request_id and not is_uuid4(request_id):
        wanted = "give a UUID of version 4 (AIP-155), with a new one for each start"
        raise InvalidArgumentError(
            f"request_id is {cut(request_id)!r}; {wanted}",
            reason="INVALID_REQUEST_ID",
            domain=LIBRARY_DOMAIN,
            metadata={"field": "request_id", "value": cut(request_id)},
            details=[
                error_details_pb2.BadRequest(
                    field_violations=[{"field": "request_id", "description": wanted}]
                )
            ],
        )


def _digest_of(source: record.Record, request_id: str) -> Callable[[int], bytes]:
    """Returns a function that gives the bytes of a rerun's id: the same for the same rerun."""
    digest = hashlib.sha256(f"{source.name}\n{source.create_time}\n{request_id}".encode()).digest()
    return lambda most: digest[:most]


async def _rerun_of(
    source: record.Record, operation_id: str, admitted: Admitted
) -> record.Record | None:
    """Returns the operation of an id if it runs the source again; None if there is none."""
    try:
        found = await admitted.store.read(names.operation_name(source.parent, operation_id))
    except OperationNotFoundError:
        return None
    return found if found.source_operation == source.name else None


def _unfit(source: record.Record, kind: type[Message]) -> UnservedError:
    return UnservedError(
        f"{source.name} cannot be run again here: its request does not fit"
        f" {kind.DESCRIPTOR.full_name}",
        metadata={"operation": source.name, "method": source.method},
    )


def _answered(call: Call, stored: record.Record) -> bytes:
    """Returns an operation as the answer to a call, which keeps the record beside it."""
    call.record = stored
    return stored.operation


def _fingerprint(request: Message, caller: str) -> bytes:
    """Returns a digest of a request's fields and its caller: the same if it is sent again."""
    digest = hashlib.sha256(request.SerializeToString(deterministic=True))
    return hashlib.sha256(digest.digest() + caller.encode()).digest() if caller else digest.digest()
