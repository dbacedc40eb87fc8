"""Owners of tasks: each task knows whose work it does, and so do all that it begins."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
from collections.abc import Collection
from typing import Any

OWNER: contextvars.ContextVar[object] = contextvars.ContextVar("lro_owner", default=None)
"""The owner, in the task's context."""


def owner_of(task: asyncio.Task[Any] | None) -> object:
    """Returns whose work a task does, from any thread; None if that is nobody's."""
    context = None if task is None else _context(task)
    return None if context is None else context.get(OWNER)


def abandon(owners: Collection[object]) -> None:
    """Lets the running loop end without the tasks of some owners.

    ``asyncio.run`` cancels what is left on its loop, and waits for it, for ever if need be. So
    tasks that go on through every cancel are taken off the list of those that it finds; they never
    go on once the loop has ended.
    """
    for task in asyncio.all_tasks():
        if owner_of(task) in owners:
            asyncio.tasks._unregister_task(task)
            task._log_destroy_pending = False  # type: ignore[attr-defined]


def _context(task: asyncio.Task[Any]) -> contextvars.Context | None:
    if sys.version_info >= (3, 12):
        return task.get_context()
    referents = gc.get_referents(task)
    return next((one for one in referents if isinstance(one, contextvars.Context)), None)
