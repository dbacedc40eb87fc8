"""The watchdog of an event loop: logs that the loop stands still, with the stack that it stands in.

A handler that blocks the loop blocks every RPC, every other handler and every log line that they
would write. So a thread asks the loop for an answer now and then. If none comes, the thread logs
the stack of the loop's thread, and names the operation whose handler is on it: first after a
second, then each time that it has lasted twice as long, and once more when the loop goes on.

The thread measures itself as well. If it was late, and the process has used no processor meanwhile,
all of the process stood still, and no handler is to blame.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback

from lro_grpc._engine.attempt import Attempt
from lro_grpc._runtime.repeated_lines import PROCESS
from lro_grpc._runtime.task_owners import owner_of
from lro_grpc._runtime.threads import start_thread

_PAUSE_SECONDS = 0.5
"""The pause between an answer and the next question."""

_FIRST_SECONDS = 1.0
"""The time without an answer after which that is first reported."""

_STOPPED_SECONDS = 2.0
"""The time in which the process stood still, to be reported: a busy machine makes it wait less."""

_FRAMES = 20
"""The frames of a stack that are logged at most, the innermost ones."""

_STACK_CHARACTERS = 4000
"""The length of a stack at most."""


class Watchdog:
    """Watches the event loop on which it is made."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._over = threading.Event()

    def start(self) -> None:
        """Begins to watch."""
        start_thread("lro-watchdog", self._watch)

    def stop(self) -> None:
        """Watches no more."""
        self._over.set()

    def _watch(self) -> None:
        while not self._over.is_set() and self._loop.is_running():
            self._await_answer()
            self._wait(self._over, _PAUSE_SECONDS)

    def _await_answer(self) -> None:
        answered = threading.Event()
        asked = time.monotonic()
        try:
            self._loop.call_soon_threadsafe(answered.set)
        except RuntimeError:  # it is closed
            return
        report_at = _FIRST_SECONDS
        while True:
            asked += self._wait(answered, asked + report_at - time.monotonic())
            stood = time.monotonic() - asked
            if self._over.is_set() or not self._loop.is_running():
                return  # the loop may have ended without an answer
            if answered.is_set():
                break
            if stood >= report_at:
                self._report(stood)
                report_at *= 2
        if stood >= _FIRST_SECONDS:
            text = f"the event loop goes on, after it stood still for {stood:.1f} s"
            PROCESS.say(logging.WARNING, text, kind="goes on")

    def _wait(self, event: threading.Event, seconds: float) -> float:
        """Waits for an event; returns the seconds for which the whole process stood still."""
        begin, used = time.monotonic(), time.process_time()
        event.wait(max(0.0, seconds))
        late = time.monotonic() - begin - max(0.0, seconds)
        if late <= 0 or time.process_time() - used > late / 2:
            return 0.0
        if late >= _STOPPED_SECONDS:
            text = f"this process stood still for {late:.1f} s: it was stopped, or its machine was"
            PROCESS.say(logging.WARNING, text, kind="stood")
        return late

    def _report(self, seconds: float) -> None:
        attempt = owner_of(asyncio.current_task(self._loop))
        stack = _stack(self._loop_thread)
        if isinstance(attempt, Attempt):
            text = (
                f"the event loop has stood still for {seconds:.1f} s in the handler of"
                f" {attempt.handler.method} for {attempt.name}; what blocks belongs in a thread, or"
                " in a def handler"
            )
            kind = ("stands", attempt.handler.method)
            PROCESS.say(logging.WARNING, text, kind=kind, log=attempt.log, stack=stack)
        else:
            text = f"the event loop has stood still for {seconds:.1f} s"
            PROCESS.say(logging.WARNING, text, kind="stands", stack=stack)


def _stack(thread: int) -> str:
    frame = sys._current_frames().get(thread)
    lines = traceback.format_stack(frame, limit=_FRAMES) if frame else []
    return "".join(lines)[-_STACK_CHARACTERS:].rstrip()
