"""What a future knows of its operation, and all that follows from that without a call."""

from __future__ import annotations

import threading
from typing import Generic, cast

from google.longrunning import operations_pb2

from lro_grpc.client.payloads import MetadataT, ResponseT, is_cancelled, outcome, unpack
from lro_grpc.errors import LIBRARY_DOMAIN, Code, InvalidNameError, LroError


class FutureState(Generic[ResponseT, MetadataT]):
    """The part that the sync and the async future share."""

    def __init__(
        self,
        operation: operations_pb2.Operation,
        response: type[ResponseT] | None,
        metadata: type[MetadataT] | None,
    ) -> None:
        if not operation.name and not operation.done:
            raise InvalidNameError("an operation without a name, and not done, cannot be followed")
        self._operation = operations_pb2.Operation()
        self._operation.CopyFrom(operation)
        self._response_type = response
        self._metadata_type = metadata
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The operation's name."""
        return self._operation.name

    @property
    def operation(self) -> operations_pb2.Operation:
        """The latest state that was seen of the operation; only to be read. Makes no RPC."""
        return self._operation

    @property
    def metadata(self) -> MetadataT | None:
        """The operation's metadata in the latest state that was seen; None if it has none.

        Makes no RPC: ``done()`` takes a fresh look.

        Raises:
            WrongTypeError: If it is not a message of the declared type.
        """
        if not self._operation.HasField("metadata"):
            return None
        return unpack(self._operation, "metadata", self._metadata_type)

    def _latest(self) -> operations_pb2.Operation:
        return self._operation

    def _learn(self, operation: operations_pb2.Operation) -> None:
        """Takes in what a call returned."""
        if operation.name != self.name:
            raise LroError(
                f"the server returned {operation.name!r} when asked for {self.name!r}",
                code=Code.INTERNAL,
                reason="WRONG_OPERATION",
                domain=LIBRARY_DOMAIN,
                metadata={"expected": self.name, "actual": operation.name},
            )
        with self._lock:  # answers of concurrent calls may arrive in any order
            if not self._operation.done:
                self._operation = operation

    def _result(self) -> ResponseT:
        # None for an operation that has no result (P2); typed as if there were always one, for
        # a service either provides results or it does not.
        return cast("ResponseT", outcome(self._operation, self._response_type))

    def _exception(self) -> LroError | None:
        try:
            self._result()
        except LroError as error:
            return error
        return None

    def _is_cancelled(self) -> bool:
        return is_cancelled(self._operation)
