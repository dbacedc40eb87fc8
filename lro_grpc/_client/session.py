"""How a client calls its server, and the operations that it follows there."""

from __future__ import annotations

import random as random_module
import threading
import weakref
from collections.abc import Callable
from typing import Any

from google.longrunning import operations_pb2

from lro_grpc._client import plan
from lro_grpc._client.connection import Connection
from lro_grpc._client.watcher import Following
from lro_grpc._errors import InvalidNameError
from lro_grpc._runtime import backoff
from lro_grpc._runtime.clock import Clock, SystemClock
from lro_grpc._runtime.steps import async_drive


class Session:
    """A connection, and how the client is to use it.

    Args:
        connection: The server.
        backoff: The pauses between polls, and after UNAVAILABLE.
        retry: When a single call is made again.
        clock: Tells the time.
        random: Gives numbers uniform in [0, 1).
    """

    def __init__(
        self,
        connection: Connection,
        *,
        backoff: backoff.Backoff = backoff.DEFAULT_BACKOFF,
        retry: backoff.Retry | None = backoff.DEFAULT_RETRY,
        clock: Clock | None = None,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self._connection = connection
        self._backoff = backoff
        self._retry = retry
        self._clock = clock or SystemClock()
        self._random = random
        self._lock = threading.Lock()
        self._followings: weakref.WeakValueDictionary[str, Following] = (
            weakref.WeakValueDictionary()
        )

    def following(self, operation: operations_pb2.Operation) -> Following:
        """Returns what follows an operation: the same for all that ask while it is in use.

        Args:
            operation: What is known of the operation; it stays the caller's own.

        Raises:
            InvalidNameError: If the operation has no name and is not done.
        """
        if not operation.name and not operation.done:
            raise InvalidNameError("an operation without a name, and not done, cannot be followed")
        with self._lock:
            following = self._followings.get(operation.name)
            if following is None or operation.done:
                following = self._follow(operation)
                self._followings[operation.name] = following
            return following

    async def call(self, call: plan.Call, *, once: bool = False) -> Any:
        """Makes a call, again where that is right (C2), and returns what it returns.

        Args:
            call: The call.
            once: Whether to make it once only: it is not the same when it is repeated, or waits.

        Raises:
            LroError: What the call ended with.
        """
        steps = plan.call_steps(
            call,
            retry=None if once else self._retry,
            clock=self._clock.monotonic,
            random=self._random,
        )
        return await async_drive(steps, self._perform)

    async def _perform(self, step: plan.Step) -> plan.Reply | None:
        if isinstance(step, plan.Pause):
            await self._clock.sleep(step.seconds)
            return None
        assert isinstance(step, plan.Call)
        return await self._connection.call(step)

    def _follow(self, operation: operations_pb2.Operation) -> Following:
        known = operations_pb2.Operation()
        known.CopyFrom(operation)
        return Following(
            self._connection,
            known,
            backoff=self._backoff,
            clock=self._clock,
            random=self._random,
        )
