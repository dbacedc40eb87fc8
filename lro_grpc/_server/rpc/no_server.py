"""Stand-ins for a gRPC server, in a process that serves nothing."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import grpc

from lro_grpc._errors import ConfigurationError


class NoServer(grpc.Server):
    """Takes the place of a ``grpc.server``; what is added to it is not called."""

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        """See ``grpc.Server``."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: Any) -> None:
        """See ``grpc.Server``."""

    def add_insecure_port(self, address: str) -> int:
        """Refuses to listen."""
        raise _listens_nowhere(address)

    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> int:
        """Refuses to listen."""
        raise _listens_nowhere(address)

    def start(self) -> None:
        """See ``grpc.Server``."""

    def stop(self, grace: float | None) -> Any:
        """See ``grpc.Server``."""
        self._stopped.set()
        return self._stopped

    def wait_for_termination(self, timeout: float | None = None) -> bool:
        """See ``grpc.Server``."""
        return not self._stopped.wait(timeout)


class NoAioServer:
    """Takes the place of a ``grpc.aio`` server, as far as it is run."""

    def __init__(self) -> None:
        self._stopped = asyncio.Event()

    async def start(self) -> None:
        """See ``grpc.aio.Server``."""

    async def stop(self, grace: float | None) -> None:
        """See ``grpc.aio.Server``."""
        self._stopped.set()

    async def wait_for_termination(self) -> bool:
        """See ``grpc.aio.Server``."""
        return await self._stopped.wait()


def _listens_nowhere(address: str) -> ConfigurationError:
    return ConfigurationError(
        f"{address} is given to the registrar of a process that serves nothing; to serve, give a"
        " server to operations.attach"
    )
