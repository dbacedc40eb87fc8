"""One run: servers on a store, clients, faults, and in the end a verdict; all from one seed."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING
from unittest import mock

from client import Client
from cluster import Cluster
from history import History
from nemesis import Nemesis
from observer import MARGIN, Observer
from scenario import random_scenario
from simulated_loop import SimulatedLoop
from simulated_server import RpcError, SimulatedClock
from totals import Totals
from workload import CONCURRENCY, WORK, Plan, Request, Workload

from lro_grpc._operation.states import PAUSED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from lro_grpc._operation.record import Record

POLL = 10.0
"""Who waits or watches looks by itself this often, in seconds."""


@dataclass(frozen=True)
class Verdict:
    problems: Sequence[str]
    totals: Totals
    trace: str
    """A hash of all that has happened."""


def simulate(kind: str, seed: int, folder: Path) -> Verdict:
    """Runs a seed: the same one, the same run.

    Args:
        kind: ``memory`` or ``sqlite``.
        seed: Any number.
        folder: An empty folder, for the SQLite file.
    """
    loop = SimulatedLoop(Random(f"{kind} {seed}"))
    with _seeded(loop.random):
        return Simulation(kind, loop, folder).run()


@contextlib.contextmanager
def _seeded(source: Random) -> Iterator[None]:
    """Lets ids and pauses, which are random elsewhere, follow from the seed."""
    state = random.getstate()
    random.seed(source.getrandbits(64))
    try:
        with mock.patch.object(os, "urandom", source.randbytes):
            yield
    finally:
        random.setstate(state)


class Simulation:
    """The world of one run."""

    def __init__(self, kind: str, loop: SimulatedLoop, folder: Path) -> None:
        self._loop = loop
        self._scenario = scenario = random_scenario(kind, loop.random)
        self._totals = totals = Totals(seeds=1)
        clock = SimulatedClock(loop)
        self._observer = observer = Observer(loop, clock, scenario, totals)
        self._workload = workload = Workload(observer)
        self._history = history = History(observer)
        self._cluster = cluster = Cluster(
            loop,
            clock,
            scenario,
            observer,
            totals,
            lambda operations: workload.add_methods(operations, scenario.lease),
            folder / "operations.db",
        )
        self._nemesis = Nemesis(loop, clock, scenario, cluster, observer, totals)
        self._clients = [
            Client(loop, scenario, cluster, history, observer, workload.plans, totals)
            for _ in range(scenario.clients)
        ]

    def run(self) -> Verdict:
        problems = self._observer.problems
        try:
            self._loop.run(self._run())
        except AssertionError as error:
            problems.append(str(error))
        finally:
            self._cluster.close()
        problems += [f"nobody has caught {error}" for error in self._loop.errors]
        self._totals.seconds = self._loop.time()
        self._totals.started = len(self._history.names)
        self._totals.lost = len(self._history.lost)
        self._totals.doubled = len(self._history.doubled)
        return Verdict(problems, self._totals, self._observer.trace)

    async def _run(self) -> None:
        """Work and faults together, then work alone, to the end of all of it."""
        harm = [asyncio.create_task(self._nemesis.harm()) for _ in range(self._scenario.harmers)]
        harm.append(asyncio.create_task(self._cluster.supervise()))
        await asyncio.gather(*(client.work() for client in self._clients))
        for task in harm:
            task.cancel()
        await self._nemesis.rest()
        for client in self._clients:
            client.loses_answers = False
        names = [one.name for one in self._observer.records if not (one.done or one.deleted)]
        waits = [asyncio.create_task(self._wait_in_time(name)) for name in names]
        waits += [asyncio.create_task(self._watch_in_time(name)) for name in names[::2]]
        await self._finish_all()
        await asyncio.gather(*waits)
        await self._read_all()
        await self._use_every_slot()
        await self._drain_all()

    async def _finish_all(self) -> None:
        """Everything comes to its end, in bounded time (R6, R9)."""
        scenario = self._scenario
        left = self._unfinished()
        bound = sum(self._plan_of(one).longest(scenario.lease) for one in left)
        bound += scenario.lease + 2 * scenario.sweep + self._observer.set_back + MARGIN
        end = self._loop.time() + bound
        while left:
            if self._loop.time() > end:
                raise AssertionError(f"not done within {bound} seconds: {left}")
            for one in left:
                if one.state == PAUSED or one.pause_requested:
                    with contextlib.suppress(RpcError):  # it has gone on meanwhile
                        await self._clients[0].resume(one.name)
            await asyncio.sleep(0.5)
            left = self._unfinished()

    async def _wait_in_time(self, name: str) -> None:
        """A Wait is answered when the operation is done, though no notice of it comes (R9)."""
        with contextlib.suppress(RpcError):  # it is removed already
            while not await self._clients[0].wait(name, timeout=60.0):
                pass
            self._check_in_time("a Wait", name)

    async def _watch_in_time(self, name: str) -> None:
        """So is a Watch."""
        with contextlib.suppress(RpcError):  # it is removed already
            await self._clients[0].watch(name, deadline=math.inf)
            self._check_in_time("a Watch", name)

    def _check_in_time(self, what: str, name: str) -> None:
        now = self._loop.time()
        # A reader may see what is committed a moment before it is announced.
        late = now - self._observer.done_at.get(name, now)
        if late > POLL + MARGIN:
            self._observer.problems.append(f"{what} of {name} is {late} seconds late")

    def _unfinished(self) -> list[Record]:
        """Returns what is to come to its end, be it deleted or not."""
        return [one for one in self._observer.records if not one.done]

    def _plan_of(self, record: Record) -> Plan:
        return self._workload.plans[Request.FromString(record.request).instance_id]

    async def _read_all(self) -> None:
        """Every operation that was answered is there, with its one outcome (R1, R2)."""
        client = self._clients[0]
        for name in self._history.names:
            if not self._observer.may_be_gone(name):
                began = self._loop.time()
                done = False
                with contextlib.suppress(RpcError):
                    done = await client.wait(name, timeout=2 * POLL)
                if self._observer.may_be_gone(name):  # since it was asked for
                    continue
                if not done or self._loop.time() > began + MARGIN:
                    self._observer.problems.append(f"a Wait does not say that {name} is done")
        await client.list()

    async def _use_every_slot(self) -> None:
        """No slot was lost: as many operations as there are slots run at a time."""
        slots = CONCURRENCY * self._scenario.servers
        self._workload.expect(slots)
        plan = Plan(WORK, (), ending="meet")
        await asyncio.gather(*(self._clients[0].start(plan) for _ in range(slots)))
        await self._finish_all()

    async def _drain_all(self) -> None:
        """Every server ends in good order, and leaves nothing behind that it still holds."""
        for place in range(self._scenario.servers):
            if not await self._cluster.drain(place):
                self._observer.problems.append("a server that nothing holds up does not end")
        held = [one for one in self._observer.records if one.lease_expire_time]
        if held:
            self._observer.problems.append(f"held by servers that have ended: {held}")
