"""Faults of servers and of clocks."""

from __future__ import annotations

import asyncio
import sqlite3
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster import Cluster
    from observer import Observer
    from scenario import Scenario
    from simulated_loop import Process, SimulatedLoop
    from simulated_server import SimulatedClock
    from totals import Totals


class Nemesis:
    """Harms the servers of a cluster, one or several at a time.

    Args:
        loop: Its random decides what is next.
        clock: The time of day, to be set.
        scenario: Which faults there are.
        cluster: The servers.
        observer: Takes what to excuse.
        totals: Where the faults are counted.
    """

    def __init__(
        self,
        loop: SimulatedLoop,
        clock: SimulatedClock,
        scenario: Scenario,
        cluster: Cluster,
        observer: Observer,
        totals: Totals,
    ) -> None:
        self._loop = loop
        self._random = loop.random
        self._clock = clock
        self._scenario = scenario
        self._cluster = cluster
        self._observer = observer
        self._totals = totals
        self._in_force = 0
        loop.executor_fails = self._disk_error

    async def harm(self) -> None:
        """Does one harm after the other, for ever."""
        while self._scenario.harm:
            await asyncio.sleep(self._random.expovariate(2 / self._scenario.lease))
            fault = self._random.choice(self._scenario.harm)
            place = self._random.randrange(self._scenario.servers)
            if place in self._cluster.harmed:
                continue
            self._observer.note("fault", fault, place)
            self._totals.faults[fault] += 1
            self._cluster.harmed.add(place)
            self._in_force += 1
            self._observer.disturbed = inf
            await getattr(self, f"_{fault}")(place)
            self._in_force -= 1
            self._observer.disturbed = inf if self._in_force else self._loop.time()
            self._cluster.harmed.discard(place)

    async def rest(self) -> None:
        """Ends all faults, but for notices that get lost."""
        self._loop.executor_fails = lambda process: None
        await self._cluster.heal()
        self._observer.disturbed = self._loop.time()
        self._observer.note("rest")

    def _a_while(self) -> float:
        lease = self._scenario.lease
        return self._random.choice((0.05, 1.0, lease / 2, lease * 1.2, lease * 3))

    async def _kill(self, place: int) -> None:
        self._cluster.kill(place)
        await asyncio.sleep(self._a_while())
        self._cluster.boot(place)

    async def _restart(self, place: int) -> None:
        if self._cluster.servers[place].serving:
            await self._cluster.drain(place)
            self._cluster.boot(place)

    async def _freeze(self, place: int) -> None:
        process = self._cluster.servers[place].process
        self._observer.excused[process] = inf
        process.frozen = True
        await asyncio.sleep(self._a_while())
        self._loop.thaw(process)
        notices = self._scenario.lease * (1 / 3 + 1 / 20) + 0.5  # it beats first, and judges then
        self._observer.excused[process] = self._loop.time() + notices

    async def _part(self, place: int) -> None:
        """Parts a server from its store."""
        store = self._cluster.servers[place].store
        store.connected = False
        await asyncio.sleep(self._a_while())
        store.connected = True

    async def _set_clock(self, place: int) -> None:
        del place
        seconds = self._random.choice((-60, -5, 1, 60, 100_000))
        self._observer.leases_were_cut |= seconds > 0
        self._observer.set_back += max(0, -seconds)
        self._observer.latest_time = max(self._observer.latest_time, self._clock.now())
        self._clock.offset += seconds * 1_000_000

    def _disk_error(self, process: Process | None) -> Exception | None:
        del process
        if self._random.random() >= self._scenario.disk_errors:
            return None
        self._totals.faults["disk error"] += 1
        return sqlite3.OperationalError("disk I/O error")
