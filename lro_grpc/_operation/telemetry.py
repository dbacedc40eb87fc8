"""The protocols of an observer of operations, and the observer that does nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from lro_grpc._operation.record import Record

InvocationMetadata = Callable[[], Iterable[tuple[str, "str | bytes"]]]
"""Returns the metadata of an RPC."""


class AttemptTelemetry(Protocol):
    """One attempt, as an observer follows it. Called on the event loop, but for ``current``."""

    def current(self) -> AbstractContextManager[object]:
        """Returns a context; whatever runs inside it is a part of the attempt."""
        ...

    def failed(self, error: BaseException, code: int) -> None:
        """Takes the error of the attempt, whether or not another attempt follows.

        Args:
            error: What was raised.
            code: The ``google.rpc.Code`` that stands for it.
        """
        ...

    def ended(self, record: Record | None, seconds: float) -> None:
        """Takes the end of the attempt; of several calls the first one counts.

        Args:
            record: What its outcome has made of the operation; None if it has none: it has lost
                the operation, or was given up.
            seconds: How long it has taken since its claim.
        """
        ...


class Telemetry(Protocol):
    """An observer of a server's operations. Called on the event loop; it must not raise."""

    def starting(
        self, record: Record, metadata: InvocationMetadata
    ) -> AbstractContextManager[Record]:
        """Surrounds the first storing of an operation.

        Args:
            record: The new record.
            metadata: That of the RPC that starts it.

        Returns:
            A context that gives the record to store, the same, with its ``trace_context``.
        """
        ...

    def attempt(self, record: Record) -> AttemptTelemetry:
        """Takes the beginning of an attempt.

        Args:
            record: The operation, right after its claim.
        """
        ...

    def changed(self, before: Record | None, after: Record) -> None:
        """Takes a change that this process has made, once it is durable.

        Args:
            before: The operation before the change; None for a new one.
            after: The operation after it.
        """
        ...

    def answered(self, call: str, seconds: float, error: BaseException | None) -> None:
        """Takes the duration of a call of the store.

        Args:
            call: The method of :class:`lro_grpc.stores.Store` that was called.
            seconds: How long it has taken.
            error: What the call has raised.
        """
        ...

    def waiting(self, change: int) -> None:
        """Takes the number of further RPCs that stay open to wait; negative when they end."""
        ...

    def wait_ended(self, reason: str, seconds: float) -> None:
        """Takes the end of a WaitOperation that is answered.

        Args:
            reason: Why it was answered: ``done``, ``timeout``, ``deadline``, ``max_wait``,
                ``drain`` or ``no_place``.
            seconds: How long it has waited.
        """
        ...


@runtime_checkable
class CountsTelemetry(Protocol):
    """An observer of how many operations there are, beside what happens to each."""

    @property
    def wants_counts(self) -> bool:
        """Whether anybody may read the numbers."""
        ...

    def counted(
        self,
        live: Mapping[tuple[str, int], int],
        oldest_ready: Mapping[str, float],
        pending_deliveries: int | None,
    ) -> None:
        """Takes the latest numbers, on the event loop; those before hold no more.

        Args:
            live: How many operations are not done, by their methods and their ``JobState``.
            oldest_ready: For how many seconds the oldest one that is ready has been so, by method.
            pending_deliveries: How many completion events wait to be delivered; None for an
                unknown number.
        """
        ...


class _NoAttemptTelemetry:
    _nowhere = contextlib.nullcontext()

    def current(self) -> AbstractContextManager[object]:
        return self._nowhere

    def failed(self, error: BaseException, code: int) -> None:
        pass

    def ended(self, record: Record | None, seconds: float) -> None:
        pass


class _NoTelemetry:
    _no_attempt = _NoAttemptTelemetry()

    def starting(
        self, record: Record, metadata: InvocationMetadata
    ) -> AbstractContextManager[Record]:
        del metadata
        return contextlib.nullcontext(record)

    def attempt(self, record: Record) -> AttemptTelemetry:
        del record
        return self._no_attempt

    def changed(self, before: Record | None, after: Record) -> None:
        pass

    def answered(self, call: str, seconds: float, error: BaseException | None) -> None:
        pass

    def waiting(self, change: int) -> None:
        pass

    def wait_ended(self, reason: str, seconds: float) -> None:
        pass


NO_TELEMETRY: Telemetry = _NoTelemetry()
"""Observes nothing."""
