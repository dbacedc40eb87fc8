"""The core of a client, sync or async: its single calls, with retries; one watcher an operation."""

from __future__ import annotations

import random as random_module
import threading
import weakref
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

from google.longrunning import operations_pb2

from lro_grpc._client import plan
from lro_grpc._client.connection import (
    AsyncConnection,
    CallMetadata,
    Connection,
    ThreadConnection,
    checked_metadata,
)
from lro_grpc._client.shared_watch import SharedWatch
from lro_grpc._client.watcher import Watcher
from lro_grpc._errors import InvalidNameError
from lro_grpc._runtime.backoff import (
    DEFAULT_BACKOFF,
    DEFAULT_RETRY,
    Backoff,
    Retry,
    check_policy,
)
from lro_grpc._runtime.clock import Clock, SystemClock
from lro_grpc._runtime.steps import async_drive

WaitMode: TypeAlias = Literal["auto", "poll"]
"""The ways to wait for an operation: by the best call that the server has, or by Get alone."""


class ClientCore:
    """The core of one client: its connection, with the policies by which it is used.

    Attributes:
        clock: The clock.

    Args:
        connection: The server.
        backoff: The pauses between polls, and after UNAVAILABLE.
        retry: When a single call is made again, and what a wait outlives.
        wait: The calls by which operations are followed.
        clock: The clock.
        random: Gives numbers uniform in [0, 1).

    Raises:
        TypeError: If ``backoff`` or ``retry`` is none.
        ValueError: If ``wait`` is another text.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        backoff: Backoff = DEFAULT_BACKOFF,
        retry: Retry | None = DEFAULT_RETRY,
        wait: WaitMode = "auto",
        clock: Clock | None = None,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        if wait not in get_args(WaitMode):
            raise ValueError(f'wait is {wait!r}; give "auto" or "poll"')
        check_policy(retry, backoff)
        self._connection = connection
        self._backoff = backoff
        self._retry = retry
        self._polls = wait == "poll"
        self.clock = clock or SystemClock()
        self._random = random
        self._shared = SharedWatch(connection, self.clock)
        self._lock = threading.Lock()
        self._watchers: weakref.WeakValueDictionary[str, Watcher] = weakref.WeakValueDictionary()

    def watcher(self, operation: operations_pb2.Operation) -> Watcher:
        """Returns the watcher of an operation: the same one for all while any of them keeps it.

        Args:
            operation: Its latest known state; the message stays the caller's own.

        Raises:
            InvalidNameError: If the operation has no name and is not done.
            TypeError: If it is none, such as a call that was not awaited.
        """
        if not isinstance(operation, operations_pb2.Operation):
            raise TypeError(
                f"operation is a {type(operation).__name__}; give the"
                " google.longrunning.Operation that the RPC answered with: of grpc.aio, await it"
            )
        if not operation.name and not operation.done:
            raise InvalidNameError("an operation without a name, and not done, cannot be followed")
        with self._lock:
            watcher = self._watchers.get(operation.name)
            if watcher is None or operation.done:
                watcher = self._new_watcher(operation)
                self._watchers[operation.name] = watcher
            return watcher

    async def call(self, call: plan.Call, *, once: bool = False) -> Any:
        """Makes a single call, with retries (C2), and returns the RPC's response.

        Args:
            call: The call.
            once: Whether to make it once only: it is not safe to repeat, or it waits.

        Raises:
            LroError: The error that the call ended with.
        """
        steps = plan.call_steps(
            call,
            retry=None if once else self._retry,
            clock=self.clock.monotonic,
            random=self._random,
        )
        return await async_drive(steps, self._perform)

    async def _perform(self, step: plan.Step) -> plan.Reply | None:
        if isinstance(step, plan.Sleep):
            await self.clock.sleep(step.seconds)
            return None
        assert isinstance(step, plan.Call)
        return await self._connection.call(step)

    def _new_watcher(self, operation: operations_pb2.Operation) -> Watcher:
        known = operations_pb2.Operation()
        known.CopyFrom(operation)
        return Watcher(
            self._connection,
            self._shared,
            known,
            backoff=self._backoff,
            outlives=plan.codes_of(self._retry),
            polls=self._polls,
            clock=self.clock,
            random=self._random,
        )


class ChannelCore(ClientCore):
    """A core over a channel, on which the calls of a future may send metadata of its own.

    Args:
        connection: The connection over the channel.
        **policies: As of any core.
    """

    def __init__(self, connection: ThreadConnection | AsyncConnection, **policies: Any) -> None:
        super().__init__(connection, **policies)
        self._channel_connection = connection
        self._policies = policies
        self._others: weakref.WeakValueDictionary[Any, ClientCore] = weakref.WeakValueDictionary()

    def sending(self, call_metadata: CallMetadata) -> ClientCore:
        """Returns the core whose calls send more metadata: the same one while anybody has it."""
        key = checked_metadata(call_metadata)
        if not key:
            return self
        with self._lock:
            other = self._others.get(key)
            if other is None:
                other = ClientCore(self._channel_connection.sending(key), **self._policies)
                self._others[key] = other
            return other
