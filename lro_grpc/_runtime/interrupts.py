"""Interrupts, such as a ``sys.exit``, made errors of the function that has raised them."""

from __future__ import annotations

import signal
import threading


class only_errors:  # noqa: N801 - it is used as contextlib's are
    """Makes an error of whatever else a service's function raises.

    A ``sys.exit`` would end the event loop, and a CancelledError whoever has called the function.

    Args:
        what: The function, for the log.
    """

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        """Begins to watch for it."""

    def __exit__(self, kind: object, raised: BaseException | None, traceback: object) -> None:
        """Raises an error in place of what is none."""
        if raised is None or isinstance(raised, Exception) or is_ctrl_c(raised):
            return
        raise RuntimeError(f"{self._what} has raised {type(raised).__name__}") from raised


def is_ctrl_c(error: BaseException) -> bool:
    """Tells whether an error, raised in this thread, may be the user's Ctrl-C.

    Python raises it in the main thread only, and only while its own handler of SIGINT stands: the
    handlers of ``Operations.run`` and of ``asyncio.run`` raise nothing at the first one.
    """
    return (
        isinstance(error, KeyboardInterrupt)
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
