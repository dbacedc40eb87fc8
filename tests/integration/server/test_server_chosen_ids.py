"""Ids that callers choose: of starts that reach several servers of a database at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from server_harness import PARENT, Failure, Instance, failure_of, fleet, together, uuid_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from server_harness import Server

ROUNDS = 5
EACH = 3
"""The starts that reach each server at once."""


class Servers:
    """Two servers of one database, in which an operation's id is that of its instance."""

    def __init__(self, serve: Callable[..., Server], store: str) -> None:
        self.ran: list[str] = []

        def run(_: Any, request: Any, op: Any) -> Instance:
            self.ran.append(op.name)
            return Instance(name=request.instance_id)

        self.both = [
            serve(
                fleet("CreateInstance", run),
                store=store,
                new_id=lambda request: request.instance_id,
            )
            for _ in range(2)
        ]

    def start_at_once(self, own_id: str, fields: Callable[[int], Any]) -> list[str | Failure]:
        """Starts operations of one id at both; returns the name, or the refusal, of each start."""

        def start(index: int) -> str | Failure:
            try:
                return self.both[index % 2].create(instance_id=own_id, **fields(index)).name
            except grpc.RpcError as error:
                return failure_of(error)

        return together(2 * EACH, start)


@pytest.fixture
def servers(serve: Callable[..., Server], postgres: str) -> Servers:
    return Servers(serve, postgres)


def check_one(servers: Servers, name: str, answers: list[str | Failure]) -> None:
    """Checks that one start has got the name, and each other one is told that it is taken."""
    assert [one for one in answers if not isinstance(one, Failure)] == [name]
    for refusal in (one for one in answers if isinstance(one, Failure)):
        assert (refusal.code, refusal.info.reason) == (
            grpc.StatusCode.ALREADY_EXISTS,
            "NAME_TAKEN",
        )
        assert name in refusal.message
    for server in servers.both:
        assert server.done(name).done


def test_the_same_request_gets_its_operation_everywhere(servers: Servers) -> None:
    for number in range(ROUNDS):
        name = f"{PARENT}/operations/i-{number}"
        same = {"request_id": uuid_of(f"same {number}")}
        assert servers.start_at_once(f"i-{number}", lambda _, same=same: same) == [name] * 2 * EACH
        assert servers.both[0].done(name).done
        assert servers.ran.count(name) == 1


@pytest.mark.parametrize("with_request_id", [True, False])
def test_of_other_requests_one_gets_the_name(servers: Servers, with_request_id: bool) -> None:
    for number in range(ROUNDS):
        name = f"{PARENT}/operations/i-{number}"

        def fields(index: int, number: int = number) -> dict[str, str]:
            return {"request_id": uuid_of(f"{number} {index}")} if with_request_id else {}

        check_one(servers, name, servers.start_at_once(f"i-{number}", fields))
        assert servers.ran.count(name) == 1


def test_a_name_is_free_once_its_operation_was_deleted_at_either_server(servers: Servers) -> None:
    name = f"{PARENT}/operations/again"
    for number in range(ROUNDS):
        check_one(servers, name, servers.start_at_once("again", lambda _: {}))
        assert servers.ran.count(name) == number + 1
        servers.both[number % 2].delete(name)
