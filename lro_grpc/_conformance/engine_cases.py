"""A server for the tests of an engine, and callers of it.

Tests look at operations as callers do: on a real server, whose engine it is. What handlers do they
do in the test's own process. No test waits for less than a time; so an engine may take its time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.longrunning import operations_pb2
from google.protobuf.wrappers_pb2 import StringValue

from lro.v1 import operation_metadata_pb2
from lro_grpc._client.async_future import AsyncOperationFuture
from lro_grpc._client.async_operations import AsyncOperationsClient
from lro_grpc._engine.engine import EngineOptions
from lro_grpc._runtime.backoff import Backoff
from lro_grpc._server.decorator import MethodOptions, Prepared
from lro_grpc._server.operations import Operations
from lro_grpc._stores.store import Store

METHOD = "/contract.v1.Contract/Run"
LEASE, _SWEEP, _GRACE = timedelta(seconds=3), timedelta(seconds=1), timedelta(seconds=2)
_BACKOFF = Backoff(timedelta(seconds=0.2), 1.0, timedelta(seconds=0.2))
PATIENCE = timedelta(seconds=60)
"""For what an engine does soon, however busy the machine is."""

Run = Callable[[StringValue, Any], Any]
Prepare = Callable[[StringValue, Any], Prepared]
Future = AsyncOperationFuture[StringValue, operation_metadata_pb2.OperationMetadata]


class Caller:
    """Starts operations on a channel, and sees what becomes of them."""

    def __init__(self, channel: grpc.aio.Channel, operations: Operations) -> None:
        self.operations = operations
        self._client = AsyncOperationsClient(channel)
        self._start: Any = channel.unary_unary(
            METHOD,
            request_serializer=StringValue.SerializeToString,
            response_deserializer=operations_pb2.Operation.FromString,
        )

    async def start(self, value: str = "") -> Future:
        """Starts an operation with a request."""
        return self.attach((await self._start(StringValue(value=value))).name)

    def attach(self, name: str) -> Future:
        """Returns the future of an operation."""
        metadata = operation_metadata_pb2.OperationMetadata
        return self._client.attach(name, response=StringValue, metadata=metadata)


def with_folder(
    check: Callable[[Any, Path], Coroutine[Any, Any, None]],
) -> Callable[[Any, Path], None]:
    """Makes a test of a coroutine function that takes a folder of its own."""

    def test(self: EngineCases, tmp_path: Path) -> None:
        asyncio.run(check(self, tmp_path))

    test.__name__, test.__doc__ = check.__name__, check.__doc__
    test.__qualname__, test.__module__ = check.__qualname__, check.__module__
    return test


class EngineCases:
    """Tests of one engine; a subclass has it."""

    def make_engine(self) -> EngineOptions | None:
        """Returns the options of an engine that runs handlers in this process.

        All that one test makes have to bring operations to one another: as with the same task
        queue, or broker. None of another test may be in their way.
        """
        raise NotImplementedError

    def make_store(self, folder: Path) -> Store | str:
        """Returns the store, or its URL, of one test: the same one each time.

        Args:
            folder: A folder of the test's own.
        """
        return f"sqlite:///{folder / 'operations.db'}"

    @contextlib.asynccontextmanager
    async def served(
        self, folder: Path, run: Run, prepare: Prepare | None = None, **options: Any
    ) -> AsyncIterator[Caller]:
        """Serves a method while the context lasts.

        Args:
            folder: The test's own.
            run: The handler.
            prepare: The method's own ``prepare``.
            **options: Those of the method.
        """
        operations = Operations(
            self.make_store(folder),
            lease=LEASE,
            sweep=_SWEEP,
            grace=_GRACE,
            engine=self.make_engine(),
        )
        operations.add_method(
            METHOD,
            run,
            request=StringValue,
            response=StringValue,
            prepare=prepare,
            options=MethodOptions(**({"backoff": _BACKOFF} | options)),
        )
        server = grpc.aio.server()
        operations.attach(server)
        port = server.add_insecure_port("127.0.0.1:0")
        await operations.start()
        try:
            await server.start()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield Caller(channel, operations)
        finally:
            await operations.stop(lambda: server.stop(0))
