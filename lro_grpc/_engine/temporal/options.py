"""The options of the engine on Temporal. This module alone does without the extra."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any

from lro_grpc._errors import ConfigurationError, UnservedError, cut
from lro_grpc._runtime.options import check_flag, check_function, check_text

if TYPE_CHECKING:
    from lro_grpc._engine.engine import Engine
    from lro_grpc._engine.workbench import Workbench


@dataclass(frozen=True)
class Temporal:
    """Has Temporal hand operations to the processes that run their handlers.

    ::

        Operations("postgresql://…", engine=Temporal("temporal.internal:7233"))

    Temporal is told an operation's name alone, and gives it to a worker. The store stays the only
    arbiter: of attempts and their pauses, of leases, time limits and cancels. While Temporal cannot
    be reached, operations are started and wait in the store, and those that run go on.

    Attributes:
        address: ``HOST:PORT`` of Temporal's frontend.
        namespace: The namespace, which must exist.
        task_queue: The task queue of all methods, or a function that returns the one of a method by
            its full name; ``lro:`` and that name unless given. Only workers of these operations may
            poll it.
        tls: True for TLS, or a ``temporalio.service.TLSConfig``; True unless given if there is an
            API key.
        api_key: An API key, as Temporal Cloud has them.
        max_task_queue_activities_per_second: The most attempts that begin on a task queue in a
            second, in all processes together; each of them has to be given the same number.
        standalone: Whether an operation is a Standalone Activity, or else a workflow of one
            activity. Unless given, Temporal is asked whether it has Standalone Activities.
        runs_handlers: Whether this process runs handlers, or else leaves that to others.

    Raises:
        ConfigurationError: If an option is of another type.
    """

    address: str
    _: KW_ONLY
    namespace: str = "default"
    task_queue: str | Callable[[str], str] | None = None
    tls: Any = None
    api_key: str | None = field(default=None, repr=False)
    max_task_queue_activities_per_second: float | None = None
    standalone: bool | None = None
    runs_handlers: bool = True

    def __post_init__(self) -> None:
        """Checks the options."""
        check_text("address", self.address)
        host, _, port = self.address.rpartition(":")
        if not (host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ConfigurationError(
                f"address is {cut(repr(self.address))}; give HOST:PORT, such as 'localhost:7233'"
            )
        check_text("namespace", self.namespace)
        if isinstance(self.task_queue, str):
            check_text("task_queue", self.task_queue)
        elif self.task_queue is not None:
            check_function("task_queue", self.task_queue)
        if self.api_key is not None:
            check_text("api_key", self.api_key)
        rate: Any = self.max_task_queue_activities_per_second
        is_number = isinstance(rate, (int, float)) and not isinstance(rate, bool)
        if rate is not None and not (is_number and rate > 0):
            raise ConfigurationError(
                f"max_task_queue_activities_per_second is {rate!r}; give a number above 0"
            )
        if self.standalone is not None:
            check_flag("standalone", self.standalone)
        check_flag("runs_handlers", self.runs_handlers)

    def queue_of(self, method: str) -> str:
        """Returns the task queue of a method."""
        if self.task_queue is None:
            return f"lro:{method}"
        return self.task_queue if isinstance(self.task_queue, str) else self.task_queue(method)

    def make_engine(
        self, workbench: Workbench, on_unserved: Callable[[UnservedError], None], *, serves: bool
    ) -> Engine:
        """Makes the engine; see :class:`~lro_grpc.engines.EngineOptions`.

        Raises:
            ConfigurationError: If ``temporalio`` is not installed, or a method has a
                ``concurrency_per_key``.
        """
        bounded = [one.method for one in workbench.handlers.values() if one.concurrency_per_key]
        if bounded:
            raise ConfigurationError(
                f"{bounded[0]} has a concurrency_per_key, which the engine on Temporal does not"
                " keep: Temporal says what begins; leave it out, or give its tasks fairness keys"
                " there",
                metadata={"method": bounded[0]},
            )
        try:
            module = importlib.import_module("lro_grpc._engine.temporal.engine")
        except ModuleNotFoundError as cause:
            if str(cause.name).partition(".")[0] != "temporalio":
                raise
            raise ConfigurationError(
                "the engine on Temporal needs temporalio: pip install 'lro-grpc[temporal]'"
            ) from cause
        engine: Engine = module.TemporalEngine(self, workbench, on_unserved, dispatches=serves)
        return engine
