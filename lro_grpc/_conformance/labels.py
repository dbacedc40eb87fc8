"""Tests of labels: kept as they were given, and found by filters."""

from __future__ import annotations

from lro_grpc._conformance.cases import StoreCases, sync_test, with_store
from lro_grpc._conformance.samples import LEASE, RESPONSE
from lro_grpc._filtering.parser import parse
from lro_grpc._operation import labels
from lro_grpc._operation.events import Cancel, Claim, Delete, Report, Succeed
from lro_grpc._stores.store import Order, Query, Store

_LABELS: tuple[dict[str, str], ...] = (
    {},
    {"env": "prod"},
    {"env": "prod", "team": "maps"},
    {"env": "prod-2", "team": "maps", "empty": ""},
    {"en": "prod", "env": "dev", "env-2": "prod", "environ": "v"},
    {"team": "env"},
)
"""Those of the operations that filters are tried on."""

_FILTERS = (
    "labels.env = prod",
    "labels.env = prod-2",
    'labels."env-2" = "prod"',
    "labels.env-2 = prod",
    "labels.env != prod",
    "NOT labels.env = prod",
    "-labels.env = prod",
    "NOT labels.env != prod",
    "labels.env:*",
    "labels:env",
    "-labels:env",
    "labels:*",
    "labels.empty:*",
    'labels.empty = ""',
    'labels.env != ""',
    "labels.env = prod*",
    'labels.env = "*"',
    "labels.env != prod*",
    "labels.env = *2",
    "labels.env = p*-*",
    'labels.env = "\\*" OR labels.team = env',
    "labels.env:ROD",
    "labels.env < prod",
    "labels.env >= prod-2",
    'matches(labels.env, "prod.*")',
    'NOT matches(labels.env, "prod.*")',
    "labels.env = prod labels.team = maps",
    "labels.env = prod OR labels.team = env",
    "labels.env = (prod OR dev)",
    "labels.env = (prod AND dev) OR labels.empty:*",
    'labels.team = maps name:"op-8"',
    "labels.team = maps state = SUCCEEDED",
    "NOT (labels.team = maps state = SUCCEEDED)",
)
"""Each matches some of these operations, and not all."""

_NEVER = (
    'labels.env = "prod,team=maps"',
    'labels.env = "prod,team=*"',
    "labels.none = prod",
    "labels.none != prod",
    "labels.none:*",
    "labels.env = prod labels.env = dev",
    "labels.env = PROD",
)


class Labels(StoreCases):
    """Promises of labels."""

    @with_store
    async def test_an_operation_keeps_its_labels(self, store: Store) -> None:
        """Whatever becomes of it; the same request, sent again, gives it no others."""
        text = labels.packed({"env": "prod", "team": "maps"})
        how = {"request_id": "r", "fingerprint": b"f"}
        made = await store.create(self.record("op-1", labels=text, **how))
        other = self.record("op-2", labels=labels.packed({"env": "dev"}), **how)
        assert await store.create(other) == made
        await store.apply(made.name, Claim(LEASE))
        done = await store.apply(made.name, Succeed(Report(1), RESPONSE))
        assert done.labels == text
        assert await store.read(made.name) == done
        assert await self._found(store, Query(self.PARENT, parse("labels.env = dev"))) == []

    @with_store
    async def test_filters_find_what_has_a_label(self, store: Store) -> None:
        """And nothing else, in every order, of one parent or of several."""
        for number, given in enumerate(_LABELS * 2):
            parent = self.PARENT if number % 4 else "projects/q/locations/l"
            one = self.record(f"op-{number}", parent=parent, labels=labels.packed(given))
            await store.create(one)
            if number % 5 == 3:
                end = Succeed(Report(1), RESPONSE)
                await store.apply_all([(one.name, Claim(LEASE)), (one.name, end)])
        for text in (*_FILTERS, *_NEVER):
            for order in Order:
                for parent in ("projects/-/locations/-", self.PARENT):
                    query = Query(parent, order=order)
                    listed = await self._found(store, query)
                    records = [await store.read(name) for name in listed]
                    query = Query(parent, parse(text), order)
                    expected = [one.name for one in records if query.matches(one)]
                    if parent != self.PARENT:
                        assert len(expected) < len(records), text
                        assert bool(expected) == (text in _FILTERS), text
                    for size, examined in ((1000, 1000), (2, 3), (1, 1000)):
                        found = await self._found(store, query, size=size, examined=examined)
                        assert found == expected, (text, order, size, examined)

    @with_store
    async def test_a_page_looks_at_what_has_the_label_alone(self, store: Store) -> None:
        """However many operations have it not; other conditions are asked of those."""
        names = []
        for number in range(10):
            text = "" if number % 5 else ",env=prod,"
            names.append((await store.create(self.record(f"op-{number}", labels=text))).name)
        for parent in (self.PARENT, "projects/-/locations/-", "-"):
            for text, expected in (
                ("labels.env = prod", [[names[5]], [names[0]]]),
                ('(labels.env = prod) name:"op-0"', [[], [names[0]]]),
                ('labels.env = prod matches(name, ".*-0")', [[], [names[0]]]),
                ("labels.env = prod labels.env = dev", [[]]),
            ):
                query = Query(parent, parse(text))
                pages = [page async for page in self._pages(store, 5, query, examined=1)]
                assert pages == expected, text
                found = await self._found(store, query, size=1)
                assert found == [name for page in expected for name in page], text

    @with_store
    async def test_of_several_labels_the_rarest_leads_to_the_operations(self, store: Store) -> None:
        """Wherever it stands in the filter."""
        for number in range(10):
            text = ",env=prod,team=maps," if number == 1 else ",env=prod,"
            await store.create(self.record(f"op-{number}", labels=text))
        for text in (
            "labels.env = prod labels.team = maps",
            "labels.team = maps AND labels.env = prod",
            "labels.env = prod done = false (labels.team = maps)",
        ):
            query = Query(self.PARENT, parse(text))
            pages = [page async for page in self._pages(store, 5, query, examined=2)]
            assert pages == [[f"{self.PARENT}/operations/op-1"]], text

    @with_store
    async def test_a_filter_may_name_more_labels_than_a_store_compares(self, store: Store) -> None:
        """Each of them is a condition all the same."""
        given = {f"k{number}": "v" for number in range(30)}
        await store.create(self.record("op-1", labels=labels.packed({**given, "k29": "other"})))
        made = await store.create(self.record("op-2", labels=labels.packed(given)))
        query = Query(self.PARENT, parse(" ".join(f"labels.{key} = v" for key in given)))
        assert await self._found(store, query) == [made.name]

    @with_store
    async def test_nothing_is_left_of_the_labels_of_what_is_gone(self, store: Store) -> None:
        """A later operation of its name has its own; one that is hidden is in no list."""
        query = Query(self.PARENT, parse("labels.env = prod"))
        made = await store.create(self.record(labels=",env=prod,"))
        hidden = await store.create(self.record("op-2", labels=",env=prod,"))
        assert await self._found(store, query) == [hidden.name, made.name]
        await store.apply_all([(made.name, Cancel()), (made.name, Delete())])
        await store.apply_all([(hidden.name, Claim(LEASE)), (hidden.name, Delete())])
        assert await self._found(store, query) == []
        await store.create(self.record(labels=",env=dev,"))
        assert await self._found(store, query) == []
        later = Query(self.PARENT, parse("labels.env = dev"))
        assert await self._found(store, later) == [made.name]

    @sync_test
    async def test_labels_outlive_a_restart(self) -> None:
        """They are stored in the commit of their operation."""
        query = Query(self.PARENT, parse("labels.env = prod"))
        async with self.opened() as store:
            made = await store.create(self.record(labels=",env=prod,"))
        async with self.opened() as store:
            assert await self._found(store, query) == [made.name]
            assert await store.read(made.name) == made
