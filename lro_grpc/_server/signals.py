"""Begins a drain when a signal comes: of a server, or of the workers of a supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator

_log = logging.getLogger("lro_grpc")

SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""The signals that begin a drain."""

_handled: set[signal.Signals] = set()
"""The signals that begin a drain now."""

_forking = threading.local()
"""The state that a thread that forks has to give back: its ``mask`` of signals."""


def _hold_signals() -> None:
    """Has signals wait while this thread forks.

    One that reached the child in its first moment would meet its parent's handlers, and be lost.
    """
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _handled)


def _let_signals_come() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)


def _forget_signals() -> None:
    """Has signals end a forked child, as they end other programs.

    Its handlers, and the descriptor that wakes the loop, are its parent's: a signal to the child
    would begin the parent's drain, and not end the child.
    """
    if _handled:
        signal.set_wakeup_fd(-1)
    for number in _handled:
        signal.signal(number, signal.SIG_DFL)
    _let_signals_come()


if hasattr(os, "register_at_fork"):  # not on Windows, where no process forks
    os.register_at_fork(
        before=_hold_signals,
        after_in_parent=_let_signals_come,
        after_in_child=_forget_signals,
    )


@contextlib.contextmanager
def on_signals(
    drain: Callable[[int], object],
    loop: asyncio.AbstractEventLoop | None = None,
    *,
    numbers: Collection[signal.Signals] = SIGNALS,
) -> Iterator[None]:
    """Begins the drain on some signals; outside the main thread, Python allows no handlers.

    Args:
        drain: Called with the number of each that comes.
        loop: The loop that has to wake up for it, if the main thread runs one.
        numbers: The signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: object = None) -> None:
        del frame
        _log.info("%s received", signal.Signals(number).name)
        drain(number)

    former = {number: signal.getsignal(number) for number in numbers}
    for number in former:
        if loop is not None and sys.platform != "win32":
            loop.add_signal_handler(number, handle, number)
        else:
            signal.signal(number, handle)
    _handled.update(former)
    try:
        yield
    finally:
        _handled.difference_update(former)
        for number, handler in former.items():
            if loop is not None and sys.platform != "win32":
                loop.remove_signal_handler(number)
            # One that has not been set by Python (None) cannot be given back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
