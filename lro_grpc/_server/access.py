"""The caller of an RPC and its access, on which two functions of the service's own decide."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message


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
    ``.pause``, ``.resume`` or ``.terminate``."""
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


Identify = Callable[[Any], str | Awaitable[str]]
"""Returns the caller, from the RPC's ServicerContext: its metadata, or its peer's certificate."""

Authorize = Callable[[Access], bool | Awaitable[bool]]
"""Returns whether an access is allowed: True, or False. Anything else is an error, and denied."""
