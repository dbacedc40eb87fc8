"""A server stands still for longer than the leases of its attempts, and then goes on (R6)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from killable import Site, create, expected, outcome, snapshot

if TYPE_CHECKING:
    from google.protobuf.message import Message

PARENT = "projects/p/locations/x1"
LEASE_SECONDS = 1


@pytest.mark.parametrize("stack", ["aio", "sync"])
def test_a_frozen_process_that_alone_has_its_store_loses_no_attempt_however_often(
    site: Site, stack: str
) -> None:
    requests: list[Message] = [create(PARENT, "async-noop"), snapshot(PARENT, "def-noop")]
    points = ["creating/async-noop", "creating/def-noop"]
    server = site.serve(server=stack, lease=LEASE_SECONDS, hold=points)
    started = {server.start(request): request for request in requests}
    server.reach(*points)

    for _ in range(3):
        server.freeze()
        threading.Event().wait(1.5 * LEASE_SECONDS)
        server.thaw()
        server.start(create(PARENT, "more-noop"))  # it answers: all that was due has been done

    server.release()
    for name, request in started.items():
        assert outcome(server.wait(name)) == expected(request)
        assert site.attempts(name) == [1]
    server.drain()


def test_a_process_that_is_killed_while_it_is_frozen_is_followed_at_once(site: Site) -> None:
    request = create(PARENT, "async-noop")
    frozen = site.serve(lease=3600, hold=["creating/async-noop"])
    name = frozen.start(request)
    frozen.reach("creating/async-noop")
    frozen.freeze()
    frozen.kill()

    server = site.serve(lease=3600)
    assert outcome(server.wait(name)) == expected(request)
    assert site.attempts(name) == [1, 2]
    server.drain()


def test_of_a_frozen_process_no_handler_is_blamed(site: Site) -> None:
    server = site.serve(hold=["creating/async-noop"])
    server.start(create(PARENT, "async-noop"))
    server.reach("creating/async-noop")
    server.freeze()
    threading.Event().wait(3)
    server.thaw()
    said = server.said("this process stood still for")
    server.release()
    server.drain()
    assert "event loop" not in said
