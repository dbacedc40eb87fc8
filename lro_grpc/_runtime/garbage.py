"""Python's search for unreachable cycles, set up for a process that serves.

What a process has loaded stays for good: modules, classes, descriptors, tens of thousands of
objects. Each full search goes through all of them, every few thousand operations. So what is there
when it begins to serve is left out of all later searches. New objects are searched more rarely than
by default: by then most of those of a group of operations are gone.

That is a matter of the whole process: a command of this package decides it, the library never does.
"""

from __future__ import annotations

import gc

_NEW_OBJECTS = 10_000
"""The objects by which there are to be more before the new ones are searched."""


def search_less() -> None:
    """Leaves what is loaded out of all later searches, and has the others be fewer."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])
