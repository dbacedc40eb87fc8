"""Rivals of the operations: servicers on the same server that would take their calls.

gRPC asks what was added to a server in turn, and the first that knows a method serves it. So of two
that serve google.longrunning.Operations, one would answer NOT_FOUND for all that is the other's.
Neither may be added, then, be it before ``attach``, through its registrar, or after it. A handler
of whatever nobody else serves, such as a proxy's, is a rival only if it was added before.
"""

from __future__ import annotations

import gc
import itertools
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from lro_grpc._errors import ConfigurationError
from lro_grpc._runtime.interrupts import only_errors
from lro_grpc._server.rpc.handlers import MethodHandlers

_log = logging.getLogger("lro_grpc")

OWN_SERVICES = ("google.longrunning.Operations", "lro.v1.OperationControlService")

_METHOD = f"/{OWN_SERVICES[0]}/GetOperation"
"""A method that a handler of everything takes, too."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """A call, as far as looking up its handler needs one."""

    method: str
    invocation_metadata: tuple[()] = ()


def check_alone(server: Any, own: MethodHandlers | None = None) -> None:
    """Checks that a server has no rival, as far as can be seen.

    Args:
        server: The server.
        own: The handlers of the operations, once they were added to it.

    Raises:
        ConfigurationError: If it has one.
    """
    for held in _held_by(server):
        if isinstance(held, dict):
            for method in filter(_is_method, held):
                check_service(method.split("/")[1])
        elif isinstance(held, (list, tuple)):
            check_handlers(one for one in held if one is not own)
            _check_first(itertools.takewhile(lambda one: one is not own, held))


def check_handlers(handlers: Iterable[object]) -> None:
    """Checks that none of a server's handlers is a rival of the operations.

    Raises:
        ConfigurationError: If one is.
    """
    for handler in handlers:
        if isinstance(handler, MethodHandlers):
            raise ConfigurationError(
                "the server has lro_grpc.Operations attached, and those of two would hide each"
                " other's operations; attach one, and add all servicers to its registrar"
            )
        if isinstance(handler, grpc.ServiceRpcHandler):
            check_service(handler.service_name())


def _check_first(handlers: Iterable[object]) -> None:
    """Checks that none of the handlers that are asked first takes the operations' calls."""
    for handler in handlers:
        if isinstance(handler, grpc.GenericRpcHandler) and _takes_all(handler):
            raise ConfigurationError(
                f"{handler!r} was added to the server before, and takes all calls of"
                f" {OWN_SERVICES[0]}; add it after operations.attach(server)",
                reason="SERVED_TWICE",
                metadata={"service": OWN_SERVICES[0]},
            )


def _takes_all(handler: grpc.GenericRpcHandler) -> bool:
    lookup: Any = Lookup(_METHOD)
    try:
        with only_errors("a generic handler"):
            return handler.service(lookup) is not None
    except Exception:  # noqa: BLE001 - it wants more of a call than there is; it may be no rival
        _log.debug("%r does not say whether it is a rival", handler, exc_info=True)
        return False


def check_service(service: str | None) -> None:
    """Checks that a service is not one of the operations' own.

    Raises:
        ConfigurationError: If it is.
    """
    if service in OWN_SERVICES:
        raise ConfigurationError(
            f"the server has another servicer of {service}, and the two would hide each other's"
            " operations; take it out, or give a servicer of google.longrunning.Operations to"
            " operations.attach(server, fallback=...), which asks it for its own",
            reason="SERVED_TWICE",
            metadata={"service": service},
        )


def _is_method(key: object) -> bool:
    return isinstance(key, str) and key.startswith("/")


def _held_by(server: Any) -> Iterator[object]:
    """Yields what a server holds; the handlers that were added are in lists, and in dicts by name.

    grpcio has no public way to ask: a ``grpc.server`` has them in its state; a ``grpc.aio`` server
    in an object that shows them to the garbage collector alone. Of a gRPC that has them elsewhere,
    nothing is seen, and nothing refused.
    """
    state = getattr(server, "_state", None)
    if state is not None:
        yield getattr(state, "generic_handlers", ())
        yield getattr(state, "registered_method_handlers", {})
    else:
        yield from gc.get_referents(getattr(server, "_server", None))
