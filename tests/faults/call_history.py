"""The calls of servers and their answers, in real time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc
from google.longrunning import operations_pb2

if TYPE_CHECKING:
    from google.protobuf.message import Message

OPEN = frozenset(
    {
        None,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,  # what a grpc.aio server has accepted when it goes down
    }
)
"""With these codes, whether the server has done what it was asked is open."""


@dataclass(slots=True)
class Call:
    """One call, as its caller has seen it."""

    what: str
    """``start``, or a method of Operations: ``get``, ``wait``, ``cancel``, ``pause``, …

    A ``page`` is one page of a list, a ``walk`` all of them.
    """
    about: str
    """The request_id of a start; else the operation's or the parent's name."""
    begun: int = field(default_factory=time.monotonic_ns)
    ended: int = 0
    ended_at: int = 0
    """The time of day, in nanoseconds."""
    code: grpc.StatusCode | None = None
    """How it ended; None if it had no answer."""
    answers: list[bytes] = field(default_factory=list)
    """The operations that it was answered with, as they came over the wire."""

    def __enter__(self) -> Call:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Notes how the call has ended; an error goes on."""
        if error is None:
            self.code = grpc.StatusCode.OK
        elif isinstance(error, grpc.RpcError):
            self.code = error.code()
        self.ended, self.ended_at = time.monotonic_ns(), time.time_ns()

    @property
    def name(self) -> str:
        """The name of the one operation that it was answered with."""
        return operations_pb2.Operation.FromString(self.answers[0]).name

    @property
    def ok(self) -> bool:
        return self.code is grpc.StatusCode.OK

    @property
    def is_open(self) -> bool:
        return self.code in OPEN


@dataclass
class History:
    """All that has happened, from the callers' side."""

    requests: dict[str, Message] = field(default_factory=dict)
    """What was asked to be started, by request_id, noted before it was sent."""
    calls: list[Call] = field(default_factory=list)
    """In the order in which they were begun."""
    killed: set[int] = field(default_factory=set)
    """The processes that were killed, not those that went down in good order."""

    def begin(self, what: str, about: str) -> Call:
        """Notes a call right before it is made; its answer is taken in its context."""
        call = Call(what, about)
        self.calls.append(call)
        return call
