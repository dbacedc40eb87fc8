"""The caller of an RPC and its access, on which two functions of the service's own decide."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message


@dataclass(frozen=True, slots=True)
class KnownOperation:
    """The operation that a call names, as far as an authorization may look at it.

    Attributes:
        name: ``[{parent}/]operations/{id}``.
        method: The full name of the method that started it: ``/pkg.Service/Method`` (P12).
        target: The resource that it is about; empty for none.
        caller: The caller that started it; empty if that is not known.
    """

    name: str
    method: str
    target: str
    caller: str


@dataclass(frozen=True, slots=True)
class Access:
    """The access that an RPC needs, before anything of its request is checked.

    Attributes:
        caller: The caller, as ``identify`` returned it; empty without one.
        permission: ``operations.start``, ``.get``, ``.list``, ``.wait``, ``.watch``,
            ``.cancel``, ``.delete``, ``.pause``, ``.resume``, ``.terminate``, ``.rerun``,
            ``.describe``, ``.describeFull`` or ``.summarize``. To run an operation again also needs
            ``operations.start``, with its request; to be shown its request needs both of describe;
            a list or a summary whose filter names ``caller`` also needs ``operations.describe``, on
            the parent.
        resource: The operation's name, or the job's; for list and summarize the parent; for start
            the request's ``parent`` or ``name``, or else the method. As the caller has sent it: it
            may be no name at all.
        method: The full name of the RPC's method: ``/pkg.Service/Method``.
        request: The RPC's request; of WatchOperations one that adds the resource alone.
        operation: The operation that the call names; None if there is none, or only the fallback
            of ``attach`` may have it, and for list, summarize and start. A caller who may not see
            every operation must not be allowed a get of None: it would show what exists.
    """

    caller: str
    permission: str
    resource: str
    method: str
    request: Message
    operation: KnownOperation | None = None


Identify = Callable[[Any], str | Awaitable[str]]
"""Returns the caller, from the RPC's ServicerContext: its metadata, or its peer's certificate."""

Authorize = Callable[[Access], bool | Awaitable[bool]]
"""Returns whether an access is allowed: True, or False. Anything else is an error, and denied."""
