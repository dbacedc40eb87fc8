"""Has every event loop of an environment be uvloop's, for `make test-speed`, which installs this.

So the servers of the tests run on it, and the tests themselves, whoever begins their loop.
"""

from __future__ import annotations

import asyncio

import uvloop

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
