"""One channel to a google.longrunning.Operations server, and how it is called."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import grpc.aio
from google.longrunning import operations_pb2, operations_pb2_grpc

from lro_grpc import polling
from lro_grpc.client.rpc_errors import from_rpc_error

if TYPE_CHECKING:
    from datetime import timedelta

CallMetadata: TypeAlias = Sequence[tuple[str, str | bytes]]

_ROUTING_HEADER = "x-goog-request-params"


class ConnectionBase:
    """What both kinds of connection share: the stub, the headers and the waiting plan."""

    def __init__(
        self,
        channel: grpc.Channel | grpc.aio.Channel,
        *,
        call_metadata: CallMetadata,
        backoff: polling.Backoff,
        clock: Callable[[], float],
        sleep: Callable[[float], Any],
        random: Callable[[], float],
    ) -> None:
        self.sleep = sleep
        self._stub = operations_pb2_grpc.OperationsStub(channel)  # type: ignore[no-untyped-call]
        self._call_metadata = tuple(call_metadata)
        self._backoff = backoff
        self._clock = clock
        self._random = random
        self._unimplemented = polling.Unimplemented()

    def wait_steps(
        self, latest: Callable[[], operations_pb2.Operation], timeout: timedelta | None
    ) -> polling.Steps:
        """Plans a wait on this connection; see ``polling.wait_steps``."""
        return polling.wait_steps(
            latest,
            timeout=timeout,
            backoff=self._backoff,
            unimplemented=self._unimplemented,
            clock=self._clock,
            random=self._random,
        )

    def _start(self, call: polling.Call) -> Any:
        """Makes the call: its response on a sync channel, an awaitable of it on an async one."""
        name: str = getattr(call.request, "name", "")
        # As Google's own clients encode it: a slash stays a slash (C4).
        routing = ((_ROUTING_HEADER, f"name={urllib.parse.quote(name)}"),) if name else ()
        return getattr(self._stub, call.method)(
            call.request,
            timeout=None if call.timeout is None else call.timeout.total_seconds(),
            metadata=self._call_metadata + routing,
        )


class Connection(ConnectionBase):
    """A connection over ``grpc.Channel``; ``sleep`` blocks."""

    def call(self, call: polling.Call) -> Any:
        """Returns the RPC's response.

        Raises:
            LroError: From the ``grpc.RpcError``, if there is one.
        """
        try:
            return self._start(call)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error


class AsyncConnection(ConnectionBase):
    """A connection over ``grpc.aio.Channel``; ``sleep`` is awaited."""

    async def call(self, call: polling.Call) -> Any:
        """Returns the RPC's response.

        Raises:
            LroError: From the ``grpc.RpcError``, if there is one.
        """
        try:
            return await self._start(call)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
