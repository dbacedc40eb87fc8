"""On a large table Postgres looks for rows in indexes alone, and a heartbeat touches no index.

Most plans here are those for any values (``force_generic_plan``), as connections have them: one
that is made for the values of this test proves nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from postgres_server import new_schema, with_options

from lro_grpc._filtering.parser import parse
from lro_grpc._operation.completion import put_back
from lro_grpc._operation.events import Cancel, Claim, Delete, Release, Report
from lro_grpc._operation.record import FIELDS
from lro_grpc._stores.postgres.store import PostgresStore
from lro_grpc.conformance import StoreConformance
from lro_grpc.stores import Leased, Order, Query

if TYPE_CHECKING:
    from lro_grpc.stores import Record

pytestmark = pytest.mark.timeout(300)

ROWS = 200_000
GROWN = 50_000
LEASE = 15_000_000
METHOD, PARENT, START = StoreConformance.METHOD, StoreConformance.PARENT, StoreConformance.START
NAME = f"{PARENT}/operations/op-1"
TARGET = "projects/p/instances/i"
READY = {"lro_operations_next", "lro_operations_ranked"}
"""The indexes of what is ready, in the order in which it is claimed."""
READY_BY_KEY = "lro_operations_by_key"
"""That of what is ready and has a key."""
LEASED_BY_KEY = "lro_operations_leased_by_key"
"""That of what an attempt holds and has a key."""

PHASE = "CASE WHEN row % 20 <> 0 THEN 4 ELSE row / 20 % 4 END"
"""Of 80 rows 76 are done; the others are ready, delayed, leased and resting."""
PARENT_OF_ROW = "'projects/p' || row % 100 || '/locations/l'"
SOON = f"{START} + row::int8 * 2654435761 % 1000000007"
COLUMNS = {
    "name": f"{PARENT_OF_ROW} || '/operations/row-' || row",
    "parent": PARENT_OF_ROW,
    "method": "'/contract.v1.Contract/Run' || row / 80 % 4",
    "request_id": "'r' || row",
    "state": f"CASE {PHASE} WHEN 4 THEN 6 ELSE state END",
    "end_time": f"CASE {PHASE} WHEN 4 THEN {SOON} ELSE 0 END",
    "expire_time": f"CASE {PHASE} WHEN 4 THEN 2592000000000 + {SOON} ELSE 0 END",
    "scheduled_time": f"CASE {PHASE} WHEN 1 THEN {SOON} ELSE 0 END",
    "lease_expire_time": f"CASE {PHASE} WHEN 2 THEN {SOON} ELSE 0 END",
    "deadline_time": f"CASE WHEN row % 3 = 0 THEN 3600000000 + {SOON} ELSE 0 END",
    "concurrency_key": "CASE WHEN row % 160 < 80 THEN 'key-' || row % 900 ELSE '' END",
    "queue_order": f"CASE WHEN row % 160 < 80 THEN {SOON} ELSE 0 END",
    "labels": (
        "',env=' || CASE WHEN row % 10 = 0 THEN 'dev' ELSE 'prod' END || ',run='"
        " || CASE WHEN row = 1234 THEN 'only' ELSE 'r' END || ',tenant=t' || row % 1000 || ','"
    ),
}
"""The values of a new row, by its number; others are as in the row of the first operation."""


class Noting(asyncpg.Connection):
    """A connection that notes its statements."""

    statements: list[str]

    async def fetch(self, query: str, *arguments: Any, **options: Any) -> Any:
        self.statements.append(query)
        return await super().fetch(query, *arguments, **options)


@pytest.fixture(scope="module")
def filled(postgres_server: str) -> Iterator[str]:
    """The URL of a schema with a large table, in which some operations are a store's own."""
    with new_schema(postgres_server) as url:
        asyncio.run(fill(url))
        yield url


async def fill(url: str) -> None:
    store = PostgresStore(url, lambda: START)
    await store.open()
    for number in range(60):
        await store.create(record(f"op-{number}"))
    await store.create(exclusive("op-x"))
    await store.close()
    async with connected(url) as connection:
        indexes = await connection.fetch(
            "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
            " WHERE indrelid = 'lro_operations'::regclass AND NOT indisprimary"
        )
        for name, _ in indexes:  # to make them afterwards takes a tenth of the time
            await connection.execute(f"DROP INDEX {name}")
        await connection.execute(inserted(ROWS, NAME), timeout=200)
        for _, definition in indexes:
            await connection.execute(definition, timeout=100)
        await connection.execute(
            "INSERT INTO lro_attempts (operation, number)"
            f" SELECT sequence, 1 FROM lro_operations LIMIT {ROWS // 10}"
        )
        await connection.execute(
            "INSERT INTO lro_outbox (name, create_time, next_time)"
            f" SELECT name, create_time, {SOON} - 1000000000 FROM lro_operations,"
            f" generate_series(1, 1) AS row LIMIT {ROWS // 10}"
        )
        await connection.execute(
            "INSERT INTO lro_labels (key, value, operation)"
            " SELECT split_part(label, '=', 1), split_part(label, '=', 2), sequence"
            " FROM lro_operations, unnest(string_to_array(labels, ',')) AS label WHERE label <> ''"
            " ORDER BY 1, 2, 3",
            timeout=200,
        )
        tables = "lro_operations, lro_attempts, lro_outbox, lro_labels"
        await connection.execute(f"VACUUM (ANALYZE) {tables}", timeout=200)


def inserted(
    number: int, name: str, columns: Mapping[str, str] = COLUMNS, phase: str = PHASE
) -> str:
    """Returns the statement that makes rows of the row of an operation."""
    values = ", ".join(columns.get(column, column) for column in FIELDS)
    return (
        f"INSERT INTO lro_operations (phase, {', '.join(FIELDS)}) SELECT {phase}, {values}"
        f" FROM lro_operations, generate_series(1, {number}) AS row WHERE name = '{name}'"
    )


def record(operation_id: str, **values: Any) -> Record:
    return StoreConformance().record(operation_id, **values)


def exclusive(operation_id: str) -> Record:
    return record(operation_id, request_id="x", target=TARGET, exclusive=True)


async def change(store: PostgresStore, first: int = 40) -> None:
    """One operation is hidden, another one removed."""
    for number, events in ((first, [Claim(LEASE), Delete()]), (first + 1, [Cancel(), Delete()])):
        for event in events:
            await store.apply(f"{PARENT}/operations/op-{number}", event)


async def retry(store: PostgresStore) -> None:
    """One statement supersedes an attempt of an operation."""
    name = f"{PARENT}/operations/op-50"
    await store.apply_all([(name, Claim(LEASE)), (name, Release(Report(1))), (name, Claim(LEASE))])


async def settle(store: PostgresStore) -> None:
    """One completion is removed, and one put off."""
    one, other = await store.take_completions(2, LEASE)
    await store.settle_completions([(one, None), (other, put_back(other, START))])


@contextlib.asynccontextmanager
async def connected(url: str, **settings: str) -> AsyncIterator[Any]:
    schema = parse_qs(urlsplit(url).query)["schema"][0]
    connection = await asyncpg.connect(
        url.partition("?")[0], server_settings={"search_path": schema, **settings}
    )
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements of connections that are opened from now on."""
    statements: list[str] = []
    monkeypatch.setattr(Noting, "statements", statements, raising=False)
    noting = functools.partial(asyncpg.connect, connection_class=Noting)
    monkeypatch.setattr(asyncpg, "connect", noting)
    return statements


async def explained(url: str, statements: Sequence[str]) -> Sequence[dict[str, Any]]:
    """Returns the nodes of the plans that statements on the table have for any values."""
    found: list[dict[str, Any]] = []
    async with connected(url, plan_cache_mode="force_generic_plan") as connection:
        for statement in dict.fromkeys(statements):
            if not re.search("lro_operations|lro_outbox", statement):
                continue
            count = max(int(number) for number in ["0", *re.findall(r"\$(\d+)", statement)])
            arguments = f"({', '.join(['NULL'] * count)})" if count else ""
            await connection.execute(f"PREPARE asked AS {statement}")
            explain = f"EXPLAIN (FORMAT JSON) EXECUTE asked{arguments}"
            found += nodes(json.loads(await connection.fetchval(explain))[0]["Plan"])
            await connection.execute("DEALLOCATE asked")
    return found


def nodes(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [node, *(one for part in node.get("Plans", ()) for one in nodes(part))]


def is_bounded(node: dict[str, Any]) -> bool:
    """Returns whether a node has no more rows to go through than a limit, or an array, lets it."""
    parts = node.get("Plans", ())
    is_one = node["Node Type"] in ("Limit", "Function Scan")
    return is_one or (bool(parts) and all(map(is_bounded, parts)))


def page(
    parent: str = "projects/p7/locations/l",
    asked: str = "",
    order: Order = Order.NEWEST_FIRST,
    position: bytes = b"",
) -> Callable[[PostgresStore], Awaitable[object]]:
    query = Query(parent, parse(asked) if asked else None, order)
    return lambda store: store.page(query, position=position, size=50)


BY_KEY, BY_NAME = "lro_operations_pkey", "lro_operations_names"
BY_LABEL = "lro_labels_pkey"
BY_ATTEMPT, BY_COMPLETION = "lro_attempts_pkey", "lro_outbox_pkey"
ANY_PARENT = "projects/-/locations/-"
MUCH = f"name > {NAME} AND expire_time > 2026-01-01T00:00:00Z AND state = QUEUED"

COUNTED = {
    BY_KEY,
    *("lro_operations_ready", "lro_operations_delayed"),
    *("lro_operations_leased", "lro_operations_resting"),
}
"""The indexes in which operations are counted."""

Call = tuple[Callable[[PostgresStore], Awaitable[object]], set[str]]
ORDERED: dict[str, Call] = {
    "claim": (
        lambda store: store.claim({METHOD: 5}, Claim(LEASE)),
        {*READY, BY_NAME},
    ),
    "claim of what has been ready for a while": (
        lambda store: store.claim({METHOD: 5}, Claim(LEASE), ready_before=START + 1),
        {*READY, BY_NAME},
    ),
    "claim by key": (
        lambda store: store.claim_by_key(METHOD, 5, 3, Claim(LEASE)),
        {READY_BY_KEY, LEASED_BY_KEY, BY_KEY, BY_NAME},
    ),
    "claim by key of what has been ready for a while": (
        lambda store: store.claim_by_key(METHOD, 5, 0, Claim(LEASE), ready_before=START + 1),
        {READY_BY_KEY, LEASED_BY_KEY, BY_KEY, BY_NAME},
    ),
    "claimable": (lambda store: store.claimable({METHOD: 5}), {*READY, READY_BY_KEY}),
    "expired": (
        lambda store: store.expired(50),
        {"lro_operations_overdue", "lro_operations_expiring", "lro_operations_scheduled"},
    ),
    "page": (page(), {"lro_operations_listed"}),
    "next page": (page(position=(100_000).to_bytes(8, "big")), {"lro_operations_listed"}),
    "filtered page": (page(asked=MUCH), {"lro_operations_listed"}),
    "page of any parent": (page(ANY_PARENT), {BY_KEY}),
    "page by name": (page(order=Order.BY_NAME), {BY_NAME}),
    "filtered page by name": (page(asked=MUCH, order=Order.BY_NAME), {BY_NAME}),
    "page by name of any parent": (page(ANY_PARENT, order=Order.BY_NAME), {BY_NAME}),
}
"""Calls that answer in an order, which is that of an index."""

ORDERED.update(
    (f"page of {asked} of {parent}", (page(parent, asked), {BY_LABEL, BY_KEY}))
    for parent in ("projects/p7/locations/l", ANY_PARENT)
    for asked in (
        "labels.env = prod",
        "labels.tenant = t7",
        "labels.run = only",
        "labels.none = none",
        "labels.env = prod state = QUEUED",
        'labels.env = prod matches(name, ".*7")',
    )
)

OTHER_CALLS: dict[str, Call] = {
    "page of several labels": (
        page(asked="labels.env = prod labels.tenant = t7 labels.run = only"),
        {BY_LABEL, BY_KEY},
    ),
    "read": (lambda store: store.read(NAME), {BY_NAME}),
    "operation": (lambda store: store.operation(NAME), {BY_NAME}),
    "find_request": (
        lambda store: store.find_request(METHOD, "x", ""),
        {BY_NAME, "lro_operations_requests"},
    ),
    "find_id": (lambda store: store.find_id("op-1"), {"lro_operations_ids"}),
    "latest_rerun": (lambda store: store.latest_rerun(NAME), {"lro_operations_reruns"}),
    "exclusive_holder": (
        lambda store: store.exclusive_holder(TARGET),
        {"lro_operations_exclusive"},
    ),
    "waiting": (
        lambda store: store.waiting(METHOD, 100),
        {"lro_operations_ready", "lro_operations_delayed", "lro_operations_scheduled"},
    ),
    "waiting_methods": (
        lambda store: store.waiting_methods(),
        {"lro_operations_ready", "lro_operations_delayed"},
    ),
    "held_of_key": (
        lambda store: store.held_of_key(METHOD, "key", 100),
        {LEASED_BY_KEY},
    ),
    "counts": (lambda store: store.counts(Query(PARENT)), {*COUNTED, "lro_operations_listed"}),
    "counts of any parent": (lambda store: store.counts(Query("-")), COUNTED),
    "counts of a filter": (
        lambda store: store.counts(Query(PARENT, parse(MUCH))),
        {"lro_operations_listed"},
    ),
    "counts of parents": (lambda store: store.counts(Query(ANY_PARENT)), COUNTED),
    "leased": (lambda store: store.leased(), {"lro_operations_leased"}),
    "leased until": (lambda store: store.leased(until=START), {"lro_operations_leased"}),
    "a start like an earlier one": (
        lambda store: store.create(exclusive("op-y")),
        {BY_NAME, "lro_operations_requests", "lro_operations_exclusive"},
    ),
    "changes": (change, {BY_NAME}),
    "next attempt": (retry, {BY_NAME, BY_ATTEMPT}),
    "read_attempts": (lambda store: store.read_attempts(NAME), {BY_NAME, BY_ATTEMPT}),
    "take_completions": (
        lambda store: store.take_completions(50, LEASE),
        {"lro_outbox_due", BY_COMPLETION},
    ),
    "settle_completions": (settle, {"lro_outbox_due", BY_COMPLETION}),
    "pending_completions": (lambda store: store.pending_completions(50), {"lro_outbox_due"}),
    "read_completion": (lambda store: store.read_completion(NAME, START), {BY_COMPLETION}),
}

NOT_REPEATED = {
    *("changes", "read", "operation", "next attempt", "read_attempts"),
    "settle_completions",
}
"""The calls that need what only the large table has."""


@pytest.mark.parametrize("call", [*ORDERED, *OTHER_CALLS])
async def test_a_call_looks_in_its_indexes(filled: str, statements: list[str], call: str) -> None:
    ask, expected = {**ORDERED, **OTHER_CALLS}[call]
    store = PostgresStore(filled, lambda: START)
    await store.open()
    statements.clear()
    await ask(store)
    await store.close()
    steps = await explained(filled, statements)
    used = {step["Index Name"] for step in steps if "Index Name" in step}
    assert used
    assert used <= expected
    kinds = {step["Node Type"] for step in steps}
    assert "Seq Scan" not in kinds
    if call in ORDERED:
        assert kinds.isdisjoint({"Incremental Sort", "Bitmap Heap Scan"})
        assert all(is_bounded(step) for step in steps if step["Node Type"] == "Sort")


@pytest.mark.parametrize("call", ["counts", "counts of any parent", "counts of parents"])
async def test_what_is_not_done_is_counted_without_its_rows(
    filled: str, statements: list[str], call: str
) -> None:
    """Only what an attempt holds is looked at, and of what is ready the next few."""
    ask, _ = OTHER_CALLS[call]
    store = PostgresStore(filled, lambda: START)
    await store.open()
    statements.clear()
    await ask(store)
    await store.close()
    steps = await explained(filled, statements)
    by_rows = {step["Index Name"] for step in steps if step["Node Type"] == "Index Scan"}
    listed = "lro_operations_listed" if call == "counts" else BY_KEY
    assert by_rows == {"lro_operations_ready", "lro_operations_leased", listed}
    alone = {step["Index Name"] for step in steps if step["Node Type"] == "Index Only Scan"}
    assert alone == {
        *("lro_operations_ready", "lro_operations_delayed", "lro_operations_resting"),
    }


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("claim", {*READY, BY_NAME}),
        ("claim by key", {READY_BY_KEY, LEASED_BY_KEY, BY_KEY, BY_NAME}),
        ("claimable", {*READY, READY_BY_KEY}),
        ("page", {"lro_operations_listed"}),
    ],
)
async def test_what_is_common_is_looked_up_in_its_own_index(
    backlog: str, statements: list[str], call: str, expected: set[str]
) -> None:
    """What is asked for has a large share: to the planner it looks cheap to go through all rows."""
    ask, _ = ORDERED[call]
    store = PostgresStore(backlog, lambda: START)
    await store.open()
    statements.clear()
    await ask(store)
    await store.close()
    steps = await explained(backlog, statements)
    assert {step["Index Name"] for step in steps if "Index Name" in step} <= expected


@pytest.fixture(scope="module")
def backlog(postgres_server: str) -> Iterator[str]:
    """The URL of a schema with two methods and two parents; a third of the operations wait."""
    with new_schema(postgres_server) as url:
        asyncio.run(fill_backlog(url))
        yield url


async def fill_backlog(url: str) -> None:
    store = PostgresStore(url, lambda: START)
    await store.open()
    await store.create(record("op-1"))
    await store.close()
    columns = {
        **COLUMNS,
        "parent": "'projects/p' || row % 2 || '/locations/l'",
        "method": "'/contract.v1.Contract/Run' || row % 2",
    }
    phase = "CASE WHEN row > 10000 THEN 0 ELSE 4 END"
    async with connected(url) as connection:
        await connection.execute(inserted(15_000, NAME, columns, phase))
        await connection.execute("VACUUM (ANALYZE) lro_operations")


@pytest.fixture
def growing(postgres_server: str) -> Iterator[str]:
    """The URL of an empty schema."""
    with new_schema(postgres_server) as url:
        yield url


@pytest.mark.parametrize("is_analyzed", [False, True])
async def test_a_plan_of_a_small_table_is_right_for_what_it_becomes(
    growing: str, is_analyzed: bool
) -> None:
    """An open connection keeps its plans until the table is analyzed, which here it never is."""
    url = with_options(growing, application_name="growing")
    store, other = PostgresStore(url, lambda: START), PostgresStore(url, lambda: START)
    await store.open()
    await other.open()
    await store.create(exclusive("op-x"))
    await store.create(record("op-base"))
    async with connected(growing) as connection:
        await connection.execute("ALTER TABLE lro_operations SET (autovacuum_enabled = off)")
        if is_analyzed:
            await connection.execute("ANALYZE lro_operations")
        await call_all(store, other, 1)
        await connection.execute(inserted(GROWN, f"{PARENT}/operations/op-base"), timeout=200)
        await call_all(store, other, 3)
        await store.close()
        await other.close()
        rows = await rows_read(connection, "growing")
    assert rows < GROWN / 2


@pytest.mark.parametrize("is_analyzed", [False, True])
async def test_a_key_that_has_no_place_is_passed_over_without_a_look_at_all_that_wait(
    growing: str, is_analyzed: bool
) -> None:
    """Whatever the server knows of the table: mostly nothing, after many starts at once."""
    url = with_options(growing, application_name="growing")
    store = PostgresStore(url, lambda: START)
    await store.open()
    for number in range(2):
        await store.create(record(f"op-{number}", concurrency_key="a"))
    async with connected(growing) as connection:
        await connection.execute("ALTER TABLE lro_operations SET (autovacuum_enabled = off)")
        if is_analyzed:
            await connection.execute("ANALYZE lro_operations")
        columns = {"name": "name || '-' || row", "request_id": "''"}
        more = inserted(GROWN, f"{PARENT}/operations/op-1", columns, "0")
        await connection.execute(more, timeout=200)
        for number in range(3):
            made = await store.create(record(f"op-b{number}", concurrency_key=f"b{number}"))
            claims = await store.claim_by_key(METHOD, 9, 1, Claim(LEASE))
            assert made in [one.before for one in claims.claimed]
            assert len(await store.claimable({METHOD: 9})) == 9
        await store.close()
        rows = await rows_read(connection, "growing")
    assert rows < GROWN / 50


async def rows_read(connection: Any, application: str) -> int:
    """Returns how many rows an application has read, whose connections count when they end."""
    for _ in range(600):
        if not await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", application
        ):
            return await connection.fetchval(
                "SELECT seq_tup_read + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes AS i"
                " WHERE i.relid = t.relid)::int8"
                " FROM pg_stat_user_tables AS t WHERE relid = 'lro_operations'::regclass"
            )
        await asyncio.sleep(0.1)
    raise AssertionError(f"connections of {application} are still there")


async def call_all(store: PostgresStore, other: PostgresStore, first: int) -> None:
    """Makes every call; one whose plan is for any table may look at a few rows."""
    for number in (first, first + 1):
        await store.create(record(f"op-{number}"))
    heard = asyncio.Event()
    unfollow = store.follow(f"{PARENT}/operations/op-{first + 1}", lambda _: heard.set())
    await change(other, first)
    await asyncio.wait_for(heard.wait(), 60)
    unfollow()
    for call, (ask, _) in {**ORDERED, **OTHER_CALLS}.items():
        if call not in NOT_REPEATED:
            counts = call.startswith("counts")  # looks at 20,000 rows, however many there are
            await (store.counts(Query(PARENT), most=9, examined=9) if counts else ask(store))
    await store.read(f"{PARENT}/operations/op-x")
    await store.operation(f"{PARENT}/operations/op-x")


@pytest.mark.parametrize("call", ["claim", "claim by key", "claimable", "expired"])
async def test_a_row_is_looked_up_in_what_is_set_aside(
    postgres: str, statements: list[str], call: str
) -> None:
    """To compare it with each name takes seconds for thousands of both."""
    ask, _ = ORDERED[call]
    store = PostgresStore(postgres, lambda: START)
    await store.open()
    statements.clear()
    await ask(store)
    await store.close()
    steps = await explained(postgres, [one for one in statements if "$3" in one])
    filters = [step.get("Filter", "") for step in steps]
    assert any("hashed SubPlan" in one for one in filters)
    assert not any("name <> ALL" in one for one in filters)


async def test_a_heartbeat_touches_no_index(filled: str) -> None:
    """Nine of ten are stored in the page of their row, beside the version before."""
    method = "/contract.v1.Contract/Beating"
    store = PostgresStore(filled, lambda: START)
    await store.open()
    keys = ("", "a", "b")
    made = [
        record(f"beat-{number}", method=method, concurrency_key=keys[number % 3])
        for number in range(1000)
    ]
    await asyncio.gather(*map(store.create, made))
    names = [one.name for one in made]
    await store.apply_all([(name, Claim(LEASE)) for name in names])
    former = await updates(filled, at_least=len(names))
    for _ in range(10):
        await store.renew([Leased(name, 1) for name in names], LEASE)
    await store.close()
    now = await updates(filled, at_least=former[0] + 10 * len(names))
    assert now[0] - former[0] == 10 * len(names)
    assert now[1] - former[1] >= 9 * len(names)


async def updates(url: str, *, at_least: int) -> tuple[int, int]:
    """Returns how many rows were changed, and how many without an index.

    A connection counts for itself, and adds that up within a second, or when it ends.
    """
    async with connected(url) as connection:
        for _ in range(600):
            ((all_, hot),) = await connection.fetch(
                "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables"
                " WHERE relid = 'lro_operations'::regclass"
            )
            if all_ >= at_least:
                return all_, hot
            await asyncio.sleep(0.1)
    raise AssertionError(f"{all_} changes were counted, and there are {at_least}")
