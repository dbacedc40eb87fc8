"""Every store answers a query as the predicate does, whatever the records and the filter are."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.longrunning import operations_pb2
from google.rpc import status_pb2
from hypothesis import given
from hypothesis import strategies as st

from lro.v1 import operation_metadata_pb2, state_pb2
from lro_grpc._filtering.expression import And, Compare, Filter, Like, Not, Or, PartialFailures
from lro_grpc._filtering.parser import MAX_DEPTH, MAX_TERMS, parse
from lro_grpc._operation import publication
from lro_grpc._operation.states import JOB
from lro_grpc.conformance import StoreConformance
from lro_grpc.stores import MemoryStore, Query, SqliteStore, Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from lro_grpc._operation.record import Record

METHOD = StoreConformance.METHOD
START = StoreConformance.START

# Records, with few values, so that filters hit, and with strange ones.

STRANGE = "aB*/-.\x00 éÉß\N{KELVIN SIGN}\U0001f600'\"\\%_?[\n"
TEXTS = st.text(STRANGE, max_size=5) | st.text("aA", max_size=3)
NUMBERS = st.integers(-1, 3) | st.sampled_from([START, 2**63 - 1, -(2**63)])
TIMES = st.sampled_from([0, 1, START, START + 1, START + 1_000_000])
FLAGS = st.booleans()
STATES = st.sampled_from(sorted(JOB.states))
SEGMENTS = st.sampled_from(["a", "b", "ab", "-", "a-", "*", "?", "[a]", "A"])
PARENTS = st.lists(SEGMENTS, max_size=4).map("/".join)

TEXT_COLUMNS = ("name", "target", "verb", "api_version", "status_detail", "response_type")
TIME_COLUMNS = ("create_time", "start_time", "update_time", "end_time", "expire_time")
NUMBER_COLUMNS = ("progress_percent", "attempt", "error_code", "state")
FLAG_COLUMNS = ("done", "cancel_requested", "pause_requested")

VALUES = st.fixed_dictionaries(
    {
        "parent": PARENTS,
        "target": TEXTS,
        "verb": TEXTS,
        "api_version": TEXTS,
        "status_detail": TEXTS,
        "response_type": TEXTS,
        "progress_percent": NUMBERS,
        "attempt": NUMBERS,
        "error_code": NUMBERS,
        "state": STATES,
        "cancel_requested": FLAGS,
        "pause_requested": FLAGS,
        "batch": st.sampled_from([b"", b"\x00"]),
        **dict.fromkeys(TIME_COLUMNS, TIMES),
    }
)


def plain() -> Record:
    return publication.create(
        parent="",
        operation_id="op-1",
        method=METHOD,
        request=b"",
        metadata_type="lro.v1.OperationMetadata",
        now=START,
    )


@st.composite
def records(draw: st.DrawFn) -> Record:
    failures = draw(st.integers(0, 1)) * [status_pb2.Status(code=5)]
    served = operations_pb2.Operation()
    served.metadata.Pack(operation_metadata_pb2.OperationMetadata(partial_failures=failures))
    return plain()._replace(operation=served.SerializeToString(), **draw(VALUES))


# Filters: trees of any shape, and texts of the language.

COMPARATORS = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
FOLDED = TEXTS.map(lambda text: "".join(c.lower() if c.isascii() else c for c in text))


def compare(columns: Sequence[str], values: st.SearchStrategy[Any]) -> Any:
    return st.builds(Compare, st.sampled_from(columns), COMPARATORS, values)


def like(parts: st.SearchStrategy[str], *, fold: bool) -> Any:
    return st.builds(
        Like,
        st.sampled_from(TEXT_COLUMNS),
        st.lists(parts, min_size=2, max_size=4).map(tuple),
        st.just(fold),
    )


LEAVES = st.one_of(
    compare(TEXT_COLUMNS, TEXTS),
    compare(TIME_COLUMNS, TIMES),
    compare(NUMBER_COLUMNS, NUMBERS),
    compare(FLAG_COLUMNS, st.integers(0, 1)),
    compare(["batch"], st.sampled_from([b"", b"\x00"])),
    like(TEXTS, fold=False),
    like(FOLDED, fold=True),
    st.just(PartialFailures()),
)
TREES = st.recursive(
    LEAVES,
    lambda trees: st.one_of(
        st.builds(Not, trees),
        st.builds(And, st.lists(trees, max_size=3).map(tuple)),
        st.builds(Or, st.lists(trees, max_size=3).map(tuple)),
    ),
    max_leaves=8,
)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


RESTRICTIONS = st.one_of(
    TEXTS.map(quoted),
    st.builds("{}{}{}".format, st.sampled_from(["name", "target"]), COMPARATORS, TEXTS.map(quoted)),
    st.builds("{}:{}".format, st.sampled_from(["verb", "response.@type"]), TEXTS.map(quoted)),
    st.builds("{}{}{}".format, st.just("metadata.attempt"), COMPARATORS, st.integers(0, 2)),
    st.builds("error.code{}{}".format, COMPARATORS, st.sampled_from(["OK", "CANCELLED", "3"])),
    st.builds("state={}".format, st.sampled_from(state_pb2.JobState.keys())),
    st.builds("{}={}".format, st.sampled_from(FLAG_COLUMNS), st.sampled_from(["true", "false"])),
    st.builds(
        "{}{}{}".format,
        st.sampled_from(TIME_COLUMNS),
        COMPARATORS,
        st.sampled_from(["1970-01-01T00:00:00Z", "2027-01-15T08:00:00.000001Z"]),
    ),
    st.builds("{}:*".format, st.sampled_from(["error", "response", "end_time", "done", "target"])),
    st.just("partial_failures:*"),
)
FILTER_TEXTS = st.recursive(
    RESTRICTIONS,
    lambda texts: st.one_of(
        st.lists(texts, min_size=1, max_size=3).map(" ".join),
        st.lists(texts, min_size=1, max_size=3).map(" AND ".join),
        st.lists(texts, min_size=1, max_size=3).map(" OR ".join),
        texts.map("-({})".format),
        texts.map("NOT ({})".format),
        texts.map("({})".format),
    ),
    max_leaves=8,
)
FILTERS = st.none() | st.builds(Filter, st.just(""), TREES) | FILTER_TEXTS.map(parse)


@contextlib.asynccontextmanager
async def filled(made: Sequence[Record], *, reopened: bool) -> AsyncIterator[Sequence[Store]]:
    """Gives a store of each kind with these records; one that was reopened has none at hand."""
    with tempfile.TemporaryDirectory() as folder:
        memory = MemoryStore(lambda: START)
        file = SqliteStore(Path(folder) / "operations.db", lambda: START)
        await file.open()
        try:
            for store in (memory, file):
                await asyncio.gather(*(store.create(one) for one in made))
            if reopened:
                await file.close()
                await file.open()
            yield memory, file
        finally:
            await file.close()


async def listed(store: Store, query: Query, *, size: int = 1000, examined: int = 1000) -> Any:
    """The names of what is served, page after page."""
    found: list[bytes] = []
    position = b""
    for _ in range(100):
        page = await store.page(query, position=position, size=size, examined=examined)
        assert len(page.operations) <= size
        found += page.operations
        position = page.position
        if not position:
            return [operations_pb2.Operation.FromString(one).name for one in found]
    raise AssertionError("the pages have no end")


def expected(made: Sequence[Record], query: Query) -> list[str]:
    """The names of what is to be served; each record's place is its name."""
    return [str(n) for n, one in reversed([*enumerate(made)]) if query.matches(one)]


def numbered(made: Sequence[Record]) -> list[Record]:
    """Makes each record's place the name that it is served with."""
    name = operations_pb2.Operation
    return [
        one._replace(
            name=f"{n}{one.target}",
            operation=one.operation + name(name=str(n)).SerializeToString(),
        )
        for n, one in enumerate(made)
    ]


@given(
    made=st.lists(records(), min_size=1, max_size=12).map(numbered),
    filters=st.lists(FILTERS, min_size=1, max_size=6),
    parent=PARENTS,
    size=st.integers(1, 4),
    examined=st.integers(1, 5),
    reopened=st.booleans(),
)
def test_every_store_answers_as_the_predicate_does(made, filters, parent, size, examined, reopened):
    """From the records at hand, and from the file alone."""
    own = made[0].parent
    wild = "/".join(["-", *own.split("/")[1:]])

    async def check() -> None:
        async with filled(made, reopened=reopened) as stores:
            for store, one, of in itertools.product(stores, filters, (own, wild, parent)):
                query = Query(of, one)
                names = await listed(store, query, size=size, examined=examined)
                assert names == expected(made, query)

    asyncio.run(check())


def test_every_pattern_is_parted_from_every_other():
    """Where texts end, hold a NUL, or take more than one byte a character."""
    letters = [*itertools.chain(*(itertools.product("aA\xe9\x00", repeat=n) for n in range(4)))]
    made = numbered([plain()._replace(target="".join(one)) for one in letters])
    parts = ["", "a", "\xe9", "aa", "a\xe9", "\x00a"]
    patterns = [*itertools.product(parts, repeat=2), *itertools.product(parts, repeat=3)]

    async def check() -> None:
        async with filled(made, reopened=True) as stores:
            for pattern, fold in itertools.product(patterns, (True, False)):
                for tree in (like := Like("target", pattern, fold), Not(like)):
                    query = Query("", Filter("", tree))
                    for store in stores:
                        assert await listed(store, query) == expected(made, query), tree

    asyncio.run(check())


def test_every_parent_is_parted_from_every_other():
    segments = ["a", "b-", "-", "*", "a\x00"]
    parents = ["/".join(one) for n in (1, 2, 3) for one in itertools.product(segments, repeat=n)]
    made = numbered([plain()._replace(parent=one) for one in ("", *parents)])

    async def check() -> None:
        async with filled(made, reopened=True) as stores:
            for parent, store in itertools.product(("", *parents), stores):
                query = Query(parent)
                assert await listed(store, query) == expected(made, query), parent

    asyncio.run(check())


def test_the_deepest_filter_is_no_trouble_to_a_store():
    """However SQLite's own parser is limited."""
    nests = ["({})", "-({})", "zzz OR ({})", '"z" (zzz OR -(-({})))', "a -(b OR ({} OR c))"]

    async def check() -> None:
        made = numbered([plain()])
        async with filled(made, reopened=True) as stores:
            for nest, store in itertools.product(nests, stores):
                text = "a"
                while nest.format(text).count("(") <= MAX_DEPTH:
                    text = nest.format(text)
                query = Query("", parse(text))
                assert await listed(store, query) == expected(made, query), text

    asyncio.run(check())


def test_the_most_that_a_filter_can_ask_is_no_trouble_to_a_store():
    """And a page looks at fewer records for it, so that no page takes long."""
    most = [
        " OR ".join(["a"] * MAX_TERMS),
        " ".join(["-target=b"] * MAX_TERMS),
        " OR ".join(["end_time > 2026-01-01T00:00:00Z"] * 110),
        "*".join("b" * MAX_TERMS),
        'target = "' + "*b" * (MAX_TERMS - 1) + '"',
    ]
    plains = [plain()._replace(target="a")] + [plain()._replace(target="c")] * 520
    made = numbered(plains)

    async def check() -> None:
        async with filled(made, reopened=True) as stores:
            for text, store in itertools.product(most, stores):
                query = Query("", parse(text))
                page = await store.page(query, position=b"", size=1000)
                assert page.position
                assert await listed(store, query) == expected(made, query), text

    asyncio.run(check())
