"""Servers that share a store: any of them answers any call, whichever runs the operation (R13).

No server reads, sweeps or renews by itself while such a test lasts: what one knows of another's
doing it has heard, or, if it is deaf, has looked for.
"""

from __future__ import annotations

import queue
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from google.rpc import code_pb2
from postgres_server import with_options
from server_harness import SECONDS, Gate, Instance, fleet, metadata_of, response_of

from lro.v1 import state_pb2
from lro_grpc._stores import notifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from server_harness import Server

HOUR = timedelta(hours=1)
RUNNING = state_pb2.JOB_STATE_RUNNING
SUCCEEDED = state_pb2.JOB_STATE_SUCCEEDED
PAUSED = state_pb2.JOB_STATE_PAUSED


class Replica:
    """A server, and a handler that ends once the gate of its server is open."""

    def __init__(self, serve: Callable[..., Server], store: str, began: Any, **options: Any):
        self.gate = Gate()

        async def run(_: Any, _request: Any, op: Any) -> Instance:
            began.put((self, op.name))
            await self.gate.pass_by_async()
            return Instance(seed_rows=op.attempt)

        servicer = fleet("CreateInstance", run, pausable=True, **options)
        self.server = serve(servicer, store=store, lease=HOUR, sweep=HOUR)

    def start(self) -> str:
        """Starts an operation, which any server may run."""
        return self.server.create(instance_id="i-1").name


class Replicas:
    """Two servers of one store."""

    def __init__(self, serve: Callable[..., Server], store: str) -> None:
        self._began: queue.SimpleQueue[tuple[Replica, str]] = queue.SimpleQueue()
        self.both = [Replica(serve, store, self._began, concurrency=1) for _ in range(2)]

    def runner(self, name: str) -> tuple[Replica, Replica]:
        """Returns the server at which an operation begins to run, and the other one."""
        runner, began = self._began.get(timeout=SECONDS)
        assert began == name
        (other,) = [one for one in self.both if one is not runner]
        return runner, other


@pytest.fixture(params=[{}, {"pgbouncer": "1"}], ids=["they hear", "they are deaf"])
def replicas(
    request: pytest.FixtureRequest,
    postgres: str,
    serve: Callable[..., Server],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Replicas]:
    monkeypatch.setattr(notifier, "POLL_SECONDS", HOUR.total_seconds())
    replicas = Replicas(serve, with_options(postgres, **request.param))
    yield replicas
    for one in replicas.both:
        one.gate.open()


def test_a_wait_ends_at_another_server_than_its_operation(replicas: Replicas) -> None:
    name = replicas.both[0].start()
    runner, other = replicas.runner(name)
    waiting = other.server.waiting(name)
    runner.gate.open()
    assert waiting.result(SECONDS).done


def test_a_watch_shows_what_another_server_does(replicas: Replicas) -> None:
    name = replicas.both[0].start()
    runner, other = replicas.runner(name)
    shown = (metadata_of(answer.operation) for answer in other.server.watching(name))
    assert next(shown).state == RUNNING
    runner.server.pause(name)
    assert next(shown).pause_requested
    runner.gate.open()
    assert [*shown][-1].state == SUCCEEDED


def test_a_cancel_at_another_server_stops_the_handler(replicas: Replicas) -> None:
    name = replicas.both[0].start()
    runner, other = replicas.runner(name)
    other.server.cancel(name)
    for one in (runner, other):
        assert one.server.done(name).error.code == code_pb2.CANCELLED


def test_a_terminate_at_another_server_makes_room_for_the_next_operation(
    replicas: Replicas,
) -> None:
    names = [replicas.both[0].start()]
    runner, other = replicas.runner(names[0])
    names.append(other.start())
    assert replicas.runner(names[1]) == (other, runner)
    waiting = runner.start()  # there is no slot for it
    other.server.terminate(names[0], "an operator says so")
    assert replicas.runner(waiting) == (runner, other)


def test_what_a_server_has_no_slot_for_runs_at_another_one(replicas: Replicas) -> None:
    name = replicas.both[0].start()
    runner, other = replicas.runner(name)
    assert replicas.runner(runner.start()) == (other, runner)


def test_what_a_server_gives_back_as_it_stops_goes_on_at_another_one(replicas: Replicas) -> None:
    name = replicas.both[0].start()
    runner, other = replicas.runner(name)
    waiting = other.server.waiting(name)
    runner.server.stop()
    assert replicas.runner(name) == (other, runner)
    other.gate.open()
    assert response_of(waiting.result(SECONDS)).seed_rows == 2


def test_a_resume_has_another_server_go_on(replicas: Replicas) -> None:
    name = replicas.both[0].start()
    runner, other = replicas.runner(name)
    assert replicas.runner(other.start()) == (other, runner)
    paused = other.start()
    other.server.pause(paused)
    assert metadata_of(runner.server.get(paused)).state == PAUSED
    runner.gate.open()
    assert other.server.done(name).done
    other.server.resume(paused)  # it has no slot itself
    assert replicas.runner(paused) == (runner, other)
    assert other.server.done(paused).done
