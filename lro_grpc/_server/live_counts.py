"""Tells telemetry how many operations wait, run and are to be told of, in all processes of a store.

Every 15 seconds they are counted, if telemetry wants that: whoever reads the numbers reads what was
told last, and asks nothing. There are numbers for the methods that this process serves, also where
nothing waits; those of others are told together. While the store cannot answer, nothing is told.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection

from lro_grpc._errors import UnavailableError
from lro_grpc._operation.names import ANY_PARENT
from lro_grpc._operation.states import CANCELLING, JOB, PAUSED, QUEUED, RUNNING, UPDATING
from lro_grpc._operation.telemetry import CountsTelemetry, Telemetry
from lro_grpc._runtime import clock
from lro_grpc._runtime.clock import Clock
from lro_grpc._runtime.repeated_lines import PROCESS
from lro_grpc._stores.store import Counts, Query, Store

_SECONDS = 15.0
"""The time between two counts."""

_STATES = (QUEUED, RUNNING, UPDATING, PAUSED, CANCELLING)
"""The states that operations have before they are done."""

OTHER = "other"
"""In place of a method that this process does not serve."""


class LiveCounts:
    """Counts the operations that are not done, and tells telemetry.

    Args:
        store: The operations.
        clock: Waits for the next count.
        telemetry: Is told, if it takes such numbers.
        methods: The methods that are told by their names.
    """

    def __init__(
        self, store: Store, clock: Clock, telemetry: Telemetry, methods: Collection[str]
    ) -> None:
        self._store = store
        self._clock = clock
        self._telemetry = telemetry if isinstance(telemetry, CountsTelemetry) else None
        self._methods = methods
        self._telling: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to count now and then."""
        if self._telemetry is not None:
            self._telling = asyncio.create_task(self._keep_telling(self._telemetry))

    async def stop(self) -> None:
        """Counts no more, and tells nothing from now on."""
        if self._telling is not None and self._telemetry is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)
            self._tell_nothing(self._telemetry)

    async def _keep_telling(self, telemetry: CountsTelemetry) -> None:
        while True:
            try:
                if telemetry.wants_counts:
                    await self._count(telemetry)
            except Exception as error:  # noqa: BLE001 - a bug in one count must not end them all
                text = "the operations could not be counted for metrics; trying again"
                PROCESS.say(logging.ERROR, text, error=error)
            await self._clock.sleep(_SECONDS)

    async def _count(self, telemetry: CountsTelemetry) -> None:
        try:
            counts = await self._store.counts(Query(ANY_PARENT), examined=1)
            pending = await self._store.pending_completions()
        except Exception as error:
            self._tell_nothing(telemetry)
            if not isinstance(error, UnavailableError):
                raise
        else:
            self._tell(telemetry, counts, pending)

    def _tell_nothing(self, telemetry: CountsTelemetry) -> None:
        """Takes back the numbers: none are better than old ones."""
        try:
            telemetry.counted({}, {}, None)
        except Exception as error:  # noqa: BLE001 - a bug in telemetry must not fail a stop
            text = "telemetry has failed to take that the operations are not counted"
            PROCESS.say(logging.ERROR, text, error=error)

    def _tell(self, telemetry: CountsTelemetry, counts: Counts, pending: int) -> None:
        live: Counter[tuple[str, int]] = Counter()
        live.update({(method, state): 0 for method in self._methods for state in _STATES})
        for one in counts.counts:
            if not JOB.is_terminal(one.state):
                live[self._told(one.method), one.state] += one.number
        ages = dict.fromkeys(self._methods, 0.0)
        for method, oldest in counts.oldest_ready.items():
            age = clock.seconds(max(0, self._store.now() - oldest.since))
            told = self._told(method)
            ages[told] = max(age, ages.get(told, 0.0))
        telemetry.counted(live, ages, pending)

    def _told(self, method: str) -> str:
        return method if method in self._methods else OTHER
