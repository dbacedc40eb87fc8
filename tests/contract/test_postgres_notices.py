"""The processes of a store hear of each other's changes: over a real database, and its failures."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from partition import Cut, Network

from lro_grpc._operation import publication
from lro_grpc._operation.events import Cancel, Claim, Report, Succeed
from lro_grpc._stores.postgres.followers import GONE, Look, Seen
from lro_grpc._stores.postgres.notice import Notice, channel_of, hash_of
from lro_grpc._stores.postgres.notices import Notices

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from postgres_server import PostgresServer

    from lro_grpc._operation.events import Event
    from lro_grpc.stores import Record

PATIENCE_SECONDS = 60.0
METHOD = "/test.v1.Tests/Run"
LEASE = 1000


class Table:
    """The rows of a store, with their versions."""

    def __init__(self) -> None:
        self.rows: dict[str, Seen] = {}
        self.most = 5000
        """The most rows in one answer."""

    def add(self, operation_id: str) -> Record:
        record = publication.create(
            parent="",
            operation_id=operation_id,
            method=METHOD,
            request=b"",
            metadata_type="lro.v1.OperationMetadata",
            now=1,
        )
        self.rows[record.name] = Seen(1, record)
        return record

    def remove(self, name: str) -> None:
        del self.rows[name]

    def changed(self, seen: Mapping[str, int]) -> Look:
        rows = {name: self.rows.get(name, Seen(GONE, None)) for name in seen}
        changed = [name for name, row in rows.items() if row.version != seen[name]]
        answered = changed[: self.most]
        left = [name for name in seen if name not in answered] if changed != answered else ()
        return Look({name: rows[name] for name in answered}, left)


class Process:
    """One of the processes of a store.

    Args:
        table: What they share.
        url: Where they hear each other.
        schema: Of the store.
        options: Of its notices.
    """

    def __init__(self, table: Table, url: str, schema: str, **options: Any) -> None:
        self.table = table
        self.url = url.partition("?")[0]
        self.reads: list[int] = []
        self.fails = False
        self.is_cut_off = False
        self.heard: dict[str, list[Record | None]] = {}
        self.work: Counter[str] = Counter()
        self.has_room = False
        self._news = asyncio.Event()
        self.notices = Notices(schema, self._connect, self._read, **{"ping": 0.1, **options})
        self.notices.follow_work(lambda _method: self.has_room, self._on_work)

    async def _connect(self) -> Any:
        if self.is_cut_off:
            raise ConnectionError("cut off")
        return await asyncpg.connect(self.url, timeout=5)

    async def _read(self, seen: Mapping[str, int]) -> Look:
        self.reads.append(len(seen))
        await asyncio.sleep(0)
        if self.fails:
            raise ConnectionError("down")
        return self.table.changed(seen)

    def _on_work(self, method: str) -> None:
        self.work[method] += 1
        self._news.set()

    def follow(self, name: str) -> Callable[[], None]:
        self.heard[name] = []

        def follower(record: Record | None) -> None:
            self.heard[name].append(record)
            self._news.set()

        return self.notices.follow(name, follower)

    def last(self, name: str) -> Record | None:
        return self.heard[name][-1] if self.heard[name] else None

    def change(self, name: str, event: Event) -> None:
        version, before = self.table.rows[name]
        assert before is not None
        after = event.apply(before, before.update_time + 1)
        self.table.rows[name] = Seen(version + 1, after)
        self.notices.note(before, after)

    def finish(self, name: str) -> None:
        self.change(name, Claim(LEASE))
        self.change(name, Succeed(Report(1), b""))

    async def until(self, condition: Callable[[], object]) -> None:
        """Returns once something holds that is asked at all that this process hears."""

        async def wait() -> None:
            while not condition():
                self._news.clear()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._news.wait(), 0.05)

        await asyncio.wait_for(wait(), PATIENCE_SECONDS)

    async def until_done(self, *names: str) -> None:
        def are_done() -> bool:
            last = [self.last(name) for name in names]
            return all(record is not None and record.done for record in last)

        await self.until(are_done)

    async def until_it_hears(self) -> None:
        """Returns when what it may have missed before is looked at, too."""
        await self.until(lambda: not self.notices.is_deaf and not self.notices._looks_at_all)


class Place:
    """Processes of one database; those of one schema share a store."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.schema = url.rpartition("schema=")[2]
        self.table = Table()
        self._processes = contextlib.AsyncExitStack()

    async def process(self, **options: Any) -> Process:
        chosen: dict[str, Any] = {"url": self.url, "schema": self.schema, **options}
        process = Process(self.table, **chosen)
        process.notices.start()
        self._processes.push_async_callback(process.notices.close)
        return process

    async def two(self, **options: Any) -> tuple[Process, Process]:
        one, other = await self.process(**options), await self.process(**options)
        await one.until_it_hears()
        await other.until_it_hears()
        return one, other

    async def execute(self, sql: str, *arguments: object) -> str:
        connection = await asyncpg.connect(self.url.partition("?")[0], timeout=PATIENCE_SECONDS)
        try:
            return str(await connection.execute(sql, *arguments))
        finally:
            await connection.close()

    async def notify(self, *payloads: str) -> None:
        channel = channel_of(self.schema)
        await self.execute("SELECT pg_notify($1, p) FROM unnest($2::text[]) p", channel, payloads)

    async def end_connections(self) -> None:
        """Ends all other connections to the database, as an administrator may."""
        await self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query LIKE '%pg_notify%' AND pid <> pg_backend_pid()"
        )

    async def close(self) -> None:
        await self._processes.aclose()


@contextlib.asynccontextmanager
async def place_of(url: str) -> AsyncIterator[Place]:
    place = Place(url)
    try:
        yield place
    finally:
        await place.close()


async def test_a_process_hears_what_others_make_of_an_operation_that_it_follows(
    postgres: str,
) -> None:
    async with place_of(postgres) as place:
        one, other = await place.two()
        name = place.table.add("op-1").name
        other.follow(name)
        one.change(name, Claim(LEASE))
        await other.until(lambda: (last := other.last(name)) and last.attempt == 1)
        one.change(name, Cancel())
        await other.until(lambda: (last := other.last(name)) and last.cancel_requested)
        one.change(name, Succeed(Report(1), b""))
        await other.until_done(name)


async def test_each_follower_hears_until_it_has_enough(postgres: str) -> None:
    async with place_of(postgres) as place:
        one, other = await place.two()
        name = place.table.add("op-1").name
        calls: list[str] = []
        unfollow = other.notices.follow(name, lambda _record: calls.append("first"))
        other.follow(name)
        one.change(name, Claim(LEASE))
        await other.until(lambda: other.heard[name])
        assert calls == ["first"]
        unfollow()
        unfollow()  # again does nothing
        one.change(name, Succeed(Report(1), b""))
        await other.until_done(name)
        assert calls == ["first"]


async def test_a_deaf_process_looks_at_thousands_in_one_statement(postgres: str) -> None:
    """All that it follows, each second: with a statement for a hundred it would ask without end."""
    async with place_of(postgres) as place:
        deaf = await place.process(listens=False)
        names = [place.table.add(f"op-{number}").name for number in range(3000)]
        for name in names:
            deaf.follow(name)
        await deaf.until(lambda: all(deaf.heard[name] for name in names))
        deaf.reads.clear()
        await deaf.until(lambda: len(deaf.reads) >= 3)
        assert set(deaf.reads) == {len(names)}
        one = await place.process()
        one.finish(names[-1])
        await deaf.until_done(names[-1])


async def test_more_operations_that_have_changed_than_one_answer_has_are_all_told(
    postgres: str,
) -> None:
    """Though the process hears, and so does not look by itself."""
    async with place_of(postgres) as place:
        one, other = await place.two()
        names = [place.table.add(f"op-{number}").name for number in range(250)]
        for name in names:
            other.follow(name)
        place.table.most = 100
        for name in names:
            one.finish(name)
        await other.until_done(*names)


async def test_what_nobody_follows_is_not_read(postgres: str) -> None:
    async with place_of(postgres) as place:
        one, other = await place.two()
        names = [place.table.add(f"op-{n}").name for n in range(2)]
        other.follow(names[0])()
        other.follow(names[1])
        one.finish(names[0])
        one.finish(names[1])
        await other.until_done(names[1])
        assert other.heard[names[0]] == []
        assert set(other.reads) == {1}


async def test_a_follower_hears_that_its_operation_is_gone(postgres: str) -> None:
    async with place_of(postgres) as place:
        one, other = await place.two()
        name = place.table.add("op-1").name
        other.follow(name)
        one.change(name, Claim(LEASE))
        await other.until(lambda: other.heard[name])
        place.table.remove(name)
        await place.notify(Notice(hash_of("another"), names=[hash_of(name)]).encoded())
        await other.until(lambda: other.last(name) is None)


async def test_a_follower_that_raises_keeps_it_from_no_other_one(
    postgres: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with place_of(postgres) as place:
        one, other = await place.two()
        name = place.table.add("op-1").name

        def breaks(_record: Record | None) -> None:
            raise RuntimeError("it broke")

        other.notices.follow(name, breaks)
        other.follow(name)
        one.finish(name)
        await other.until_done(name)
    assert "it broke" in caplog.text


async def test_work_that_a_process_has_no_room_for_is_for_those_that_claim_its_method(
    postgres: str,
) -> None:
    async with place_of(postgres) as place:
        one, other = await place.two()
        third = await place.process()
        await third.until_it_hears()
        other.notices.add_methods([METHOD])
        third.notices.add_methods(["/test.v1.Tests/RunOther"])
        one.notices.note(None, place.table.add("op-1"))
        await other.until(lambda: other.work)
        one.has_room = True
        one.notices.note(None, place.table.add("op-2"))
        name = place.table.add("op-3").name
        for process in (other, third):
            process.follow(name)
        one.finish(name)
        await other.until_done(name)
        await third.until_done(name)  # whatever was notified before has been heard, too
        assert other.work == {METHOD: 1}
        assert third.work == {}


async def test_the_processes_of_two_schemas_do_not_hear_each_other(
    postgres: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with place_of(postgres) as place:
        one, other = await place.two()
        stranger = await place.process(schema="another")
        await stranger.until_it_hears()
        stranger.notices.add_methods([METHOD])
        name = place.table.add("op-1").name
        for process in (other, stranger):
            process.follow(name)
        stranger.reads.clear()
        one.notices.note(None, place.table.add("op-2"))
        one.finish(name)
        await other.until_done(name)
        await place.execute(  # what was notified before it has been heard by then
            "SELECT pg_notify($1, $2)", channel_of("another"), "later"
        )
        await stranger.until(lambda: "'later'" in caplog.text)
        assert stranger.reads == []
        assert stranger.work == {}


@pytest.mark.parametrize("kind", [Cut.STALL, Cut.MUTE, Cut.RESET])
async def test_a_process_that_is_cut_off_looks_by_itself_until_it_hears_again(
    postgres: str, kind: Cut
) -> None:
    """A cut connection may look as if it were well."""
    async with place_of(postgres) as place:
        server = place.url.partition("?")[0]
        port = server.rpartition(":")[2].partition("/")[0]
        with contextlib.closing(Network(port)) as network:
            one = await place.process()
            other = await place.process(url=server.replace(f":{port}/", f":{network.port}/"))
            await one.until_it_hears()
            await other.until_it_hears()
            other.notices.add_methods([METHOD])
            names = [place.table.add(f"op-{n}").name for n in range(3)]
            for name in names:
                other.follow(name)
            network.cut(kind)
            one.finish(names[0])
            await other.until(lambda: other.notices.is_deaf)
            await other.until_done(names[0])
            one.finish(names[1])
            await other.until_done(names[1])
            await other.until(lambda: other.work[METHOD] > 1)
            network.mend()
            await other.until_it_hears()
            one.finish(names[2])
            await other.until_done(names[2])


async def test_a_connection_that_an_administrator_ends_is_replaced(postgres: str) -> None:
    async with place_of(postgres) as place:
        one, other = await place.two()
        for n in range(3):
            before, after = place.table.add(f"op-{n}-a").name, place.table.add(f"op-{n}-b").name
            other.follow(before)
            other.follow(after)
            await place.end_connections()
            one.finish(before)
            await other.until_done(before)
            await one.until_it_hears()
            await other.until_it_hears()
            one.finish(after)
            await other.until_done(after)


async def test_a_server_that_is_killed_and_begun_again_is_heard_again(
    killable_postgres: PostgresServer,
) -> None:
    async with place_of(killable_postgres.url + "?schema=public") as place:
        one, other = await place.two()
        names = [place.table.add(f"op-{n}").name for n in range(2)]
        for name in names:
            other.follow(name)
        killable_postgres.kill()
        await other.until(lambda: other.notices.is_deaf)
        one.finish(names[0])
        await other.until_done(names[0])
        killable_postgres.start()
        await one.until_it_hears()
        await other.until_it_hears()
        one.finish(names[1])
        await other.until_done(names[1])


async def test_a_process_begins_without_a_server(killable_postgres: PostgresServer) -> None:
    killable_postgres.stop()
    async with place_of(killable_postgres.url + "?schema=public") as place:
        one, other = await place.process(), await place.process()
        name = place.table.add("op-1").name
        other.follow(name)
        one.finish(name)
        await other.until_done(name)
        killable_postgres.start()
        await other.until_it_hears()


async def test_without_listening_a_process_is_heard_and_looks_by_itself(postgres: str) -> None:
    """As behind pgbouncer, which drops a LISTEN."""
    async with place_of(postgres) as place:
        one = await place.process(listens=False)
        other = await place.process()
        await other.until_it_hears()
        one.notices.add_methods([METHOD])
        names = [place.table.add(f"op-{n}").name for n in range(2)]
        other.follow(names[0])
        one.follow(names[1])
        one.finish(names[0])
        await other.until_done(names[0])
        other.finish(names[1])
        await one.until_done(names[1])
        await one.until(lambda: one.work[METHOD] > 1)
        assert one.notices.is_deaf


GARBAGE = [
    "",
    "x" * 7999,
    "lro1.",
    "lro1.00.0..",
    "lro2.000000000000.0..",
    "lro1.000000000000.2..",
    "lro1.000000000000.0.00.",
    "lro1.000000000000.0..000000000000\n",
    "lro1.00000000000٠.0..",
    "lro1.ABCDEF000000.0..",
    '{"name": "operations/op-1"}',
    "\x1b[31m\u202e",
    "lro1.000000000000.0." + "f" * 12 * 600 + ".",
]


async def test_what_a_stranger_notifies_is_passed_over_and_logged_once(
    postgres: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with place_of(postgres) as place:
        one, other = await place.two()
        name = place.table.add("op-1").name
        other.follow(name)
        for payload in [*GARBAGE, *GARBAGE]:
            await place.notify(payload)
        one.finish(name)
        await other.until_done(name)
        assert not other.notices.is_deaf
    met = [one for one in caplog.records if "is none of this release's" in one.getMessage()]
    assert len(met) == 2  # one of each process
    assert "\x1b" not in caplog.text


async def test_a_stranger_has_nobody_look_at_all_it_follows_again_and_again(postgres: str) -> None:
    """But as often as it would look if it were deaf."""
    ping = 1.0
    async with place_of(postgres) as place:
        one, other = await place.two(ping=ping)
        names = [place.table.add(f"op-{n}").name for n in range(600)]
        for name in names:
            other.follow(name)
        begin = asyncio.get_running_loop().time()
        looks = [Notice(hash_of(f"stranger {n}"), everything=True).encoded() for n in range(2000)]
        await place.notify(*looks)
        one.finish(names[0])
        await other.until_done(names[0])
        most = 2 + (asyncio.get_running_loop().time() - begin) / ping
        assert len([size for size in other.reads if size > 1]) <= 6 * most


async def test_a_burst_is_a_few_notices_and_a_few_reads(postgres: str) -> None:
    async with place_of(postgres) as place:
        one, other = await place.two()
        names = [place.table.add(f"op-{n}").name for n in range(10_000)]
        for name in names:
            other.follow(name)
        payloads: list[str] = []
        listener = await asyncpg.connect(place.url.partition("?")[0])
        await listener.add_listener(
            channel_of(place.schema), lambda *heard: payloads.append(heard[3])
        )
        for name in names[:5000]:
            one.finish(name)
        await other.until_done(*names[:5000])
        await listener.close()
        said = [payload for payload in payloads if len(payload) > 100]
        assert len(said) == 8
        assert max(map(len, said)) <= 7900
        assert sum(other.reads) == 5000
        assert len(other.reads) <= 64
        assert not any(other.heard[name] for name in names[5000:])


async def test_what_was_noted_in_an_outage_is_bounded_and_heard_of_in_the_end(
    postgres: str,
) -> None:
    """Beyond a number of names, the others look at all they follow."""
    async with place_of(postgres) as place:
        one, other = await place.two()
        names = [place.table.add(f"op-{n}").name for n in range(12_000)]
        other.follow(names[0])
        other.follow(names[-1])
        one.is_cut_off = True
        await place.end_connections()
        await one.until(lambda: one.notices.is_deaf)
        await other.until_it_hears()
        for name in names:
            one.finish(name)
        one.is_cut_off = False
        await other.until_done(names[0], names[-1])


async def test_a_read_that_fails_is_made_again(
    postgres: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with place_of(postgres) as place:
        one, other = await place.two()
        name = place.table.add("op-1").name
        other.follow(name)
        other.fails = True
        one.finish(name)
        await other.until(lambda: len(other.reads) > 2)
        other.fails = False
        await other.until_done(name)
    said = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert len(said) <= 2  # the first, and a count of the others
    assert "down" in said[0].getMessage()


async def test_the_last_changes_of_a_process_are_heard_of(postgres: str) -> None:
    async with place_of(postgres) as place:
        one, other = await place.two()
        names = [place.table.add(f"op-{n}").name for n in range(2000)]
        for name in names:
            other.follow(name)
            one.finish(name)
        await one.notices.close()
        await other.until_done(*names)


async def test_to_close_waits_for_no_server(killable_postgres: PostgresServer) -> None:
    async with place_of(killable_postgres.url + "?schema=public") as place:
        one, _ = await place.two()
        killable_postgres.kill()
        one.finish(place.table.add("op-1").name)


class SlowConnection:
    """A connection that fails when it has heard something, and hands that on later."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._heard = asyncio.Event()
        self.is_ended = False

    async def add_listener(self, channel: str, callback: Callable[..., None]) -> None:
        def on_notice(*heard: object) -> None:
            self.hand_on = partial(callback, *heard)
            self._heard.set()

        await self._connection.add_listener(channel, on_notice)

    async def execute(self, query: str, *args: object, timeout: float) -> None:
        await self._connection.execute(query, *args, timeout=timeout)
        await self._heard.wait()
        raise asyncio.TimeoutError

    def terminate(self) -> None:
        self.is_ended = True
        self._connection.terminate()


async def test_what_is_heard_late_of_a_lost_connection_proves_no_hearing(postgres: str) -> None:
    """As where the event loop has stood still, and time limits are over when it goes on."""
    async with place_of(postgres) as place:
        one = Process(place.table, place.url, place.schema)
        connections: list[SlowConnection] = []

        async def connect() -> SlowConnection:
            connections.append(SlowConnection(await one._connect()))
            one.is_cut_off = True
            return connections[-1]

        one.notices = Notices(place.schema, connect, one._read)
        one.notices.start()
        await one.until(lambda: connections and connections[0].is_ended)
        connections[0].hand_on()
        assert one.notices.is_deaf
        await one.notices.close()


class TellingConnection:
    """A connection that tells how the transactions of its statements are set."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.add_listener = connection.add_listener
        self.terminate = connection.terminate
        self.settings: set[str] = set()

    async def execute(self, query: str, *args: object, timeout: float) -> str:
        async with self._connection.transaction():
            answer = await self._connection.execute(query, *args, timeout=timeout)
            self.settings.add(await self._connection.fetchval("SHOW synchronous_commit"))
        return str(answer)


async def test_to_notify_waits_for_no_disk(postgres: str) -> None:
    """For it holds a lock of the whole database as long as its commit lasts."""
    async with place_of(postgres) as place:
        connections: list[TellingConnection] = []

        async def connect() -> TellingConnection:
            connections.append(TellingConnection(await asyncpg.connect(one.url)))
            return connections[-1]

        one = Process(place.table, place.url, place.schema)
        one.notices = Notices(place.schema, connect, one._read)
        one.notices.start()
        await one.until_it_hears()
        await one.notices.close()
        assert connections[0].settings == {"off"}
