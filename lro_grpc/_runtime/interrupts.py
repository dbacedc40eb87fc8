"""Keeps what is no error, such as a ``sys.exit``, within the function that has raised it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def only_errors(what: str) -> Iterator[None]:
    """Makes an error of whatever else a service's function raises.

    A ``sys.exit`` would end the event loop, and a CancelledError whoever has called the function.

    Args:
        what: The function, for the log.
    """
    try:
        yield
    except Exception:
        raise
    except BaseException as cause:
        if is_ctrl_c(cause):
            raise
        raise RuntimeError(f"{what} has raised {type(cause).__name__}") from cause


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
