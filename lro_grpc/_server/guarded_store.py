"""The store behind its guard: the one way in which the services reach operations.

A service holds no store. Each of its calls is let in first, for the access that it needs, before
its request is checked (S19); only then does it have the store to work with. So the order is the
same everywhere, and work before the guard cannot be written:

1. the guard: whoever is not allowed learns neither whether a name is well formed nor whether
   anything has it;
2. the request: what is malformed is INVALID_ARGUMENT, whether or not anything is there;
3. the store: only now NOT_FOUND can be the answer.

A call by code of the server's own process is trusted: it is let in without a question.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from google.protobuf.message import Message

from lro_grpc._errors import (
    Code,
    ConfigurationError,
    LroError,
    OperationDamagedError,
    OperationNotFoundError,
    PermissionDeniedError,
    cut,
)
from lro_grpc._operation import names
from lro_grpc._operation.attempts import AttemptRecord
from lro_grpc._operation.events import Event
from lro_grpc._operation.record import Record
from lro_grpc._operation.size import LISTED_BYTES, OPERATION_BYTES
from lro_grpc._runtime.interrupts import only_errors
from lro_grpc._runtime.log import log_request
from lro_grpc._server.access import Access, Authorize, Identify, KnownOperation
from lro_grpc._server.hooks import result_of
from lro_grpc._server.limits import CallerTurns
from lro_grpc._server.readable_pages import ReadablePages
from lro_grpc._server.rpc.call import Call, parse
from lro_grpc._server.rpc.hook_context import HookContext
from lro_grpc._stores.store import Page, Query, Store


class Admitted:
    """A call that was let in, and the store for it."""

    __slots__ = (
        "_authorized_until",
        "_call",
        "_guarded",
        "_permission",
        "_require",
        "caller",
        "known",
        "store",
    )

    def __init__(
        self,
        call: Call,
        store: Store,
        guarded: GuardedStore,
        permission: str,
        require: Callable[[str], Awaitable[object]] | None = None,
        known: Record | None = None,
    ) -> None:
        call.check_again = self.check_again
        self.caller = call.caller
        """The caller, as ``identify`` returned it; empty without one."""
        self.store = store
        self.known = known
        """The record of the operation that the call names, if the guard has read it: whoever
        answers with it once, and waits for no change, need not read it again. Whoever waits for
        long forgets it: it has the request."""
        self._call = call
        self._guarded = guarded
        self._permission = permission
        self._require = require
        if require is not None:
            self._authorized_until = asyncio.get_running_loop().time() + guarded.access_lasts

    async def check_again(self) -> None:
        """Lets the call in once more, unless that was just now: its access may be taken back.

        Raises:
            PermissionDeniedError: If it is not allowed any more.
        """
        loop = asyncio.get_running_loop()
        if self._require is not None and loop.time() >= self._authorized_until:
            await self._require(self._permission)
            self._authorized_until = loop.time() + self._guarded.access_lasts

    async def require(self, permission: str) -> None:
        """Asks for another permission on the same resource, before what the call is let in for.

        Raises:
            PermissionDeniedError: If it is not allowed.
        """
        if self._require is not None:
            await self._require(permission)

    async def operation(self, name: str) -> bytes:
        """Returns the served bytes of a name; a name that is stored need not be checked.

        Args:
            name: As the caller has sent it.

        Raises:
            InvalidNameError: If it is no operation's name.
            OperationNotFoundError: If no operation has it.
        """
        try:
            return await self.store.operation(name)
        except OperationNotFoundError:
            names.split(name)
            raise

    async def read(self, name: str) -> Record:
        """Returns the record of a name; see :meth:`operation`."""
        try:
            return await self.store.read(name)
        except OperationNotFoundError:
            names.split(name)
            raise

    async def read_attempts(self, name: str) -> tuple[Record, Sequence[AttemptRecord]]:
        """Returns the record of a name and its attempts; see :meth:`operation`."""
        try:
            return await self.store.read_attempts(name)
        except OperationNotFoundError:
            names.split(name)
            raise

    async def page(
        self, query: Query, *, position: bytes, size: int, records: bool = False
    ) -> Page:
        """Returns a page of what a query asks for, as far as clients can read it.

        A filter that names the caller or the worker of operations needs ``operations.describe`` on
        the parent. Of a page that takes long, each caller has one at a time. A call that waits for
        its turn stays open, as a Wait does.

        Raises:
            PermissionDeniedError: If the filter tells what the caller may not know.
            LimitReachedError: If it has to wait, and as many calls stay open as may.
        """
        if query.is_of_description:
            await self.require("operations.describe")
        read = functools.partial(
            self.store.page, query, position=position, size=size, records=records
        )
        turns = self._guarded.turns
        if turns is not None and query.is_costly:
            async with turns.of(self.caller, self._call.stay_open):
                page = await read()
        else:
            page = await read()
        return self._guarded.pages.readable(page)

    async def apply(self, name: str, event: Event) -> Record:
        """Applies an event that the caller requests, and returns the record as it is then.

        Raises:
            InvalidNameError: If it is no operation's name.
            LroError: If the event cannot happen; nothing has changed.
        """
        names.split(name)
        record = await self.store.apply(name, event)
        log_request(event, record)
        return record


class GuardedStore:
    """A store that lets in the calls that may.

    Args:
        store: The store itself.
        identify: Returns the caller; a function that does not block, or a coroutine function.
        authorize: Returns whether an access is allowed; likewise. Everything is, without one.
        error_domain: ``ErrorInfo.domain`` of their errors that name none; if empty, that of other
            errors of the method that is called.
        operation_bytes: The most bytes of an operation.
        access_lasts: The seconds after which a call that stays open is authorized again.
    """

    def __init__(
        self,
        store: Store,
        identify: Identify | None = None,
        authorize: Authorize | None = None,
        *,
        error_domain: str = "",
        operation_bytes: int = OPERATION_BYTES,
        access_lasts: float = 10,
    ) -> None:
        self._store = store
        self.access_lasts = access_lasts
        """The seconds after which a call that stays open is authorized again."""
        self.pages = ReadablePages(operation_bytes + LISTED_BYTES)
        """Leaves out of pages what clients could not read."""
        self.turns = None if identify is None else CallerTurns()
        """The turns of callers that list what takes long; None if callers are not told apart."""
        self._error_domain = error_domain
        self._identify = identify
        self._authorize = authorize

    async def admit(
        self,
        permission: str,
        resource: str,
        request: Message,
        call: Call,
        *,
        named: bool = True,
        operation: str | None = None,
    ) -> Admitted:
        """Lets in a call, or refuses it.

        Args:
            permission: See :class:`Access`.
            resource: See :class:`Access`.
            request: The RPC's request.
            call: The RPC.
            named: Whether the call names an operation.
            operation: The operation's name, where it is not the resource.

        Raises:
            PermissionDeniedError: If it is not allowed: the same whether or not the resource is
                there.
            ConfigurationError: If ``authorize`` says neither that it is, nor that it is not.
        """
        caller = call.caller if call.is_identified else await self.identify(call)
        if self._authorize is None or call.is_trusted:
            return Admitted(call, self._store, self, permission)
        about = (resource if operation is None else operation) if named else None
        require = functools.partial(
            self._check, self._authorize, caller, resource, call.method, request, about
        )
        known = await require(permission)
        return Admitted(call, self._store, self, permission, require, known)

    async def allows(
        self,
        permission: str,
        resource: str,
        request: Message,
        method: str,
        call: Call,
        *,
        operation: Record | None,
    ) -> bool:
        """Returns whether the caller of an RPC would be let in to another one.

        Args:
            permission: See :class:`Access`.
            resource: See :class:`Access`.
            request: The other one's request.
            method: Its method's full name.
            call: The RPC that was let in.
            operation: The operation that the other one names; None if it names none.
        """
        if self._authorize is None:
            return True
        caller = await self.identify(call)
        access = Access(caller, permission, resource, method, request, _known(operation))
        try:
            return await self._is_allowed(self._authorize, access)
        except LroError as error:
            if error.code in (Code.PERMISSION_DENIED, Code.UNAUTHENTICATED):
                return False
            raise

    async def command(
        self, permission: str, kind: type[Message], event: Event, body: bytes, call: Call
    ) -> Record:
        """Applies the event that an RPC requests to the operation that its request names.

        Args:
            permission: See :class:`Access`.
            kind: The request's type; its ``name`` is the operation's.
            event: The event.
            body: The RPC's body.
            call: The RPC.

        Returns:
            The record as it is then.
        """
        request = parse(kind, body)
        name: str = getattr(request, "name")  # noqa: B009 - a Message has no fields of its own
        admitted = await self.admit(permission, name, request, call)
        return await admitted.apply(name, event)

    async def identify(self, call: Call) -> str:
        """Returns the caller of a call; empty without an ``identify``."""
        if not call.is_identified:
            call.caller = await self._caller(call)
            call.is_identified = True
        return call.caller

    async def _check(
        self,
        authorize: Authorize,
        caller: str,
        resource: str,
        method: str,
        request: Message,
        operation: str | None,
        permission: str,
    ) -> Record | None:
        """Asks ``authorize``, and returns the record of the operation that it was asked about."""
        record = None if operation is None else await self._record(operation)
        known = _known(record)
        access = Access(caller, permission, resource, method, request, known)
        if not await self._is_allowed(authorize, access):
            raise PermissionDeniedError(
                f"Permission '{permission}' denied on resource '{cut(resource)}'"
                " (or it might not exist).",
                metadata={"permission": permission, "resource": cut(resource)},
            )
        return record

    async def _is_allowed(self, authorize: Authorize, access: Access) -> bool:
        allowed = await self._call_hook("authorize", authorize, access)
        if not isinstance(allowed, bool):  # "False" and a Future are true
            raise ConfigurationError(
                f"authorize returned {type(allowed).__qualname__}; return True or False"
            )
        return allowed

    async def _caller(self, call: Call) -> str:
        if self._identify is None:
            return ""
        context = HookContext(call)
        caller = await self._call_hook("identify", self._identify, context)
        context.raise_if_refused()
        if not isinstance(caller, str):
            raise ConfigurationError(
                f"identify returned {type(caller).__qualname__}; return the caller as a text"
            )
        return caller

    async def _call_hook(self, what: str, hook: Callable[[Any], Any], about: Any) -> Any:
        """Calls one of the service's functions, and returns its answer, awaited if need be."""
        try:
            with only_errors(what):
                answer = hook(about)
            return await result_of(answer, what) if inspect.isawaitable(answer) else answer
        except LroError as error:
            error.domain = error.domain or self._error_domain
            raise

    async def _record(self, name: str) -> Record | None:
        try:
            return await self._store.read(name)
        except (OperationNotFoundError, OperationDamagedError):
            return None


def _known(record: Record | None) -> KnownOperation | None:
    return record and KnownOperation(record.name, record.method, record.target, record.caller)
