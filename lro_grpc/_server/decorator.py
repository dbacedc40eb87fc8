"""The decorator that makes a servicer's method long-running."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn, TypeVar, overload

from lro_grpc._durations import Duration
from lro_grpc._engine.handler import RETRY_BACKOFF
from lro_grpc._errors import ConfigurationError
from lro_grpc._operation import concurrency_key, labels
from lro_grpc._operation.record import MOST_PRIORITY
from lro_grpc._runtime.backoff import Backoff
from lro_grpc._runtime.clock import as_duration
from lro_grpc._runtime.options import (
    check_flag,
    check_function,
    check_number,
    check_text,
    check_type,
)

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = "__lro_options__"
"""The attribute of a function that has the options it is decorated with."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The facts of an operation that its ``prepare`` finds before it is stored.

    Attributes:
        target: The resource that the operation is about: ``OperationMetadata.target``.
        parent: The parent, with which the operation's name begins. Unless given, the
            ``projects/*/locations/*`` that ``target``, or ``parent`` or ``name`` in the
            request, begins with; else none.
        metadata: The handler's own fields of the operation's metadata, to begin with: a message
            of the method's metadata type.
        verb: What the operation does: ``OperationMetadata.verb``, and the ``operationType`` of
            Deployment Manager. That of the method's options, or of its name, unless given.
        batch_targets: The targets that the handler will give to ``op.batch``, in their order, so
            that the metadata show them from the first answer on. None unless given: they are
            shown once the batch begins.
        labels: What to find the operation by: ``{"env": "prod", "tenant": "t7"}``. At most 64; a
            key is ``[a-z][a-z0-9_-]{0,62}``, a value ``[a-z0-9_-]{0,63}``. They never change.
        schedule_time: The time before which the first attempt does not begin, with its time zone,
            and at most 365 days from now; one that has come delays nothing. Now unless given.
        priority: From -10 to 10: the minutes by which it is ahead, in the queue, of an operation
            that was started at the same time with 0.
        concurrency_key: The operations of the method with which it shares its
            ``concurrency_per_key``, such as those of one tenant; those of different keys begin in
            turn. A text of at most 200 characters, all printable; empty for none. Those who may
            describe the operation see it.
    """

    target: str = ""
    parent: str | None = None
    metadata: Any = None
    verb: str | None = None
    batch_targets: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    schedule_time: datetime | None = None
    priority: int = 0
    concurrency_key: str = ""

    def __post_init__(self) -> None:
        """Checks the texts, the labels, the time, the priority and the key."""
        check_number("priority", self.priority, least=-MOST_PRIORITY, most=MOST_PRIORITY)
        check_text("target", self.target)
        for option in ("parent", "verb"):
            if getattr(self, option) is not None:
                check_text(option, getattr(self, option))
        labels.check(self.labels)
        concurrency_key.check(self.concurrency_key)
        if self.schedule_time is not None:
            check_type("schedule_time", self.schedule_time, datetime)
            if self.schedule_time.utcoffset() is None:
                raise ConfigurationError(
                    f"schedule_time is {self.schedule_time!r}, which has no time zone; give one, as"
                    " in datetime.now(timezone.utc) + timedelta(hours=1)"
                )


@dataclass(frozen=True, slots=True)
class MethodOptions:
    """The options of a long-running method.

    In a class that derives from a generated servicer it is itself the decorator::

        @lro_grpc.MethodOptions(pausable=True)
        async def BuildReport(self, request, op): ...

    Attributes:
        concurrency: Attempts at a time in one process; 16 for a ``def``, 1000 for an ``async
            def`` unless set.
        concurrency_per_key: Attempts at a time of operations that have the same
            ``Prepared.concurrency_key``, in all processes that share a store; any number unless
            set. Those without a key are not counted.
        max_attempts: Attempts that may fail with an error to retry, lose their worker or get
            stuck before the operation fails. Pauses and drains do not count.
        retry: Returns whether an exception of the run is worth another attempt; a
            ``RetryableError`` is retried without it. Such an exception is no incident: the
            caller may find its own words.
        backoff: The pauses between attempts that fail.
        timeout: The time that an operation may take, from its start on, or its ``schedule_time``,
            and with all pauses: then it ends EXPIRED with DEADLINE_EXCEEDED. Any time unless set.
        progress_timeout: The time for which an attempt may give no sign (``progress``,
            ``checkpoint``, a batch's step): then it counts as lost, and the next one begins.
            Any time unless set.
        pausable: True if the run calls ``op.checkpoint`` now and then, where it can pause.
        exclusive: True if one exclusive operation at a time may have the ``Prepared.target``:
            another start is refused with ABORTED (S6).
        retention: The time for which a done operation is kept; that of
            ``Operations(retention=…)`` unless set.
        former_names: Methods of former releases that this one goes on with, as
            ``/pkg.Service/Method``: their operations are run by it, within its options. Their
            RPCs are served no more.
        redact: Makes of a request what DescribeOperation may show of it to those who run the
            service: takes a copy, without the fields that the proto marks as sensitive, and
            returns it, or None to show nothing. A plain function, quick, that may run in any
            thread. Without it the request of a type whose proto marks no field is not shown.
        verb: ``OperationMetadata.verb``; made from the method's name unless set.
        api_version: ``OperationMetadata.api_version``; the package's last part like ``v1``
            unless set.
    """

    concurrency: int | None = None
    concurrency_per_key: int | None = None
    max_attempts: int = 10
    retry: Callable[[Exception], bool] | None = None
    backoff: Backoff = RETRY_BACKOFF
    timeout: Duration | None = None
    progress_timeout: Duration | None = None
    pausable: bool = False
    exclusive: bool = False
    retention: Duration | None = None
    former_names: Collection[str] = ()
    redact: Callable[[Any], Any] | None = None
    verb: str | None = None
    api_version: str | None = None

    def __post_init__(self) -> None:
        """Checks the options."""
        check_number("max_attempts", self.max_attempts)
        for option in ("concurrency", "concurrency_per_key"):
            if getattr(self, option) is not None:
                check_number(option, getattr(self, option))
        if isinstance(self.former_names, str):
            raise ConfigurationError(f"former_names is {self.former_names!r}; give a list of names")
        for option in ("timeout", "progress_timeout", "retention"):
            duration = as_duration(option, getattr(self, option), optional=True)
            object.__setattr__(self, option, duration)
        for option in ("pausable", "exclusive"):
            check_flag(option, getattr(self, option))
        for option in ("verb", "api_version"):
            if getattr(self, option) is not None:
                check_text(option, getattr(self, option))
        check_type("backoff", self.backoff, Backoff)
        for option in ("retry", "redact"):
            function = getattr(self, option)
            if function is not None:
                check_function(option, function)
                if inspect.iscoroutinefunction(function):
                    raise ConfigurationError(f"{option} is a coroutine function; give a plain one")

    def __call__(self, run: F) -> F:
        """Decorates a method of a generated servicer, and leaves its type as it is."""
        setattr(run, _OPTIONS, self)
        return run


def options_of(run: Callable[..., Any]) -> MethodOptions | None:
    """Returns the options that a function is decorated with."""
    found: MethodOptions | None = getattr(run, _OPTIONS, None)
    return found


@dataclass(frozen=True, slots=True)
class BoundMethod:
    """A long-running method of one servicer, as the generated adder hands it on."""

    run: Callable[[Any, Any], Any]
    """Called with the request and the operation's context."""
    prepare: Callable[[Any, Any], Any] | None
    """Called with the request and the RPC's context, before anything is stored."""
    options: MethodOptions

    def __call__(self, request: object, context: object) -> NoReturn:
        """Refuses to be served as it is.

        Raises:
            ConfigurationError: Always: only ``Operations.attach(server)`` knows how to serve it.
        """
        raise ConfigurationError(
            f"{getattr(self.run, '__qualname__', self.run)} is a long-running method, and was"
            " added to a bare server; add its servicer to operations.attach(server) instead",
            reason="NOT_ATTACHED",
        )


class LongRunningMethod:
    """A decorated function in a servicer's class; see :func:`method`."""

    def __init__(self, run: Callable[..., Any], options: MethodOptions) -> None:
        self._run = run
        self._prepare: Callable[..., Any] | None = None
        self._options = options
        self.__doc__ = run.__doc__

    def prepare(self, function: F) -> F:
        """Decorates the method that checks a request before anything is stored (S3).

        It takes the request and the RPC's own ServicerContext, which has the ``caller`` besides
        (:class:`PrepareContext`), and returns a :class:`Prepared` or None. What it raises or aborts
        with is the RPC's own error. It runs again for a request that is sent again, so it must
        change nothing.
        """
        self._prepare = function
        return function

    def __get__(self, servicer: object, owner: type | None = None) -> Any:
        """Binds the run and the prepare to their servicer: gives a :class:`BoundMethod`.

        Typed ``Any``, for the generated servicer declares a method there that takes a
        ServicerContext, and a run takes an operation instead.
        """
        if servicer is None:
            return self
        prepare = self._prepare.__get__(servicer, owner) if self._prepare else None
        return BoundMethod(self._run.__get__(servicer, owner), prepare, self._options)


@overload
def method(run: Callable[..., Any], /) -> LongRunningMethod: ...


@overload
def method(
    *,
    concurrency: int | None = None,
    concurrency_per_key: int | None = None,
    max_attempts: int = 10,
    retry: Callable[[Exception], bool] | None = None,
    backoff: Backoff = RETRY_BACKOFF,
    timeout: Duration | None = None,
    progress_timeout: Duration | None = None,
    pausable: bool = False,
    exclusive: bool = False,
    retention: Duration | None = None,
    former_names: Collection[str] = (),
    redact: Callable[[Any], Any] | None = None,
    verb: str | None = None,
    api_version: str | None = None,
) -> Callable[[Callable[..., Any]], LongRunningMethod]: ...


def method(run: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Makes a servicer's method long-running: its RPC starts an operation.

    The method takes the request and the operation's context, returns the response that
    ``operation_info`` declares, and may take hours. A ``def`` runs in a thread, an ``async def``
    in a task; on either kind of server. The decorator knows no store and no server.

    Args:
        run: The method, when the decorator stands without parentheses.
        **options: See :class:`MethodOptions`.

    Returns:
        A :class:`LongRunningMethod`; or the decorator that makes it.
    """
    chosen = MethodOptions(**options)
    if run is not None:
        return LongRunningMethod(run, chosen)
    return lambda function: LongRunningMethod(function, chosen)
