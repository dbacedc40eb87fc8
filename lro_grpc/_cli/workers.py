"""The supervisor of worker processes: starts them, restarts those that die, drains all at a signal.

The supervisor serves nothing and knows no store: a worker that dies takes nothing of it along. Each
worker is a process begun anew, never a fork, for gRPC does not outlive one.

**The lifeline** ties the two together: a pair of connected sockets, one end each. The worker writes
a byte once it serves. It reads only that the other end is closed, which the kernel does for a
supervisor that is killed, too: then the worker drains by itself (:mod:`lro_grpc._cli.lifeline`).

**The first worker starts alone.** What keeps it from starting would keep them all, and no restart
mends it: it ends the supervisor, as it ends a server without one. From the moment it serves, a
worker that dies is started again after a pause.

**No worker that serves is ended for those that do not.** What keeps one from starting, such as a
database that is away, is tried again for as long as another one serves. All are given up once none
does, and one of them has died too often in too short a time.

**A signal** has all workers drain. Further ones are passed on as they are, for Ctrl-C cuts a drain
short as it does that of a server alone. The workers are in sessions of their own, so that Ctrl-C,
which a terminal sends to all of the supervisor's, reaches each of them once.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import BinaryIO, TextIO

from lro_grpc._runtime.threads import run_in_thread, start_thread
from lro_grpc._server.signals import on_signals

MOST_WORKERS = 256
"""The most workers of one supervisor."""

_MOST_DEATHS = 5
_DEATHS_SECONDS = 30.0
"""A worker that dies so often in this time is not started again, unless another one serves."""

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
"""Seconds; also the pause after a start that has failed while another worker serves."""

_REMEMBERED_DEATHS = 8
"""With so many in a row the pause is the longest."""

_LAST_LINES = 10
"""Lines of a worker's output that are repeated when it is given up."""

_MOST_OF_A_LINE = 1 << 16
"""Bytes; a longer line is passed on in pieces."""

_OUTPUT_SECONDS = 3.0
"""The wait for the last output of a worker: a child of its own may keep it open."""

_output_locks: dict[tuple[int, int], threading.Lock] = {}
"""By the file that is written to: the thread that writes a line has the lock, lest lines mix.

Only threads write the supervisor's output, for its reader may be slow, or have stopped. Then the
workers wait to write; the supervisor must not.
"""


class WorkerDiedError(Exception):
    """A worker has died, and is not started again.

    Attributes:
        exit_code: The exit code that its supervisor is to end with: that of a first worker that
            could not start, as it would have been without a supervisor; else 1.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def pause_before_restart(deaths: Sequence[float]) -> float | None:
    """Returns how long a worker that has died is left alone; None if that is too often.

    Each death that comes soon after the one before doubles the pause.

    Args:
        deaths: The times of its latest deaths in seconds, this one at the end.
    """
    if len(deaths) >= _MOST_DEATHS and deaths[-1] - deaths[-_MOST_DEATHS] <= _DEATHS_SECONDS:
        return None
    pause = _FIRST_PAUSE
    for former, death in reversed([*itertools.pairwise(deaths)]):
        if death - former > _DEATHS_SECONDS:
            break
        pause *= 2
    return min(pause, _LONGEST_PAUSE)


def run_workers(
    count: int,
    changes: Callable[[int], Mapping[str, str]],
    *,
    ready: Callable[[], object],
    stop_seconds: float,
) -> None:
    """Runs this command in several workers; see :func:`supervise`.

    Args:
        count: The number of workers.
        changes: Returns the options that a worker, by its number, is given beside those of this
            command, or in their place.
        ready: As of ``supervise``.
        stop_seconds: Likewise.
    """
    arguments = sys.orig_argv[1:]
    end = arguments.index("--") if "--" in arguments else len(arguments)

    def command(number: int, lifeline: int) -> list[str]:
        own = {**changes(number), "--workers": "1", "--worker-of": str(lifeline)}
        options = [part for option, value in own.items() for part in (option, value)]
        return [sys.executable, *arguments[:end], *options, *arguments[end:]]

    asyncio.run(supervise(command, count, ready=ready, stop_seconds=stop_seconds))


async def supervise(
    command: Callable[[int, int], Sequence[str]],
    count: int,
    *,
    ready: Callable[[], object],
    stop_seconds: float,
) -> None:
    """Runs workers until a signal comes, and drains them.

    Args:
        command: Makes the command of a worker of its number, and of the file descriptor of its
            lifeline.
        count: The number of workers.
        ready: Is called once all of them serve for the first time.
        stop_seconds: The time that they are given to drain before they are killed.

    Raises:
        WorkerDiedError: If the first cannot start; or one dies again and again, and none serves.
        OSError: If this machine can begin no process, and none serves.
    """
    await _Supervisor(command, count, ready, stop_seconds).run()


class _Supervisor:
    """See :func:`supervise`."""

    def __init__(
        self,
        command: Callable[[int, int], Sequence[str]],
        count: int,
        ready: Callable[[], object],
        stop_seconds: float,
    ) -> None:
        self._workers = [_Worker(number, command) for number in range(1, count + 1)]
        self._ready = ready
        self._stop_seconds = stop_seconds
        self._not_ready = {worker.number for worker in self._workers}
        """Those that have not served yet."""
        self._serving: set[int] = set()
        """Those whose process serves."""
        self._keeping: list[asyncio.Task[None]] = []
        self._failure: BaseException | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        with on_signals(self._stop, asyncio.get_running_loop()):
            self._begin(self._workers[:1])
            await self._stopping.wait()
            _, late = await asyncio.wait(self._keeping, timeout=self._stop_seconds)
            if late:
                self._kill_all()
                await asyncio.wait(late)
        if self._failure is not None:
            raise self._failure

    @property
    def _has_served(self) -> bool:
        """Whether any worker has served yet."""
        return len(self._not_ready) < len(self._workers)

    def _stop(self, number: int = signal.SIGTERM) -> None:
        """Asks all workers to drain, by SIGTERM; from then on it passes signals on as they are."""
        passed_on = number if self._stopping.is_set() else signal.SIGTERM
        self._stopping.set()
        for worker in self._workers:
            worker.send(passed_on)

    def _kill_all(self) -> None:
        killed = [str(one.number) for one in self._workers if one.send(signal.SIGKILL)]
        self._failure = self._failure or WorkerDiedError(
            f"not drained after {self._stop_seconds:g} s, and killed: worker {', '.join(killed)}"
        )

    def _begin(self, workers: Iterable[_Worker]) -> None:
        for worker in workers:
            task = asyncio.create_task(self._keep_running(worker))
            task.add_done_callback(self._on_kept)
            self._keeping.append(task)

    def _on_kept(self, task: asyncio.Task[None]) -> None:
        """Stops all when one worker is given up."""
        failure = None if task.cancelled() else task.exception()
        if failure is not None and not self._stopping.is_set():
            self._failure = failure
            self._stop()

    async def _keep_running(self, worker: _Worker) -> None:
        deaths: deque[float] = deque(maxlen=_REMEMBERED_DEATHS)
        while not self._stopping.is_set():
            try:
                exit_code = await worker.run(partial(self._on_ready, worker), self._stopping)
                how = f"worker {worker.number} has ended with {_named(exit_code)}"
            except OSError as error:
                if not self._serving:
                    raise
                how = f"worker {worker.number} cannot be begun: {error}"
            if self._stopping.is_set():
                return
            if not self._has_served:
                raise WorkerDiedError(f"{how} before it served{worker.last}", max(exit_code, 1))
            has_served = worker.number in self._serving
            self._serving.discard(worker.number)
            pause: float | None = None
            if has_served or not self._serving:
                deaths.append(asyncio.get_running_loop().time())
                pause = pause_before_restart(deaths)
            if pause is None and not self._serving:
                raise WorkerDiedError(
                    f"{how}, as it has {_MOST_DEATHS} times within {_DEATHS_SECONDS:g} s, and no"
                    f" worker serves any more{worker.last}"
                )
            pause = pause or _LONGEST_PAUSE
            _say_soon(sys.stderr, partial(_log, f"{how}; it is started again in {pause:.1f} s"))
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    def _on_ready(self, worker: _Worker) -> None:
        if not self._has_served:
            self._begin(self._workers[1:])
        self._serving.add(worker.number)
        if worker.number in self._not_ready:
            self._not_ready.remove(worker.number)
            if not self._not_ready:
                _say_soon(sys.stdout, self._ready)


class _Worker:
    """One place among the workers, and the process that has it at present."""

    def __init__(self, number: int, command: Callable[[int, int], Sequence[str]]) -> None:
        self.number = number
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._last: deque[str] = deque(maxlen=_LAST_LINES)

    @property
    def last(self) -> str:
        """The end of a sentence: what it has said last."""
        lines = "".join(f"\n    {line}" for line in self._last.copy())  # threads add to it
        return f"; its last lines:{lines}" if lines else ", without a word"

    def send(self, number: int) -> bool:
        """Sends a signal to its process; returns False if it has none."""
        if self._process is None or self._process.returncode is not None:
            return False
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        return True

    async def run(self, on_ready: Callable[[], object], stopping: asyncio.Event) -> int:
        """Runs a process to its end, and returns its exit code."""
        self._last.clear()
        ours, theirs = socket.socketpair()
        with ours:
            with theirs, _Output(self.number, self._last) as output:
                descriptor = theirs.fileno()
                self._process = await asyncio.create_subprocess_exec(
                    *self._command(self.number, descriptor),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output.stdout,
                    stderr=output.stderr,
                    pass_fds=[descriptor],
                    start_new_session=True,
                )
            if stopping.is_set():
                self.send(signal.SIGTERM)  # the one that all were sent has come too early
            hearing = asyncio.create_task(_hear(ours, on_ready))
            exit_code = await self._process.wait()
            hearing.cancel()
            await asyncio.wait([hearing])
        await output.end()
        return exit_code


async def _hear(lifeline: socket.socket, on_ready: Callable[[], object]) -> None:
    """Waits until the worker says that it serves; it says nothing if it dies first."""
    lifeline.setblocking(False)
    with contextlib.suppress(ConnectionError):
        if await asyncio.get_running_loop().sock_recv(lifeline, 1):
            on_ready()


class _Output:
    """The output of a process: passed on line by line, with the worker's number in front."""

    def __init__(self, number: int, last: deque[str]) -> None:
        self._prefix = f"[{number}] ".encode()
        self._last = last
        with contextlib.ExitStack() as opened:
            stdout, self.stdout = _pipe(opened)
            stderr, self.stderr = _pipe(opened)
            opened.pop_all()  # both are there, and go on
        self._passing_on = [
            self._begin_to_pass_on(stdout, sys.stdout.fileno()),
            self._begin_to_pass_on(stderr, sys.stderr.fileno()),
        ]

    def __enter__(self) -> _Output:
        return self

    def __exit__(self, *_: object) -> None:
        """Closes this process's copies of the ends that the worker writes to."""
        os.close(self.stdout)
        os.close(self.stderr)

    async def end(self) -> None:
        """Waits until all has been passed on, but not for ever."""
        await asyncio.wait(self._passing_on, timeout=_OUTPUT_SECONDS)

    def _begin_to_pass_on(self, source: BinaryIO, sink: int) -> asyncio.Task[None]:
        return asyncio.create_task(run_in_thread("lro-output", self._pass_on, source, sink))

    def _pass_on(self, source: BinaryIO, sink: int) -> None:
        lock = _output_lock_of(sink)
        with source:
            while line := source.readline(_MOST_OF_A_LINE):
                line = line.removesuffix(b"\n")
                self._last.append(line.decode(errors="backslashreplace"))
                prefix = b"" if line.startswith(b"{") else self._prefix  # JSON stays as it is
                with lock, contextlib.suppress(OSError):  # nobody may read it any more
                    _write_all(sink, prefix + line + b"\n")


def _pipe(opened: contextlib.ExitStack) -> tuple[BinaryIO, int]:
    """Returns the ends of a pipe, to read from and to write to, which the stack closes."""
    source, end = os.pipe()
    opened.callback(os.close, end)
    return opened.enter_context(os.fdopen(source, "rb")), end


def _write_all(sink: int, text: bytes) -> None:
    while text:
        text = text[os.write(sink, text) :]


def _named(exit_code: int) -> str:
    with contextlib.suppress(ValueError):
        if exit_code < 0:
            return signal.Signals(-exit_code).name
    return f"exit code {exit_code}"


def _output_lock_of(sink: int) -> threading.Lock:
    file = os.fstat(sink)
    return _output_locks.setdefault((file.st_dev, file.st_ino), threading.Lock())


def _say_soon(sink: TextIO, say: Callable[[], object]) -> None:
    """Calls a function that writes to the supervisor's own output."""

    def say_alone() -> None:
        with _output_lock_of(sink.fileno()):
            say()

    start_thread("lro-say", say_alone)


def _log(message: str) -> None:
    print(f"lro: {message}", file=sys.stderr, flush=True)
