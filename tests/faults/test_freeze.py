"""A server stands still for longer than the leases of its attempts, and then goes on (R5)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from killable import Site, create, expected, outcome, seen, snapshot

if TYPE_CHECKING:
    from google.protobuf.message import Message

PARENT = "projects/p/locations/x1"
LEASE_SECONDS = 1


@pytest.mark.parametrize("stack", ["aio", "sync"])
def test_attempts_whose_leases_have_run_out_are_followed_by_others_and_have_no_say(
    site: Site, stack: str
) -> None:
    requests: list[Message] = [create(PARENT, "async-noop"), snapshot(PARENT, "def-noop")]
    points = ["creating/async-noop", "creating/def-noop"]
    server = site.serve(server=stack, lease=LEASE_SECONDS, hold=points)
    started = {server.start(request): request for request in requests}
    server.reach(*points)

    server.freeze()
    threading.Event().wait(1.5 * LEASE_SECONDS)
    server.thaw()

    for name in started:
        server.get_when(name, lambda operation: seen(operation).attempt > 1)
    server.release()  # the first attempts' handlers end now, too
    for name, request in started.items():
        operation = server.wait(name)
        assert outcome(operation) == expected(request)
        attempts = site.attempts(name)
        assert attempts == list(range(1, seen(operation).attempt + 1))
        assert server.get(name) == operation
    server.drain()
