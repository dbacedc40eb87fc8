"""The pause before the next poll that answers recommend while an operation is not done (P5)."""

from __future__ import annotations

from datetime import timedelta

from google.longrunning import operations_pb2

from lro_grpc._server.rpc.call import Behavior, Call
from lro_grpc._wire.headers import POLL_AFTER


class PollAdvice:
    """Recommends a pause, in the initial metadata of each answer with one operation.

    Args:
        pause: The pause; None to recommend none.
    """

    def __init__(self, pause: timedelta | None) -> None:
        self._header = None if pause is None else str(pause // timedelta(milliseconds=1))

    def give(self, call: Call, *, done: bool) -> None:
        """Recommends the pause to a caller, unless the operation is done."""
        if self._header is not None and not done:
            call.headers.append((POLL_AFTER, self._header))

    def given_by(self, behavior: Behavior) -> Behavior:
        """Returns a behavior that recommends the pause with the Operation that it answers with."""
        if self._header is None:
            return behavior

        async def answer(body: bytes, call: Call) -> bytes:
            operation = await behavior(body, call)
            self.give(call, done=operations_pb2.Operation.FromString(operation).done)
            return operation

        return answer
