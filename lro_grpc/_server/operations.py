"""Long-running operations for a gRPC server, sync or async."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import inspect
import random
import weakref
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from datetime import timedelta
from typing import Any, Literal, TypeVar, overload

import grpc
import grpc.aio
from google.longrunning import operations_pb2
from google.longrunning.operations_pb2_grpc import OperationsServicer
from google.protobuf.message import Message

from lro_grpc._durations import Duration
from lro_grpc._engine.engine import Engine, EngineOptions
from lro_grpc._engine.handler import Handler
from lro_grpc._engine.inprocess import InProcess
from lro_grpc._engine.workbench import Workbench
from lro_grpc._errors import ConfigurationError, UnavailableError
from lro_grpc._events.deliverer import Deliverer
from lro_grpc._operation import metadata as conventional
from lro_grpc._operation.completion_event import OnDone
from lro_grpc._operation.events import Cancel
from lro_grpc._operation.record import Record
from lro_grpc._operation.telemetry import NO_TELEMETRY, Telemetry
from lro_grpc._runtime.clock import Clock, SystemClock, as_duration, micros
from lro_grpc._runtime.loop_thread import LoopThread
from lro_grpc._runtime.options import check_flag, check_function, check_text, check_type
from lro_grpc._runtime.threads import BoundedThreads
from lro_grpc._runtime.worker_name import check_worker, this_process
from lro_grpc._server.access import Authorize, Identify
from lro_grpc._server.decorator import BoundMethod, MethodOptions
from lro_grpc._server.guarded_store import GuardedStore
from lro_grpc._server.jobs.kind import JobKind
from lro_grpc._server.jobs.service import Jobs
from lro_grpc._server.large_requests import LargeRequests
from lro_grpc._server.lifespan import Lifespan
from lro_grpc._server.limits import Limits, Queues
from lro_grpc._server.live_counts import LiveCounts
from lro_grpc._server.methods import Methods
from lro_grpc._server.poll_advice import PollAdvice
from lro_grpc._server.rpc import method_types
from lro_grpc._server.rpc.call import Behavior, Waiters
from lro_grpc._server.rpc.handlers import (
    AioHandlers,
    MethodHandlers,
    RpcMethod,
    SyncHandlers,
    not_started,
)
from lro_grpc._server.rpc.local_calls import LocalCalls
from lro_grpc._server.rpc.no_server import NoServer
from lro_grpc._server.rpc.registrar import AioRegistrar, SyncRegistrar
from lro_grpc._server.rpc.rivals import check_alone
from lro_grpc._server.rpc.server_threads import waiters_of
from lro_grpc._server.services.control import ControlService
from lro_grpc._server.services.describe import DescribeService
from lro_grpc._server.services.fallback import Fallback
from lro_grpc._server.services.imports import Old, async_groups_of, groups_of, total_of
from lro_grpc._server.services.local_starts import LocalStarts, Metadata
from lro_grpc._server.services.operations import OperationsService
from lro_grpc._server.services.rerun import RerunService
from lro_grpc._server.services.shared_watch import SharedWatchService
from lro_grpc._server.services.start import Starter
from lro_grpc._server.services.summarize import SummarizeService
from lro_grpc._server.unserved import Unserved
from lro_grpc._stores.importer import Imported, Importer, Unfinished
from lro_grpc._stores.notifier import Notifier
from lro_grpc._stores.observed import ObservedStore
from lro_grpc._stores.open_url import open_url
from lro_grpc._stores.store import Store

T = TypeVar("T")

_PREPARE_THREADS = 64
"""Threads at a time in which a ``prepare`` that is a ``def`` runs; a start beyond them waits."""

_PREPARES_WAITING = 1000
"""Starts that may wait for such a thread; one beyond them is refused."""


class Operations(Lifespan):
    """The operations of one gRPC server: stores them, runs them and serves them.

    Attach it to a server before servicers are added, and run it in place of the server::

        operations = lro_grpc.Operations(store="sqlite:///operations.db")
        add_FleetServiceServicer_to_server(FleetService(), operations.attach(server))
        await operations.run(server)     # on a grpc.server: operations.run(server)

    Args:
        store: A store, or the URL of one: ``sqlite:///file.db`` (relative),
            ``sqlite:////folder/file.db`` (absolute), ``postgresql://user@host/database``, which
            many servers share, or ``memory:``.
        error_domain: ``ErrorInfo.domain`` of errors that handlers, ``identify`` and ``authorize``
            raise without one. The name of the method's gRPC service unless given.
        lease: The time for which an attempt holds its operation without a heartbeat, on a store
            that other processes share; and that a handler is given to stop, once it has to.
        sweep: The interval at which lost, overdue and expired operations are looked for.
        retention: The time for which a done operation is kept, unless its method's options give
            another (S7).
        max_wait: The longest that a Wait may last; a longer timeout is clamped to it (P9).
        watch_resend: The interval at which a Watch repeats a state that lasts, so that either side
            notices when the other one is gone. This package's client gives up on one that sends
            nothing for 35 seconds. ``authorize`` is asked again as often, while a Watch lasts; and
            once before a Wait is answered that has lasted longer.
        poll_after: The pause before the next Get that is recommended to a caller whose operation
            is not done (P5). Each answer with one such operation, or with a job, has it in its
            initial metadata, as ``lro-poll-after-ms``. Nothing is recommended unless given.
        grace: The time that handlers and RPCs are given to end at a shutdown. What goes on after it
            keeps the process no longer, and its operation is taken over by the next one.
        limits: The most that the server takes on.
        identify: Returns the caller, from an RPC's ServicerContext: by its metadata, or its peer's
            certificate. Handlers see it as ``op.caller``. A function that does not block, or a
            coroutine function; it may raise an :class:`LroError`, such as UNAUTHENTICATED.
        authorize: Returns whether an :class:`Access` is allowed; called before the request is
            checked or shows what exists (S19), for each RPC and each page (S15). Likewise.
        telemetry: Observes the operations as they go on, such as ``lro_grpc.otel.OpenTelemetry``.
        clock: Gives the time of day, and measures leases.
        engine: Has operations brought to their handlers by another system, such as
            ``lro_grpc.engines.Temporal``. Each process claims for its own handlers unless given.
        new_id: Returns the id of a new operation, and is given its request: 1 to 128 characters of
            ``A-Z a-z 0-9 . _ ~ -``, other than ``operations``. A start whose id is none is refused
            with INVALID_ARGUMENT, one whose name an operation has with ALREADY_EXISTS. The time
            of the start and 80 random bits unless given. A plain function.
        on_done: Is told of each operation that is done, at least once: a :class:`CompletionEvent`
            of each that was started while it was given. A function, which is called in a thread, or
            a coroutine function. If it raises, it is told again, for a day; after an
            :class:`UndeliverableError` no more. ``lro_grpc.events.Webhook`` is one.
        worker: The name of this process in the history of attempts, such as the pod's: 1 to 255
            printable characters. ``host:pid`` unless given.

    Raises:
        ConfigurationError: If the URL names no store, or a time is not positive, or too long, or
            an option is of another type.
    """

    def __init__(
        self,
        store: str | Store = "sqlite:///operations.db",
        *,
        error_domain: str | None = None,
        lease: Duration = timedelta(seconds=15),
        sweep: Duration = timedelta(seconds=5),
        retention: Duration = timedelta(days=30),
        max_wait: Duration = timedelta(minutes=10),
        watch_resend: Duration = timedelta(seconds=10),
        poll_after: Duration | None = None,
        grace: Duration = timedelta(seconds=10),
        limits: Limits | None = None,
        identify: Identify | None = None,
        authorize: Authorize | None = None,
        telemetry: Telemetry | None = None,
        clock: Clock | None = None,
        engine: EngineOptions | None = None,
        new_id: Callable[[Any], str] | None = None,
        on_done: OnDone | None = None,
        worker: str | None = None,
    ) -> None:
        no_time = timedelta(0)
        lease, sweep = as_duration("lease", lease), as_duration("sweep", sweep)
        retention = as_duration("retention", retention)
        watch_resend = as_duration("watch_resend", watch_resend)
        max_wait = as_duration("max_wait", max_wait, least=no_time)
        grace = as_duration("grace", grace, least=no_time)
        least = timedelta(milliseconds=1)
        poll_after = as_duration("poll_after", poll_after, least=least, optional=True)
        hooks = {
            "identify": identify,
            "authorize": authorize,
            "new_id": new_id,
            "on_done": on_done,
        }
        for option, hook in hooks.items():
            if hook is not None:
                check_function(option, hook)
        if inspect.iscoroutinefunction(new_id):
            raise ConfigurationError("new_id is a coroutine function; give a plain function")
        if error_domain is not None:
            check_text("error_domain", error_domain)
        if worker is not None:
            check_worker(worker)
        if limits is not None:
            check_type("limits", limits, Limits)
        if engine is not None and not hasattr(engine, "make_engine"):
            raise ConfigurationError(f"engine is {engine!r}; give a lro_grpc.engines.Temporal")
        if not isinstance(store, str) and not hasattr(store, "apply_all"):
            raise ConfigurationError(f"store is {store!r}; give a store, or the URL of one")
        clock = clock or SystemClock()
        self._telemetry = telemetry or NO_TELEMETRY
        opened = open_url(store, clock.now) if isinstance(store, str) else store
        observed: Store = ObservedStore(opened, telemetry, clock.monotonic) if telemetry else opened
        self._limits = limits or Limits()
        self._per_caller = 1 if identify is None else self._limits.per_caller
        self._methods = methods = Methods(
            error_domain, lambda: self._has_started, self._make_start, self._make_jobs
        )
        unserved = Unserved(observed, methods.served)

        def make_engine(signal_margin: timedelta, serves: bool) -> Engine:
            workbench = Workbench(
                observed,
                methods.served,
                clock,
                lease=lease,
                sweep=sweep,
                operation_bytes=self._limits.operation_bytes,
                telemetry=self._telemetry,
                signal_margin=signal_margin,
                worker=worker or this_process(),
                start_within=self._local_starts.start_within,
            )
            if engine is None:
                return InProcess(workbench, unserved.refused)
            return engine.make_engine(workbench, unserved.refused, serves=serves)

        super().__init__(
            self._check_complete,
            observed,
            Notifier(observed),
            Queues(observed, clock, self._limits, has_callers=identify is not None),
            LiveCounts(observed, clock, self._telemetry, methods.served),
            unserved,
            methods.handlers,
            make_engine,
            grace,
            None if on_done is None else Deliverer(observed, on_done, clock, random.random),
        )
        self._notifies = on_done is not None
        self._cancel = Cancel(methods.served if observed.exclusive else None)
        self._guarded = GuardedStore(
            observed,
            identify,
            authorize,
            error_domain=error_domain or "",
            operation_bytes=self._limits.operation_bytes,
            access_lasts=watch_resend.total_seconds(),
        )
        self._advice = PollAdvice(poll_after)
        self._service = OperationsService(
            self._guarded,
            self._notifier,
            self._limits,
            max_wait=max_wait,
            advice=self._advice,
            cancel=self._cancel,
            unserved=unserved,
            served=methods.served,
            telemetry=self._telemetry,
        )
        self._retention = retention
        self._threads = BoundedThreads(_PREPARE_THREADS, waiting=_PREPARES_WAITING)
        self._large_requests = LargeRequests(self._limits.request_bytes, self._per_caller)
        self._new_id = new_id
        control = ControlService(
            self._guarded, self._notifier, watch_resend=watch_resend, advice=self._advice
        )
        methods.put(self._service.methods())
        methods.put(control.methods())
        methods.put_streams(control.streams())
        shared_watch = SharedWatchService(
            self._guarded,
            self._notifier,
            self._waiters(self._limits.waiters),
            watch_resend=watch_resend,
        )
        methods.put_bidis(shared_watch.bidis())
        self._starters: dict[str, Starter] = {}
        self._local_starts = LocalStarts(self._starters, self._large_requests)
        describe = DescribeService(
            self._guarded,
            methods.served,
            self._starters,
            unserved,
            self._cancel,
            self._limits.operation_bytes,
        )
        methods.put(describe.methods())
        summarize = SummarizeService(self._guarded, self._service.filter)
        methods.put(summarize.methods())
        rerun = RerunService(self._guarded, methods.served, self._starters, self._advice)
        methods.put(rerun.methods())
        self._attached: tuple[weakref.ref[Any], MethodHandlers] | None = None
        """The server, and what was added to it."""

    @property
    def services(self) -> Sequence[str]:
        """The full names of all services that are served: for health checks and reflection."""
        return self._methods.service_names

    @property
    def store(self) -> Store:
        """The store of the operations."""
        return self._store

    @property
    def requests(self) -> Mapping[str, type[Message]]:
        """The request types of the methods that start operations, by the methods' full names."""
        return {method: handler.request_class for method, handler in self._methods.handlers.items()}

    @property
    def jobs(self) -> Sequence[tuple[JobKind, Collection[str]]]:
        """The kinds of jobs, and of each the verbs of its methods that are served."""
        return tuple(self._methods.jobs)

    @property
    def plain_methods(self) -> Collection[str]:
        """The full names of the methods of servicers that are neither long-running nor of jobs."""
        return frozenset(self._methods.services.passed)

    @property
    def serves_in_threads(self) -> bool:
        """Whether they are attached to a ``grpc.server``, which has no event loop of its own."""
        return self._attached is not None and isinstance(self._attached[1], SyncHandlers)

    def local(self) -> LocalCalls:
        """Returns the calls of the operations' own services and methods within this process."""
        return LocalCalls(
            self._find,
            self._guarded,
            self._service.page,
            self._advice,
            self._waiters(self._limits.waiters),
            self._waiters(self._limits.streams),
        )

    async def start_operation(
        self,
        method: str,
        request: Any,
        *,
        caller: str = "",
        request_id: str = "",
        metadata: Metadata = (),
        labels: Mapping[str, str] | None = None,
        delay: Duration | None = None,
    ) -> operations_pb2.Operation:
        """Starts an operation by code of this process, on its event loop or on another one.

        It goes the way of an RPC, but that neither ``identify`` nor ``authorize`` is asked.
        Handlers have ``op.start_operation``, which a later attempt does not repeat.

        Args:
            method: ``/pkg.Service/Method``, a long-running method that was added here.
            request: The request, of the type that the method declares.
            caller: Takes the place of what ``identify`` would return.
            request_id: Tells the start from others of the caller, as in AIP-155, also where the
                request has no such field; the request's own unless given.
            metadata: What ``prepare`` finds as its context's ``invocation_metadata``.
            labels: Labels of the operation beside those of ``prepare``, which they win over.
            delay: The time from now on before which its first attempt does not begin, at most 365
                days; that of ``prepare`` unless given.

        Returns:
            The operation; the earlier one if the same request was sent before.

        Raises:
            LroError: As the RPC would end; also if ``prepare`` aborts its context.
            UnservedError: If the method was not added here.
            WrongTypeError: If the request is of another type.
            UnavailableError: If the operations have not started, or drain.
            ConfigurationError: If another argument is not of its type.
        """
        loop = self._running_loop()
        starting = self._local_starts.start(
            method,
            request,
            caller=caller,
            request_id=request_id,
            metadata=metadata,
            labels=labels,
            delay=delay,
        )
        if loop is asyncio.get_running_loop():
            return await starting
        return await asyncio.wrap_future(self._begun_on(loop, starting))

    def start_operation_sync(
        self,
        method: str,
        request: Any,
        *,
        caller: str = "",
        request_id: str = "",
        metadata: Metadata = (),
        labels: Mapping[str, str] | None = None,
        delay: Duration | None = None,
    ) -> operations_pb2.Operation:
        """Starts an operation as ``start_operation`` does, in any thread but that of their loop.

        Args:
            method: ``/pkg.Service/Method``, a long-running method that was added here.
            request: The request, of the type that the method declares.
            caller: Takes the place of what ``identify`` would return.
            request_id: Tells the start from others of the caller.
            metadata: What ``prepare`` finds as its context's ``invocation_metadata``.
            labels: Labels of the operation beside those of ``prepare``, which they win over.
            delay: The time from now on before which its first attempt does not begin, at most 365
                days; that of ``prepare`` unless given.

        Returns:
            The operation; the earlier one if the same request was sent before.

        Raises:
            ConfigurationError: If it is called on the event loop, which could not go on; and as
                ``start_operation``.
        """
        loop = self._loop_of_another_thread("start_operation")
        starting = self._local_starts.start(
            method,
            request,
            caller=caller,
            request_id=request_id,
            metadata=metadata,
            labels=labels,
            delay=delay,
        )
        return self._begun_on(loop, starting).result()

    async def import_operations(
        self,
        old_operations: Iterable[Old] | AsyncIterable[Old],
        *,
        unfinished: Literal["abort", "leave"] = "abort",
        retention: Duration | None = None,
    ) -> Imported:
        """Stores operations of another server as they were; none of them is run.

        Call it before these operations are run, or while they are; not while they start. It may be
        made again: what is stored already, as it is, is skipped. ``on_done`` is told of none.

        Args:
            old_operations: The operations, those first that are to be last in lists: each as the
                other server answers a Get, or with more that is known of it, as an
                :class:`OldOperation`. They are read as they are stored, a hundred at a time; an
                iterator that would block the event loop belongs to ``import_operations_sync``.
            unfinished: What becomes of those that are not done: ``abort`` has them fail with
                ABORTED and the reason OPERATION_ABANDONED; ``leave`` leaves them out, for a
                ``fallback`` that goes on with them.
            retention: The time that they are kept from now on; that of these operations unless
                given.

        Returns:
            How many were stored, skipped and left out.

        Raises:
            InvalidArgumentError: If one of them is no operation that can be stored; it is named.
            InvalidNameError: If its name is not of the form ``[{parent}/]operations/{id}``.
            OperationTooLargeError: If it is larger than ``Limits(operation_bytes=…)``.
            LroError: If another operation has its name (ALREADY_EXISTS). In each of these cases
                those before it are stored, and a few of those after it may be.
            UnavailableError: If the store fails, or these operations have drained.
            ConfigurationError: If an option is not of its type.
        """
        importer = self._importer(unfinished, retention)
        async with self._opened() as loop:
            here = loop is asyncio.get_running_loop()
            imported = Imported()
            async for group in async_groups_of(old_operations):
                putting = importer.put(group)
                put = putting if here else asyncio.wrap_future(self._begun_on(loop, putting))
                imported = imported.plus(total_of(await put))
        return imported

    def import_operations_sync(
        self,
        old_operations: Iterable[Old],
        *,
        unfinished: Literal["abort", "leave"] = "abort",
        retention: Duration | None = None,
    ) -> Imported:
        """Stores operations as ``import_operations`` does, in a thread without an event loop.

        Args:
            old_operations: The operations, those first that are to be last in lists.
            unfinished: What becomes of those that are not done.
            retention: The time that they are kept from now on.

        Returns:
            How many were stored, skipped and left out.

        Raises:
            ConfigurationError: If it is called on the event loop, which could not go on; and as
                ``import_operations``.
        """
        if self.loop is None and not self._has_started:
            with contextlib.closing(LoopThread()) as thread:
                return thread.run(
                    self.import_operations(
                        old_operations, unfinished=unfinished, retention=retention
                    )
                )
        importer = self._importer(unfinished, retention)
        loop = self._loop_of_another_thread("import_operations")
        imported = Imported()
        for group in groups_of(old_operations):
            outcomes = self._begun_on(loop, importer.put(group)).result()
            imported = imported.plus(total_of(outcomes))
        return imported

    @overload
    def attach(
        self,
        server: grpc.aio.Server,
        *,
        max_waiters: int | None = None,
        messages: bool = False,
        fallback: OperationsServicer | None = None,
    ) -> grpc.aio.Server: ...

    @overload
    def attach(
        self,
        server: grpc.Server,
        *,
        max_waiters: int | None = None,
        messages: bool = False,
        fallback: OperationsServicer | None = None,
    ) -> grpc.Server: ...

    def attach(
        self,
        server: Any,
        *,
        max_waiters: int | None = None,
        messages: bool = False,
        fallback: OperationsServicer | None = None,
    ) -> Any:
        """Adds google.longrunning.Operations and lro.v1.OperationControlService to a server.

        Args:
            server: A ``grpc.aio`` server or a ``grpc.server`` that is not started yet.
            max_waiters: On a ``grpc.server``, the most Wait and Watch calls that may hold one of
                its threads; above it a Wait answers at once (P9), and a Watch is refused. Half of
                its threads unless given.
            messages: Whether the server's interceptors are given the requests and the responses of
                long-running methods and of these two services as messages. They are bytes
                otherwise, which is faster: an operation is sent as it is stored.
            fallback: The servicer of google.longrunning.Operations that these operations take the
                place of: it is asked for names that no operation here has, and lists follow with
                its own. Its methods are functions or coroutine functions, on either kind of
                server. ``authorize`` is asked first, for an operation that is not known (None).

        Returns:
            The registrar to add servicers to. It is of the server's own type, keeps long-running
            methods to itself and passes everything else through.

        Raises:
            ConfigurationError: If the calls that wait could take every thread of a ``grpc.server``;
                or if the server has another servicer of these services, or other operations, or
                these are attached already. What is added to the server later is found at the start.
        """
        check_flag("messages", messages)
        if self._attached is not None:
            raise ConfigurationError(
                "these operations are attached to a server already; add servicers to the registrar"
                " that attach has returned, and make other lro_grpc.Operations for another server"
            )
        check_alone(server)
        handlers: AioHandlers | SyncHandlers
        registrar: AioRegistrar | SyncRegistrar
        if isinstance(server, grpc.aio.Server):
            waiters = self._waiters(self._limits.waiters)
            streams = self._waiters(self._limits.streams)
            handlers = AioHandlers(self._find, waiters, streams, messages)
            registrar = AioRegistrar(server, self._methods.services)
        else:
            few = self._waiters(waiters_of(server, max_waiters))
            handlers = SyncHandlers(self._find, few, self._submit, messages)
            registrar = SyncRegistrar(server, self._methods.services)
        if fallback is not None:
            check_type("fallback", fallback, OperationsServicer)
            both = Fallback(fallback, self._service, self._guarded, self._notifier, self._limits)
            self._methods.put(both.methods())
        server.add_generic_rpc_handlers((handlers,))
        self._attached = weakref.ref(server), handlers
        return registrar

    def registrar(self) -> grpc.Server:
        """Returns a registrar to add servicers to, where there is no gRPC server.

        Such is a process that only works (see ``work``), and one that serves HTTP alone.
        """
        return SyncRegistrar(NoServer(), self._methods.services)

    def add_method(
        self,
        method: str,
        handler: Callable[[Any, Any], Any],
        *,
        request: type[Any],
        response: type[Any],
        metadata: type[Any] = conventional.DEFAULT_TYPE,
        prepare: Callable[[Any, Any], Any] | None = None,
        options: MethodOptions | None = None,
    ) -> None:
        """Serves a long-running method without a generated servicer.

        The types may be those of a vendor's package, protobuf's own classes or proto-plus classes:
        handler and prepare are given, and return, the types declared here; so is ``op.metadata``.

        Args:
            method: ``/pkg.Service/Method``.
            handler: Takes the request and the operation's context, and returns the response; a
                function or a coroutine function.
            request: The request's type.
            response: The response's type.
            metadata: The type of ``Operation.metadata``.
            prepare: As a decorated method's ``prepare``.
            options: As the decorator's.

        Raises:
            ConfigurationError: If the name is not of that form, or is served already, or a type is
                not a message type, or the operations have started.
        """
        types = method_types.MethodTypes(request, response, metadata)
        self._methods.add(method, BoundMethod(handler, prepare, options or MethodOptions()), types)

    def add_jobs(
        self,
        service: str,
        job: type[Any],
        run: Callable[[Any, Any], Any] | None = None,
        *,
        started_by: str | None = None,
        collection: str | None = None,
        prepare: Callable[[Any, Any], Any] | None = None,
        options: MethodOptions | None = None,
    ) -> None:
        """Serves operations as jobs: resources with a state of their own (AIP-152).

        ::

            operations.add_jobs("reports.v1.ReportService", reports_pb2.ReportJob, build)

        Served are, of the service's methods for the type ``ReportJob``, those that it has of
        ``GetReportJob``, ``ListReportJobs``, ``CancelReportJob``, ``PauseReportJob``,
        ``ResumeReportJob`` and ``DeleteReportJob``; and with ``run`` also ``CreateReportJob``,
        which starts a job, and answers it. Of a job the fields ``state``, ``create_time``,
        ``start_time``, ``update_time``, ``end_time`` and ``error`` are filled. Its name is that of
        its operation, with ``reportJobs`` in place of ``operations``. To ``authorize`` a call is
        the one of its operation, such as ``operations.get``; the resource is the job's name.

        Args:
            service: The full name of the service.
            job: The jobs' type, with a string ``name``, and a ``state`` of an enum that has the
                values of ``lro.v1.JobState``.
            run: A function or a coroutine function that is given the job, as Create was sent it,
                and the operation's context. What it writes into the job is shown: the job is
                ``op.metadata``. It returns nothing.
            started_by: In place of ``run``: the long-running method whose operations the jobs are.
                If its metadata is of the jobs' type, a job is that. Where the service has a
                servicer, add it after its jobs.
            collection: The collection in a job's name, and after ``List``; made from the type's
                name unless given.
            prepare: As a decorated method's ``prepare``, but that it is given the job; what it
                writes into the job is kept.
            options: As the decorator's, for ``run``.

        Raises:
            ConfigurationError: If types or methods are not as described, or one of the methods is
                served already, or the operations have started.
        """
        kind = JobKind(service, job, collection)
        self._methods.add_jobs(kind, run, started_by, prepare, options or MethodOptions())

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self.loop is None:
            raise _not_running()
        return self.loop

    def _loop_of_another_thread(self, twin: str) -> asyncio.AbstractEventLoop:
        """Returns the loop of the operations, if it is not that of this thread.

        Args:
            twin: The method that is to be awaited there.
        """
        loop = self._running_loop()
        if loop is asyncio._get_running_loop():
            raise ConfigurationError(
                f"{twin}_sync is called on the event loop of the operations, and would wait"
                f" for that for ever; await {twin} there"
            )
        return loop

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncIterator[asyncio.AbstractEventLoop]:
        """Has the store open meanwhile, and gives the loop on which it is called."""
        if self._has_started:
            yield self._running_loop()
            return
        async with self._opened_before_start():
            yield asyncio.get_running_loop()

    def _importer(self, unfinished: str, retention: Duration | None) -> Importer:
        kept = as_duration("retention", retention, optional=True)
        kinds = [kind.value for kind in Unfinished]
        if unfinished not in kinds:
            raise ConfigurationError(f"unfinished is {unfinished!r}; give one of {kinds}")
        return Importer(
            self._store,
            retention=micros(self._retention if kept is None else kept),
            operation_bytes=self._limits.operation_bytes,
            unfinished=Unfinished(unfinished),
        )

    def _begun_on(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]
    ) -> concurrent.futures.Future[T]:
        """Begins to run a coroutine on the loop of the operations, from another thread."""

        async def run() -> T:
            try:
                return await coroutine
            except asyncio.CancelledError as cause:
                if self.loop is not None:
                    raise  # by the caller
                raise _not_running() from cause

        begun = run()
        try:
            return asyncio.run_coroutine_threadsafe(begun, loop)
        except RuntimeError as cause:  # the loop is closed
            begun.close()
            coroutine.close()
            raise _not_running() from cause

    def _check_complete(self) -> None:
        """Checks all that was added, at the start."""
        self._methods.check_complete()
        if self._attached is not None:
            server, handlers = self._attached
            check_alone(server(), handlers)

    def _waiters(self, most: int) -> Waiters:
        return Waiters(most, self._telemetry, self._per_caller)

    def _make_start(self, handler: Handler, bound: BoundMethod) -> Behavior:
        starter = Starter(
            handler,
            bound.prepare,
            bound.options,
            self._retention,
            self._guarded,
            self._queues,
            self._limits.operation_bytes,
            self._store.now,
            self._new_id,
            self._threads,
            self._large_requests,
            self._telemetry,
            expect=self._expect,
            notifies=self._notifies,
        )
        self._starters[handler.method] = starter
        return self._advice.given_by(starter.start)

    def _expect(self, record: Record) -> None:
        """Lets the engine know of an operation that is about to be stored."""
        if self._engine is not None:
            self._engine.expect(record)

    def _make_jobs(self, kind: JobKind, started_by: str) -> Jobs:
        return Jobs(
            kind,
            started_by,
            self._methods.served,
            self._cancel,
            self._guarded,
            self._limits,
            self._advice,
            self._store.now,
        )

    def _find(self, method: str) -> RpcMethod | None:
        """Returns a method that is served, or one that refuses while the operations do not run."""
        found = self._methods.find(method)
        return found if found is None or self._has_started else not_started(found)


def _not_running() -> UnavailableError:
    return UnavailableError(
        "no operation can be started or stored: these operations have not started, or drain; run"
        " them with operations.run(server), or call operations.start() first",
        reason="NOT_STARTED",
    )
