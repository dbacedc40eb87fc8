"""The servers on one store: begun, ended, and begun again."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

from shared_store import SharedStore
from simulated_server import SimulatedServer

from lro_grpc._operation.record import Record
from lro_grpc._testing.faulty_store import NO_FAULTS, FaultyStore
from lro_grpc.stores import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from observer import Observer
    from scenario import Scenario
    from simulated_loop import Process, SimulatedLoop
    from simulated_server import SimulatedClock
    from totals import Totals

    from lro_grpc import Operations

STOP_SECONDS = 30.0
"""A server that does not end by itself until then is killed."""

_FLAGS = ("pausable", "cancel_requested", "pause_requested", "deleted")


class Cluster:
    """The servers, each in its place; while one is being harmed, nobody else minds it.

    Args:
        loop: The loop.
        clock: The time of day of every machine.
        scenario: How many there are, and what their store is like.
        observer: Sees each change.
        totals: Where the store's faults are counted.
        add_methods: Adds the long-running methods to a server's operations.
        path: The SQLite file.
    """

    def __init__(
        self,
        loop: SimulatedLoop,
        clock: SimulatedClock,
        scenario: Scenario,
        observer: Observer,
        totals: Totals,
        add_methods: Callable[[Operations], None],
        path: Path,
    ) -> None:
        self.harmed: set[int] = set()
        """The places whose server is being harmed."""
        self._loop = loop
        self._clock = clock
        self._scenario = scenario
        self._observer = observer
        self._totals = totals
        self._add_methods = add_methods
        self._path = path
        self._processes = 0
        self._store_faults = scenario.store_faults
        self._files: dict[Process, SqliteStore] = {}
        self._shared = SharedStore(
            clock.now,
            loop,
            lost_notices=scenario.lost_notices,
            late_writes=scenario.late_writes,
            longest_write=1.5 * scenario.lease,
        )
        self._shared.subscribe(observer.changed)
        self.servers = [self._made() for _ in range(scenario.servers)]

    def boot(self, place: int) -> SimulatedServer:
        """Begins a new server in the place of one that has ended."""
        self.servers[place] = server = self._made()
        return server

    def kill(self, place: int) -> None:
        """Ends a server at once, and what it was about to do with its files."""
        server = self.servers[place]
        server.die()
        faults = {f"store {fault}": number for fault, number in server.store.injected.items()}
        self._totals.faults.update(faults)
        server.store.injected.clear()
        if self._close_files(server.process):
            self._observer.stored(self._in_file())

    async def drain(self, place: int) -> bool:
        """Ends a server in good order; returns whether it has ended by itself."""
        draining = self.servers[place].drain()
        await asyncio.wait({draining}, timeout=STOP_SECONDS)
        self.kill(place)
        return draining.done()

    async def supervise(self) -> None:
        """Begins each server again that has ended because it could not start."""
        while True:
            await asyncio.sleep(0.5)
            for place, server in enumerate(self.servers):
                if not server.alive and place not in self.harmed:
                    self.kill(place)
                    self.boot(place)

    async def heal(self) -> None:
        """Ends all that ails the servers and their stores."""
        self._store_faults = NO_FAULTS
        self.harmed.clear()
        self._shared.late_writes = 0.0
        for place, server in enumerate(self.servers):
            self._loop.thaw(server.process)
            server.store.heal()
            if server.alive:
                await asyncio.wait({server.started})
            if not server.serving:
                self.kill(place)
                await asyncio.wait({self.boot(place).started})

    def close(self) -> None:
        """Lets go of the files."""
        for process in list(self._files):
            self._close_files(process)

    def _made(self) -> SimulatedServer:
        self._processes += 1
        return SimulatedServer(
            self._loop,
            self._processes,
            self._open_store,
            self._add_methods,
            self._clock,
            lease=self._scenario.lease,
            sweep=self._scenario.sweep,
            retention=self._scenario.retention,
            queue=self._scenario.queue,
        )

    def _open_store(self, process: Process) -> FaultyStore:
        store: Any
        if self._scenario.is_sqlite:
            store = self._files[process] = SqliteStore(self._path, self._clock.now)
            store.subscribe(self._observer.changed)
        else:
            store = self._shared.client(process, exclusive=self._scenario.servers == 1)
        return FaultyStore(store, self._loop.random, self._store_faults, sleep=asyncio.sleep)

    def _close_files(self, process: Process) -> bool:
        """Does what the operating system does; returns whether there was anything to do."""
        store = self._files.pop(process, None)
        if store is None:
            return False
        for connection in ("_read_connection", "_page_connection", "_write_connection"):
            if hasattr(store, connection):
                getattr(store, connection).close()
        with contextlib.suppress(OSError):  # it was closed in good order
            store._files.release()
        return True

    def _in_file(self) -> Sequence[Record]:
        connection = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)
        with contextlib.closing(connection):
            columns = ", ".join(Record._fields)
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            if not tables:
                return ()
            return [_record(row) for row in connection.execute(f"SELECT {columns} FROM operations")]


def _record(row: Sequence[Any]) -> Record:
    """Returns the record of a row, in which a flag is a number."""
    record = Record._make(row)
    return record._replace(**{flag: bool(getattr(record, flag)) for flag in _FLAGS})
