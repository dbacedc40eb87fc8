"""Tasks that go on through every cancel, and must not keep a process alive.

``asyncio.run`` cancels what is left on its loop, and waits for it, for ever if need be. So a task
that does not end is taken off the list of those that it finds; it never goes on once the loop has
ended.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
from collections.abc import Collection
from typing import Any

OWNER: contextvars.ContextVar[object] = contextvars.ContextVar("lro_owner", default=None)
"""Whose work a task does: set in its context, and so in that of the tasks that it begins."""


def abandon(owners: Collection[object]) -> None:
    """Lets the running loop end without the tasks of some owners."""
    for task in asyncio.all_tasks():
        context = _context(task)
        if context is not None and context.get(OWNER) in owners:
            asyncio.tasks._unregister_task(task)
            task._log_destroy_pending = False  # type: ignore[attr-defined]


def _context(task: asyncio.Task[Any]) -> contextvars.Context | None:
    if sys.version_info >= (3, 12):
        return task.get_context()
    referents = gc.get_referents(task)
    return next((one for one in referents if isinstance(one, contextvars.Context)), None)
