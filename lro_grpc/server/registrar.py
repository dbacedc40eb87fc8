"""What stands in for a server when servicers are added: it takes marked methods for itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from lro_grpc.errors import ConfigurationError
from lro_grpc.server import descriptors
from lro_grpc.server.mark import BoundMethod

Record = Callable[[str, BoundMethod], None]
"""Is given each marked method with its full name ``/pkg.Service/Method``."""


@dataclass(frozen=True, slots=True)
class _Details:
    """A call, as far as looking up its handler needs one."""

    method: str
    invocation_metadata: tuple[()] = ()


class Services:
    """The services that were added, and the marked methods among theirs.

    Args:
        record: Is given each marked method.
    """

    def __init__(self, record: Record) -> None:
        self.names: list[str] = []
        """The services' full names, in the order in which they were added."""
        self._record = record
        self._recorded: set[str] = set()

    def look_through(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Records each marked method of services whose descriptors are known."""
        for handler in handlers:
            if isinstance(handler, grpc.ServiceRpcHandler):
                self.names.append(handler.service_name())
                for method in descriptors.methods_of(handler.service_name()):
                    details: Any = _Details(method)
                    bound = _bound(method, handler.service(details))
                    if bound is not None:
                        self._recorded.add(method)
                        self._record(method, bound)

    def without(self, service: str, handlers: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the methods that are not marked.

        Raises:
            ConfigurationError: If one is marked, but its service's descriptor is not known.
        """
        others = {}
        for name, handler in handlers.items():
            method = f"/{service}/{name}"
            if _bound(method, handler) is None:
                others[name] = handler
            elif method not in self._recorded:
                raise ConfigurationError(
                    f"{method} is marked as long-running, but no imported module declares"
                    f" {service}: import its _pb2 module, or use operations.add_method",
                    reason="UNKNOWN_SERVICE",
                    metadata={"method": method},
                )
        return others


def _bound(method: str, handler: Any) -> BoundMethod | None:
    if handler is None:
        return None
    if isinstance(handler.unary_unary, BoundMethod):
        return handler.unary_unary
    if any(isinstance(behavior, BoundMethod) for behavior in _streaming(handler)):
        raise ConfigurationError(
            f"{method} cannot be a long-running method: it streams (AIP-151)",
            reason="BAD_OPERATION_INFO",
            metadata={"method": method},
        )
    return None


def _streaming(handler: Any) -> Iterator[Any]:
    yield handler.unary_stream
    yield handler.stream_unary
    yield handler.stream_stream


class SyncRegistrar(grpc.Server):
    """A ``grpc.server`` to which servicers with marked methods can be added.

    Args:
        server: The server itself; everything but marked methods goes through to it.
        services: What is added through it.
    """

    def __init__(self, server: grpc.Server, services: Services) -> None:
        self._server = server
        self._services = services

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        """Adds a service; its marked methods are served as long-running ones."""
        self._services.look_through(generic_rpc_handlers)
        self._server.add_generic_rpc_handlers(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Any) -> None:
        """Adds a service's methods but the marked ones."""
        others = self._services.without(service_name, method_handlers)
        self._server.add_registered_method_handlers(service_name, others)

    def add_insecure_port(self, address: str) -> int:
        """See ``grpc.Server``."""
        return self._server.add_insecure_port(address)

    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> int:
        """See ``grpc.Server``."""
        return self._server.add_secure_port(address, server_credentials)

    def start(self) -> None:
        """See ``grpc.Server``."""
        self._server.start()

    def stop(self, grace: float | None) -> Any:
        """See ``grpc.Server``."""
        return self._server.stop(grace)

    def wait_for_termination(self, timeout: float | None = None) -> bool:
        """See ``grpc.Server``."""
        return self._server.wait_for_termination(timeout)


class AioRegistrar(grpc.aio.Server):
    """A ``grpc.aio`` server to which servicers with marked methods can be added.

    Args:
        server: The server itself; everything but marked methods goes through to it.
        services: What is added through it.
    """

    def __init__(self, server: grpc.aio.Server, services: Services) -> None:
        self._server = server
        self._services = services

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        """Adds a service; its marked methods are served as long-running ones."""
        self._services.look_through(generic_rpc_handlers)
        self._server.add_generic_rpc_handlers(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Any) -> None:
        """Adds a service's methods but the marked ones."""
        others: Any = self._services.without(service_name, method_handlers)
        self._server.add_registered_method_handlers(service_name, others)

    def add_insecure_port(self, address: str) -> int:
        """See ``grpc.aio.Server``."""
        return self._server.add_insecure_port(address)

    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> int:
        """See ``grpc.aio.Server``."""
        return self._server.add_secure_port(address, server_credentials)

    async def start(self) -> None:
        """See ``grpc.aio.Server``."""
        await self._server.start()

    async def stop(self, grace: float | None) -> None:
        """See ``grpc.aio.Server``."""
        await self._server.stop(grace)

    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        """See ``grpc.aio.Server``."""
        return await self._server.wait_for_termination(timeout)
