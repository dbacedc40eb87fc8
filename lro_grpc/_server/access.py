"""The caller of an RPC, and whether it is allowed: two functions of the service's own decide."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from lro_grpc._errors import (
    ConfigurationError,
    LroError,
    OperationNotFoundError,
    PermissionDeniedError,
    cut,
)
from lro_grpc._server.hooks import no_exit, result_of
from lro_grpc._server.rpc.call import Call
from lro_grpc._server.rpc.prepare_context import PrepareContext
from lro_grpc._stores.store import Store


@dataclass(frozen=True, slots=True)
class KnownOperation:
    """The operation that a call names, as far as an authorization may look at it."""

    name: str
    """``[{parent}/]operations/{id}``."""
    method: str
    """The full name of the method that started it: ``/pkg.Service/Method`` (P12)."""
    target: str
    """The resource that it is about; empty for none."""
    caller: str
    """The caller that started it; empty if that is not known."""


@dataclass(frozen=True, slots=True)
class Access:
    """The access that an RPC needs, before anything of its request is checked."""

    caller: str
    """The caller, as ``identify`` returned it; empty without one."""
    permission: str
    """``operations.start``, ``.get``, ``.list``, ``.wait``, ``.watch``, ``.cancel``, ``.delete``,
    ``.pause`` or ``.resume``."""
    resource: str
    """The operation's name, or the job's; for list the parent; for start the request's ``parent``
    or ``name``, or else the method. As the caller has sent it: it may be no name at all."""
    method: str
    """The full name of the RPC's method: ``/pkg.Service/Method``."""
    request: Message
    """The RPC's request."""
    operation: KnownOperation | None = None
    """The operation that the call names; None if there is none, and for list and start. A caller
    who may not see every operation must not be allowed a get of None: it would show what exists."""


Identify = Callable[[Any], "str | Awaitable[str]"]
"""Returns the caller, from the RPC's ServicerContext: its metadata, or its peer's certificate."""

Authorize = Callable[[Access], "bool | Awaitable[bool]"]
"""Returns whether an access is allowed."""


class Guard:
    """Lets in the callers that may, before a request is checked or shows what exists (S19).

    Args:
        store: Where the operations are kept.
        identify: Returns the caller; a function that does not block, or a coroutine function.
        authorize: Returns whether an access is allowed; likewise. Everything is, without one.
        error_domain: ``ErrorInfo.domain`` of their errors that name none; if empty, that of other
            errors of the method that is called.
    """

    def __init__(
        self,
        store: Store,
        identify: Identify | None = None,
        authorize: Authorize | None = None,
        *,
        error_domain: str = "",
    ) -> None:
        self._store = store
        self._error_domain = error_domain
        self._identify = identify
        self._authorize = authorize

    async def check(
        self,
        permission: str,
        resource: str,
        request: Message,
        call: Call,
        *,
        named: bool = True,
        operation: str | None = None,
    ) -> str:
        """Checks one access, and returns the caller.

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
        """
        caller = await self._caller(call)
        if self._authorize is None:
            return caller
        known = await self._known(resource if operation is None else operation) if named else None
        access = Access(caller, permission, resource, call.method, request, known)
        if not await self._call_hook("authorize", self._authorize, access):
            raise PermissionDeniedError(
                f"Permission '{permission}' denied on resource '{cut(resource)}'"
                " (or it might not exist).",
                metadata={"permission": permission, "resource": cut(resource)},
            )
        return caller

    async def _caller(self, call: Call) -> str:
        if self._identify is None:
            return ""
        context = PrepareContext(call.context)
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
            with no_exit(what):
                answer = hook(about)
            return await result_of(answer, what) if inspect.isawaitable(answer) else answer
        except LroError as error:
            error.domain = error.domain or self._error_domain
            raise

    async def _known(self, name: str) -> KnownOperation | None:
        try:
            record = await self._store.read(name)
        except OperationNotFoundError:
            return None
        return KnownOperation(record.name, record.method, record.target, record.caller)
