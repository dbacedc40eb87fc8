"""Jobs (AIP-152): the operations of one method, shown as resources with a state of their own.

A job is an operation under another name: that of its own collection in place of ``operations``.
Where the operation's metadata is of the job's own type, as of those that Create starts, the job is
the metadata, with its name and its error.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf import empty_pb2, field_mask_pb2
from google.protobuf.message import Message

from lro_grpc import _anys, paging
from lro_grpc._dialects import vertex_ai
from lro_grpc._dialects.view import OperationView, empty_response
from lro_grpc._engine.handler import Handler
from lro_grpc._errors import (
    IllegalTransitionError,
    InvalidArgumentError,
    InvalidNameError,
    OperationNotFoundError,
    cut,
)
from lro_grpc._filtering import expression, parser
from lro_grpc._filtering.message_fields import MetadataTypes
from lro_grpc._operation import names
from lro_grpc._operation.events import Cancel, Delete, Event, Pause, Resume
from lro_grpc._operation.record import Record
from lro_grpc._operation.states import JOB, SUCCEEDED
from lro_grpc._server.guarded_store import Admitted, GuardedStore
from lro_grpc._server.jobs.kind import LISTED_BY, JobKind, JobMethod, check_fields
from lro_grpc._server.limits import Limits
from lro_grpc._server.poll_advice import PollAdvice
from lro_grpc._server.rpc.call import EMPTY, Behavior, Call, parse
from lro_grpc._stores.store import Now, Query

_AT_A_TIME = 50
"""Jobs of a page that are made before other tasks go on."""


class Jobs:
    """The methods of one kind of job, but Create.

    Args:
        kind: The kind of the jobs.
        started_by: The full name of the method whose operations they are.
        served: The handlers of the server, by the methods whose operations they run.
        cancel: The event that a Cancel is.
        store: The operations, behind the guard.
        limits: The most that the server takes on.
        advice: The pause before the next poll, recommended with what is not done (P5).
        now: Returns the time in microseconds since 1970 UTC.
    """

    def __init__(
        self,
        kind: JobKind,
        started_by: str,
        served: Mapping[str, Handler],
        cancel: Cancel,
        store: GuardedStore,
        limits: Limits,
        advice: PollAdvice,
        now: Now,
    ) -> None:
        self._kind = kind
        self._started_by = started_by
        self._served = served
        self._events: Mapping[str, Event] = {"Cancel": cancel, "Pause": Pause(), "Resume": Resume()}
        self._store = store
        self._limits = limits
        self._advice = advice
        self._now = now

    def methods(self) -> Mapping[str, Behavior]:
        """Returns the methods that the service has, by their full names."""
        services: dict[str, Callable[[JobMethod, bytes, Call], Coroutine[Any, Any, bytes]]] = {
            "Get": self._get,
            "List": self._list,
            "Delete": self._delete,
            **{verb: functools.partial(self._command, verb) for verb in self._events},
        }
        return {
            method.name: functools.partial(services[verb], method)
            for verb, method in self._kind.methods.items()
            if verb in services
        }

    def created(self, start: Behavior) -> Behavior:
        """Returns what answers a Create: a start, whose operation is shown as a job."""

        async def create(body: bytes, call: Call) -> bytes:
            operation = await start(body, call)
            # What was only validated has no name, and is no job.
            is_stored = operations_pb2.Operation.FromString(operation).name
            return self._shown(operation).SerializeToString() if is_stored else EMPTY

        return create

    async def _get(self, method: JobMethod, body: bytes, call: Call) -> bytes:
        _, record = await self._named("get", method, body, call)
        self._advice.give(call, done=record.done)
        return self._shown(record.operation).SerializeToString()

    async def _command(self, verb: str, method: JobMethod, body: bytes, call: Call) -> bytes:
        """Applies the event of a verb; the job's state shows the effect."""
        admitted, record = await self._named(verb.lower(), method, body, call)
        after = await self._apply(admitted, record, self._events[verb])
        return self._answer(verb, method, after, call)

    async def _delete(self, method: JobMethod, body: bytes, call: Call) -> bytes:
        """Forgets a job that is done; one that runs is refused, unlike an operation (P7)."""
        admitted, record = await self._named("delete", method, body, call)
        if not record.done:
            name, state = self._kind.name_of(record.name), JOB.spoken(record.state)
            raise IllegalTransitionError(
                f"{name} cannot be deleted: it is {state}; cancel it, and wait until it is done",
                metadata={"name": name, "state": JOB.name_of(record.state)},
            )
        deleted = await self._apply(admitted, record, Delete())
        return self._answer("Delete", method, deleted, call)

    async def _list(self, method: JobMethod, body: bytes, call: Call) -> bytes:
        """Returns a page of a parent's jobs, newest first (S12 to S16)."""
        request: Any = parse(method.request, body)
        parent: str = getattr(request, "parent", "")
        admitted = await self._store.admit("operations.list", parent, request, call, named=False)
        check_fields(request, LISTED_BY)
        if parent:
            names.check_parent(parent)
        mask = self._mask(request)
        size = paging.page_size(getattr(request, "page_size", 0), most=self._limits.page_size)
        tokens = paging.PageTokens(admitted.store.signing_secret)
        token: str = getattr(request, "page_token", "")
        arguments = (method.name, _without_paging(request))
        position = tokens.read(token, *arguments) if token else b""
        query = Query(parent, self._filter(getattr(request, "filter", "")))
        page = await admitted.page(query, position=position, size=size)
        response: Any = method.response()
        listed = getattr(response, self._kind.field_in(method.response, repeated=True))
        for number, operation in enumerate(page.operations, 1):
            if number % _AT_A_TIME == 0:
                await asyncio.sleep(0)  # a page is long: others have their turn
            job = self._shown(operation)
            if mask is None:
                listed.append(job)
            else:
                mask.MergeMessage(job, listed.add())
        if page.position:
            response.next_page_token = tokens.make(page.position, *arguments)
        answer: bytes = response.SerializeToString()
        return answer

    async def _named(
        self, what: str, method: JobMethod, body: bytes, call: Call
    ) -> tuple[Admitted, Record]:
        """Lets in a call, and returns the operation of the job that its request names.

        Raises:
            InvalidNameError: If it is not a job's name.
            OperationNotFoundError: If there is no such job.
        """
        request: Any = parse(method.request, body)
        name: str = request.name
        malformed: InvalidNameError | None = None
        operation = ""
        try:
            operation = self._kind.operation_of(name)
        except InvalidNameError as error:
            malformed = error
        admitted = await self._store.admit(
            f"operations.{what}", name, request, call, operation=operation
        )
        if malformed is not None:
            raise malformed
        try:
            record = admitted.known or await admitted.read(operation)
        except OperationNotFoundError as cause:
            raise _not_found(name) from cause
        handler = self._served.get(record.method)
        if handler is None or handler.method != self._started_by:
            raise _not_found(name)
        return admitted, record

    async def _apply(self, admitted: Admitted, record: Record, event: Event) -> Record:
        try:
            return await admitted.apply(record.name, event)
        except OperationNotFoundError as cause:  # it was deleted meanwhile
            raise _not_found(self._kind.name_of(record.name)) from cause

    def _answer(self, verb: str, method: JobMethod, record: Record, call: Call) -> bytes:
        """Returns what a method answers that has changed a job, or deleted it."""
        if method.response is empty_pb2.Empty:
            return EMPTY
        if method.response is self._kind.message:
            self._advice.give(call, done=record.done)
            return self._shown(record.operation).SerializeToString()
        # It is done already (S11), so nobody polls the operation under that name.
        now = self._now()
        view = OperationView(
            name=record.name,
            state=SUCCEEDED,
            target=self._kind.name_of(record.name),
            verb=verb.lower(),
            api_version=record.api_version,
            create_time=now,
            start_time=now,
            update_time=now,
            end_time=now,
        )
        metadata = method.metadata()
        vertex_ai.fill_metadata(metadata, view)
        done = operations_pb2.Operation(name=record.name, done=True)
        done.metadata.CopyFrom(_anys.pack(metadata))
        done.response.CopyFrom(empty_response())
        return done.SerializeToString()

    def _shown(self, body: bytes) -> Message:
        """Returns the job that a serialized Operation is."""
        operation = operations_pb2.Operation.FromString(body)
        kind = self._kind.message
        is_job = operation.metadata.TypeName() == kind.DESCRIPTOR.full_name
        job: Any = _anys.unpack_as(kind, operation.metadata) if is_job else kind()
        vertex_ai.fill(job, OperationView.of_operation(operation))
        job.name = self._kind.name_of(operation.name)
        shown: Message = job
        return shown

    def _filter(self, text: str) -> expression.Filter:
        """Returns a filter that lets jobs of this kind alone through."""
        methods = self._served[self._started_by].names
        own = expression.Or(tuple(expression.Compare("method", "=", one) for one in methods))
        types = MetadataTypes((self._kind.message,), prefix="")
        given = (parser.parse(text, types).expression,) if text else ()
        return expression.Filter(text, expression.And((own, *given)))

    def _mask(self, request: Any) -> field_mask_pb2.FieldMask | None:
        """Returns the fields to show; None for all of them."""
        mask = getattr(request, "read_mask", None)
        if mask is None or not mask.paths or "*" in mask.paths:
            return None
        kind = self._kind.message.DESCRIPTOR
        if not mask.IsValidForDescriptor(kind):
            paths = cut(",".join(mask.paths))
            raise InvalidArgumentError(
                f"read_mask is {paths!r}, of which {kind.full_name} has not every field",
                reason="INVALID_READ_MASK",
                metadata={"read_mask": paths},
            )
        return field_mask_pb2.FieldMask(paths=mask.paths)


def _not_found(name: str) -> OperationNotFoundError:
    return OperationNotFoundError(f"job {cut(name)!r} not found", metadata={"name": cut(name)})


def _without_paging(request: Message) -> str:
    """Returns a text that differs between list requests unless they differ in paging alone."""
    rest = type(request)()
    rest.CopyFrom(request)
    for field in ("page_size", "page_token"):
        if field in rest.DESCRIPTOR.fields_by_name:
            rest.ClearField(field)
    return rest.SerializeToString(deterministic=True).hex()
