"""A service whose operations Temporal delivers, for the tests' own process and for others.

``delivered.py STORE ADDRESS QUEUE STANDALONE RATE`` works, and serves nothing, until a signal.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.wrappers_pb2 import StringValue

import lro_grpc
from lro.v1 import (
    operation_control_service_pb2,
    operation_control_service_pb2_grpc,
    operation_metadata_pb2,
    state_pb2,
)
from lro_grpc.engines import Temporal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    Operation = operations_pb2.Operation

LEASE = timedelta(seconds=4)
SWEEP = timedelta(seconds=1)
PATIENCE_SECONDS = 40
BACKOFF = lro_grpc.Backoff(timedelta(seconds=0.5), 1.0, timedelta(seconds=0.5))

RUN = "/test.v1.Tests/Run"

GATES: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
"""What handlers of this process wait for, if their requests say so."""


async def run(request: StringValue, op: Any) -> StringValue:
    """Does what the request says, and answers with the process and the attempt."""
    what, _, argument = request.value.partition(" ")
    if what == "sleep":
        await asyncio.sleep(float(argument))
    elif what == "fail" and op.attempt <= int(argument):
        raise lro_grpc.RetryableError("not yet")
    elif what == "until":
        while op.attempt < int(argument):
            await op.checkpoint(StringValue())
            await asyncio.sleep(0.02)
    elif what == "gate":
        await GATES[argument].wait()
    elif what == "tell":
        with op.on_stop(lambda _: GATES[argument].set()):
            await asyncio.sleep(60)
    return StringValue(value=f"{os.getpid()} {op.attempt}")


def operations(store: str, address: str, queue: str, **options: Any) -> lro_grpc.Operations:
    """Returns operations whose engine is Temporal, and that has no other work on the queue."""
    return with_method(
        lro_grpc.Operations(
            store,
            lease=LEASE,
            sweep=SWEEP,
            grace=timedelta(seconds=2),
            engine=Temporal(address, task_queue=queue, **options),
        )
    )


def with_method(made: lro_grpc.Operations) -> lro_grpc.Operations:
    """Returns operations with the method."""
    made.add_method(
        RUN,
        run,
        request=StringValue,
        response=StringValue,
        options=lro_grpc.MethodOptions(pausable=True, backoff=BACKOFF),
    )
    return made


class Caller:
    """Calls a server on a port of this machine."""

    def __init__(self, port: int) -> None:
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self._operations = operations_pb2_grpc.OperationsStub(self._channel)
        self._control = operation_control_service_pb2_grpc.OperationControlServiceStub(
            self._channel
        )

    async def start(self, what: str = "") -> str:
        call = self._channel.unary_unary(
            RUN,
            request_serializer=StringValue.SerializeToString,
            response_deserializer=operations_pb2.Operation.FromString,
        )
        return (await call(StringValue(value=what), timeout=PATIENCE_SECONDS)).name

    async def get(self, name: str) -> Operation:
        request = operations_pb2.GetOperationRequest(name=name)
        return await self._operations.GetOperation(request, timeout=PATIENCE_SECONDS)

    async def state(self, name: str) -> str:
        return state_of(await self.get(name))

    async def states(self, name: str, timeout: float | None = None) -> AsyncIterator[Operation]:
        """Gives an operation as it is, each time that it changes."""
        request = operation_control_service_pb2.WatchOperationRequest(name=name)
        async for answer in self._control.WatchOperation(request, timeout=timeout):
            yield answer.operation

    async def until(self, name: str, state: str) -> Operation:
        """Waits until an operation is in a state."""
        seen = []
        async for operation in self.states(name, PATIENCE_SECONDS):
            seen.append(state_of(operation))
            if seen[-1] == state:
                return operation
        raise AssertionError(f"{name} was never {state}; it was {seen}")

    async def done(self, name: str) -> Operation:
        request = operations_pb2.WaitOperationRequest(name=name)
        operation = await self._operations.WaitOperation(request, timeout=PATIENCE_SECONDS)
        assert operation.done, f"{name} is {state_of(operation)}"
        return operation

    async def cancel(self, name: str) -> None:
        await self._operations.CancelOperation(operations_pb2.CancelOperationRequest(name=name))

    async def pause(self, name: str) -> None:
        request = operation_control_service_pb2.PauseOperationRequest(name=name)
        await self._control.PauseOperation(request)

    async def resume(self, name: str) -> None:
        request = operation_control_service_pb2.ResumeOperationRequest(name=name)
        await self._control.ResumeOperation(request)

    async def terminate(self, name: str) -> operations_pb2.Operation:
        request = operation_control_service_pb2.TerminateOperationRequest(name=name, reason="stuck")
        return (await self._control.TerminateOperation(request)).operation

    async def close(self) -> None:
        await self._channel.close()


def state_of(operation: Operation) -> str:
    return state_pb2.JobState.Name(metadata_of(operation).state).removeprefix("JOB_STATE_")


def metadata_of(operation: Operation) -> Any:
    metadata = operation_metadata_pb2.OperationMetadata()
    assert operation.metadata.Unpack(metadata)
    return metadata


def answer_of(operation: Operation) -> tuple[int, int]:
    """Returns the process and the attempt that an operation has ended in."""
    answer = StringValue()
    assert operation.response.Unpack(answer), operation.error
    process, attempt = answer.value.split()
    return int(process), int(attempt)


@contextlib.asynccontextmanager
async def serving(made: lro_grpc.Operations) -> Any:
    """Serves operations while a block lasts, and gives a caller."""
    server = grpc.aio.server()
    made.attach(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await made.start()
    await server.start()
    caller = Caller(port)
    try:
        yield caller
    finally:
        await caller.close()
        await made.stop(lambda: server.stop(0))


def main(store: str, address: str, queue: str, standalone: str, rate: str) -> None:
    made = operations(
        store,
        address,
        queue,
        standalone=bool(int(standalone)),
        max_task_queue_activities_per_second=float(rate) or None,
    )
    asyncio.run(made.work(ready=lambda: print("ready", flush=True)))


if __name__ == "__main__":
    main(*sys.argv[1:])
