"""The name of a process, in the history of the attempts that it runs."""

from __future__ import annotations

import os
import socket

from lro_grpc._errors import ConfigurationError, cut
from lro_grpc._runtime.options import check_text

_MOST = 255


def this_process() -> str:
    """Returns the name of this process: its host's name, and its number there."""
    host = "".join(one if one.isprintable() else "?" for one in socket.gethostname())
    return f"{host[: _MOST - 20]}:{os.getpid()}"


def check_worker(name: str) -> None:
    """Checks a name that is given.

    Raises:
        ConfigurationError: If it is empty, too long, or cannot be printed.
    """
    check_text("worker", name)
    if not 1 <= len(name) <= _MOST or not name.isprintable():
        raise ConfigurationError(
            f"worker is {cut(name)!r}; give a name of 1 to {_MOST} printable characters"
        )
