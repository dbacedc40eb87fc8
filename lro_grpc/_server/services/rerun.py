"""RerunOperation: a new operation from the request of one that is done."""

from __future__ import annotations

from collections.abc import Mapping

from google.longrunning import operations_pb2

from lro.v1 import operation_control_service_pb2
from lro_grpc._engine.handler import Handler
from lro_grpc._errors import IllegalTransitionError, UnservedError
from lro_grpc._operation.states import JOB
from lro_grpc._server.guarded_store import GuardedStore
from lro_grpc._server.poll_advice import PollAdvice
from lro_grpc._server.rpc.call import Behavior, Call, parse
from lro_grpc._server.services.start import Starter, check_request_id


class RerunService:
    """Runs operations again, each through the start of its own method.

    Args:
        store: The operations, behind the guard.
        served: The handlers of the server, by the methods whose operations they run.
        starters: The starts of the methods, by their own names.
        advice: The pause before the next poll, recommended with what is not done (P5).
    """

    def __init__(
        self,
        store: GuardedStore,
        served: Mapping[str, Handler],
        starters: Mapping[str, Starter],
        advice: PollAdvice,
    ) -> None:
        self._store = store
        self._served = served
        self._starters = starters
        self._advice = advice

    def methods(self) -> Mapping[str, Behavior]:
        """Returns the methods by their full names."""
        return {"/lro.v1.OperationControlService/RerunOperation": self.rerun}

    async def rerun(self, body: bytes, call: Call) -> bytes:
        """Starts an operation like another one that is done, and answers with it."""
        request = parse(operation_control_service_pb2.RerunOperationRequest, body)
        admitted = await self._store.admit("operations.rerun", request.name, request, call)
        check_request_id(request.request_id)
        source = admitted.known or await admitted.read(request.name)
        if not source.done:
            raise IllegalTransitionError(
                f"{source.name} is {JOB.spoken(source.state)}, and is run again only once it is"
                " done; cancel it first, or wait",
                reason="NOT_DONE",
                metadata={"operation": source.name, "state": JOB.name_of(source.state)},
            )
        handler = self._served.get(source.method)
        if handler is None:
            unserved = (
                f"{source.method} is not served" if source.method else "its method is not known"
            )
            raise UnservedError(
                f"{source.name} cannot be run again here: {unserved}",
                metadata={"operation": source.name, "method": source.method},
            )
        operation = await self._starters[handler.method].rerun(
            source, request.request_id, call, validate_only=request.validate_only
        )
        response = operation_control_service_pb2.RerunOperationResponse(
            operation=operations_pb2.Operation.FromString(operation)
        )
        self._advice.give(call, done=response.operation.done)
        return response.SerializeToString()
