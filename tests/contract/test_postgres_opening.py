"""A database is opened as a store, or the error says in one sentence why it is none."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
import subprocess
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from postgres_server import with_options

from lro_grpc._errors import ConfigurationError, UnavailableError
from lro_grpc._operation.events import Claim
from lro_grpc._runtime.clock import SystemClock
from lro_grpc._stores.postgres import schema
from lro_grpc._stores.postgres.connections import Session
from lro_grpc._stores.postgres.options import parse
from lro_grpc.conformance import StoreConformance
from lro_grpc.stores import open_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from postgres_server import PostgresServer

    from lro_grpc.stores import Store


PATIENCE_SECONDS = 60.0


def store_of(url: str) -> Store:
    return open_url(url, lambda: StoreConformance.START)


async def open_and_close(url: str) -> bytes:
    store = store_of(url)
    await store.open()
    await store.close()
    return store.signing_secret


async def use(url: str) -> None:
    """Opens a store, makes an operation and reads it."""
    store = store_of(url)
    await store.open()
    try:
        made = await store.create(StoreConformance().record())
        assert await store.read(made.name) == made
    finally:
        await store.close()


def refusal(url: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as raised:
        asyncio.run(open_and_close(url))
    assert "\n" not in raised.value.message
    return raised.value


def execute(url: str, *statements: str) -> Any:
    """Carries statements out in the schema of a store, and returns the answer of the last one."""

    async def run() -> Any:
        parts = urlsplit(url)
        schema = schema_of(parts.query)
        connection = await asyncpg.connect(parts._replace(query="").geturl())
        try:
            if schema:
                await connection.execute(f"SET search_path = {schema}")
            for statement in statements[:-1]:
                await connection.execute(statement)
            return await connection.fetch(statements[-1])
        finally:
            await connection.close()

    return asyncio.run(run())


def schema_of(url: str) -> str:
    return url.rpartition("schema=")[2]


def grant(url: str, role: str, rights: str) -> None:
    """Makes the tables of a store, and grants a role rights on them."""
    asyncio.run(open_and_close(url))
    schema = schema_of(url)
    execute(
        url,
        f"GRANT USAGE ON SCHEMA {schema} TO {role}",
        f"GRANT {rights} ON ALL TABLES IN SCHEMA {schema} TO {role}",
    )


def as_role(url: str, role: str, password: str = "") -> str:
    parts = urlsplit(url)
    who = f"{role}:{password}" if password else role
    return parts._replace(netloc=f"{who}@{parts.hostname}:{parts.port}").geturl()


@pytest.fixture
def role(postgres: str) -> Iterator[str]:
    """A role that may log in, and has no rights."""
    name = f"lro_test_{secrets.token_hex(6)}"
    execute(postgres, f"CREATE ROLE {name} LOGIN")
    try:
        yield name
    finally:
        execute(postgres, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


# What can be opened


def test_many_that_open_an_empty_database_at_once_make_one_store(postgres: str) -> None:
    async def open_all() -> list[bytes]:
        return await asyncio.gather(*(open_and_close(postgres) for _ in range(16)))

    (secret,) = set(asyncio.run(open_all()))
    assert len(secret) == 32
    assert asyncio.run(open_and_close(postgres)) == secret


def test_many_make_one_store_in_the_schema_that_their_role_has_first(
    postgres: str, role: str
) -> None:
    execute(postgres, f"CREATE SCHEMA {role} AUTHORIZATION {role}")  # "$user" is first

    async def open_all() -> list[bytes]:
        url = as_role(postgres.partition("?")[0], role)
        return await asyncio.gather(*(open_and_close(url) for _ in range(8)))

    assert len(set(asyncio.run(open_all()))) == 1


def test_a_store_that_closes_with_nothing_to_do_logs_nothing(
    postgres: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def claim_and_close() -> None:
        store = store_of(postgres)
        await store.open()
        assert await store.claim({StoreConformance.METHOD: 1}, Claim(15_000_000)) == []
        await store.close()

    asyncio.run(claim_and_close())
    ours = [one for one in caplog.records if one.name == "lro_grpc"]
    assert [one.message for one in ours if one.levelno >= logging.WARNING] == []


def test_of_several_hosts_the_one_that_answers_is_taken(postgres: str) -> None:
    parts = urlsplit(postgres)
    hosts = f"postgres@127.0.0.1:1,127.0.0.1:{parts.port}"
    url = parts._replace(netloc=hosts).geturl()
    assert asyncio.run(open_and_close(url)) == asyncio.run(open_and_close(postgres))
    away = parts._replace(netloc="postgres@127.0.0.1:1,127.0.0.1:2").geturl()
    assert refusal(away).message.startswith("127.0.0.1:1,127.0.0.1:2/postgres cannot be opened")


def test_tables_are_used_where_the_role_finds_them(postgres: str, role: str) -> None:
    grant(postgres, role, "ALL")
    execute(
        postgres,
        f"CREATE SCHEMA {role} AUTHORIZATION {role}",
        f"ALTER ROLE {role} SET search_path = {role}, {schema_of(postgres)}",
    )

    asyncio.run(use(as_role(postgres.partition("?")[0], role)))
    assert len(execute(postgres, "SELECT FROM lro_operations")) == 1


def test_a_schema_is_made_if_it_is_missing(postgres: str) -> None:
    name = f"lro_test_{secrets.token_hex(6)}"
    url = with_options(postgres, schema=name)
    try:
        asyncio.run(open_and_close(url))
        assert execute(url, "SELECT 1 FROM lro_operations") == []
    finally:
        execute(postgres, f"DROP SCHEMA {name} CASCADE")


def test_a_role_may_use_a_store_that_another_has_made(postgres: str, role: str) -> None:
    """It need not be able to change the tables."""
    grant(postgres, role, "SELECT, INSERT, UPDATE, DELETE")

    asyncio.run(use(as_role(postgres, role)))


def test_a_later_schema_that_this_release_can_read_is_opened(postgres: str) -> None:
    asyncio.run(open_and_close(postgres))
    execute(
        postgres,
        "ALTER TABLE lro_operations ADD COLUMN of_later text NOT NULL DEFAULT ''",
        f"UPDATE lro_schema SET version = {schema.VERSION + 1}",
    )

    asyncio.run(use(postgres))
    assert execute(postgres, "SELECT version FROM lro_schema")[0][0] == schema.VERSION + 1


# What cannot


def test_a_later_schema_that_this_release_cannot_read_is_refused(postgres: str) -> None:
    asyncio.run(open_and_close(postgres))
    later = schema.VERSION + 1
    execute(postgres, f"UPDATE lro_schema SET version = {later}, readable_by = {later}")
    error = refusal(postgres)
    assert error.reason == "STORE_TOO_NEW"
    assert f"version {later}" in error.message
    assert "use a newer release" in error.message


def test_a_table_of_another_program_is_refused(postgres: str) -> None:
    execute(postgres, "CREATE TABLE lro_operations (number int)")
    error = refusal(postgres)
    assert error.reason == "STORE_FOREIGN"
    assert "has not made" in error.message
    assert execute(postgres, "SELECT * FROM lro_operations") == []


def test_a_role_without_rights_is_refused(postgres: str, role: str) -> None:
    error = refusal(as_role(postgres, role))
    assert "permission denied for schema" in error.message
    assert "grant its role" in error.message


def test_a_role_that_may_not_make_the_schema_is_refused(postgres: str, role: str) -> None:
    error = refusal(with_options(as_role(postgres, role), schema=role))
    assert "permission denied for database" in error.message
    assert "make the schema for its role" in error.message


def test_a_role_with_too_few_connections_is_refused_and_keeps_none(
    postgres: str, role: str
) -> None:
    grant(postgres, role, "SELECT, INSERT, UPDATE, DELETE")
    execute(postgres, f"ALTER ROLE {role} CONNECTION LIMIT 3")
    assert "too many connections for role" in refusal(as_role(postgres, role)).message
    assert "lro-loop" not in {thread.name for thread in threading.enumerate()}
    kept = f"SELECT 1 FROM pg_stat_activity WHERE usename = '{role}'"
    while execute(postgres, kept):  # the server may take a moment to notice
        pass


def test_a_role_that_may_only_read_is_refused(postgres: str, role: str) -> None:
    """Otherwise each call of a caller fails."""
    grant(postgres, role, "SELECT, INSERT")
    error = refusal(as_role(postgres, role))
    assert "its role lacks rights on the tables" in error.message
    assert (
        f"GRANT UPDATE, DELETE ON {schema_of(postgres)}.lro_operations TO {role}" in error.message
    )
    grant(postgres, role, "ALL")
    execute(postgres, f"ALTER ROLE {role} SET default_transaction_read_only = on")
    error = refusal(as_role(postgres, role))
    assert "default_transaction_read_only is on; set it to off" in error.message


def test_connections_that_run_out_are_told(postgres: str, role: str) -> None:
    grant(postgres, role, "ALL")
    execute(postgres, f"ALTER ROLE {role} CONNECTION LIMIT 2")
    error = refusal(as_role(postgres, role))
    assert "too many connections for role" in error.message
    assert "allow more of them" in error.message


def test_what_a_role_comes_to_say_of_its_transactions_is_set_right(
    postgres: str, role: str
) -> None:
    """Each connection sets it, for a role may change while servers run, and they connect again."""
    execute(
        postgres,
        f"ALTER ROLE {role} SET synchronous_commit = off",
        f"ALTER ROLE {role} SET default_transaction_isolation = serializable",
    )

    async def settings() -> Any:
        session = Session(parse(as_role(postgres, role)))
        try:
            return await session.fetch(
                "SELECT current_setting('synchronous_commit'),"
                " current_setting('transaction_isolation')"
            )
        finally:
            await session.close()

    ((commit, isolation),) = asyncio.run(settings())
    assert (commit, isolation) == ("on", "read committed")


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("synchronous_commit", "off", "on"),
        ("synchronous_commit", "local", "on"),
        ("default_transaction_isolation", "repeatable read", "'read committed'"),
    ],
)
def test_behind_a_pooler_what_a_role_says_of_its_transactions_is_refused(
    postgres: str, role: str, name: str, value: str, right: str
) -> None:
    """There no connection is the store's own, to set it."""
    execute(postgres, f"ALTER ROLE {role} SET {name} = '{value}'")
    error = refusal(with_options(as_role(postgres, role), pgbouncer="1"))
    assert f"{name} is {value}, with which" in error.message
    assert f"set it to {right} for this role or database" in error.message


def test_a_server_that_is_too_old_is_refused(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "OLDEST_SERVER", 99)
    assert "this release needs 99 or later" in refusal(postgres).message


def test_another_encoding_is_refused(postgres: str) -> None:
    name = f"lro_test_{secrets.token_hex(6)}"
    make = f"CREATE DATABASE {name} ENCODING SQL_ASCII LOCALE 'C' TEMPLATE template0"
    execute(postgres, make)
    try:
        other = urlsplit(postgres)._replace(path=f"/{name}", query="").geturl()
        assert "its encoding is SQL_ASCII" in refusal(other).message
    finally:
        execute(postgres, f"DROP DATABASE {name}")


def test_an_unknown_database_or_role_is_named(postgres: str) -> None:
    parts = urlsplit(postgres)
    error = refusal(parts._replace(path="/nowhere", query="").geturl())
    assert '"nowhere" does not exist; create it' in error.message
    error = refusal(as_role(postgres, "nobody_at_all"))
    assert '"nobody_at_all" does not exist; give the user' in error.message


def test_a_wrong_password_is_refused_and_not_shown(killable_postgres: PostgresServer) -> None:
    url = killable_postgres.url
    rules = ("host all postgres 127.0.0.1/32 trust", "host all all 127.0.0.1/32 scram-sha-256")
    (file,) = execute(url, "SELECT current_setting('hba_file')")[0]
    execute(
        url,
        "CREATE ROLE someone LOGIN PASSWORD 'right' SUPERUSER",
        f"COPY (SELECT unnest(ARRAY{list(rules)})) TO '{file}'",
        "SELECT pg_reload_conf()",
    )
    assert len(asyncio.run(open_and_close(as_role(url, "someone", "right")))) == 32
    error = refusal(as_role(url, "someone", "wrong-secret"))
    assert 'password authentication failed for user "someone"' in error.message
    assert "wrong-secret" not in f"{error} {error.metadata}"


def make_standby(server: PostgresServer) -> None:
    (folder,) = execute(server.url, "SELECT current_setting('data_directory')")[0]
    execute(server.url, "CHECKPOINT", f"COPY (SELECT 1) TO '{folder}/standby.signal'", "SELECT 1")
    server.stop()
    server.start()


def test_a_standby_is_refused(killable_postgres: PostgresServer) -> None:
    url = killable_postgres.url
    make_standby(killable_postgres)
    for asked in (url, with_options(url, target_session_attrs="any")):
        assert "it is a standby, which takes no writes" in refusal(asked).message


@pytest.mark.parametrize("wanted", ["any", "primary"])
def test_calls_say_that_the_primary_is_a_standby_now(
    killable_postgres: PostgresServer, wanted: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With the words of the store, and not of the driver; the log has those, too."""
    url = killable_postgres.url

    async def refused() -> UnavailableError:
        store = open_url(with_options(url, target_session_attrs=wanted), SystemClock().now)
        await store.open()
        try:
            await asyncio.to_thread(make_standby, killable_postgres)
            while True:
                with pytest.raises(UnavailableError) as raised:
                    await store.create(StoreConformance().record())
                if "takes no writes" in raised.value.message:  # the connection is made anew first
                    return raised.value
        finally:
            await store.close()

    error = asyncio.run(asyncio.wait_for(refused(), PATIENCE_SECONDS))
    assert error.reason == "STORE_UNAVAILABLE"
    assert error.message.endswith("its database takes no writes for now, as a standby does")
    assert "takes no writes for now, as a standby does (" in caplog.text


def test_a_server_that_is_not_there_is_named() -> None:
    with contextlib.closing(socket.socket()) as unheard:
        unheard.bind(("127.0.0.1", 0))
        port = unheard.getsockname()[1]
        error = refusal(f"postgresql://someone:secret@127.0.0.1:{port}/base")
    assert f"127.0.0.1:{port}/base cannot be opened" in error.message
    assert "no Postgres server answers" in error.message
    assert "secret" not in f"{error} {error.metadata}"
    assert "no Postgres server answers" in refusal("postgresql://u@nowhere.invalid/base").message


def test_a_server_that_does_not_answer_has_its_time() -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as mute:
        port = mute.getsockname()[1]
        error = refusal(f"postgresql://u@127.0.0.1:{port}/base?sslmode=disable&connect_timeout=0.1")
    assert "no Postgres server answers" in error.message


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("poolsize=3", "'poolsize' is no option of a Postgres store; its own are connect_timeout"),
        ("schema=a&schema=b", "schema is given twice; give it once"),
        (
            "schema=a&notices_url=postgresql://h/b?readers=1&schema=a",
            "schema is given twice; give it once, and write a & in notices_url as %26",
        ),
        ("readers=0", "readers is '0'; give a whole number of 1 to 100"),
        ("readers=two", "readers is 'two'; give"),
        ("statement_timeout=-1", "statement_timeout is '-1'; give seconds above 0"),
        ("connect_timeout=nan", "connect_timeout is 'nan'; give seconds above 0"),
        ("statement_timeout=soon", "statement_timeout is 'soon'; give seconds"),
        ("pgbouncer=yes", "pgbouncer is 'yes'; give 0 or 1"),
        ("schema=a%22b", "schema is 'a\"b'; give the name of a schema, without quotes"),
        ("sslmode=perhaps", "`sslmode` parameter must be one of"),
        ("sslrootcert=/nowhere.pem", "sslrootcert is '/nowhere.pem', which cannot be read"),
        ("target_session_attrs=standby", "target_session_attrs is 'standby'; give any, primary"),
        ("port=abc", "port is 'abc'; give a number"),
        (f"schema={'%C3%A4' * 32}", f"schema is '{'ä' * 32}'; give a name of 63 bytes at most"),
        ("notices_url=mysql://h/b", "mysql: is no URL of Postgres"),
        ("notices_url=postgresql://h/b?x=1", "'x' is no option of a Postgres store"),
    ],
)
def test_an_option_that_cannot_be_is_named(option: str, said: str) -> None:
    assert said in refusal(f"postgresql://u@127.0.0.1:1/base?{option}").message


def test_a_url_of_nothing_shows_no_password() -> None:
    of_nothing = [
        "postgresql+asyncpg://u:secret@h/b",
        "mysql://u:secret@h/b",
        "mysql://u:secret/@secret@h/b",
        "postgresql:/u:secret@h/b",
        "postgresql:u:secret@h/b",
        "Postgresql://u:secret@h/b",
    ]
    for url in of_nothing:
        error = refusal(url)
        assert "u:***@h/b' is not a store" in error.message
        assert "secret" not in f"{error} {error.metadata}"
    assert "?password=***&" in refusal("mysql://u@h/b?password=secret&more=1").message


@pytest.mark.parametrize("character", "/?#@[")
@pytest.mark.parametrize("secret", ["secret", "5432"])
def test_a_password_without_its_escapes_is_not_shown(character: str, secret: str) -> None:
    """It looks like a port, a path or an option."""
    error = refusal(f"postgresql://u:{secret}{character}{secret}@127.0.0.1:1/base")
    assert "as %40 for @" in error.message
    assert secret not in "".join(traceback.format_exception(error))


def test_a_server_without_tls_is_told_from_one_that_is_not_there(postgres: str) -> None:
    assert "it has no TLS" in refusal(with_options(postgres, sslmode="require")).message


def test_without_its_driver_the_error_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['asyncpg'] = None\n"
        "from lro_grpc.stores import open_url\n"
        "open_url('postgresql://h/b', int)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8")
    assert "pip install 'lro-grpc[postgres]'" in ran.stderr
