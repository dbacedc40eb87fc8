"""Processes that are forks of one that has imported what they need.

To start Python and to import a server or ``lro`` takes ten times as long as what most tests have
it do. A fork has its own arguments, environment, folder, files and exit code, is sent signals and
is killed as any other process. A test of what happens before the imports, or of what depends on the
environment then, begins a new process.

As a program, ``forked.py FD FUNCTION MORE…`` is the process that is forked: it imports MORE and the
module of the function, which it calls in each fork.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import importlib.util
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
from concurrent import futures
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_MOST_BYTES = 1 << 20
"""Of a request: arguments and an environment."""

File = IO[Any] | int | None
"""An open file or its descriptor, or ``subprocess.PIPE``; None for a closed one."""


class ForkServer:
    """A process to be forked, which is started when it is first needed.

    Args:
        function: What a fork calls, as ``module:function`` or ``script.py:function``; it returns as
            a program's main does.
        *more: Other modules to be imported before.
        options: Options of Python.
    """

    def __init__(self, function: str, *more: str, options: Iterable[str] = ()) -> None:
        self._options = list(options)
        self._arguments = [function, *more]
        self._turn = threading.Lock()
        self._socket: socket.socket | None = None

    def start(
        self,
        arguments: list[str],
        environment: Mapping[str, str],
        folder: Path,
        files: tuple[File, File, File],
        *,
        leads_group: bool = False,
    ) -> ForkedProcess:
        """Returns a new process.

        Args:
            arguments: Those after the program's name.
            environment: All of it.
            folder: The one that it is in.
            files: Its stdin, stdout and stderr.
            leads_group: Whether it begins a session, and so a group of processes.
        """
        are_open = [file is not None for file in files]
        request = json.dumps(
            [arguments, dict(environment), str(folder), are_open, leads_group]
        ).encode()
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pipes: list[IO[str] | None] = [None] * 3
        with its, contextlib.ExitStack() as passed, self._turn:
            given = [its.fileno()]
            for number, file in enumerate(files):
                if file == subprocess.PIPE:
                    read, write = os.pipe()
                    mine, other, mode = (read, write, "r") if number else (write, read, "w")
                    pipes[number] = os.fdopen(mine, mode, encoding="utf-8")
                    passed.callback(os.close, other)
                    given.append(other)
                elif file is not None:
                    given.append(file if isinstance(file, int) else file.fileno())
            self._socket = self._socket or self._run()
            socket.send_fds(self._socket, [request], given)
        return ForkedProcess(ours, pipes)

    def _run(self) -> socket.socket:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            fd = its.fileno()
            command = [sys.executable, *self._options, __file__, str(fd), *self._arguments]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[fd], env=environment
            )

        def end() -> None:
            ours.close()
            process.wait()

        atexit.register(end)
        return ours


class ForkedProcess:
    """A fork, with what ``subprocess.Popen`` has.

    Args:
        answers: Where its process id comes from, and when it has ended its exit code.
        pipes: The ends of its stdin, stdout and stderr that are not its own.
    """

    def __init__(self, answers: socket.socket, pipes: list[IO[str] | None]) -> None:
        self._answers = answers
        self.stdin, self.stdout, self.stderr = pipes
        self._turn = threading.Lock()
        self.pid = self._answer()
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Returns the exit code if it has ended, or the negative number of the signal."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Returns the exit code when it has ended.

        Raises:
            subprocess.TimeoutExpired: It has not within that many seconds.
        """
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Closes its stdin, and returns what is left of its stdout and stderr when it has ended.

        Raises:
            subprocess.TimeoutExpired: It had not within that many seconds, and was killed.
        """
        if self.stdin:
            self.stdin.close()
        with futures.ThreadPoolExecutor(2) as pool:
            rest = [pool.submit(_rest, pipe) for pipe in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            return rest[0].result(), rest[1].result()

    def send_signal(self, number: int) -> None:
        """Sends it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Asks it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> int | None:
        with self._turn:
            if self.returncode is None and self._has_answered(timeout):
                self.returncode = self._answer()
                self._answers.close()
            return self.returncode

    def _has_answered(self, timeout: float | None) -> bool:
        with selectors.DefaultSelector() as selector:  # select() knows a thousand files alone
            selector.register(self._answers, selectors.EVENT_READ)
            return bool(selector.select(timeout))

    def _answer(self) -> int:
        answer = self._answers.recv(_MOST_BYTES)
        assert answer, "the process that is forked has ended; its error output says why"
        return int(answer)


def _rest(pipe: IO[str] | None) -> str:
    if pipe is None or pipe.closed:
        return ""
    with pipe:
        return pipe.read()


def _fork_for(requests: socket.socket) -> list[str]:
    """Forks at each request, and returns in each fork, with its arguments."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the forks
    while True:
        request, files, _, _ = socket.recv_fds(requests, _MOST_BYTES, 4)
        if not request:
            requests.close()
            sys.exit()
        if not os.fork():
            requests.close()
            if not (pid := os.fork()):
                signal.signal(signal.SIGINT, signal.default_int_handler)
                return _become(json.loads(request), files)
            _guard(pid, files)
        for file in files:
            os.close(file)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # the guard of a fork that has ended
                pass


def _guard(pid: int, files: list[int]) -> None:
    """Says when a fork ends: the parent of one can wait for it, and the test is not that."""
    answers = socket.socket(fileno=files[0])
    for file in files[1:]:
        os.close(file)
    answers.send(str(pid).encode())
    _, status = os.waitpid(pid, 0)
    answers.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(request: list[Any], files: list[int]) -> list[str]:
    """Has this process have what the request gives it, and returns the arguments."""
    arguments, environment, folder, are_open, leads_group = request
    if leads_group:
        os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    os.close(files[0])
    given = iter(files[1:])
    for number, is_open in enumerate(are_open):
        if is_open:
            os.dup2(file := next(given), number)
            os.close(file)
        else:
            os.close(number)
    sys.stdin = sys.__stdin__ = _text(0, "r", "strict") if are_open[0] else None
    sys.stdout = sys.__stdout__ = _text(1, "w", "strict") if are_open[1] else None
    sys.stderr = sys.__stderr__ = _text(2, "w", "backslashreplace", 1) if are_open[2] else None
    return [str(one) for one in arguments]


def _text(number: int, mode: str, errors: str, buffering: int = -1) -> Any:
    return open(number, mode, buffering, encoding="utf-8", errors=errors, closefd=False)


def main(fd: str, function: str, *more: str) -> None:
    """Imports, and then calls the function in each fork."""
    for one in more:
        importlib.import_module(one)
    module, _, name = function.rpartition(":")
    found = _script(module) if module.endswith(".py") else importlib.import_module(module)
    call = getattr(found, name)
    gc.freeze()  # a fork that looks for garbage would have a copy of each page
    sys.argv[1:] = _fork_for(socket.socket(fileno=int(fd)))
    sys.exit(call())


def _script(path: str) -> Any:
    spec = importlib.util.spec_from_file_location("forked_script", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main(*sys.argv[1:])
