"""Replicas: server processes that share one PostgreSQL, each with a network of its own to it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import asyncpg
from killable import PATIENCE_SECONDS, Client
from partition import Network
from postgres_server import with_options
from server_process import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from killable import Site
    from postgres_server import PostgresServer

LEASE_SECONDS = 3.0
STATEMENT_SECONDS = 1.0
"""The time in which PostgreSQL has to answer a replica, and to connect."""
LIFETIME_SECONDS = 1200
THREE: Sequence[Mapping[str, Any]] = ({"server": "aio"}, {"server": "sync"}, {"server": "aio"})

TERMINATE = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


class Replica:
    """One server process after another, at one port.

    Args:
        site: The folder of the fleet's files, which all replicas share.
        postgres: The server of the store.
        how: Options of the process.
    """

    def __init__(self, site: Site, postgres: PostgresServer, how: Mapping[str, Any]) -> None:
        self._site = site
        self.network = Network(str(postgres.port))
        """Its way to PostgreSQL."""
        self.port = str(free_port())
        url = postgres.url.replace(f":{postgres.port}/", f":{self.network.port}/")
        limits = dict.fromkeys(("statement_timeout", "connect_timeout"), str(STATEMENT_SECONDS))
        self._how = {
            "store": with_options(url, **limits),
            "port": self.port,
            "lease": LEASE_SECONDS,
            "lifetime": LIFETIME_SECONDS,
            **how,
        }
        self.client = Client(self.port)
        """Calls this replica, whichever process that is."""
        self.server = site.begin(**self._how)

    def restart(self) -> None:
        """Begins a process in place of one that has ended."""
        self.server.close()
        self.server = self._site.begin(**self._how)
        self.server.until_serving()

    def close(self) -> None:
        self.client.hang_up()
        self.server.close()
        self.network.close()


class Replicas:
    """A few replicas; see the module.

    Args:
        site: The folder of the fleet's files.
        postgres: The server of the store.
        options: Options of each one's processes.
    """

    def __init__(
        self,
        site: Site,
        postgres: PostgresServer,
        options: Sequence[Mapping[str, Any]] = THREE,
    ) -> None:
        self.site = site
        self.postgres = postgres
        self._ending = contextlib.ExitStack()
        self.all: list[Replica] = []
        try:
            for how in options:
                self.all.append(Replica(site, postgres, how))
                self._ending.callback(self.all[-1].close)
            for replica in self.all:
                replica.server.until_serving()
        except BaseException:
            self.close()
            raise

    def client(self, patience: float = PATIENCE_SECONDS) -> Client:
        """Returns a client whose calls go to the replicas in turn."""
        port, *others = (replica.port for replica in self.all)
        client = Client(port, patience, others)
        self._ending.callback(client.hang_up)
        return client

    def terminate_connections(self) -> None:
        """Has PostgreSQL end all of its connections."""
        asyncio.run(_execute(self.postgres.url, TERMINATE))

    def drain(self) -> None:
        """Asks all processes to end, and returns when they have."""
        for replica in self.all:
            replica.server.terminate()
        for replica in self.all:
            replica.server.until_ended(PATIENCE_SECONDS)

    def close(self) -> None:
        self._ending.close()


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url, timeout=PATIENCE_SECONDS)
    try:
        await connection.execute(sql, timeout=PATIENCE_SECONDS)
    finally:
        await connection.close()
