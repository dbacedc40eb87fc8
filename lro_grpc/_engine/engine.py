"""The protocol of an engine, which brings a server's operations to their handlers.

A server starts an engine, later lets it claim no more, and in the end stops it. An engine decides
which operations this process claims, and when. Whatever it claims, it gives to a
:class:`~lro_grpc.engines.Workbench`, which does all the rest. The store alone arbitrates
between engines, of whatever kind and in however many processes: an engine may ask for an operation
twice, or for one that is no longer there to be had, and need remember nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from lro_grpc._engine.workbench import Workbench
from lro_grpc._errors import UnservedError
from lro_grpc._operation.record import Record


class Engine(Protocol):
    """Claims operations, for their handlers to be run. Lives on one event loop."""

    async def start(self) -> int:
        """Takes over the operations of a former process, and begins to claim.

        Returns:
            How many operations a former process had in its hands.
        """
        ...

    def expect(self, record: Record) -> None:
        """Takes a new operation that this process is about to store; it may do nothing.

        Its name is one that no other operation has. If it is not stored after all, a claim of it
        comes to nothing.

        Args:
            record: The operation, as it will be stored.
        """
        ...

    def announce_shutdown(self) -> None:
        """Lets the handlers that run see that this process is about to stop, as it is.

        They go on. The operation of one that fails from now on is given back, for what it needs may
        be stopped along with this process.
        """
        ...

    def give_up(self) -> None:
        """Ends all attempts as if this process were gone: nothing of theirs is stored any more."""
        ...

    async def lose_all(self) -> None:
        """Gives up all attempts, for others to begin."""
        ...

    def stop_claiming(self) -> None:
        """Begins no more attempts; those that run go on."""
        ...

    async def stop(self, grace: timedelta) -> None:
        """Stops every attempt, and gives back the operations of those that end within the grace.

        It is called after a start that has failed or was cancelled, too.

        Args:
            grace: The time that handlers are given to unwind.
        """
        ...


class WorkbenchEngine:
    """An engine, but for the way in which operations get to it.

    A subclass names operations to its :attr:`workbench`. It extends ``start`` by what makes it
    claim, ``stop_claiming`` by what ends that, and ``stop`` by what it has to close.

    Args:
        workbench: Claims what the engine names, and runs it.
    """

    def __init__(self, workbench: Workbench) -> None:
        self.workbench = workbench
        """Claims what the engine names, and runs it."""

    async def start(self) -> int:
        """Begins to keep leases and time limits; see :class:`Engine`."""
        return await self.workbench.start(self.look)

    def look(self) -> None:
        """Is called at each sweep, to look in the store for work whose notice was lost (R9)."""

    def expect(self, record: Record) -> None:
        """Does nothing: the engine is told when it is stored; see :class:`Engine`."""

    def announce_shutdown(self) -> None:
        """Lets the handlers that run see that this process is about to stop; they go on."""
        self.workbench.announce_shutdown()

    def give_up(self) -> None:
        """Ends all attempts as if this process were gone: nothing of theirs is stored any more."""
        self.workbench.give_up()

    async def lose_all(self) -> None:
        """Gives up all attempts, for others to begin."""
        await self.workbench.lose_all()

    def stop_claiming(self) -> None:
        """Begins no more attempts; those that run go on."""
        self.workbench.stop_claiming()

    async def stop(self, grace: timedelta) -> None:
        """Stops every attempt, and gives back the operations of those that end within the grace.

        Args:
            grace: The time that handlers are given to unwind.
        """
        await self.workbench.stop(grace)


class EngineOptions(Protocol):
    """The options that ``Operations`` is given as its ``engine``: they make one at the start."""

    def make_engine(
        self, workbench: Workbench, on_unserved: Callable[[UnservedError], None], *, serves: bool
    ) -> Engine:
        """Makes the engine of a process.

        Args:
            workbench: Claims what the engine names, and runs it.
            on_unserved: Is to be called with the error of a claim whose operation no handler here
                can go on with.
            serves: Whether operations are served in this process, and started; otherwise it only
                works.

        Raises:
            ConfigurationError: If the engine needs what is not installed.
        """
        ...
