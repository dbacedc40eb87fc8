"""lro.v1.OperationControlService over a store: bytes in, bytes out, errors raised."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from datetime import timedelta

from lro.v1 import operation_control_service_pb2
from lro_grpc._errors import InvalidArgumentError, UnavailableError
from lro_grpc._operation.events import Pause, Resume, Terminate
from lro_grpc._operation.record import Record
from lro_grpc._server.guarded_store import GuardedStore
from lro_grpc._server.poll_advice import PollAdvice
from lro_grpc._server.rpc.call import Behavior, Call, StreamBehavior, parse
from lro_grpc._stores.notifier import Notifier

_SERVICE = "/lro.v1.OperationControlService/"

_PAUSE_SECONDS = 0.1
"""The least time between two reads of a watched operation, unless it has ended."""

_LONGEST_REASON = 1024
"""The most characters of the reason for which an operation is terminated."""


class ControlService:
    """Pausing, resuming, watching and terminating.

    Args:
        store: The operations, behind the guard.
        notifier: Wakes calls that wait for a change.
        watch_resend: The interval at which a stream repeats a state that does not change.
        advice: The pause before the next poll, recommended with what is not done (P5).
    """

    def __init__(
        self,
        store: GuardedStore,
        notifier: Notifier,
        *,
        watch_resend: timedelta,
        advice: PollAdvice,
    ) -> None:
        self._store = store
        self._notifier = notifier
        self._resend = watch_resend.total_seconds()
        self._advice = advice

    def methods(self) -> Mapping[str, Behavior]:
        """Returns the methods by their full names."""
        return {
            f"{_SERVICE}PauseOperation": self.pause,
            f"{_SERVICE}ResumeOperation": self.resume,
            f"{_SERVICE}TerminateOperation": self.terminate,
        }

    def streams(self) -> Mapping[str, StreamBehavior]:
        """Returns the methods that stream, by their full names."""
        return {f"{_SERVICE}WatchOperation": self.watch}

    async def pause(self, body: bytes, call: Call) -> bytes:
        """Requests that an operation pause; its state shows when it has (S28)."""
        kind = operation_control_service_pb2.PauseOperationRequest
        record = await self._store.command("operations.pause", kind, Pause(), body, call)
        self._advice.give(call, done=record.done)
        return _with(operation_control_service_pb2.PauseOperationResponse(), record)

    async def resume(self, body: bytes, call: Call) -> bytes:
        """Puts a paused operation back into the queue, or takes back a pause."""
        kind = operation_control_service_pb2.ResumeOperationRequest
        record = await self._store.command("operations.resume", kind, Resume(), body, call)
        self._advice.give(call, done=record.done)
        return _with(operation_control_service_pb2.ResumeOperationResponse(), record)

    async def terminate(self, body: bytes, call: Call) -> bytes:
        """Ends an operation by force, and answers with it."""
        request = parse(operation_control_service_pb2.TerminateOperationRequest, body)
        admitted = await self._store.admit("operations.terminate", request.name, request, call)
        _check_reason(request.reason)
        record = await admitted.apply(request.name, Terminate(request.reason, admitted.caller))
        return _with(operation_control_service_pb2.TerminateOperationResponse(), record)

    async def watch(self, body: bytes, call: Call) -> AsyncGenerator[bytes, None]:
        """Streams the latest state of an operation after each change, up to the terminal one.

        A state is read when the one before it is sent: whoever reads slowly is sent fewer.
        """
        request = parse(operation_control_service_pb2.WatchOperationRequest, body)
        admitted = await self._store.admit("operations.watch", request.name, request, call)
        admitted.known = None  # it may be large, and the call long
        loop = asyncio.get_running_loop()
        sent, resend = b"", 0.0
        with self._notifier.watch(request.name) as subscription:
            while True:
                await admitted.check_again()
                operation = await admitted.operation(request.name)
                call.stay_open()
                if operation != sent or loop.time() >= resend:
                    response, is_done = _response(operation)
                    yield response
                    if is_done:
                        return
                    sent, resend = operation, loop.time() + self._resend
                if self._notifier.draining:
                    raise UnavailableError(
                        f"the server goes down, and {request.name} is not done; watch it again"
                    )
                await subscription.wait(resend - loop.time(), pause=_PAUSE_SECONDS)


def _check_reason(reason: str) -> None:
    if not reason.strip():
        raise InvalidArgumentError("reason is empty; say why the operation is terminated")
    if len(reason) > _LONGEST_REASON:
        raise InvalidArgumentError(
            f"reason has {len(reason)} characters; give at most {_LONGEST_REASON}"
        )


def _with(
    response: operation_control_service_pb2.PauseOperationResponse
    | operation_control_service_pb2.ResumeOperationResponse
    | operation_control_service_pb2.TerminateOperationResponse,
    record: Record,
) -> bytes:
    """Returns a response with the operation of a record."""
    response.operation.ParseFromString(record.operation)
    return response.SerializeToString()


def _response(operation: bytes) -> tuple[bytes, bool]:
    """Returns the message of a stream that holds an operation, and whether that is done."""
    response = operation_control_service_pb2.WatchOperationResponse()
    response.operation.ParseFromString(operation)
    return response.SerializeToString(), response.operation.done
