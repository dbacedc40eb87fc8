"""The operation as its handler sees it: one class for ``def``, one for ``async def``."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic

from google.longrunning import operations_pb2
from google.protobuf.message import Message
from google.rpc import status_pb2

from lro_grpc._durations import Duration
from lro_grpc._engine import checkpoint
from lro_grpc._engine.attempt import Attempt
from lro_grpc._engine.batch import Batch
from lro_grpc._engine.batch_drivers import async_drive_batch, drive_batch
from lro_grpc._errors import AttemptStopped, StopReason
from lro_grpc._operation.events import Checkpoint, SetUpdating
from lro_grpc._runtime.log import handlers_log
from lro_grpc._wire.proto_plus import as_declared

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    # The default (PEP 696) is for handlers that do not name the type; it may be a proto-plus one.
    MetadataT_co = TypeVar("MetadataT_co", default=Message, covariant=True)
else:
    from typing import TypeVar

    MetadataT_co = TypeVar("MetadataT_co", covariant=True)


class _Context(Generic[MetadataT_co]):
    """The part that is the same for both: everything that need not wait."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._updates = 0
        """The depth of ``updating`` blocks that the handler is in."""

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
        """The resource that the operation is about, as ``prepare`` has named it."""
        return self._attempt.record.target

    @property
    def caller(self) -> str:
        """The caller who started it, as ``identify`` has named it; empty if that is not set."""
        return self._attempt.record.caller

    @property
    def attempt(self) -> int:
        """1 for the first attempt; more when one failed, paused, or lost its worker before."""
        return self._attempt.number

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """The logger ``lro_grpc.handler``, with the fields of this operation and attempt.

        Each line carries ``operation``, ``attempt`` and ``method``, as attributes of its
        ``LogRecord``.
        """
        return handlers_log(self._attempt.record)

    @property
    def checkpoint_state(self) -> Any:
        """The state of the latest ``checkpoint``, of this attempt or one before; None for none.

        Raises:
            ConfigurationError: If it is a message of a type that no imported module defines.
        """
        return checkpoint.unpack(self._attempt.record.checkpoint)

    @property
    def metadata(self) -> MetadataT_co:
        """The operation's metadata message, for the fields that are the handler's own (P4).

        Its fields are stored with the next ``progress``, ``batch`` step or outcome. The library
        fills the conventional fields, whatever stands in them here. If there are partial failures
        in ``partial_failures`` at the end, the operation is PARTIALLY_SUCCEEDED.
        """
        metadata: MetadataT_co = as_declared(
            self._attempt.progress.metadata, self._attempt.handler.metadata
        )
        return metadata

    @property
    def cancel_requested(self) -> bool:
        """Whether someone asked to cancel the operation."""
        return self._attempt.ending.cancel_requested

    @property
    def pause_requested(self) -> bool:
        """Whether someone asked to pause: the next ``checkpoint`` does it."""
        return self._attempt.ending.pause_requested

    @property
    def stop_reason(self) -> StopReason | None:
        """The reason why the attempt has to stop; None while it may go on."""
        return self._attempt.stop_reason

    def progress(self, percent: float | None = None, detail: str | None = None) -> None:
        """Reports how far the handler is: a plain call that never waits.

        The latest values are stored within 200 ms, and with the outcome.

        Args:
            percent: 0 to 100; clamped, shown without its fraction, and never going back. So 0.5 is
                half a percent, and shown as 0; a handler that has never said more than 1 gets a
                WARNING. Unchanged unless given.
            detail: The present step, for a person to read. Unchanged unless given.

        Raises:
            OperationTooLargeError: If the operation would be larger than may be stored, with the
                detail and the metadata; nothing has changed.
        """
        self._attempt.progress.say(percent, detail)

    def raise_if_stopped(self) -> None:
        """Lets a handler unwind at a place of its choice.

        Raises:
            AttemptStopped: If the attempt has to stop. It is a BaseException: let it pass.
        """
        self._attempt.raise_if_stopped()

    def on_stop(self, callback: Callable[[StopReason], object]) -> contextlib.ExitStack:
        """Calls a function when the attempt has to stop: to wake a handler that blocks.

        ::

            with op.on_stop(lambda reason: child.terminate()):
                child.wait()
            op.raise_if_stopped()

        It is called once, with the reason: of an ``async def`` handler on the event loop, of a
        ``def`` in another thread, so that it may block. If there is a reason already, it is called
        here and now. What it raises is logged, and so is a coroutine that it returns, for nobody
        awaits that. It is not called once the handler has ended; but a
        call that has begun goes on.

        Args:
            callback: A plain function.

        Returns:
            A context manager that takes the function back at its end, as its ``close`` does.

        Raises:
            TypeError: If the callback is no plain function.
        """
        if not callable(callback) or inspect.iscoroutinefunction(callback):
            raise TypeError(f"the callback is {callback!r}; give a plain function")
        given = contextlib.ExitStack()
        given.callback(self._attempt.call_on_stop(callback))
        return given

    def _before_checkpoint(self, state: Message | bytes | None) -> Checkpoint | None:
        """Returns the event that stores a checkpoint; None if it has no state."""
        attempt = self._attempt
        attempt.raise_if_stopped()
        ending = attempt.ending
        if ending.claimed_to_undo and ending.reason and not attempt.leaves_a_batch:
            raise AttemptStopped(ending.reason)
        if state is None:
            return None
        event = Checkpoint(attempt.progress.take(final=True), checkpoint.pack(state))
        attempt.check_size(event)
        return event

    def _after_checkpoint(self) -> None:
        self._attempt.pause_here()
        self._attempt.raise_if_stopped()

    @contextlib.contextmanager
    def _in_update(self) -> Iterator[None]:
        self._updates += 1
        try:
            yield
        finally:
            self._updates -= 1

    def _update(self, detail: str | None = None) -> SetUpdating:
        """Returns the event that shows whether the handler is in a block of ``updating``."""
        self._attempt.progress.say(None, detail)
        event = SetUpdating(self._attempt.progress.take(final=True), self._updates > 0)
        self._attempt.check_size(event)
        return event


class OperationContext(_Context[MetadataT_co]):
    """The operation, for a ``def`` handler, which runs in a thread of its own."""

    def checkpoint(self, state: Message | bytes | None = None) -> None:
        """Stores a state for a later attempt to go on from, and pauses here if someone asked to.

        The next attempt, after a pause, a crash or a retry, finds the state in
        ``checkpoint_state``. Keep it small: it is written with each change of the operation.

        If an operation with such a state is cancelled while it is paused, or waits, one more
        attempt begins, for the handler to undo its work. There ``cancel_requested`` is true from
        the beginning, and the first ``checkpoint`` ends the attempt, unless it comes before a
        ``batch`` that is to be rolled back.

        Args:
            state: A protobuf message or bytes. Unless given, the state stays as it was.

        Raises:
            AttemptStopped: If the attempt has to stop, be it for the pause; let it pass.
            TypeError: If the state is neither a message nor bytes.
            OperationTooLargeError: If the state is larger than an operation may be; the former one
                stays.
        """
        event = self._before_checkpoint(state)
        if event is not None:
            self._attempt.write_from_thread(event)
        self._after_checkpoint()

    def start_operation(
        self,
        method: str,
        request: Any,
        *,
        key: str,
        labels: Mapping[str, str] | None = None,
        delay: Duration | None = None,
    ) -> operations_pb2.Operation:
        """Starts another operation, or finds the one that an earlier attempt has started.

        ::

            child = op.start_operation("/reports.v1.Reports/Render", request, key="render")

        It goes the way of an RPC by the operation's own caller, but for ``identify`` and
        ``authorize``. Its ``request_id`` is made of this operation and the key. The other operation
        goes on by itself, whatever becomes of this one.

        Args:
            method: ``/pkg.Service/Method``, a long-running method that was added to the same
                ``Operations``.
            request: The request, of the type that the method declares; a ``request_id`` in it does
                not count.
            key: A text that is the same in every attempt, and another one for each operation that
                the handler starts of one method.
            labels: Labels of the operation beside those of its ``prepare``, which they win over.
            delay: The time from now on before which its first attempt does not begin, at most 365
                days; that of its ``prepare`` unless given.

        Returns:
            The operation, as it is now; it may be done.

        Raises:
            LroError: As the RPC would end: if ``prepare`` refuses the request, or a limit is
                reached, or another request was sent under the key (REQUEST_ID_REUSED).
            UnservedError: If the method was not added here.
            WrongTypeError: If the request is of another type.
            ConfigurationError: If the key is empty, or a label or the delay is none.
            AttemptStopped: If the attempt has to stop; let it pass.
        """
        return self._attempt.start_operation_from_thread(method, request, key, labels, delay)

    @contextlib.contextmanager
    def updating(self, detail: str | None = None) -> Iterator[None]:
        """Shows the operation as UPDATING inside the block, and as RUNNING after it.

        Args:
            detail: The present step, as in ``progress``.

        Raises:
            AttemptStopped: If the operation is no longer this attempt's.
        """
        try:
            with self._in_update():
                self._attempt.write_from_thread(self._update(detail))
                yield
        except Exception:
            self._attempt.write_from_thread(self._update())  # for the handler may go on
            raise
        self._attempt.write_from_thread(self._update())

    def batch(
        self,
        targets: Sequence[str],
        *,
        create: Callable[[str], object],
        delete: Callable[[str], object],
        parallelism: int = 1,
    ) -> None:
        """Creates several targets, all or nothing, and returns when every one is READY.

        On the first failure nothing more is begun, and the created targets are deleted again,
        newest first. A cancel does the same, and so does an error that the handler raises later on.
        An error that may pass, of ``create`` or of ``delete``, is no failure yet: the target is
        tried again after a pause, by the method's ``retry``, ``backoff`` and ``max_attempts``.
        The states stand in ``batch_create_instances_metadata``, and a later attempt goes on from
        them: it may call ``create`` or ``delete`` once more for a target whose former call was cut
        off, so both must cope with the leftovers of that call.

        Args:
            targets: A list of the targets' resource names, in the order in which to create them.
                They must follow from the request alone. One batch an operation.
            create: Makes one target. It cleans up after itself when it fails or is stopped.
            delete: Removes one target that was created, or begun.
            parallelism: How many to create, or delete, at a time, each in a thread of its own.

        Raises:
            LroError: The first failed target's error, once everything is rolled back.
            OperationTooLargeError: If there are more targets than the operation can show; none of
                them is begun.
            AttemptStopped: If the attempt was stopped.
            TypeError: If create or delete is a coroutine function.
            ValueError: If the targets are no list of names that differ, or parallelism is not
                positive.
        """
        for name, function in {"create": create, "delete": delete}.items():
            if inspect.iscoroutinefunction(function):
                raise TypeError(f"{name} is a coroutine function, which a def has nobody to await")
        attempt = self._attempt
        batch = Batch(attempt, targets, parallelism)
        attempt.batch_is_driven = True
        drive_batch(batch.plan(), batch, attempt, create, delete)

        def undo(error: status_pb2.Status) -> None:
            drive_batch(batch.undo_plan(error), batch, attempt, create, delete)

        attempt.undo = undo


class AsyncOperationContext(_Context[MetadataT_co]):
    """The operation, for an ``async def`` handler."""

    async def checkpoint(self, state: Message | bytes | None = None) -> None:
        """Stores a state for a later attempt; see :meth:`OperationContext.checkpoint`.

        Args:
            state: A protobuf message or bytes. Unless given, the state stays as it was.
        """
        event = self._before_checkpoint(state)
        if event is not None:
            await self._attempt.write(event)
        self._after_checkpoint()

    async def start_operation(
        self,
        method: str,
        request: Any,
        *,
        key: str,
        labels: Mapping[str, str] | None = None,
        delay: Duration | None = None,
    ) -> operations_pb2.Operation:
        """Starts another operation; see :meth:`OperationContext.start_operation`.

        Args:
            method: ``/pkg.Service/Method``, a long-running method that was added to the same
                ``Operations``.
            request: The request, of the type that the method declares.
            key: A text that is the same in every attempt, and another one for each operation that
                the handler starts of one method.
            labels: Labels of the operation beside those of its ``prepare``.
            delay: The time from now on before which its first attempt does not begin.

        Returns:
            The operation, as it is now; it may be done.
        """
        return await self._attempt.start_operation(method, request, key, labels, delay)

    @contextlib.asynccontextmanager
    async def updating(self, detail: str | None = None) -> AsyncIterator[None]:
        """Shows the operation as UPDATING inside the block, and as RUNNING after it.

        Args:
            detail: The present step, as in ``progress``.
        """
        try:
            with self._in_update():
                await self._attempt.write(self._update(detail))
                yield
        except Exception:
            await self._attempt.write(self._update())  # for the handler may go on
            raise
        await self._attempt.write(self._update())

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
        await async_drive_batch(batch.plan(), batch, attempt, create, delete)

        async def undo(error: status_pb2.Status) -> None:
            await async_drive_batch(batch.undo_plan(error), batch, attempt, create, delete)

        attempt.undo = undo
