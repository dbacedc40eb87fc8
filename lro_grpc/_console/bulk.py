"""Bulk actions: the same request about many operations, some at a time, in this process.

A job holds what is left to do in memory alone: a console that ends leaves the rest undone, and to
do it again is safe, for the server refuses what is done already.
"""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

from lro_grpc._console.questions import Refusal, refusal_of
from lro_grpc._console.servers import Credentials
from lro_grpc._errors import Code, LimitReachedError, LroError

MOST_NAMES = 1_000
"""The most operations of one job."""

_AT_A_TIME = 8
_MOST_RUNNING = 16
"""The most jobs that run at a time, of all callers."""

_MOST_OF_A_CALLER = 4
"""The most of them of one caller, so that there is room for others."""

_MOST_REFUSALS = 500
_KEPT_SECONDS = 600.0
_MOST_KEPT = 100

Act = Callable[[str], Awaitable[object]]
"""Requests the action of one operation, by its name."""


@dataclasses.dataclass(eq=False, slots=True)
class Job:
    """One bulk action, as far as it has come."""

    id: str
    verb: str
    credentials: Credentials = dataclasses.field(repr=False)
    """The caller, who alone may see it."""
    names: Sequence[str]
    filter: str
    parent: str
    done: int = 0
    """The number of operations whose action the server has taken."""
    refused: int = 0
    """The number of those whose action it has refused."""
    refusals: list[Refusal] = dataclasses.field(default_factory=list)
    """The first of these refusals. Not the errors: each holds all that was in the call."""
    is_running: bool = True
    is_stopped: bool = False
    """Whether the caller has stopped it."""

    def stop(self) -> None:
        """Requests no further action; those on their way are awaited."""
        self.is_stopped = self.is_running

    async def run(self, act: Act) -> None:
        """Requests the action of every operation, eight at a time."""
        left = iter(self.names)

        async def work() -> None:
            for name in left:
                if self.is_stopped:
                    return
                try:
                    await act(name)
                except LroError as error:
                    self.refused += 1
                    if len(self.refusals) < _MOST_REFUSALS:
                        self.refusals.append(refusal_of(name, error))
                else:
                    self.done += 1

        try:
            await asyncio.gather(*(work() for _ in range(_AT_A_TIME)))
        finally:
            self.is_running = False


class Jobs:
    """The bulk actions of this process, each remembered for ten minutes after its end."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(
        self,
        verb: str,
        names: Sequence[str],
        act: Act,
        credentials: Credentials,
        *,
        filter: str = "",  # noqa: A002 - the field's name
        parent: str = "",
    ) -> Job:
        """Begins a bulk action, and returns at once.

        Args:
            verb: The action.
            names: The operations, at most ``MOST_NAMES``.
            act: Requests the action of one.
            credentials: The caller.
            filter: What has selected them; empty for the caller's own choice.
            parent: Likewise.

        Raises:
            LimitReachedError: If as many as may run are running.
        """
        running = [one for one in self._jobs.values() if one.is_running]
        yours = [one for one in running if one.credentials == credentials]
        if len(yours) >= _MOST_OF_A_CALLER or len(running) >= _MOST_RUNNING:
            whose = "of yours " if len(yours) >= _MOST_OF_A_CALLER else ""
            raise LimitReachedError(
                f"{len(yours if whose else running)} bulk actions {whose}are running on this"
                " console already; try again when one of them is over",
                subject="bulk actions",
            )
        job = Job(secrets.token_urlsafe(12), verb, credentials, names, filter, parent)
        self._jobs[job.id] = job
        if len(self._jobs) > _MOST_KEPT:
            self._jobs.pop(next(one.id for one in self._jobs.values() if not one.is_running))
        task = asyncio.get_running_loop().create_task(job.run(act))
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._end(job, task))
        return job

    def get(self, job_id: str, credentials: Credentials) -> Job:
        """Returns a job of a caller.

        Raises:
            LroError: NOT_FOUND, if there is none, or it is another caller's.
        """
        job = self._jobs.get(job_id)
        if job is None or job.credentials != credentials:
            raise LroError(
                "this console knows no such bulk action: it ended more than ten minutes ago, or the"
                " console was started anew, and has left undone what was left; look at the list",
                code=Code.NOT_FOUND,
            )
        return job

    def _end(self, job: Job, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        task.get_loop().call_later(_KEPT_SECONDS, self._jobs.pop, job.id, None)
