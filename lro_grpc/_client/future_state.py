"""The state that a future has of its operation, and all that follows from it without a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NoReturn, cast

from lro_grpc._client.payloads import MetadataT, ResponseT, is_cancelled, outcome, unpack
from lro_grpc._client.update import OperationUpdate, update_of
from lro_grpc._errors import LroError

if TYPE_CHECKING:
    from google.longrunning import operations_pb2

    from lro_grpc._client.core import ClientCore
    from lro_grpc._client.plan import Call


class FutureState(Generic[ResponseT, MetadataT]):
    """The part that the sync and the async future share."""

    def __init__(
        self,
        core: ClientCore,
        operation: operations_pb2.Operation,
        response: type[ResponseT] | None,
        metadata: type[MetadataT] | None,
    ) -> None:
        self._core = core
        self._watcher = core.watcher(operation)
        self._response_type = response
        self._metadata_type = metadata

    @property
    def name(self) -> str:
        """The operation's name."""
        return self.operation.name

    @property
    def operation(self) -> operations_pb2.Operation:
        """The latest state that was seen of the operation; only to be read. Makes no RPC."""
        return self._watcher.snapshot.operation

    @property
    def metadata(self) -> MetadataT | None:
        """The operation's metadata in the latest state that was seen; None if it has none.

        Makes no RPC: ``done()`` refreshes it, and ``updates()`` shows every change.

        Raises:
            WrongTypeError: If it is not a message of the declared type.
        """
        if not self.operation.HasField("metadata"):
            return None
        return unpack(self.operation, "metadata", self._metadata_type)

    @property
    def progress(self) -> int | None:
        """The part that is done in the latest state that was seen, 0 to 100. Makes no RPC.

        None if the metadata has no ``progress_percent``.

        Raises:
            WrongTypeError: If the metadata is not a message of the declared type.
        """
        return self._update(self.operation).progress_percent

    def __reduce__(self) -> NoReturn:
        """Refuses to be pickled: a future lives with the channel of its client.

        Raises:
            TypeError: Always; it says what to do.
        """
        raise TypeError(
            f"the future of {self.name} cannot be pickled, for its channel cannot: pickle its name,"
            " and make a future of it there by attach(name) of a client"
        )

    def __repr__(self) -> str:
        """Names the operation, and says whether it is known to be done."""
        known = "done" if self.operation.done else "not done"
        return f"<{type(self).__name__} of {self.name}, {known} when last seen>"

    async def _command(self, call: Call, *, once: bool = False) -> None:
        """Makes a call that changes the operation, and takes in the state that it answers with."""

        async def answer() -> operations_pb2.Operation:
            response = await self._core.call(call, once=once)
            operation: operations_pb2.Operation = response.operation
            return operation

        await self._watcher.command(answer())

    def _update(self, operation: operations_pb2.Operation) -> OperationUpdate[MetadataT]:
        return update_of(operation, self._metadata_type)

    def _result(self) -> ResponseT:
        # It is None for an operation without a result (P2). The type leaves that out, for a
        # service provides a result for each of its operations, or for none.
        return cast("ResponseT", outcome(self.operation, self._response_type))

    def _exception(self) -> LroError | None:
        try:
            self._result()
        except LroError as error:
            return error
        return None

    def _is_cancelled(self) -> bool:
        return is_cancelled(self.operation)
