"""The tables of a store, made and changed by numbered migrations.

Several releases share a database while servers are replaced one by one. So:

* A migration only adds: a column with a default, an index or a further column of one, a table.
  Statements name their columns.
* ``lro_schema`` says which version of the schema the tables have, and ``readable_by``: the oldest
  version that a release must know to work with them. A release opens tables of a later version as
  long as they are readable by its own.
* What a migration adds means "unset" at its default, for releases before it make rows without it.
* A release writes nothing that the one before it cannot read. The next one may, and then raises
  ``readable_by``; it may also drop what nobody reads any more.

Processes that start at once migrate one after the other, under an advisory lock. Tables that are
up to date get no DDL at all: even ``CREATE INDEX IF NOT EXISTS`` locks out all writers.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import NamedTuple

from lro_grpc._errors import ConfigurationError
from lro_grpc._stores.postgres.connections import Session, Transaction
from lro_grpc._stores.postgres.failures import unusable
from lro_grpc._stores.postgres.options import Options
from lro_grpc._stores.postgres.rows import DELAYED, DONE, LEASED, READY, RESTING
from lro_grpc._stores.postgres.statements import MAY_BE_OVERDUE, OPERATION_ID, digest, prefix_of

OLDEST_SERVER = 13
"""The oldest major version of Postgres that is supported."""

_LOCK = 0x6C726F5F67727063
"""The advisory lock of migrations: the letters of lro_grpc."""

_RIGHTS = {
    "lro_operations": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "lro_attempts": ("SELECT", "INSERT", "DELETE"),
    "lro_outbox": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "lro_labels": ("SELECT", "INSERT", "DELETE"),
    "lro_schema": ("SELECT",),
    "lro_secrets": ("SELECT",),
}
"""The rights that a store needs, by the names of tables."""

_MIGRATION_SECONDS = 600.0
"""The time that a start has for its migrations, and waits for those of others."""

_LOCK_TIMEOUT = "5s"
"""The time that a migration waits for a table, and holds all writers up with that."""

_TEXT = "text COLLATE \"C\" NOT NULL DEFAULT ''"
_BYTES = "bytea NOT NULL DEFAULT ''"
_NUMBER = "int8 NOT NULL DEFAULT 0"
_FLAG = "bool NOT NULL DEFAULT false"
_COLUMNS = (
    f"name {_TEXT}, parent {_TEXT}, method {_TEXT}, request {_BYTES}, request_id {_TEXT},"
    f" fingerprint {_BYTES}, metadata_type {_TEXT}, target {_TEXT}, verb {_TEXT},"
    f" api_version {_TEXT}, caller {_TEXT}, trace_context {_TEXT}, max_attempts {_NUMBER},"
    f" pausable {_FLAG}, exclusive_target {_TEXT}, retention {_NUMBER}, deadline_time {_NUMBER},"
    f" create_time {_NUMBER}, request_understood {_FLAG}, start_time {_NUMBER},"
    f" update_time {_NUMBER}, end_time {_NUMBER}, expire_time {_NUMBER}, state {_NUMBER},"
    f" attempt {_NUMBER}, failed_attempts {_NUMBER}, lease_expire_time {_NUMBER},"
    f" scheduled_time {_NUMBER}, cancel_requested {_FLAG}, pause_requested {_FLAG},"
    f" deleted {_FLAG}, progress_percent {_NUMBER}, status_detail {_TEXT},"
    f" handler_metadata {_BYTES}, checkpoint {_BYTES}, batch {_BYTES}, batch_error {_BYTES},"
    f" error_code {_NUMBER}, response_type {_TEXT}, operation {_BYTES}"
)
"""The columns of the fields that ``Record`` had at first."""

_OPERATIONS = "{prefix}lro_operations"

_FIRST = (
    "CREATE TABLE {prefix}lro_secrets (name text PRIMARY KEY, value bytea NOT NULL)",
    # A page has room for the next versions of its rows. Most rows change a few times within
    # seconds, and are dead then: they are cleaned up long before a fifth of the table is.
    f"CREATE TABLE {_OPERATIONS} (sequence int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
    f" version int8 NOT NULL DEFAULT 1, phase int2 NOT NULL, {_COLUMNS})"
    " WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02,"
    " autovacuum_analyze_scale_factor = 0.02)",
    f"CREATE UNIQUE INDEX lro_operations_names ON {_OPERATIONS} (name)",
    f"CREATE INDEX lro_operations_listed ON {_OPERATIONS} (parent, sequence) WHERE NOT deleted",
    f"CREATE UNIQUE INDEX lro_operations_requests"
    f" ON {_OPERATIONS} (method, {digest('request_id')}, {digest('caller')}, parent)"
    " WHERE request_id <> ''",
    f"CREATE UNIQUE INDEX lro_operations_exclusive ON {_OPERATIONS} ({digest('exclusive_target')})"
    " WHERE exclusive_target <> ''",
    f"CREATE INDEX lro_operations_ready ON {_OPERATIONS} (method, sequence) WHERE phase = {READY}",
    f"CREATE INDEX lro_operations_delayed ON {_OPERATIONS} (method) WHERE phase = {DELAYED}",
    f"CREATE INDEX lro_operations_scheduled ON {_OPERATIONS} (scheduled_time)"
    f" WHERE phase = {DELAYED}",
    # By what does not change: a heartbeat touches no index.
    f"CREATE INDEX lro_operations_leased ON {_OPERATIONS} (sequence) WHERE phase = {LEASED}",
    f"CREATE INDEX lro_operations_expiring ON {_OPERATIONS} (expire_time)"
    f" WHERE phase = {DONE} AND NOT deleted AND expire_time <> 0",
    f"CREATE INDEX lro_operations_overdue ON {_OPERATIONS} (deadline_time) WHERE {MAY_BE_OVERDUE}",
    f"CREATE INDEX lro_operations_ids ON {_OPERATIONS} ({OPERATION_ID}) WHERE NOT deleted",
)

_RERUNS = (
    f"ALTER TABLE {_OPERATIONS} ADD COLUMN source_operation {_TEXT}, ADD COLUMN operator {_TEXT}",
    f"CREATE INDEX lro_operations_reruns ON {_OPERATIONS} (source_operation, sequence)"
    " WHERE source_operation <> ''",
)

_ATTEMPTS = (
    f"ALTER TABLE {_OPERATIONS} ADD COLUMN worker {_TEXT}, ADD COLUMN attempt_number {_NUMBER},"
    f" ADD COLUMN attempt_start_time {_NUMBER}, ADD COLUMN attempt_end_time {_NUMBER},"
    f" ADD COLUMN attempt_outcome {_NUMBER}, ADD COLUMN attempt_error {_BYTES}",
    # They go with their operation, whichever release removes it.
    f"CREATE TABLE {{prefix}}lro_attempts (operation int8 REFERENCES {_OPERATIONS} (sequence)"
    f" ON DELETE CASCADE, number int8, worker {_TEXT}, start_time {_NUMBER}, end_time {_NUMBER},"
    f" outcome {_NUMBER}, error {_BYTES}, PRIMARY KEY (operation, number))",
)

_OUTBOX = (
    f"ALTER TABLE {_OPERATIONS} ADD COLUMN notify {_FLAG}",
    # No reference to their operation: they stay when that one goes.
    f"CREATE TABLE {{prefix}}lro_outbox (name {_TEXT}, create_time {_NUMBER}, end_time {_NUMBER},"
    f" expire_time {_NUMBER}, next_time {_NUMBER}, attempt_count {_NUMBER}, given_up {_FLAG},"
    f" error {_BYTES}, event {_BYTES}, PRIMARY KEY (name, create_time))"
    " WITH (autovacuum_vacuum_scale_factor = 0.02)",
    "CREATE INDEX lro_outbox_due ON {prefix}lro_outbox (next_time)",
)

# They end with what is counted, so that rows need not be looked at for that.
_COUNTS = (
    "DROP INDEX {prefix}lro_operations_ready",
    f"CREATE INDEX lro_operations_ready ON {_OPERATIONS} (method, sequence, parent, state)"
    f" WHERE phase = {READY}",
    "DROP INDEX {prefix}lro_operations_delayed",
    f"CREATE INDEX lro_operations_delayed ON {_OPERATIONS} (method, sequence, parent, state)"
    f" WHERE phase = {DELAYED}",
    f"CREATE INDEX lro_operations_resting ON {_OPERATIONS} (method, sequence, parent, state)"
    f" WHERE phase = {RESTING}",
)

_LABELS = (
    f"ALTER TABLE {_OPERATIONS} ADD COLUMN labels {_TEXT}",
    'CREATE TABLE {prefix}lro_labels (key text COLLATE "C", value text COLLATE "C",'
    " operation int8, PRIMARY KEY (key, value, operation))",
    # They go with their operation, whichever release removes it. A foreign key would have to look
    # for them by the operation, and so needs an index that nothing else does.
    "CREATE OR REPLACE FUNCTION {prefix}lro_labels_end() RETURNS trigger LANGUAGE plpgsql AS $$"
    " BEGIN DELETE FROM {prefix}lro_labels WHERE ctid = ANY (ARRAY(SELECT l.ctid"
    " FROM unnest(string_to_array(OLD.labels, ',')) AS label CROSS JOIN LATERAL"
    " (SELECT ctid FROM {prefix}lro_labels WHERE key = split_part(label, '=', 1)"
    " AND value = split_part(label, '=', 2) AND operation = OLD.sequence LIMIT 1) AS l));"
    " RETURN NULL; END $$",
    f"CREATE TRIGGER lro_labels_end AFTER DELETE ON {_OPERATIONS} FOR EACH ROW"
    " WHEN (OLD.labels <> '') EXECUTE FUNCTION {prefix}lro_labels_end()",
)

# With what tells apart the starts that are delayed from what rests between two attempts.
_DELAYS = (
    f"ALTER TABLE {_OPERATIONS} ADD COLUMN delayed_until {_NUMBER}",
    "DROP INDEX {prefix}lro_operations_delayed",
    f"CREATE INDEX lro_operations_delayed ON {_OPERATIONS} (method, sequence, parent, state,"
    f" attempt) WHERE phase = {DELAYED}",
)

# The index of what is ready stays, for the release before, and to count by. Claims go by these two:
# most operations are in the first, and an entry of the other costs those alone that are ranked.
_PRIORITIES = (
    f"ALTER TABLE {_OPERATIONS} ADD COLUMN priority {_NUMBER}, ADD COLUMN queue_order {_NUMBER}",
    f"CREATE INDEX lro_operations_next ON {_OPERATIONS} (method, sequence)"
    f" WHERE phase = {READY} AND queue_order = 0",
    f"CREATE INDEX lro_operations_ranked ON {_OPERATIONS} (method, queue_order, sequence)"
    f" WHERE phase = {READY} AND queue_order <> 0",
)

# Operations with a key are claimed by it, as the first of these has them: no claim of others goes
# past them, however many wait. The second has no column that a heartbeat changes.
_KEYS = (
    f"ALTER TABLE {_OPERATIONS} ADD COLUMN concurrency_key {_TEXT}",
    f"CREATE INDEX lro_operations_by_key ON {_OPERATIONS} (method, concurrency_key, queue_order,"
    f" sequence) WHERE phase = {READY} AND concurrency_key <> ''",
    f"CREATE INDEX lro_operations_leased_by_key ON {_OPERATIONS} (method, concurrency_key)"
    f" WHERE phase = {LEASED} AND concurrency_key <> ''",
    "DROP INDEX {prefix}lro_operations_ranked",
    f"CREATE INDEX lro_operations_ranked ON {_OPERATIONS} (method, queue_order, sequence)"
    f" WHERE phase = {READY} AND queue_order <> 0 AND concurrency_key = ''",
)

MIGRATIONS = (
    (_FIRST, 1),
    (_RERUNS, 1),
    (_ATTEMPTS, 1),
    (_OUTBOX, 1),
    (_COUNTS, 1),
    (_LABELS, 1),
    (_DELAYS, 1),
    (_PRIORITIES, 1),
    (_KEYS, 1),
)
"""The statements that lead to each version, from 1 on, and what it is ``readable_by``.

A migration that databases have had stays as it is. A field that is added to ``Record`` comes with
another one, which adds its column.
"""

VERSION = len(MIGRATIONS)
"""The version that this release knows."""


class PreparedSchema(NamedTuple):
    """A database that is ready."""

    schema: str
    """The schema that has the tables."""
    secret: bytes
    """The secret of the store."""


async def prepare(options: Options) -> PreparedSchema:
    """Checks the server, and brings the tables up to date.

    Raises:
        ConfigurationError: If they cannot be used.
    """
    for name, file in options.files.items():
        if not os.access(file, os.R_OK):
            why = f"{name} is {file!r}, which cannot be read; correct it"
            raise _refused(options, why, "STORE_UNUSABLE")
    session = Session(replace(options, statement_timeout=_MIGRATION_SECONDS))
    try:
        await _check_server(session, options)
        await _check_rights(session, options)
        if await _version(session, options) < VERSION:
            async with session.transaction() as transaction:
                await _migrate(transaction, options)
            await _check_rights(session, options)  # another process may have made the tables
        return PreparedSchema(await _schema(session, options), await _secret(session, options))
    except ConfigurationError:
        raise
    except Exception as error:
        raise unusable(options, error) from error
    finally:
        await session.close()


async def is_prepared(options: Options) -> bool:
    """Returns whether a database has the tables of a store, of whatever version.

    Raises:
        ConfigurationError: If it cannot be used, or has tables of another program.
    """
    session = Session(options)
    try:
        return await _version(session, options) > 0
    except ConfigurationError:
        raise
    except Exception as error:
        raise unusable(options, error) from error
    finally:
        await session.close()


async def schema_as_it_is(options: Options) -> str:
    """Returns the schema that has the tables, and changes nothing.

    Raises:
        ConfigurationError: If there are none, or they are not those of this release.
    """
    session = Session(options)
    try:
        version = await _version(session, options)
        schema = await _schema(session, options) if version else ""
    except ConfigurationError:
        raise
    except Exception as error:
        raise unusable(options, error) from error
    finally:
        await session.close()
    why = ""
    if not version:
        why = "it has no tables of a store; give the database and the schema= of one"
    elif version < VERSION:
        why = f"its tables have version {version}, and not {VERSION}; execute lro db migrate"
    if why:
        raise _refused(options, why, "STORE_UNUSABLE")
    return schema


async def _schema(session: Session, options: Options) -> str:
    """Returns the schema of the tables; found by the role's search path, it may be any there."""
    ((schema,),) = await session.fetch(
        "SELECT nspname FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace"
        " WHERE pg_class.oid = to_regclass($1)",
        f"{prefix_of(options.schema)}lro_operations",
    )
    return str(schema)


async def _check_server(session: Session, options: Options) -> None:
    ((version, encoding, in_recovery, commit, isolation, read_only),) = await session.fetch(
        "SELECT current_setting('server_version_num')::int / 10000,"
        " current_setting('server_encoding'), pg_is_in_recovery(),"
        " current_setting('synchronous_commit'), current_setting('default_transaction_isolation'),"
        " current_setting('transaction_read_only')::bool"
    )
    why = ""
    if version < OLDEST_SERVER:
        why = f"it is Postgres {version}; this release needs {OLDEST_SERVER} or later"
    elif in_recovery:
        why = "it is a standby, which takes no writes; give the address of the primary"
    elif read_only:
        why = "default_transaction_read_only is on; set it to off for this role or database"
    elif encoding != "UTF8":
        why = f"its encoding is {encoding}; make a database with the encoding UTF8"
    elif commit in ("off", "local"):
        why = (
            f"synchronous_commit is {commit}, with which a commit that was acknowledged can be"
            " lost; set it to on for this role or database"
        )
    elif isolation != "read committed":
        why = (
            f"default_transaction_isolation is {isolation}, with which changes fail that others"
            " are near; set it to 'read committed' for this role or database"
        )
    if why:
        raise _refused(options, why, "STORE_UNUSABLE")


async def _check_rights(session: Session, options: Options) -> None:
    """Looks now, for each call would fail later; what tables there are not, this makes."""
    needed = [(table, right) for table, rights in _RIGHTS.items() for right in rights]
    rows = await session.fetch(
        "SELECT format('GRANT %s ON %s TO %I', string_agg(a, ', ' ORDER BY i), t, current_user)"
        " FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS n(name, a, i),"
        " LATERAL to_regclass(name) AS t WHERE NOT has_table_privilege(t, a)"
        " GROUP BY t ORDER BY min(i)",
        [f"{prefix_of(options.schema)}{table}" for table, _ in needed],
        [right for _, right in needed],
    )
    if rows:
        statements = "; ".join(row[0] for row in rows)
        why = f"its role lacks rights on the tables; as their owner, execute {statements}"
        raise _refused(options, why, "STORE_UNUSABLE")


async def _version(fetching: Session | Transaction, options: Options) -> int:
    """Returns the version of the tables; 0 if there are none.

    Raises:
        ConfigurationError: If this release must not use them.
    """
    prefix = prefix_of(options.schema)
    # It reads pg_class, for to_regclass alone goes by what the session knew of tables before, as
    # when it has waited for the lock under which another process has made them.
    ((ours, operations),) = await fetching.fetch(
        "SELECT EXISTS (SELECT FROM pg_class WHERE oid = to_regclass($1)),"
        " EXISTS (SELECT FROM pg_class WHERE oid = to_regclass($2))",
        f"{prefix}lro_schema",
        f"{prefix}lro_operations",
    )
    if not ours:
        if operations:
            why = "it has a table lro_operations that this package has not made; give a schema"
            raise _refused(options, why, "STORE_FOREIGN")
        return 0
    rows = await fetching.fetch(f"SELECT version, readable_by FROM {prefix}lro_schema")
    if len(rows) != 1:
        why = f"lro_schema has {len(rows)} rows, and should have one; restore it from a backup"
        raise _refused(options, why, "STORE_FOREIGN")
    ((version, readable_by),) = rows
    if readable_by > VERSION:
        raise _refused(
            options,
            f"its tables have version {version}, which a release must know version"
            f" {readable_by} to read, and this one knows {VERSION}; use a newer release",
            "STORE_TOO_NEW",
        )
    return int(version)


async def _migrate(transaction: Transaction, options: Options) -> None:
    await transaction.fetch("SELECT pg_advisory_xact_lock($1)", _LOCK)
    await transaction.fetch(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
    if options.schema and not await transaction.fetch(
        "SELECT FROM pg_namespace WHERE nspname = $1", options.schema
    ):
        await transaction.fetch(f'CREATE SCHEMA "{options.schema}"')
    version = await _version(transaction, options)  # another process may have done it meanwhile
    prefix = prefix_of(options.schema)
    if version == 0:
        await transaction.fetch(
            f"CREATE TABLE {prefix}lro_schema (version int NOT NULL, readable_by int NOT NULL)"
        )
        await transaction.fetch(f"INSERT INTO {prefix}lro_schema VALUES (0, 0)")
    for number, (statements, readable_by) in enumerate(MIGRATIONS[version:], version + 1):
        for statement in statements:
            await transaction.fetch(statement.format(prefix=prefix))
        await transaction.fetch(
            f"UPDATE {prefix}lro_schema SET version = $1, readable_by = $2", number, readable_by
        )


async def _secret(session: Session, options: Options) -> bytes:
    secrets = f"{prefix_of(options.schema)}lro_secrets"
    ask = f"SELECT value FROM {secrets} WHERE name = 'page token'"
    rows = await session.fetch(ask)
    if not rows:
        await session.fetch(
            f"INSERT INTO {secrets} (name, value) VALUES ('page token', $1) ON CONFLICT DO NOTHING",
            os.urandom(32),
        )
        rows = await session.fetch(ask)
    return bytes(rows[0][0])


def _refused(options: Options, why: str, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"{options.place} cannot be opened as a store: {why}",
        reason=reason,
        metadata={"place": options.place},
    )
