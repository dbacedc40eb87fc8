"""A process that stands still holds up the others for seconds, whatever it was doing."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import secrets
import signal
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from opened_postgres import opened
from postgres_server import at_port, with_options

from lro_grpc import UnavailableError
from lro_grpc._operation.events import Claim
from lro_grpc._stores.postgres.store import PostgresStore
from lro_grpc.conformance import StoreConformance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lro_grpc.stores import Claimed, Record

LEASE = 15_000_000
METHOD = StoreConformance.METHOD
BYTES, MOST_BYTES = 3_900_000, 1_000_000
PATIENCE_SECONDS = 25
"""Less than the 30 seconds after which the server would have gone on by itself."""

# It stops in the midst of its claim's transaction, as a debugger or a machine's sleep stops it.
FROZEN = """
import asyncio, logging, os, signal, sys
from lro_grpc._operation.events import Claim
from lro_grpc._stores.postgres.store import PostgresStore

class Freezing(Claim):
    def apply(self, record, now):
        print("frozen", flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)
        return super().apply(record, now)

async def main():
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    store = PostgresStore(sys.argv[1])
    await store.open()
    try:
        await store.claim({sys.argv[2]: 1}, Freezing(15_000_000))
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
    print(await store.claim({sys.argv[2]: 1}, Claim(15_000_000)))
    await store.close()

asyncio.run(main())
"""


def new(**fields: bytes) -> Record:
    return StoreConformance().record(f"op-{secrets.token_hex(8)}", **fields)


async def claimed(store: PostgresStore) -> Sequence[Claimed]:
    """Claims again and again until there is something to claim."""
    while True:
        if got := await store.claim({METHOD: 10}, Claim(LEASE)):
            return got
        await asyncio.sleep(0.05)


async def test_rows_of_a_claim_that_is_frozen_are_free_within_seconds(postgres: str) -> None:
    async with opened(postgres) as store:
        made = await store.create(new())
        frozen = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", FROZEN, postgres, METHOD), stdout=asyncio.subprocess.PIPE
        )
        try:
            assert await frozen.stdout.readline() == b"frozen\n"
            ((before, _),) = await asyncio.wait_for(claimed(store), PATIENCE_SECONDS)
            assert before == made
            frozen.send_signal(signal.SIGCONT)
            said = (await asyncio.wait_for(frozen.communicate(), 60))[0].decode()
        finally:
            with contextlib.suppress(ProcessLookupError):
                frozen.kill()
            await frozen.wait()
    assert "UnavailableError: " in said
    assert "this process stood still" in said  # in the log, for its operator
    assert said.endswith("[]\n")  # and it goes on


async def test_rows_of_a_claim_whose_answer_is_not_taken_are_free_within_seconds(
    postgres: str,
) -> None:
    """The server is not idle then: it waits to send the rest of the rows."""
    port = urlsplit(postgres).port
    is_stuck, is_over = asyncio.Event(), asyncio.Event()
    carrying: set[asyncio.Task[None] | None] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carrying.add(asyncio.current_task())
        answers, server = await asyncio.open_connection("127.0.0.1", port)
        asking = asyncio.create_task(pass_on(reader, server))
        with contextlib.suppress(OSError):
            if not await pass_on(answers, writer, MOST_BYTES):
                is_stuck.set()
                await is_over.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        for end in (server, writer):
            end.transport.abort()  # what nobody takes would keep it open

    async with opened(postgres) as store:
        for _ in range(4):
            await store.create(new(request=os.urandom(BYTES)))
        proxy = await asyncio.start_server(carry, "127.0.0.1", 0)
        url = at_port(postgres, proxy.sockets[0].getsockname()[1])
        url = with_options(url, sslmode="disable", statement_timeout="3600")
        async with opened(url) as frozen:
            claim = asyncio.create_task(frozen.claim({METHOD: 4}, Claim(LEASE)))
            try:
                await is_stuck.wait()
                free = await store.claim({METHOD: 4}, Claim(LEASE))
                assert len(free) < 4
                rest = await asyncio.wait_for(claimed(store), PATIENCE_SECONDS)
                assert len(free) + len(rest) == 4
            finally:
                proxy.close()
                is_over.set()
            with pytest.raises(UnavailableError):
                await claim
        await asyncio.gather(*filter(None, carrying))
        await asyncio.sleep(0)  # and the transports are closed


async def pass_on(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, most: float = math.inf
) -> bool:
    """Passes bytes on, but no more than so many; returns whether that was all of them."""
    while most > 0 and (data := await source.read(65536)):
        most -= len(data)
        sink.write(data)
        await sink.drain()
    return most > 0
