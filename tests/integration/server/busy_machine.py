"""Lines of the log that a busy machine causes, on which an event loop or a process stands still."""

from __future__ import annotations

import re

_SAID = re.compile(
    r"the event loop (has stood still|goes on, after it stood still) for"
    r"|this process stood still for"
)


def is_said_of_it(line: str) -> bool:
    """Tells whether a line of the log is one of them; others may follow, of the loop's stack."""
    return _SAID.search(line) is not None
