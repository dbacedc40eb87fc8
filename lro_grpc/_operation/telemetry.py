"""What an observer is told of operations, as they go on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Protocol

from lro_grpc._operation.record import Record

CallMetadata = Callable[[], Iterable[tuple[str, "str | bytes"]]]
"""Returns the metadata that an RPC came with."""


class AttemptTelemetry(Protocol):
    """One attempt, as an observer follows it. Called on the event loop, but for ``current``."""

    def current(self) -> AbstractContextManager[object]:
        """Makes it the attempt that whatever runs inside the context is a part of."""
        ...

    def failed(self, error: BaseException, code: int) -> None:
        """Is told what the attempt has failed with, whether or not another one follows.

        Args:
            error: What was raised.
            code: The ``google.rpc.Code`` that stands for it.
        """
        ...

    def ended(self, record: Record | None, seconds: float) -> None:
        """Is told that the attempt is over; of several calls the first one counts.

        Args:
            record: What its outcome has made of the operation; None if it has none: it has lost
                the operation, or was given up.
            seconds: How long it has taken since its claim.
        """
        ...


class Telemetry(Protocol):
    """An observer of a server's operations. Called on the event loop; it must not raise."""

    def starting(self, record: Record, metadata: CallMetadata) -> AbstractContextManager[Record]:
        """Surrounds the first storing of an operation.

        Args:
            record: The new record.
            metadata: That of the RPC that starts it.

        Returns:
            A context that gives the record to store: the same, with its ``trace_context``.
        """
        ...

    def attempt(self, record: Record) -> AttemptTelemetry:
        """Is told that an attempt begins.

        Args:
            record: The operation, right after its claim.
        """
        ...

    def changed(self, before: Record | None, after: Record) -> None:
        """Is told what this process has changed, once that is durable.

        Args:
            before: The operation before the change; None for a new one.
            after: The operation after it.
        """
        ...

    def answered(self, call: str, seconds: float, error: BaseException | None) -> None:
        """Is told that the store has answered.

        Args:
            call: The method of :class:`lro_grpc._stores.Store` that was called.
            seconds: How long it has taken.
            error: What the call has raised.
        """
        ...

    def waiting(self, change: int) -> None:
        """Is told how many more RPCs stay open to wait; negative when they end."""
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

    def starting(self, record: Record, metadata: CallMetadata) -> AbstractContextManager[Record]:
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


NO_TELEMETRY: Telemetry = _NoTelemetry()
"""Observes nothing."""
