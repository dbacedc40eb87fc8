"""The completion event: what the server's ``on_done`` is given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from google.longrunning import operations_pb2

from lro.v1 import completion_event_pb2
from lro_grpc._operation.states import JOB, State


@dataclass(frozen=True, slots=True)
class CompletionEvent:
    """Tells that an operation is done; it is told at least once, and may be told again.

    Attributes:
        id: Its id: the same each time that it is told, and of no other operation.
        data: All that is told, a ``lro.v1.CompletionEvent``: times, code, and what is below.
        attempt_count: The attempts to tell it that have begun, from 1; this one is among them.
    """

    id: str
    data: completion_event_pb2.CompletionEvent
    attempt_count: int

    @property
    def name(self) -> str:
        """The operation's name."""
        return self.data.name

    @property
    def operation(self) -> operations_pb2.Operation:
        """The operation as it was when it was done: with its response, or its error."""
        return self.data.operation

    @property
    def method(self) -> str:
        """The method that started it: ``pkg.Service/Method``."""
        return self.data.method

    @property
    def caller(self) -> str:
        """The caller that started it, as ``identify`` has named it; empty for unknown."""
        return self.data.caller

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels that ``prepare`` has given to it."""
        return self.data.labels

    @property
    def state(self) -> State:
        """Its ``lro.v1.JobState``: ``state.name`` is such as ``JOB_STATE_SUCCEEDED``."""
        return JOB.states[self.data.state]


OnDone = Callable[[CompletionEvent], Awaitable[None] | None]
"""Takes a completion event; if it raises, the event is told again later."""
