"""What becomes of a completion: when it is told, when again, and when no more."""

from __future__ import annotations

from typing import Any

import pytest

from lro.v1 import completion_event_pb2
from lro_grpc._events.delivery_queue import (
    MOST,
    MOST_EACH,
    MOST_WAITING,
    PATIENCE_SECONDS,
    Delivery,
    DeliveryQueue,
)
from lro_grpc._operation import completion
from lro_grpc._operation.completion import Completion, failed, given_up, put_back, taken
from lro_grpc._operation.completion_event import CompletionEvent

SECOND = 1_000_000
HOUR = 3600 * SECOND
END = 1_800_000_000 * SECOND
NAME = "projects/p/operations/op-1"


def of(name: str = NAME, **values: int) -> Completion:
    return Completion(name, END - HOUR, END, END + 720 * HOUR, END)._replace(**values)


def test_an_id_is_of_one_operation_and_stays() -> None:
    one = of()
    again = taken(one, END, HOUR)
    assert one.id == again.id
    assert one.id.isalnum()
    assert one.id != of("projects/p/operations/op-2").id
    assert one.id != of(create_time=END).id


@pytest.mark.parametrize(
    ("attempt", "ceiling"), [(1, 1), (2, 2), (3, 4), (12, 2048), (13, 3600), (1000, 3600)]
)
def test_pauses_double_up_to_an_hour(attempt: int, ceiling: int) -> None:
    """Each is between a half of its ceiling and the whole."""
    one, now = of(attempt_count=attempt), END + HOUR
    for number, part in ((0.0, 0.5), (1.0, 1.0)):
        after = failed(one, b"why", now, lambda number=number: number)
        assert after.next_time - now == ceiling * SECOND * part
        assert (after.error, after.given_up, after.attempt_count) == (b"why", False, attempt)


@pytest.mark.parametrize(("asked", "waits"), [(0, 1), (20, 20), (3600, 3600), (86_400, 3600)])
def test_the_pause_that_a_receiver_asks_for_is_kept_up_to_an_hour(asked: int, waits: int) -> None:
    after = failed(of(attempt_count=1), b"", END, lambda: 1.0, pause=asked * SECOND)
    assert after.next_time - END == waits * SECOND


def test_what_fails_for_a_day_is_given_up_and_kept_as_long_as_its_operation() -> None:
    one = of(attempt_count=30)
    assert not failed(one, b"", END + 24 * HOUR - 1, lambda: 0.0).given_up
    after = failed(one, b"why", END + 24 * HOUR, lambda: 0.0)
    assert after == given_up(one, b"why")
    assert (after.given_up, after.next_time) == (True, one.expire_time)


def test_a_server_that_was_down_for_days_tries_once_before_it_gives_up() -> None:
    late = END + 72 * HOUR
    begun = taken(of(), late, HOUR)
    assert begun.attempt_count == 1
    assert not begun.given_up


def test_what_nobody_has_begun_to_tell_counts_no_attempt() -> None:
    one = of(attempt_count=3)
    assert put_back(taken(one, END, HOUR), END + SECOND) == one._replace(next_time=END + SECOND)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [("name", 1), ("next_time", -1), ("end_time", "soon"), ("event", "text"), ("error", None)],
)
def test_a_row_with_other_values_is_unsound(field: str, wrong: object) -> None:
    assert completion.is_sound(of())
    assert not completion.is_sound(of()._replace(**{field: wrong}))  # type: ignore[arg-type]


def delivery(
    destination: str, taken_at: float = 0.0, caller: str = "", attempt_count: int = 1
) -> Delivery:
    data = completion_event_pb2.CompletionEvent(caller=caller)
    event = CompletionEvent("id", data, attempt_count)
    return Delivery(of()._replace(attempt_count=attempt_count), event, destination, taken_at)


def begun(queue: DeliveryQueue) -> list[Delivery]:
    some = []
    while one := queue.begin():
        some.append(one)
    return some


def test_so_many_are_told_at_a_time_and_few_to_one_destination() -> None:
    queue = DeliveryQueue()
    for _ in range(10):
        queue.add(delivery("slow"))
    slow = begun(queue)
    assert len(slow) == MOST_EACH
    for number in range(30):
        queue.add(delivery(f"d{number}"))
    others = begun(queue)
    assert [one.destination for one in others] == [f"d{n}" for n in range(MOST - MOST_EACH)]
    assert queue.begin() is None
    queue.end(others[0])
    assert [one.destination for one in begun(queue)] == [f"d{MOST - MOST_EACH}"]
    queue.end(slow[0])
    assert [one.destination for one in begun(queue)] == ["slow"]


@pytest.mark.parametrize("of_one", [{"caller": "ann"}, {"attempt_count": 2}])
def test_half_of_the_places_are_left_to_others(of_one: dict[str, Any]) -> None:
    """A caller may name many hosts that are slow; and what was slow before may be so again."""
    queue = DeliveryQueue()
    for number in range(MOST):
        queue.add(delivery(f"s{number}", **of_one))
    slow = begun(queue)
    assert len(slow) == MOST // 2
    for number in range(MOST):
        queue.add(delivery(f"d{number}", caller=f"c{number}"))
    assert len(begun(queue)) == MOST // 2
    queue.end(slow[0])
    assert [one.destination for one in begun(queue)] == [f"s{MOST // 2}"]


def test_callers_that_nobody_knows_are_not_one() -> None:
    queue = DeliveryQueue()
    for number in range(MOST):
        queue.add(delivery(f"d{number}"))
    assert len(begun(queue)) == MOST


def test_what_waits_for_too_long_leaves_its_room_to_others() -> None:
    queue = DeliveryQueue()
    for _ in range(10):
        queue.add(delivery("slow"))
    queue.add(delivery("slow", taken_at=1.0))
    begun(queue)
    assert queue.room == MOST_WAITING - 7
    assert queue.late(PATIENCE_SECONDS - 0.1) == []
    assert len(queue.late(PATIENCE_SECONDS)) == 6
    assert queue.room == MOST_WAITING - 1
    assert [one.taken_at for one in queue.clear()] == [1.0]
