"""The lifespan of operations beside their gRPC server: start, run, drain; sync and async.

**The start** opens the store before the server listens: a process that cannot have the store must
not take calls. Then it takes over the operations that a former process has left, and begins to
claim. A signal that comes before the start is over ends it, and the run with it, as a drain would:
the first process of a container would lose it otherwise, while it waits for its database.

**The drain** takes everything apart in the order in which one part needs the next:

1. Handlers that run can see that they are to stop (``op.stop_reason``), from the moment of the
   signal on. From then on an error ends none of their operations: see ``Attempt``. Health checks
   say NOT_SERVING, and as a lame duck the server goes on to serve whoever has not heard of it yet.
2. The loop is given away no more: a gateway in front answers 503 from now on.
3. No operation is claimed any more. Attempts go on; a start that still arrives is stored, and left
   in the queue to whichever process comes next.
4. The calls that wait are answered, for they could last longer than any grace: a Wait with the
   latest state, a Watch with that and UNAVAILABLE.
5. The server stops: it refuses new calls, and gives those in progress the grace.
6. The attempts are stopped, and get the grace to unwind. Their leases are released, so that the
   next process need not wait until they are over.
7. Completion events that are being told get the grace, too; the others are left to the next
   process.
8. The store is closed, last, for attempts write until they end.

Attempts are stopped after the server, not beside it: until then a Get may still see one end well.
One that begins after the signal, while the lame duck still serves, knows nothing of it until 6.

A server that cannot be stopped keeps neither the attempts nor the store. The graces bound the
drain, so one more SIGTERM changes nothing: a launcher may pass on one that all its group has had.
One more Ctrl-C ends the lame duck, or else cuts the drain short, for people do not wait.

**One loop.** Everything runs on one event loop: that of the ``grpc.aio`` server, or, for a
``grpc.server``, which has none, one in a thread of its own. The sync methods are the async ones,
run there.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import inspect
import logging
import queue
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping
from datetime import timedelta
from typing import Any, TypeVar, overload

import grpc
import grpc.aio

from lro_grpc._durations import Duration
from lro_grpc._engine.engine import Engine
from lro_grpc._engine.handler import Handler
from lro_grpc._errors import ConfigurationError
from lro_grpc._events.deliverer import Deliverer
from lro_grpc._runtime.clock import as_duration
from lro_grpc._runtime.loop_thread import LoopThread
from lro_grpc._server.limits import Queues
from lro_grpc._server.live_counts import LiveCounts
from lro_grpc._server.rpc.no_server import NoAioServer, NoServer
from lro_grpc._server.signals import SIGNALS, on_signals
from lro_grpc._server.unserved import Unserved
from lro_grpc._stores.notifier import Notifier
from lro_grpc._stores.store import Store

T = TypeVar("T")

_log = logging.getLogger("lro_grpc")

_NO_TIME = timedelta(0)

_LOOK_SECONDS = 0.2
"""The interval at which a ``grpc.server`` is looked at, for it may have been stopped otherwise."""

_CTRL_C = (signal.SIGINT,)
"""The signal that ends a lame duck; not SIGTERM, of which a service manager may send several."""

_SIGNAL_MARGIN = timedelta(seconds=0.1)
"""The time for which a handler's error waits for the signal that it may come of."""


class Lifespan:
    """Starts, runs and drains operations.

    Args:
        check: Checks all that was added, at the start.
        store: Where the operations are kept.
        notifier: Wakes the calls that wait, for the drain.
        queues: The operations that wait, to be found at the start.
        live_counts: Counts all that are not done, for telemetry.
        unserved: Those that wait in vain, likewise.
        handlers: Those of the long-running methods, by the methods' full names; complete at the
            start.
        make_engine: Makes the engine of the handlers at the start. It is given the time by which
            an error may come before the signal that it comes of, and whether operations are served
            here.
        grace: The time that handlers and RPCs are given to end at a shutdown.
        deliverer: Tells of what is done; None if nobody is to be told here.
    """

    def __init__(
        self,
        check: Callable[[], object],
        store: Store,
        notifier: Notifier,
        queues: Queues,
        live_counts: LiveCounts,
        unserved: Unserved,
        handlers: Mapping[str, Handler],
        make_engine: Callable[[timedelta, bool], Engine],
        grace: timedelta,
        deliverer: Deliverer | None,
    ) -> None:
        self._check = check
        self._store = store
        self._notifier = notifier
        self._queues = queues
        self._live_counts = live_counts
        self._unserved = unserved
        self._handlers = handlers
        self._make_engine = make_engine
        self._grace = grace
        self._deliverer = deliverer
        self._engine: Engine | None = None
        self._signal_margin = _NO_TIME
        self._serves = True
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: LoopThread | None = None
        self.recovered = 0
        """Operations that a former process had in its hands, taken over by ``start``."""
        self._is_serving = False
        self._starting: asyncio.Task[None] | None = None
        self._is_signalled = False
        self._is_importing = False

    @property
    def is_serving(self) -> bool:
        """Whether health checks are to say SERVING: from the start until a drain begins.

        A lame duck is not, though it serves; nor are operations whose store has lost its file.
        """
        return self._is_serving and not self._store.is_lost

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that they run on; None before the start, and from the drain on."""
        return self._loop

    @property
    def _has_started(self) -> bool:
        return self._engine is not None

    async def start(self) -> None:
        """Opens the store, takes over the operations of a former process, and begins to run them.

        ``run`` does it; call it yourself only where you start and stop the server yourself.

        Raises:
            ConfigurationError: If the store cannot be opened; or no method that starts the jobs is
                served; or the server has another servicer of google.longrunning.Operations; or
                they have started before.
        """
        self._check_new_start()
        self._check()
        async with contextlib.AsyncExitStack() as begun:
            try:
                await self._store.open()
                begun.push_async_callback(self._store.close)
                engine = self._make_engine(self._signal_margin, self._serves)
                for handler in self._handlers.values():
                    await self._queues.load(handler)
                begun.push_async_callback(engine.stop, self._grace)  # it may be half started
                self.recovered = await engine.start()
                await self._unserved.load()
            except GeneratorExit:
                begun.pop_all()  # the loop has ended without it, so nothing can be awaited
                raise
            begun.pop_all()  # all of it goes on
        self._queues.start()
        self._live_counts.start()
        if self._deliverer is not None:
            self._deliverer.start()
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._is_serving = True

    @contextlib.asynccontextmanager
    async def _opened_before_start(self) -> AsyncIterator[None]:
        """Has the store open for a while before the start, which has to wait for the end of it."""
        self._check_new_start()
        self._is_importing = True
        try:
            await self._store.open()
            try:
                yield
            finally:
                await self._store.close()
        finally:
            self._is_importing = False

    def _check_new_start(self) -> None:
        """Checks that they have not started before, for those that run would run twice."""
        if self._is_importing:
            raise ConfigurationError(
                "operations are being imported into the store; wait for that, and then start",
                reason="STARTED_TWICE",
            )
        if self._has_started:
            raise ConfigurationError(
                "these operations have started already; leave the start to operations.run(server),"
                " and make other lro_grpc.Operations to serve again after a stop",
                reason="STARTED_TWICE",
            )

    async def stop(self, stop_server: Callable[[], Awaitable[object]] | None = None) -> None:
        """Drains: no new attempts, waiting calls answered, the server stopped, leases released.

        A Wait is answered with the latest state. A Watch is sent it, and ends with UNAVAILABLE.
        Beside operations that do not run, because they have not started or were stopped, only the
        server is stopped.

        Args:
            stop_server: Stops the gRPC server and returns when it has; None where there is none.
        """
        if self._engine is not None and self._loop is not None:
            _log.info("draining")
            self._engine.announce_shutdown()
            self._engine.stop_claiming()
            self._notifier.drain()
        await self._stop_all(stop_server or _no_server)

    async def _stop_all(self, stop_server: Callable[[], Awaitable[object]]) -> None:
        """Stops the server, and the attempts and the store though it cannot be; if they run."""
        engine = self._engine if self._loop is not None else None
        self._is_serving = False
        self._loop = None
        try:
            await stop_server()
        except Exception:
            await self._close(engine)
            raise
        await self._close(engine)

    async def _close(self, engine: Engine | None) -> None:
        """Stops the attempts, and closes the store after them, whatever one of them raises."""
        if engine is not None:
            await _each(
                lambda: engine.stop(self._grace),
                self._stop_deliverer,
                self._queues.stop,
                self._live_counts.stop,
                self._store.close,
            )

    async def _stop_deliverer(self) -> None:
        if self._deliverer is not None:
            await self._deliverer.stop(self._grace)

    @overload
    def run(
        self,
        server: grpc.aio.Server,
        *,
        ready: Callable[[], object] = ...,
        draining: Callable[[], object] = ...,
        lame_duck: Duration = ...,
    ) -> Coroutine[Any, Any, None]: ...

    @overload
    def run(
        self,
        server: grpc.Server,
        *,
        ready: Callable[[], object] = ...,
        draining: Callable[[], object] = ...,
        lame_duck: Duration = ...,
    ) -> None: ...

    def run(
        self,
        server: Any,
        *,
        ready: Callable[[], object] = lambda: None,
        draining: Callable[[], object] = lambda: None,
        lame_duck: Duration = _NO_TIME,
    ) -> Any:
        """Starts the operations and the server, and drains both on SIGTERM or SIGINT.

        A signal that comes before they have started ends the start, and nothing is called.

        Args:
            server: The server that was attached, or its registrar.
            ready: A function to call once both have started. On ``grpc.aio`` it may be a coroutine
                function.
            draining: A function to call when the drain begins, before anything is refused: the
                place to set a health check to NOT_SERVING. Likewise.
            lame_duck: The time after that for which the server goes on to serve, so that load
                balancers see the health check before calls are refused. Ctrl-C, once more, ends it.

        Returns:
            On a ``grpc.aio`` server a coroutine that ends after the drain; on a ``grpc.server``
            None, after the drain.

        Raises:
            ConfigurationError: If the store cannot be opened, or ``ready`` or ``draining`` not be
                called, or ``lame_duck`` is no such time.
        """
        lame_duck = as_duration("lame_duck", lame_duck, least=_NO_TIME)
        self._expect_signals()
        if isinstance(server, grpc.aio.Server):
            return self._run_aio(server, ready, draining, lame_duck)
        return self._run_sync(server, ready, draining, lame_duck)

    async def _run_aio(
        self,
        server: grpc.aio.Server | NoAioServer,
        ready: Callable[[], object],
        draining: Callable[[], object],
        lame_duck: timedelta,
    ) -> None:
        self._check_new_start()
        grace = self._grace.total_seconds()
        signals: asyncio.Queue[int] = asyncio.Queue()
        ended: asyncio.Task[bool] | None = None
        loop = asyncio.get_running_loop()

        def hear(number: int) -> None:
            self._hear_signal()
            signals.put_nowait(number)

        with on_signals(hear, loop, numbers={signal.SIGTERM}):
            try:
                with on_signals(hear, loop, numbers={signal.SIGINT}):
                    if not await self._start_unless_signalled():
                        return
                    await server.start()
                    await _called(ready)
                    ended = asyncio.create_task(server.wait_for_termination())
                    goes_on = await _first_of(ended, signals, SIGNALS)
                    self._is_serving = False
                    await _called(draining)
                    if goes_on:
                        _log_lame_duck(lame_duck)
                    await _first_of(ended, signals, _CTRL_C, lame_duck.total_seconds())
            finally:
                await self.stop(lambda: server.stop(grace))
                if ended is not None:
                    await ended  # the server has stopped

    def _run_sync(
        self,
        server: grpc.Server,
        ready: Callable[[], object],
        draining: Callable[[], object],
        lame_duck: timedelta,
    ) -> None:
        for option, function in {"ready": ready, "draining": draining}.items():
            if inspect.iscoroutinefunction(function):
                raise ConfigurationError(
                    f"{option} is a coroutine function, which a grpc.server has nobody to await;"
                    " give a function"
                )
        grace = min(self._grace.total_seconds(), threading.TIMEOUT_MAX)  # a thread waits for it
        signals: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._check_new_start()
        thread = self._loop_thread()

        def hear(number: int) -> None:
            if number in SIGNALS:
                self._hear_signal()

        with on_signals(signals.put, numbers={signal.SIGTERM}):
            try:
                with (
                    on_signals(signals.put, numbers={signal.SIGINT}),
                    thread.hearing_signals(hear),
                ):
                    if not thread.run(self._start_unless_signalled()):
                        return
                    server.start()
                    ready()
                    goes_on = _serve_until(server, signals, SIGNALS)
                    self._is_serving = False
                    draining()
                    if goes_on:
                        _log_lame_duck(lame_duck)
                    _serve_until(server, signals, _CTRL_C, lame_duck.total_seconds())
            finally:
                self.stop_sync(lambda: server.stop(grace).wait())
                if not self._has_started:
                    self._close_thread()

    async def work(self, *, ready: Callable[[], object] = lambda: None) -> None:
        """Runs the handlers of operations that others serve, and drains on SIGTERM or SIGINT.

        For a process that does work beside the servers of a store that they share. It serves
        nothing: its servicers are added to the ``registrar``.

        Args:
            ready: As of ``run``.

        Raises:
            ConfigurationError: If the store cannot be opened, or belongs to one process alone.
        """
        self._only_work()
        self._expect_signals()
        await self._run_aio(NoAioServer(), ready, lambda: None, _NO_TIME)

    def work_sync(self, *, ready: Callable[[], object] = lambda: None) -> None:
        """Works as ``work`` does, for a program without an event loop; returns after the drain."""
        self._only_work()
        self._expect_signals()
        self._run_sync(NoServer(), ready, lambda: None, _NO_TIME)

    def _only_work(self) -> None:
        """Serves nothing, beside the servers of a store that is shared."""
        if self._store.exclusive:
            raise ConfigurationError(
                "the store belongs to one process alone, so that no server could start operations"
                " for this one to work on; give one that processes share, or use run"
            )
        self._serves = False

    def _expect_signals(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._signal_margin = _SIGNAL_MARGIN

    def _hear_signal(self) -> None:
        """Ends the start, or lets handlers know, before anything else that may come of a signal."""
        if self._engine is not None:
            self._engine.announce_shutdown()
        elif self._starting is not None and not self._is_signalled:
            self._starting.cancel()
        self._is_signalled = True

    async def _start_unless_signalled(self) -> bool:
        """Starts; returns False if a signal comes first, and leaves nothing of the start behind."""
        if self._is_signalled:
            return False
        self._starting = asyncio.create_task(self.start())
        try:
            await self._starting
        except asyncio.CancelledError:
            if not self._is_signalled:
                raise
            return False
        return True

    def start_sync(self) -> None:
        """Starts as ``start`` does, for a ``grpc.server`` that you start yourself."""
        self._check_new_start()
        thread = self._loop_thread()
        try:
            thread.run(self.start())
        except BaseException:
            self._close_thread()
            raise

    def stop_sync(self, stop_server: Callable[[], object] | None = None) -> None:
        """Stops as ``stop`` does, for a ``grpc.server``.

        Args:
            stop_server: Stops the gRPC server and returns when it has; None where there is none.
        """
        self._end_sync(self.stop, stop_server or (lambda: None))

    async def _lose_worker(self) -> None:
        """Gives up all that runs, as a lost worker would, and has it begin again: for tests."""
        if self._engine is not None and self._loop is not None:
            await self._engine.lose_all()

    async def _crash(self, stop_server: Callable[[], Awaitable[object]]) -> None:
        """Ends as a killed process does, as far as that can be in one that goes on: for tests.

        Nothing that runs is given back or stored, and no call is answered. On a store that others
        share, what runs is taken from this process at once: its leases might be over late, or never
        by a clock that a test has.

        Args:
            stop_server: Stops the gRPC server at once.
        """
        if self._engine is not None and self._loop is not None:
            self._engine.stop_claiming()
            if self._deliverer is not None:
                self._deliverer.give_up()
            if self._store.exclusive:
                self._engine.give_up()
            else:
                await self._engine.lose_all()
        await self._stop_all(stop_server)

    def _lose_worker_sync(self) -> None:
        """Loses the worker as ``_lose_worker`` does, for a ``grpc.server``."""
        if self._loop is not None:
            self._loop_thread().run(self._lose_worker())

    def _crash_sync(self, stop_server: Callable[[], object]) -> None:
        """Crashes as ``_crash`` does, for a ``grpc.server``.

        Args:
            stop_server: Stops the gRPC server at once.
        """
        self._end_sync(self._crash, stop_server)

    def _end_sync(
        self,
        end: Callable[[Callable[[], Awaitable[object]]], Coroutine[Any, Any, None]],
        stop_server: Callable[[], object],
    ) -> None:
        if self._loop is None:
            stop_server()
            return
        try:
            self._loop_thread().run(end(lambda: asyncio.to_thread(stop_server)))
        except Exception:  # not Ctrl-C, which waits for nothing
            self._close_thread()
            raise
        self._close_thread()

    def _submit(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Begins to run a coroutine on the loop of a ``grpc.server``'s operations."""
        return self._loop_thread().submit(coroutine)

    def _loop_thread(self) -> LoopThread:
        if self._thread is None:
            self._thread = LoopThread()
        return self._thread

    def _close_thread(self) -> None:
        thread, self._thread = self._loop_thread(), None
        thread.close()


async def _no_server() -> None:
    """Stops nothing."""


async def _each(first: Callable[[], Awaitable[object]], *others: Callable[[], Any]) -> None:
    """Awaits all of some functions in turn, whatever one of them raises."""
    try:
        await first()
    except GeneratorExit:
        raise  # the loop has ended without it, so nothing can be awaited
    except BaseException:
        if others:
            await _each(*others)
        raise
    if others:
        await _each(*others)


async def _called(function: Callable[[], object]) -> None:
    """Calls a function, or a coroutine function."""
    returned = function()
    if inspect.isawaitable(returned):
        await returned


def _log_lame_duck(lame_duck: timedelta) -> None:
    if lame_duck:
        _log.info("a lame duck: goes on to serve for %g s, then drains", lame_duck.total_seconds())


async def _first_of(
    ended: asyncio.Task[bool],
    signals: asyncio.Queue[int],
    wanted: Collection[int],
    seconds: float | None = None,
) -> bool:
    """Waits until the server ends, a wanted signal comes, or the time is over.

    Returns:
        Whether the server goes on.
    """

    async def signal_comes() -> None:
        while await signals.get() not in wanted:
            pass

    signalled = asyncio.create_task(signal_comes())
    try:
        await asyncio.wait({ended, signalled}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        signalled.cancel()
    return not ended.done()


def _serve_until(
    server: grpc.Server,
    signals: queue.SimpleQueue[int],
    wanted: Collection[int],
    seconds: float = float("inf"),
) -> bool:
    """Waits as ``_first_of`` does, in a thread."""
    end = time.monotonic() + seconds
    while goes_on := server.wait_for_termination(0.001):
        left = end - time.monotonic()
        if left <= 0:
            break
        with contextlib.suppress(queue.Empty):
            if signals.get(timeout=min(left, _LOOK_SECONDS)) in wanted:
                break
    return goes_on
