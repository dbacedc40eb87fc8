"""Tests of lists: pages, filters, wildcards."""

from __future__ import annotations

from lro_grpc._conformance.cases import StoreCases, with_store
from lro_grpc._conformance.samples import ERROR, LEASE, RESPONSE, name_of
from lro_grpc._filtering.parser import parse
from lro_grpc._operation.events import (
    Claim,
    Delete,
    Event,
    Fail,
    LeaseLost,
    Report,
    Succeed,
    cancelled_status,
)
from lro_grpc._operation.record import Record
from lro_grpc._stores.store import MOST_EXAMINED, Order, Query, Store

_FILTERS = (
    "error.message:broke",
    "NOT error.message:broke",
    'worker = "" AND attempt = 1',
    "done = true",
    "NOT done = true",
    'matches(status_detail, "(?:half)? ?[w*].*")',
    'NOT matches(target, "f.*|.*1")',
    "state = RUNNING",
    "-state = RUNNING",
    "error:*",
    "error.code = DATA_LOSS",
    "error.code != DATA_LOSS",
    "NOT error.code = DATA_LOSS",
    "response:* OR error.code = CANCELLED",
    'response.@type = "*.Empty"',
    "NOT response.@type != google.protobuf.Other",
    "end_time:*",
    "end_time > 2001-01-01T00:00:00Z",
    "NOT end_time > 2001-01-01T00:00:00Z",
    "start_time != 2001-01-01T00:00:00Z",
    "progress_percent < 50",
    "progress_percent >= 50 state = (RUNNING OR FAILED)",
    "cancel_requested = true",
    'target = "run*"',
    'target = "*/1"',
    'target = "*u*e*/*"',
    'target != "*u*e*/*"',
    "target > queued/2",
    "name:FAILED",
    'status_detail:"half"',
    'status_detail:"f\x00w"',
    'status_detail = "\\*"',
    'status_detail = ""',
    "é",
    "-é",
    "way OR 3",
    '"half way" done = false',
)
"""Each matches some of the operations that they are tried on, and not all."""


class Lists(StoreCases):
    """Promises of a list."""

    # Pages (AIP-158).

    @with_store
    async def test_pages_are_newest_first_and_complete(self, store: Store) -> None:
        """Whatever the size; only the last has no position, even if it is just full (S14)."""
        names = [(await store.create(self.record(f"op-{n}"))).name for n in range(12)]
        await store.apply(names[3], Claim(LEASE))  # a change does not move an operation
        for size in (1, 5, 6, 12, 1000):
            pages = [page async for page in self._pages(store, size)]
            assert [name for page in pages for name in page] == names[::-1]
            assert [len(page) for page in pages[:-1]] == [size] * (len(pages) - 1)
            assert pages[-1] != []
        page = await store.page(Query(self.PARENT), position=b"", size=12)
        assert [*page.operations] == [await store.operation(name) for name in names[::-1]]

    @with_store
    async def test_a_page_holds_the_operations_of_exactly_its_parent(self, store: Store) -> None:
        """Not of one above or below it; without a parent, those that have none."""
        parents = (
            "",
            "projects/p",
            self.PARENT,
            f"{self.PARENT}/instances/i",
            "projects/p/locations/l2",
        )
        for parent in parents:
            await store.create(self.record(parent=parent))
        for parent in parents:
            name = f"{parent}/operations/op-1" if parent else "operations/op-1"
            assert await self._listed(store, parent) == [name]
        for parent in ("projects", "projects/%", self.PARENT.upper(), "' OR 1 = 1 --"):
            assert await self._listed(store, parent) == []

    @with_store
    async def test_pages_stand_still_while_operations_come_and_go(self, store: Store) -> None:
        """A new one is on no later page; a deleted one, the last one seen too, shifts none."""
        names = [(await store.create(self.record(f"op-{n}"))).name for n in range(6)]
        first = await store.page(Query(self.PARENT), position=b"", size=2)
        await store.create(self.record("op-new"))
        await store.apply(names[4], Delete())
        await store.apply(names[3], Delete())
        second = await store.page(Query(self.PARENT), position=first.position, size=2)
        third = await store.page(Query(self.PARENT), position=second.position, size=2)
        assert [name_of(one) for one in first.operations] == names[5:3:-1]
        assert [name_of(one) for one in second.operations] == names[2:0:-1]
        assert [name_of(one) for one in third.operations] == names[:1]
        assert third.position == b""

    @with_store
    async def test_pages_by_name_are_in_order_and_complete(self, store: Store) -> None:
        """In the order of code points, whatever the order of creation; with wildcards, too."""
        ids = ("b", "a-2", "B", "a-10", "a~", "c", "a")
        for operation_id in ids:
            await store.create(self.record(operation_id))
        await store.create(self.record("a", parent=f"{self.PARENT}/instances/i"))
        await store.create(self.record("b", parent="projects/q/locations/l"))
        await store.apply(f"{self.PARENT}/operations/c", Delete())
        names = [f"{self.PARENT}/operations/{one}" for one in sorted(ids) if one != "c"]
        everywhere = [*names, "projects/q/locations/l/operations/b"]
        for parent, expected in ((self.PARENT, names), ("projects/-/locations/-", everywhere)):
            for condition in (None, parse('NOT name:"q/"'), parse("name:a"), parse('name:"none"')):
                query = Query(parent, condition, Order.BY_NAME)
                matching = [name for name in expected if query.matches(await store.read(name))]
                for size, examined in ((1, 1), (2, 3), (6, 6), (1000, MOST_EXAMINED)):
                    found = await self._found(store, query, size=size, examined=examined)
                    assert found == matching, (parent, condition, size, examined)

    @with_store
    async def test_pages_by_name_stand_still_while_operations_come_and_go(
        self, store: Store
    ) -> None:
        """One that comes before a page moves none that follow."""
        for operation_id in ("b", "d", "f", "h"):
            await store.create(self.record(operation_id))
        query = Query(self.PARENT, order=Order.BY_NAME)
        first = await store.page(query, position=b"", size=2)
        await store.create(self.record("a"))
        await store.create(self.record("g"))
        await store.apply(f"{self.PARENT}/operations/d", Delete())
        rest = await store.page(query, position=first.position, size=9)
        found = [name_of(one) for one in (*first.operations, *rest.operations)]
        assert [name.rpartition("/")[2] for name in found] == ["b", "d", "f", "g", "h"]
        assert rest.position == b""

    @with_store
    async def test_a_page_has_the_records_that_are_asked_for(self, store: Store) -> None:
        """Each is the one that a read would give."""
        for number in range(5):
            made = await store.create(
                self.record(f"op-{number}", caller="ann", request_id=f"r{number}")
            )
            await store.apply(made.name, Claim(LEASE))
        for order in Order:
            for condition in (None, parse("state = RUNNING"), parse("partial_failures:*")):
                query = Query(self.PARENT, condition, order)
                page = await store.page(query, position=b"", size=3, records=True)
                assert [one.operation for one in page.records] == [*page.operations]
                for record in page.records:
                    assert record == await store.read(record.name)
                assert not (await store.page(query, position=b"", size=3)).records

    # Filters and wildcards (AIP-160, AIP-159).

    @with_store
    async def test_a_filter_leaves_out_what_does_not_match(self, store: Store) -> None:
        """And nothing else, whatever has become of the operations."""
        for number, detail in enumerate(("", "half way", "Half\u0000Way", "*", "é")):
            for state in ("queued", "running", "failed", "succeeded", "cancelled", "deleted"):
                one = self.record(f"{state}-{number}", target=f"{state}/{number}", verb="create")
                await self._bring(store, one, state, detail)
        names = await self._listed(store)
        records = [await store.read(name) for name in names]
        assert len(records) == 25
        for text in _FILTERS:
            query = Query(self.PARENT, parse(text))
            expected = [one.name for one in records if query.matches(one)]
            assert 0 < len(expected) < len(records), text
            for size in (1, 7, 1000):
                assert await self._found(store, query, size=size) == expected, text
                assert await self._found(store, query, size=size, examined=5) == expected, text

    async def _bring(self, store: Store, one: Record, state: str, detail: str) -> None:
        """Stores an operation, and brings it into a state by way of its events."""
        await store.create(one)
        if state != "queued":
            await store.apply_all([(one.name, Claim(LEASE)), (one.name, Report(1, 50, detail))])
        ends: dict[str, Event] = {
            "failed": Fail(Report(1), ERROR),
            "succeeded": Succeed(Report(1), RESPONSE),
            "cancelled": Fail(Report(1), cancelled_status().SerializeToString()),
            "deleted": Delete(),
        }
        if state in ends:
            await store.apply(one.name, ends[state])

    @with_store
    async def test_a_filter_is_of_the_latest_state(self, store: Store) -> None:
        """With each change an operation comes to a list, or leaves it."""
        name = (await store.create(self.record())).name
        queued, running = (
            Query(self.PARENT, parse("state = QUEUED")),
            Query(self.PARENT, parse("state = RUNNING AND progress_percent >= 50")),
        )
        assert await self._found(store, queued) == [name]
        await store.apply(name, Claim(LEASE))
        assert await self._found(store, queued) == []
        assert await self._found(store, running) == []
        await store.apply(name, Report(1, 50))
        assert await self._found(store, running) == [name]

    @with_store
    async def test_a_wildcard_is_any_one_segment_of_the_parent(self, store: Store) -> None:
        """A segment that is itself a ``-`` is one of them; a ``-`` alone is every parent."""
        parents = (
            *("", "-", "p", "p/a", "p/b", "p/-", "q/a", "p/a/r", "p/a/s", "p/a/s/t", "p/ab"),
            *("x-", "x-/a", "p%/a", "P/a"),
        )
        made = [await store.create(self.record(parent=parent)) for parent in parents]
        await store.apply((await store.create(self.record("op-2", parent="p/a"))).name, Delete())
        covered = {
            "-": list(parents),
            "p/-": ["p/a", "p/b", "p/-", "p/ab"],
            "-/a": ["p/a", "q/a", "x-/a", "p%/a", "P/a"],
            "-/-": ["p/a", "p/b", "p/-", "q/a", "p/ab", "x-/a", "p%/a", "P/a"],
            "p/-/s": ["p/a/s"],
            "p/-/-": ["p/a/r", "p/a/s"],
            "p/-/-/-": ["p/a/s/t"],
            "-/-/-/-/-": [],
            "x-": ["x-"],
            "p%/-": ["p%/a"],
        }
        for parent, found in covered.items():
            expected = [one.name for one in reversed(made) if one.parent in found]
            for size in (1, 1000):
                assert await self._found(store, Query(parent), size=size) == expected, parent
        both = Query("-/a", parse("name:q OR name:x"))
        assert await self._found(store, both) == ["x-/a/operations/op-1", "q/a/operations/op-1"]

    @with_store
    async def test_filtered_pages_stand_still_while_operations_come_and_go(
        self, store: Store
    ) -> None:
        """One that leaves the filter shifts none; one that comes to it shows in its old place."""
        for parent in (self.PARENT, "projects/-/locations/-"):
            await self._stand_still(store, Query(parent, parse("state = QUEUED")), parent[-1])

    async def _stand_still(self, store: Store, query: Query, key: str) -> None:
        names = [(await store.create(self.record(f"op{key}{n}"))).name for n in range(8)]
        await store.apply_all([(name, Claim(LEASE)) for name in names[:2]])
        first = await store.page(query, position=b"", size=2)
        await store.create(self.record(f"op{key}new"))
        await store.apply_all([(names[6], Delete()), (names[4], Claim(LEASE))])
        await store.apply(names[1], LeaseLost(1, proven=True))
        rest = await store.page(query, position=first.position, size=9)
        assert [name_of(one) for one in first.operations] == [names[7], names[6]]
        assert [name_of(one) for one in rest.operations] == [names[5], names[3], names[2], names[1]]
        assert rest.position == b""
        await store.apply_all([(name, Delete()) for name in await self._listed(store)])

    @with_store
    async def test_a_page_looks_at_so_many_records_at_most(self, store: Store) -> None:
        """It holds what it has found there, maybe nothing, and the next one goes on (S14)."""
        names = [(await store.create(self.record(f"op-{n}"))).name for n in range(10)]
        for parent in (self.PARENT, "projects/-/locations/-"):
            query = Query(parent, parse("name:op-0 OR name:op-5"))
            pages = [page async for page in self._pages(store, 5, query, examined=3)]
            assert pages == [[], [names[5]], [], [names[0]]]
            pages = [page async for page in self._pages(store, 5, query, examined=10)]
            assert pages == [[names[5], names[0]]]
            pages = [page async for page in self._pages(store, 1, query, examined=7)]
            assert pages == [[names[5]], [names[0]]]

    @with_store
    async def test_a_page_fits_into_a_message(self, store: Store) -> None:
        """A gRPC client reads 4 MiB by default; a larger operation is a page alone."""
        sizes = [10, 1_000_000, 1_000_000, 1_000_000, 1_000_000, 5_000_000, 1_000_000]
        names = [(await store.create(self.record(f"op-{n}"))).name for n, _ in enumerate(sizes)]
        await store.apply_all([(name, Claim(LEASE)) for name in names])
        for name, size in zip(names, sizes, strict=True):
            await store.apply(name, Report(1, 50, "x" * size))
        for query in (
            Query(self.PARENT),
            Query(self.PARENT, parse("progress_percent = 50")),
            Query("-/-/-/-"),
        ):
            pages = [page async for page in self._pages(store, 1000, query)]
            assert pages == [[names[6]], [names[5]], names[4:1:-1], [names[1], names[0]]]
