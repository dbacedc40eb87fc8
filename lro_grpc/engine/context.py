"""What a handler is given: the operation that it runs, in either colour."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from google.protobuf.message import Message
from google.rpc import status_pb2

from lro_grpc.engine.attempt import Attempt
from lro_grpc.engine.batch import Batch, drive, drive_async
from lro_grpc.errors import StopReason

MetadataT = TypeVar("MetadataT", bound=Message)


class _Context(Generic[MetadataT]):
    """What both colours have in common: everything that need not wait."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    @property
    def name(self) -> str:
        """The operation's name: ``[{parent}/]operations/{id}``."""
        return self._attempt.name

    @property
    def id(self) -> str:
        """The last segment of the name; the same in every attempt, so fit to name side effects."""
        return self._attempt.name.rpartition("/")[2]

    @property
    def target(self) -> str:
        """The resource that the operation is about, as ``prepare`` named it."""
        return self._attempt.record.target

    @property
    def attempt(self) -> int:
        """1 for the first attempt; more when a worker was lost, or let go, before."""
        return self._attempt.number

    @property
    def metadata(self) -> MetadataT:
        """The operation's metadata message, for the fields that are the handler's own (P4).

        What is written here is stored with the next ``progress``, ``batch`` step or outcome. The
        conventional fields are filled by the library, whatever stands in them here. Partial
        failures that stand in ``partial_failures`` at the end make the operation
        PARTIALLY_SUCCEEDED.
        """
        metadata: MetadataT = self._attempt.metadata
        return metadata

    @property
    def cancel_requested(self) -> bool:
        """Whether someone asked to cancel the operation."""
        return self._attempt.cancel_requested

    @property
    def stop_reason(self) -> StopReason | None:
        """Why the attempt has to stop; None while it may go on."""
        return self._attempt.stop_reason

    def progress(self, percent: float | None = None, detail: str | None = None) -> None:
        """Tells how far the handler is: a plain call that never waits.

        The latest values are stored within 200 ms, and with the outcome.

        Args:
            percent: 0 to 100; clamped, and never shown going back. Unchanged unless given.
            detail: What is being done, for a person. Unchanged unless given.
        """
        self._attempt.report(percent, detail)

    def raise_if_stopped(self) -> None:
        """Lets a handler unwind at a place of its choice.

        Raises:
            AttemptStopped: If the attempt has to stop. It is a BaseException: let it pass.
        """
        self._attempt.raise_if_stopped()


class OperationContext(_Context[MetadataT]):
    """The operation, for a ``def`` handler, which runs in a thread of its own."""

    def batch(
        self,
        targets: Sequence[str],
        *,
        create: Callable[[str], object],
        delete: Callable[[str], object],
        parallelism: int = 1,
    ) -> None:
        """Creates several targets, all or nothing, and returns when every one is READY.

        On the first failure nothing more is begun; what was created is deleted again, newest
        first. A cancel does the same, and so does an error that the handler raises later on. The
        states stand in ``batch_create_instances_metadata``,
        and a later attempt goes on from them: it may call ``create`` or ``delete`` once more for a
        target whose former call was cut off, so both must cope with what that call left behind.

        Args:
            targets: The targets' resource names, in the order in which to create them. They must
                follow from the request alone. One batch an operation.
            create: Makes one target. It cleans up after itself when it fails or is stopped.
            delete: Removes one target that was created, or begun.
            parallelism: How many to create, or delete, at a time, each in a thread of its own.

        Raises:
            LroError: The first failed target's error, once everything is rolled back.
            AttemptStopped: If the attempt was stopped.
            ValueError: If a target stands there twice, or parallelism is not positive.
        """
        attempt = self._attempt
        batch = Batch(attempt, targets, parallelism)
        attempt.batch_is_driven = True
        drive(batch.plan(), batch, attempt, create, delete)

        def undo(error: status_pb2.Status) -> None:
            drive(batch.undo_plan(error), batch, attempt, create, delete)

        attempt.undo = undo


class AsyncOperationContext(_Context[MetadataT]):
    """The operation, for an ``async def`` handler."""

    async def batch(
        self,
        targets: Sequence[str],
        *,
        create: Callable[[str], Awaitable[object]],
        delete: Callable[[str], Awaitable[object]],
        parallelism: int = 1,
    ) -> None:
        """Creates several targets, all or nothing; see :meth:`OperationContext.batch`.

        Args:
            targets: The targets' resource names, in the order in which to create them.
            create: Makes one target.
            delete: Removes one target that was created, or begun.
            parallelism: How many to create, or delete, at a time, each in a task of its own.
        """
        attempt = self._attempt
        batch = Batch(attempt, targets, parallelism)
        attempt.batch_is_driven = True
        await drive_async(batch.plan(), batch, attempt, create, delete)

        async def undo(error: status_pb2.Status) -> None:
            await drive_async(batch.undo_plan(error), batch, attempt, create, delete)

        attempt.undo = undo
