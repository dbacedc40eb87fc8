"""Tests of the counts of operations by their methods and states."""

from __future__ import annotations

from lro_grpc._conformance.cases import StoreCases, with_store
from lro_grpc._conformance.samples import ERROR, LEASE, RESPONSE
from lro_grpc._filtering.parser import parse
from lro_grpc._operation.events import (
    Cancel,
    Checkpoint,
    Claim,
    Delete,
    Event,
    Fail,
    Pause,
    Release,
    Report,
    RetryLater,
    Succeed,
)
from lro_grpc._operation.labels import packed
from lro_grpc._operation.names import ANY_PARENT
from lro_grpc._operation.states import (
    CANCELLING,
    FAILED,
    PAUSED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
)
from lro_grpc._stores.store import Counts, Oldest, Query, Store

_OTHER_METHOD = "/contract.v1.Contract/Other"

Numbers = dict[tuple[str, int], int]


def numbers_of(counts: Counts) -> Numbers:
    """Returns the numbers by method and state; each stands once, in their order."""
    keys = [(one.method, one.state) for one in counts.counts]
    assert keys == sorted(set(keys))
    assert all(one.number > 0 for one in counts.counts)
    return {(one.method, one.state): one.number for one in counts.counts}


def bounds_of(counts: Counts) -> set[tuple[str, int]]:
    """Returns the methods and states of which there may be more."""
    return {(one.method, one.state) for one in counts.counts if one.is_lower_bound}


_FILLED: Numbers = {
    (StoreCases.METHOD, QUEUED): 3,
    (StoreCases.METHOD, RUNNING): 2,
    (StoreCases.METHOD, CANCELLING): 1,
    (StoreCases.METHOD, PAUSED): 1,
    (StoreCases.METHOD, SUCCEEDED): 1,
    (StoreCases.METHOD, FAILED): 1,
}
"""The numbers of the operations that ``_fill`` stores."""


class Counting(StoreCases):
    """Promises of numbers that are told of many operations."""

    async def _fill(self, store: Store) -> None:
        """Stores an operation of each kind, one second after the other."""
        histories: dict[str, list[Event]] = {
            "queued": [],
            "delayed": [Claim(LEASE), RetryLater(Report(1), ERROR, 3_600_000_000)],
            "running": [Claim(LEASE)],
            "paused": [Pause()],
            "undoing": [Claim(LEASE), Checkpoint(Report(1), b"x"), Cancel(), Release(Report(1))],
            "succeeded": [Claim(LEASE), Succeed(Report(1), RESPONSE)],
            "failed": [Claim(LEASE), Fail(Report(1), ERROR)],
            "hidden": [Claim(LEASE), Delete()],
            "hidden-queued": [Claim(LEASE), Delete(), Release(Report(1))],
        }
        for kind, events in histories.items():
            self.time += 1_000_000
            labels = packed({"team": "a"}) if kind in ("running", "failed") else ""
            made = await store.create(self.record(kind, pausable=True, labels=labels))
            for event in events:
                await store.apply(made.name, event)

    @with_store
    async def test_operations_are_counted_by_method_and_state(self, store: Store) -> None:
        """Hidden ones, too, while they take places."""
        assert numbers_of(await store.counts(Query(self.PARENT))) == {}
        await self._fill(store)
        await store.create(self.record("other", method=_OTHER_METHOD))
        counts = await store.counts(Query(self.PARENT))
        assert numbers_of(counts) == {**_FILLED, (_OTHER_METHOD, QUEUED): 1}
        assert bounds_of(counts) == set()
        assert (counts.examined, counts.earliest_examined) == (8, 0)  # what a list shows

    @with_store
    async def test_operations_of_other_parents_do_not_count(self, store: Store) -> None:
        """A wildcard is any one segment; a ``-`` alone is every parent, and none."""
        await self._fill(store)
        for parent in ("", "-", "q", "q/a", "q/b", "q/a/r", "q%/a", "q_/a", "q*/a"):
            await store.create(self.record("one", parent=parent))
            done = await store.create(self.record("two", parent=parent))
            await store.apply_all([(done.name, Claim(LEASE)), (done.name, Fail(Report(1), ERROR))])
        covered = {"": 1, "q": 1, "q/a": 1, "q/-": 2, "-/a": 4, "-/-": 5, "q%/-": 1, "q_/-": 1}
        covered |= {"q*/-": 1, "q/-/-": 1, "-/-/-/-/-": 0, "q/none": 0}
        for parent, number in covered.items():
            counts = numbers_of(await store.counts(Query(parent)))
            expected = {(self.METHOD, QUEUED): number, (self.METHOD, FAILED): number}
            assert counts == (expected if number else {}), parent
        everywhere = numbers_of(await store.counts(Query(ANY_PARENT)))
        assert everywhere[self.METHOD, QUEUED] == _FILLED[self.METHOD, QUEUED] + 9
        assert everywhere[self.METHOD, FAILED] == _FILLED[self.METHOD, FAILED] + 9

    @with_store
    async def test_what_is_not_done_is_counted_up_to_a_bound(self, store: Store) -> None:
        """Then the number is the bound, and says that there may be more."""
        for kind, event in {"q": None, "r": Claim(LEASE), "p": Pause()}.items():
            for number in range(5):
                made = await store.create(self.record(f"{kind}-{number}", pausable=True))
                if event is not None:
                    await store.apply(made.name, event)
        states = [QUEUED, RUNNING, PAUSED]
        for parent in (ANY_PARENT, self.PARENT):
            counts = await store.counts(Query(parent), most=3)
            assert numbers_of(counts) == {(self.METHOD, state): 3 for state in states}
            assert bounds_of(counts) == {(self.METHOD, state) for state in states}
            counts = await store.counts(Query(parent), most=5)
            assert numbers_of(counts) == {(self.METHOD, state): 5 for state in states}
            assert bounds_of(counts) == set()

    @with_store
    async def test_what_is_done_is_counted_among_the_newest(self, store: Store) -> None:
        """The answer says since when, unless all were examined."""
        for number in range(6):
            self.time += 1_000_000
            made = await store.create(self.record(f"op-{number}"))
            end: Event = Fail(Report(1), ERROR) if number < 2 else Succeed(Report(1), RESPONSE)
            await store.apply_all([(made.name, Claim(LEASE)), (made.name, end)])
        await store.create(self.record("elsewhere", parent="projects/q/locations/l"))
        counts = await store.counts(Query(self.PARENT), examined=3)
        assert numbers_of(counts) == {(self.METHOD, SUCCEEDED): 3}
        assert bounds_of(counts) == {(self.METHOD, SUCCEEDED)}
        assert (counts.examined, counts.earliest_examined) == (3, self.START + 4_000_000)
        counts = await store.counts(Query(self.PARENT), examined=7)
        assert numbers_of(counts) == {(self.METHOD, SUCCEEDED): 4, (self.METHOD, FAILED): 2}
        assert bounds_of(counts) == set()
        assert (counts.examined, counts.earliest_examined) == (6, 0)
        everywhere = await store.counts(Query("projects/-/locations/-"), examined=3)
        assert (everywhere.examined, everywhere.earliest_examined) == (3, self.START + 5_000_000)

    @with_store
    async def test_the_oldest_are_told(self, store: Store) -> None:
        """Ready since its last change; of each method one, and of all attempts one."""
        await self._fill(store)
        self.time += 1_000_000
        await store.create(self.record("other", method=_OTHER_METHOD))
        counts = await store.counts(Query(self.PARENT))
        named = f"{self.PARENT}/operations/"
        assert counts.oldest_ready == {
            self.METHOD: Oldest(self.START + 1_000_000, f"{named}queued"),
            _OTHER_METHOD: Oldest(self.time, f"{named}other"),
        }
        assert counts.oldest_attempt == Oldest(self.START + 3_000_000, f"{named}running")
        await store.apply(f"{named}queued", Delete())
        await store.apply(f"{named}running", Delete())
        counts = await store.counts(Query(self.PARENT))
        assert counts.oldest_attempt == Oldest(self.START + 3_000_000, "")
        nothing = await store.counts(Query("projects/none"))
        assert (nothing.oldest_ready, nothing.oldest_attempt) == ({}, None)

    @with_store
    async def test_a_filter_counts_among_the_newest(self, store: Store) -> None:
        """It counts what a list shows; with whatever it asks."""
        await self._fill(store)
        for text in (
            *("state = RUNNING", "done = true", "create_time > 2001-01-01T00:00:00Z"),
            *("labels.team = a", "NOT labels.team = a", "labels:team AND done = true"),
            *("name:ing", "partial_failures:*", "NOT partial_failures:*", 'name:"none"'),
        ):
            for parent in (self.PARENT, "projects/-/locations/l", ANY_PARENT):
                query = Query(parent, parse(text))
                page = await store.page(query, position=b"", size=100, records=True)
                expected: Numbers = {}
                for one in page.records:
                    key = (one.method, one.state)
                    expected[key] = expected.get(key, 0) + 1
                counts = await store.counts(query)
                assert numbers_of(counts) == expected, text
                assert bounds_of(counts) == set()
                assert (counts.examined, counts.earliest_examined) == (7, 0)
        query = Query(self.PARENT, parse("state = FAILED OR state = RUNNING"))
        counts = await store.counts(query, examined=2)
        assert numbers_of(counts) == {(self.METHOD, FAILED): 1}
        assert bounds_of(counts) == {(self.METHOD, FAILED)}
        assert (counts.examined, counts.earliest_examined) == (2, self.START + 6_000_000)
