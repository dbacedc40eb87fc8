"""The methods that a server of operations serves, each under one name.

A name leads to two things. An **RPC** of that name is answered by an :data:`RpcMethod`: one of this
package's own services, of jobs, or a long-running one, which starts an operation. An **operation**
is run by the handler of the method in its record: the long-running one of that name, or the one
that has it among its former names. So no name may be added twice, in either sense; nor one that a
servicer serves itself, for gRPC would ask whichever of the two was added first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf import empty_pb2
from google.protobuf.message import Message

from lro_grpc._engine.handler import Handler
from lro_grpc._errors import LIBRARY_DOMAIN, ConfigurationError
from lro_grpc._runtime.clock import as_duration
from lro_grpc._runtime.options import check_function, check_type
from lro_grpc._server.decorator import BoundMethod, MethodOptions
from lro_grpc._server.jobs.create import prepare_of, run_of
from lro_grpc._server.jobs.kind import JobKind
from lro_grpc._server.jobs.service import Jobs
from lro_grpc._server.rpc import method_types
from lro_grpc._server.rpc.call import Behavior, BidiBehavior, StreamBehavior
from lro_grpc._server.rpc.handlers import BidiMethod, RpcMethod, StreamMethod, UnaryMethod
from lro_grpc._server.rpc.registrar import Services

_METHOD = re.compile(r"/\w+(\.\w+)*/\w+", re.ASCII)


class Methods:
    """The methods of one server, complete once it has started.

    Args:
        error_domain: ``ErrorInfo.domain`` of errors that handlers raise without one; the name of
            the method's service unless given.
        has_started: Returns whether it is too late to add a method.
        make_start: Makes the RPC of a long-running method, which starts its operations.
        make_jobs: Makes the methods of one kind of job; given the long-running method that starts
            them.
    """

    def __init__(
        self,
        error_domain: str | None,
        has_started: Callable[[], bool],
        make_start: Callable[[Handler, BoundMethod], Behavior],
        make_jobs: Callable[[JobKind, str], Jobs],
    ) -> None:
        self._error_domain = error_domain
        self._has_started = has_started
        self._make_start = make_start
        self._make_jobs = make_jobs
        self._methods: dict[str, RpcMethod] = {}
        self.handlers: dict[str, Handler] = {}
        """Those of the long-running methods, by the methods' names."""
        self.served: dict[str, Handler] = {}
        """The same, by each method whose operations they run: their own, and their former ones."""
        self.jobs: list[tuple[JobKind, Collection[str]]] = []
        """The kinds of jobs, and of each the verbs of its methods that are served."""
        self._starting_jobs: list[str] = []
        """Methods that have to be served at the start."""
        self.services = Services(self._add_declared, self._methods)
        """The servicers that are added through a registrar."""

    @property
    def service_names(self) -> tuple[str, ...]:
        """The full names of all services that are served."""
        of_methods = (method.split("/")[1] for method in self._methods)
        return tuple(dict.fromkeys((*of_methods, *self.services.names)))

    def find(self, name: str) -> RpcMethod | None:
        """Returns the method of a full name; None if it is not served here."""
        return self._methods.get(name)

    def put(self, behaviors: Mapping[str, Behavior]) -> None:
        """Serves methods of this package's own services, in place of what had their names."""
        for name, behavior in behaviors.items():
            types = method_types.messages_of(name)
            self._methods[name] = UnaryMethod(name, LIBRARY_DOMAIN, *types, behavior)

    def put_streams(self, behaviors: Mapping[str, StreamBehavior]) -> None:
        """Likewise for methods that give a stream of answers."""
        for name, behavior in behaviors.items():
            types = method_types.messages_of(name)
            self._methods[name] = StreamMethod(name, LIBRARY_DOMAIN, *types, behavior)

    def put_bidis(self, behaviors: Mapping[str, BidiBehavior]) -> None:
        """Likewise for methods that are sent a stream, too."""
        for name, behavior in behaviors.items():
            types = method_types.messages_of(name)
            self._methods[name] = BidiMethod(name, LIBRARY_DOMAIN, *types, behavior)

    def add(
        self,
        name: str,
        bound: BoundMethod,
        types: method_types.MethodTypes,
        answer: Callable[[Behavior], Behavior] = lambda start: start,
        answered: type[Message] = operations_pb2.Operation,
    ) -> None:
        """Serves a long-running method.

        Args:
            name: ``/pkg.Service/Method``.
            bound: Runs it.
            types: Its types.
            answer: Turns the start of an operation into the behavior that answers the RPC.
            answered: The type of its answer.

        Raises:
            ConfigurationError: If the name is not of that form, or is served already, or an option
                does not fit, or the operations have started.
        """
        if not isinstance(name, str) or not _METHOD.fullmatch(name):
            raise ConfigurationError(f"{name!r} is not of the form /pkg.Service/Method")
        self._check_new(name)
        handler = self._handler(name, bound, types)
        self._check_former_names(handler)
        start = self._make_start(handler, bound)
        self.handlers[name] = handler
        self.served.update(dict.fromkeys(handler.names, handler))
        self._methods[name] = UnaryMethod(
            name, handler.error_domain, handler.request_class, answered, answer(start)
        )

    def add_jobs(
        self,
        kind: JobKind,
        run: Callable[[Any, Any], Any] | None,
        started_by: str | None,
        prepare: Callable[[Any, Any], Any] | None,
        options: MethodOptions,
    ) -> None:
        """Serves operations as jobs.

        Args:
            kind: The kind of the jobs.
            run: Runs a job; with it Create is served, too.
            started_by: In place of ``run``: the long-running method whose operations they are.
            prepare: The service's own check of a Create.
            options: Those of Create.

        Raises:
            ConfigurationError: If a method does not fit, or is served already, or the operations
                have started.
        """
        if run is None and started_by is not None:
            self._starting_jobs.append(started_by)
            jobs = self._make_jobs(kind, started_by)
        elif run is None or started_by is not None:
            raise ConfigurationError(
                f"the jobs of {kind.service} need either run, or started_by; give one of them"
            )
        else:
            create = kind.to_create()
            jobs = self._make_jobs(kind, create.name)
            self.add(
                create.name,
                BoundMethod(run_of(kind, run), prepare_of(kind, create, prepare), options),
                method_types.MethodTypes(create.request, empty_pb2.Empty, kind.job),
                jobs.created,
                create.response,
            )
        types = {method.name: (method.request, method.response) for method in kind.methods.values()}
        for name, behavior in jobs.methods().items():
            self._check_new(name)
            self._methods[name] = UnaryMethod(name, LIBRARY_DOMAIN, *types[name], behavior)
        verbs = [verb for verb, method in kind.methods.items() if method.name in self._methods]
        self.jobs.append((kind, verbs))

    def check_complete(self) -> None:
        """Checks, at the start, that the methods which start jobs are served."""
        for method in self._starting_jobs:
            if method not in self.handlers:
                raise ConfigurationError(f"{method} is to start jobs, and is not served; add it")

    def _add_declared(self, name: str, bound: BoundMethod) -> None:
        """Serves a long-running method of a servicer, with the types in its proto."""
        self.add(name, bound, method_types.types_of(name))

    def _handler(self, name: str, bound: BoundMethod, types: method_types.MethodTypes) -> Handler:
        """Returns what runs a method, once its options are checked."""
        options = bound.options
        check_function(f"the handler of {name}", bound.run)
        if bound.prepare is not None:
            check_function(f"the prepare of {name}", bound.prepare)
        check_type("options", options, MethodOptions)
        if options.exclusive and bound.prepare is None:
            raise ConfigurationError(
                f"{name} is exclusive, and has no prepare; add one that returns"
                " lro_grpc.Prepared(target=...)"
            )
        return Handler(
            method=name,
            run=bound.run,
            request=types.request,
            response=types.response,
            metadata=types.metadata,
            error_domain=self._error_domain or name.split("/")[1],
            concurrency=options.concurrency,
            concurrency_per_key=options.concurrency_per_key,
            retry=options.retry,
            backoff=options.backoff,
            redact=options.redact,
            former_names=tuple(options.former_names),
            progress_timeout=as_duration(
                "progress_timeout", options.progress_timeout, optional=True
            ),
        )

    def _check_former_names(self, handler: Handler) -> None:
        for name in handler.former_names:
            if not (isinstance(name, str) and _METHOD.fullmatch(name)):
                raise ConfigurationError(
                    f"{handler.method} has the former name {name!r}; give the full name that the"
                    " method had, as in /pkg.Service/Method"
                )
            if name in self._methods or name in self.served or handler.names.count(name) > 1:
                raise ConfigurationError(
                    f"{handler.method} has the former name {name}, which a method that is served"
                    " has, too, or stands there twice; its operations can be of one method only"
                )

    def _check_new(self, name: str) -> None:
        if self._has_started():
            raise ConfigurationError(f"{name} comes too late; add it before the start")
        if name in self._methods:
            raise ConfigurationError(f"{name} was added twice; add its servicer once")
        if name in self.served:
            raise ConfigurationError(
                f"{name} is served, and is a former name of {self.served[name].method}, too;"
                " take it out of the former_names there"
            )
        if name in self.services.passed:
            raise ConfigurationError(
                f"{name} is served by a servicer that was added before; add that after it"
            )
