"""The changes of a process that others hear of, and when."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from operation_histories import create

from lro_grpc._operation.events import (
    Cancel,
    Checkpoint,
    Claim,
    Delete,
    Fail,
    Heartbeat,
    LeaseLost,
    Pause,
    Release,
    Report,
    Resume,
    RetryLater,
    SetUpdating,
    Succeed,
    TimePassed,
)
from lro_grpc._stores.postgres.notice import MOST_HASHES, decoded, hash_of
from lro_grpc._stores.postgres.notice_queue import NoticeQueue

if TYPE_CHECKING:
    from lro_grpc._operation.events import Event
    from lro_grpc._stores.postgres.notice import Notice
    from lro_grpc.stores import Record

ME = hash_of("me")
LEASE = 1000


class Sender:
    """A queue, and the process that has it."""

    def __init__(self) -> None:
        self.has_room = True
        self.wakes = 0
        self.queue = NoticeQueue(ME, lambda _method: self.has_room, self._wake)

    def _wake(self) -> None:
        self.wakes += 1

    def note(self, record: Record, *happened: Event) -> Record:
        """Applies events, notes the last one, and returns the record."""
        for event in happened:
            before, record = record, event.apply(record, record.update_time + 1)
        self.queue.note(before, record)
        return record

    def names(self, now: float = 0.0) -> list[str]:
        return [*self.queue.take(now).names]


@pytest.fixture
def sender() -> Sender:
    return Sender()


ONE = create(pausable=True, max_attempts=3)
HELD = Claim(LEASE)


@pytest.mark.parametrize(
    "happened",
    [
        (HELD, Succeed(Report(1), b"")),
        (HELD, Fail(Report(1), b"")),
        (HELD, Cancel()),
        (Cancel(),),
        (HELD, Pause()),
        (HELD, Pause(), Resume()),
        (Pause(),),
        (Pause(), Resume()),
        (HELD, Pause(), Release(Report(1))),
        (HELD, Delete()),
    ],
)
def test_what_ends_an_operation_or_steers_its_attempt_is_sent_at_once(
    sender: Sender, happened: tuple[Event, ...]
) -> None:
    for _ in range(2):
        sender.note(ONE, *happened)
        assert sender.queue.due() == 0.0
        assert sender.names() == [hash_of(ONE.name)]


@pytest.mark.parametrize(
    "happened",
    [
        (HELD,),
        (HELD, Report(1, progress_percent=7)),
        (HELD, Checkpoint(Report(1), b"state")),
        (HELD, SetUpdating(Report(1), updating=True)),
        (HELD, Release(Report(1))),
        (HELD, RetryLater(Report(1), b"", delay=7)),
        (HELD, LeaseLost(1, proven=True)),
    ],
)
def test_what_a_watch_shows_is_sent_at_intervals(
    sender: Sender, happened: tuple[Event, ...]
) -> None:
    sender.note(ONE, *happened)
    assert sender.names(now=5.0) == [hash_of(ONE.name)]  # the first has nothing to wait for
    sender.note(ONE, *happened)
    assert sender.queue.due() == pytest.approx(5.1)
    assert sender.names(now=5.09) == []
    assert sender.names(now=5.11) == [hash_of(ONE.name)]
    assert sender.queue.due() == math.inf


def test_an_end_does_not_wait_for_the_progress_before_it(sender: Sender) -> None:
    sender.names(now=5.0)
    held = sender.note(ONE, HELD)
    sender.names(now=5.0)
    held = sender.note(held, Report(1, progress_percent=7))
    sender.note(held, Succeed(Report(1), b""))
    assert sender.names(now=5.01) == [hash_of(ONE.name)]
    assert sender.queue.due() == math.inf  # it is not said twice


def test_a_start_a_heartbeat_and_a_removal_concern_nobody(sender: Sender) -> None:
    sender.queue.note(None, ONE)
    sender.note(ONE, HELD, Heartbeat(1, LEASE))
    done = sender.note(ONE, HELD, Succeed(Report(1), b""))
    sender.names()
    wakes = sender.wakes
    sender.queue.note(done, TimePassed().apply(done, 2**60))
    assert (sender.queue.due(), sender.wakes) == (math.inf, wakes)


@pytest.mark.parametrize(
    "happened",
    [
        (HELD, Release(Report(1))),
        (HELD, LeaseLost(1, proven=True)),
        (Pause(), Resume()),
    ],
)
def test_work_is_for_others_only_if_this_process_has_no_room(
    sender: Sender, happened: tuple[Event, ...]
) -> None:
    sender.note(ONE, *happened)
    sender.queue.note(None, ONE)
    assert list(sender.queue.take(0.0).methods) == []
    sender.has_room = False
    sender.note(ONE, *happened)
    assert sender.queue.due() == 0.0
    assert list(sender.queue.take(0.0).methods) == [hash_of(ONE.method)]


def test_room_is_asked_for_after_all_listeners_have_heard(sender: Sender) -> None:
    """The engine may be one of those behind, and has the new operation not in its queue yet."""
    sender.queue.note(None, ONE)
    sender.has_room = False
    assert sender.queue.due() == 0.0
    assert list(sender.queue.take(0.0).methods) == [hash_of(ONE.method)]


def test_a_start_without_room_is_work(sender: Sender) -> None:
    sender.has_room = False
    sender.queue.note(None, ONE)
    assert sender.queue.take(0.0) == (ME, False, [hash_of(ONE.method)], [])


@pytest.mark.parametrize("key", ["", "a"])
@pytest.mark.parametrize(
    "end",
    [Succeed(Report(1), b""), Fail(Report(1), b""), RetryLater(Report(1), b"", delay=7)],
)
def test_the_end_of_an_attempt_is_work_if_it_leaves_a_place_of_a_key(
    sender: Sender, key: str, end: Event
) -> None:
    one = create(max_attempts=3, concurrency_key=key)
    sender.note(one, HELD, end)
    assert list(sender.queue.take(0.0).methods) == []
    sender.has_room = False
    held = sender.note(one, HELD)
    sender.note(held, Heartbeat(1, LEASE))
    assert list(sender.queue.take(0.0).methods) == []
    sender.note(held, end)
    assert list(sender.queue.take(0.0).methods) == ([hash_of(one.method)] if key else [])


def test_what_waits_for_its_time_is_no_work_yet(sender: Sender) -> None:
    sender.has_room = False
    sender.note(ONE, HELD, RetryLater(Report(1), b"", delay=7))
    assert list(sender.queue.take(0.0).methods) == []


def test_a_name_is_said_once_however_often_it_changes(sender: Sender) -> None:
    for _ in range(1000):
        sender.note(ONE, Cancel())
    assert sender.names() == [hash_of(ONE.name)]
    assert sender.queue.due() == math.inf


def test_a_notice_fits_into_a_payload_and_the_next_ones_have_the_rest(sender: Sender) -> None:
    sender.has_room = False
    methods = [f"/a.B/C{n}" for n in range(900)]
    for n, method in enumerate(methods):
        one = create(operation_id=f"op-{n}", method=method)
        sender.queue.note(None, one)
        sender.note(one, Cancel())
    notices: list[Notice] = []
    while sender.queue.due() < math.inf:
        notice = sender.queue.take(0.0)
        assert len(notice.encoded()) <= 7900
        assert decoded(notice.encoded()) == notice
        notices.append(notice)
    assert [hash_ for one in notices for hash_ in one.methods] == [hash_of(one) for one in methods]
    assert len({hash_ for one in notices for hash_ in one.names}) == 900
    assert [len(one.methods) + len(one.names) for one in notices] == [MOST_HASHES, MOST_HASHES, 500]


def test_beyond_a_number_of_names_others_are_to_look_at_all(sender: Sender) -> None:
    for n in range(10_001):
        sender.note(create(operation_id=f"op-{n}"), HELD)
    assert sender.queue.due() == 0.0
    assert sender.queue.take(0.0) == (ME, True, [], [])
    assert sender.queue.due() == math.inf
