"""The statements of a store, made once of the fields of ``Record`` and the schema of its tables.

**No change waits for the lock of a row.** A group of changes locks the rows that it finds free,
leaves the others out (``SKIP LOCKED``), and changes those whose version is the one that its records
were made of. What does not come back is in the hands of another process, or was: whoever asked
reads it again and applies its events again. So groups of several processes never wait for each
other, and cannot deadlock. The locked rows are collected first (``MATERIALIZED``): the planner
would read the whole table otherwise.

**Columns come as arrays**, some of them shorter than others (``rows``). ``unnest`` gives NULL for
what is missing: in place of it stands the array's one value, or what the row has without this.

**A plan is made once, and stays right** as the table grows, whose size it does not know
(``connections``). So rows are found by ``= ANY``, or one by one (``LATERAL … LIMIT 1``). A join
with many values would take the whole table while that is small, and so would an index with a
condition that it happens to have. The oldest or the newest of a kind are found by the index that
has each kind in order, and the statements ask for its order: kind and sequence. They name the kind
by ``>=`` and ``<=``: for one that is ``=``, the planner may take the order of all kinds, which
looks cheap where the kind is common, and has a million rows of others before the first of it.

**The database checks the clock.** A change carries the time that it was made for, and changes
nothing if that is off by more than a bound: of a process that has stood still, or was cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lro_grpc._operation.attempts import MOST_LATEST
from lro_grpc._operation.record import FIELDS
from lro_grpc._operation.states import CANCELLING
from lro_grpc._stores.postgres.rows import (
    ATTEMPT_COLUMNS,
    ATTEMPT_TYPES,
    CHANGING,
    COLUMNS,
    COMPLETION_COLUMNS,
    COMPLETION_TYPES,
    DELAYED,
    DONE,
    LEASED,
    NUMBERS,
    READY,
    RESTING,
    TYPES,
    bounded,
)

OPERATION_ID = (
    "substr(name, length(parent) + CASE parent WHEN '' THEN 12 ELSE 13 END)"  # after operations/
)


def prefix_of(schema: str) -> str:
    """Returns what stands before the names of a schema's tables; nothing for an empty schema."""
    return f'"{schema}".' if schema else ""


def quoted(text: str) -> str:
    """Returns the literal of a text."""
    return "'" + text.replace("'", "''") + "'"


def digest(text: str) -> str:
    """Returns the expression for a digest of a text, by which an index finds it.

    A row of an index has room for 2,704 bytes, and a write that needs more fails with all that is
    written along with it. So no text of any length, such as a caller's ``request_id``, stands in an
    index itself.

    Args:
        text: The expression for the text.
    """
    # To read bytes from a text, Postgres takes a backslash for an escape.
    return rf"sha256(replace({text}, '\', '\\')::bytea)"


MOST_CHANGED = 100
"""The most changed operations in one answer: their records may have megabytes each."""

MAY_BE_OVERDUE = f"phase IN ({READY}, {DELAYED}, {RESTING}) AND deadline_time <> 0"
"""No attempt holds it, and it is not done."""

MICROS = "(extract(epoch FROM statement_timestamp()) * 1000000)::int8"
"""The server's time when it got the statement."""

_HAS_CANCELLED_CHECKPOINT = f"octet_length(checkpoint) > 0 AND state = {CANCELLING}"
_TO_UNDO = f"(attempt > 0 AND (octet_length(batch) > 0 OR ({_HAS_CANCELLED_CHECKPOINT})))"


_NO_KEY = "''"

_ONE_METHOD = "method >= $1 AND method <= $1"

_UNSET = {str: "''", bytes: "''", int: "0", bool: "false"}


def new_values(first: int) -> str:
    """Returns the values of new rows, of which ``v`` has the columns.

    Args:
        first: The number of the parameter with the array of the first column.
    """
    return ", ".join(
        f"COALESCE(v.{name}, {_only(name, number)}, {_UNSET[FIELDS[name].type]})"
        for number, name in enumerate(COLUMNS, first)
    )


def labelled(labels: str, insert: str, returned: str) -> str:
    """Returns a statement that adds new rows, and their labels.

    Args:
        labels: The table of labels.
        insert: The statement that adds the rows, and returns ``returned``.
        returned: The column that this one is to return, too.
    """
    more = ", ".join(column for column in ("sequence", "labels") if column != returned)
    return (
        f"WITH made AS ({insert}, {more}),"
        f" labelled AS (INSERT INTO {labels} (key, value, operation)"
        " SELECT split_part(label, '=', 1), split_part(label, '=', 2), sequence"
        " FROM made, unnest(string_to_array(labels, ',')) AS label WHERE label <> '')"
        f" SELECT {returned} FROM made"
    )


class Statements:
    """The texts of statements.

    Args:
        schema: The schema of the tables; empty for the one that the server chooses.
    """

    def __init__(self, schema: str) -> None:
        table = self.table = f"{prefix_of(schema)}lro_operations"
        """The table of operations."""
        labels = self.labels = f"{prefix_of(schema)}lro_labels"
        """The table of labels."""
        columns = ", ".join(COLUMNS)

        # What is read has the most bytes of a row as its last parameter; see ``portions``.
        self.read = f"SELECT version, {bounded(COLUMNS, '$2')} FROM {table} WHERE name = ANY($1)"
        self.read_numbers = f"SELECT version, {NUMBERS} FROM {table} WHERE name = ANY($1)"
        # "NOT deleted" would allow indexes that have no names.
        self.served = (
            f"SELECT {bounded(['operation'], '$2')}, name FROM {table}"
            " WHERE name = ANY($1) AND deleted::int4 = 0"
        )
        self.insert = (
            f"INSERT INTO {table} (version, phase, {columns})"
            f" SELECT version, phase, {new_values(3)}"
            f" FROM unnest($1::int8[], $2::int2[], {_arrays(COLUMNS, 3)})"
            f" AS v(version, phase, {columns})"
            f" WHERE phase <> {LEASED} OR {_is_timely(3 + len(COLUMNS))}"
            " ON CONFLICT DO NOTHING RETURNING name"
        )
        # The same, where some have labels.
        self.insert_labelled = labelled(labels, self.insert, "name")
        self.rivals = (
            "SELECT o.name FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])"
            " AS v(method, request_id, caller, parent) CROSS JOIN LATERAL"
            f" (SELECT name FROM {table} WHERE request_id <> '' AND method = v.method"
            f" AND {digest('request_id')} = {digest('v.request_id')}"
            f" AND {digest('caller')} = {digest('v.caller')} AND parent = v.parent LIMIT 1) AS o"
            f" UNION SELECT name FROM {table} WHERE name = ANY($5)"
            " UNION SELECT o.name FROM unnest($6::text[]) AS v(target) CROSS JOIN LATERAL"
            f" (SELECT name FROM {table} WHERE exclusive_target <> ''"
            f" AND {digest('exclusive_target')} = {digest('v.target')} LIMIT 1) AS o"
        )
        new = ", ".join(("name", "version", "phase", *CHANGING))
        last = len(CHANGING) + 4
        update = (
            f"UPDATE {table} AS o SET version = o.version + 1, phase = v.phase,"
            f" {', '.join(_set(name, number) for number, name in enumerate(CHANGING, 4))}"
            f" FROM unnest($1::text[], $2::int8[], $3::int2[], {_arrays(CHANGING, 4)}) AS v({new})"
            " JOIN free USING (name, version)"
            " WHERE o.name = v.name AND o.version = v.version RETURNING o.name"
        )
        self.update = f"{_free(table, last)} {update}"
        # The same, where attempts are superseded, or operations leave a completion behind.
        attempts = f"{prefix_of(schema)}lro_attempts"
        outbox = f"{prefix_of(schema)}lro_outbox"
        columns_of_attempts = ", ".join(ATTEMPT_COLUMNS)
        arrays = (
            f"${number}::{type_}[]" for number, type_ in enumerate(ATTEMPT_TYPES.values(), last + 3)
        )
        self.update_adding = (
            f"{_free(table, last)}, changed AS ({update}, o.sequence),"
            f" superseded AS MATERIALIZED (SELECT sequence, {columns_of_attempts}"
            f" FROM unnest(${last + 2}::text[], {', '.join(arrays)})"
            f" AS v(name, {columns_of_attempts}) JOIN changed USING (name)),"
            f" added AS (INSERT INTO {attempts} (operation, {columns_of_attempts})"
            f" SELECT sequence, {columns_of_attempts} FROM superseded ON CONFLICT DO NOTHING),"
            f" forgotten AS (DELETE FROM {attempts} WHERE ctid = ANY (ARRAY(SELECT a.ctid"
            f" FROM superseded AS s CROSS JOIN LATERAL (SELECT ctid FROM {attempts}"
            f" WHERE operation = s.sequence AND number BETWEEN 2 AND s.number + 1 - {MOST_LATEST}"
            " ORDER BY number LIMIT 1000) AS a))),"
            f" completed AS ({_completing(outbox, last + 3 + len(ATTEMPT_TYPES))})"
            " SELECT name FROM changed"
        )
        self.read_attempts = (
            f"SELECT o.version, {bounded(COLUMNS, '$2', 'o.')}, a.* FROM {table} AS o"
            f" CROSS JOIN LATERAL (SELECT"
            f" {', '.join(f'array_agg({name}) AS {name}s' for name in ATTEMPT_COLUMNS)}"
            f" FROM (SELECT * FROM {attempts} WHERE operation = o.sequence LIMIT 1000) AS b) AS a"
            " WHERE o.name = ANY($1)"
        )
        delete = (
            f"DELETE FROM {table} AS o USING unnest($1::text[], $2::int8[]) AS v(name, version)"
            " JOIN free USING (name, version)"
            " WHERE o.name = v.name AND o.version = v.version RETURNING o.name"
        )
        self.delete = f"{_free(table, 3)} {delete}"
        self.delete_completing = (
            f"{_free(table, 3)}, changed AS ({delete}), completed AS ({_completing(outbox, 5)})"
            " SELECT name FROM changed"
        )
        of_key = "o.name = v.name AND o.create_time = v.create_time"
        # Of what is due no more bytes than $4, and at least one.
        take = (
            "WITH due AS MATERIALIZED (SELECT ctid AS id, next_time, octet_length(event) AS size"
            f" FROM {outbox} WHERE next_time <= $1::int8 ORDER BY next_time LIMIT $2"
            " FOR UPDATE SKIP LOCKED), sized AS"
            " (SELECT id, sum(size) OVER (ORDER BY next_time, id) - size AS before FROM due)"
            f" UPDATE {outbox} SET next_time = $1::int8 + $3, attempt_count = attempt_count + 1"
            " WHERE ctid = ANY (ARRAY(SELECT id FROM sized WHERE before <= $4::int8))"
            f" RETURNING {', '.join(COMPLETION_COLUMNS[:-1])}"
        )
        self.take_completions = f"{take}, event"
        # The same, without a look at what is taken; and then that, of each by itself.
        self.take_unread = f"{take}, ''::bytea"
        self.read_event = f"SELECT event FROM {outbox} WHERE name = $1 AND create_time = $2"
        self.told = (
            f"DELETE FROM {outbox} AS o USING unnest($1::text[], $2::int8[])"
            f" AS v(name, create_time) WHERE {of_key}"
        )
        self.put_off = (
            f"UPDATE {outbox} AS o SET next_time = v.next_time, attempt_count = v.attempt_count,"
            " given_up = v.given_up, error = v.error FROM unnest($1::text[], $2::int8[],"
            " $3::int8[], $4::int8[], $5::int8[], $6::bool[], $7::bytea[])"
            " AS v(name, create_time, taken, next_time, attempt_count, given_up, error)"
            f" WHERE {of_key} AND o.attempt_count = v.taken"
        )
        self.read_completion = (
            f"SELECT {', '.join(COMPLETION_COLUMNS[:-1])}, ''::bytea FROM {outbox}"
            " WHERE name = $1 AND create_time = $2"
        )
        # What is given up is due after all that waits, but where its operation is soon forgotten.
        self.pending_completions = (
            f"SELECT count(*) FROM (SELECT given_up FROM {outbox} ORDER BY next_time LIMIT $1)"
            " AS first WHERE NOT given_up"
        )
        self.claim = _first_ready(
            f"version, {bounded(COLUMNS, '$4')}",
            f"version, {', '.join(COLUMNS)}",
            f"FROM {table} WHERE phase = {READY} AND {_ONE_METHOD} AND {_not_among(3)}"
            f" AND {_ready_before(5)}",
            _WITHOUT_KEY,
            "FOR NO KEY UPDATE SKIP LOCKED",
        )
        # The locks of the keys of a store have the class of its table: no two tables have the same.
        lock = (
            f"pg_try_advisory_xact_lock({quoted(table)}::regclass::oid::int4,"
            " hashtext($1 || ' ' || key))"
        )
        self.lock_keys = _keys(table, lock)
        # The same, where nothing of a key is counted.
        self.keys = _keys(table, "true")
        self.claim_by_key = _first_by_key(
            table,
            f"version, {bounded(COLUMNS, '$4')}",
            5,
            "FOR NO KEY UPDATE SKIP LOCKED",
        )
        self.ready_by_key = _first_by_key(table, "name", 4)

        self.changed = (
            f"SELECT v.name, coalesce(o.version, 0), {bounded(COLUMNS, '$3', 'o.')}"
            " FROM unnest($1::text[], $2::int8[]) AS v(name, version) LEFT JOIN LATERAL"
            f" (SELECT * FROM {table} WHERE name = v.name LIMIT 1) AS o ON true"
            f" WHERE coalesce(o.version, 0) <> v.version LIMIT {MOST_CHANGED}"
        )

        self.by_request = (
            f"SELECT name FROM {table}"
            f" WHERE method = $1 AND {digest('request_id')} = {digest('$2::text')}"
            f" AND {digest('caller')} = {digest('$3::text')} AND request_id <> ''"
        )
        self.by_id = f"SELECT name FROM {table} WHERE {OPERATION_ID} = $1 AND NOT deleted LIMIT 2"
        self.latest_rerun = (
            f"SELECT name FROM {table} WHERE source_operation <> '' AND source_operation = $1"
            " AND deleted::int4 = 0 ORDER BY sequence DESC LIMIT 1"
        )
        self.by_exclusive_target = (
            f"SELECT name FROM {table} WHERE exclusive_target <> ''"
            f" AND {digest('exclusive_target')} = {digest('$1::text')}"
        )
        ready = (
            f"FROM {table} WHERE phase = {READY} AND {_ONE_METHOD} AND {_not_among(3)}"
            f" AND {_ready_before(4)}"
        )
        self.ready = _first_ready("name", "name", ready, _WITHOUT_KEY)
        # The same, with those that have a key: of these, if they are too many, of the first keys.
        self.ready_of_any_key = _first_ready("name", "name", ready, (*_WITHOUT_KEY, _WITH_KEY))
        self.waiting = (
            f"SELECT caller, count(*) FROM ((SELECT caller FROM {table}"
            f" WHERE phase = {READY} AND method = $1 LIMIT $2) UNION ALL (SELECT caller"
            f" FROM {table} WHERE phase = {DELAYED} AND method = $1 AND attempt > 0 LIMIT $2)"
            " LIMIT $2) AS w GROUP BY caller"
        )
        self.delayed = (
            f"SELECT caller, count(*) FROM (SELECT caller FROM {table} WHERE phase = {DELAYED}"
            " AND method = $1 AND attempt = 0 LIMIT $2) AS w GROUP BY caller"
        )
        self.waiting_methods = (
            f"SELECT method, count(*) FROM (SELECT method FROM {table} WHERE phase = {READY}"
            f" UNION ALL SELECT method FROM {table} WHERE phase = {DELAYED}) AS w GROUP BY method"
        )
        self.held_of_key = _held(table, "$2", "$3")
        self.leased = (
            f"SELECT name, attempt FROM {table} WHERE phase = {LEASED} AND lease_expire_time <= $1"
            f" AND {_not_among(3)} ORDER BY lease_expire_time LIMIT $2"
        )
        self.expired = (
            f"(SELECT name FROM {table} WHERE {MAY_BE_OVERDUE} AND deadline_time <= $1"
            f" AND ($2 OR NOT (phase IN ({READY}, {DELAYED}) AND {_TO_UNDO}))"
            f" AND {_not_among(4)} ORDER BY deadline_time LIMIT $3)"
            f" UNION (SELECT name FROM {table} WHERE phase = {DONE} AND NOT deleted"
            f" AND expire_time <> 0 AND expire_time <= $1 AND {_not_among(4)}"
            " ORDER BY expire_time LIMIT $3)"
            f" UNION (SELECT name FROM {table} WHERE phase = {DELAYED} AND scheduled_time <= $1"
            f" AND {_not_among(4)} ORDER BY scheduled_time LIMIT $3) LIMIT $3"
        )


def _free(table: str, first: int) -> str:
    """Returns the rows that a group of changes may touch: those that no other one does.

    The parameters from ``first`` are the time that it was made for, and the bound.
    """
    return (
        f"WITH free AS MATERIALIZED (SELECT name, version FROM {table} WHERE name = ANY($1)"
        f" AND {_is_timely(first)} FOR NO KEY UPDATE SKIP LOCKED)"
    )


def _is_timely(first: int) -> str:
    """Returns the condition that a change is for the server's time; see ``_free``."""
    return f"abs(${first}::int8 - {MICROS}) <= ${first + 1}::int8"


def _completing(outbox: str, first: int) -> str:
    """Returns what adds the completions of rows that are changed; parameters are from ``first``."""
    columns = ", ".join(COMPLETION_COLUMNS)
    arrays = ", ".join(
        f"${number}::{type_}[]" for number, type_ in enumerate(COMPLETION_TYPES.values(), first)
    )
    return (
        f"INSERT INTO {outbox} ({columns}) SELECT {columns} FROM unnest({arrays}) AS v({columns})"
        " JOIN changed USING (name) ON CONFLICT DO NOTHING"
    )


class _Order(NamedTuple):
    """An order of operations that are ready, in which an index has them."""

    condition: str
    """Says which ones the index has."""
    queue_time: str
    """The expression for their ``queue_time``."""
    columns: str
    """The columns to order by, after the method."""


_WITHOUT_KEY = (
    _Order("concurrency_key = '' AND queue_order = 0", "create_time", "sequence"),
    _Order("concurrency_key = '' AND queue_order <> 0", "queue_order", "queue_order, sequence"),
)
_WITH_KEY = _Order("concurrency_key <> ''", "queue_order", "concurrency_key, queue_order, sequence")


def _first_ready(
    columns: str, names: str, rows: str, orders: Sequence[_Order], locking: str = ""
) -> str:
    """Returns the statement for the first of some rows that are ready, by their turns.

    It takes as many from each of some indexes, and then the first of all.

    Args:
        columns: The columns to read.
        names: Their names.
        rows: The rows, as ``FROM`` and ``WHERE`` say it.
        orders: The orders of the indexes.
        locking: What locks the rows.
    """
    # Rows are locked in subqueries only, not in parts of a UNION.
    parts = (
        f"SELECT * FROM (SELECT {columns}, {order.queue_time} AS queue_time, sequence AS number"
        f" {rows} AND {order.condition} ORDER BY method, {order.columns} LIMIT $2 {locking})"
        f" AS part_{number}"
        for number, order in enumerate(orders)
    )
    return (
        f"SELECT {names} FROM ({' UNION ALL '.join(parts)}) AS found"
        " ORDER BY queue_time, number LIMIT $2"
    )


def _keys(table: str, is_ours: str) -> str:
    """Returns the statement for the keys that have something ready, each once.

    They begin with the first behind $2, go round by the beginning, and are $3 at most. Nobody
    waits.

    Args:
        table: The table.
        is_ours: The expression that returns, of all but the last of so many, whether it is this
            transaction's now.
    """
    return (
        "WITH RECURSIVE found(key, first, number) AS (SELECT key, key, 1 FROM"
        f" ({_key_behind(table, '$2::text')}) AS one UNION ALL"
        " SELECT next.key, found.first, found.number + 1 FROM found"
        f" CROSS JOIN LATERAL ({_key_behind(table, 'found.key')}) AS next"
        " WHERE next.key <> found.first AND found.number < $3)"
        f" SELECT key, CASE WHEN number < $3 THEN {is_ours} ELSE false END FROM found"
        " WHERE key IS NOT NULL"
    )


def _key_behind(table: str, key: str) -> str:
    """Returns the statement for the next key, or the first one, of those with something ready."""

    def first_behind(key: str) -> str:
        return (
            f"SELECT concurrency_key FROM {table} WHERE phase = {READY} AND concurrency_key <> ''"
            f" AND method = $1 AND concurrency_key > {key} ORDER BY concurrency_key LIMIT 1"
        )

    # It is as it is in one place: put into another statement, it would be looked up twice there.
    return f"SELECT coalesce(({first_behind(key)}), ({first_behind(_NO_KEY)})) AS key OFFSET 0"


def _held(table: str, key: str, most: str) -> str:
    """Returns the statement for the number of operations of a key that attempts hold.

    Args:
        table: The table.
        key: The expression for the key.
        most: The most to count.
    """
    # Their order is that of one index, and of no other one.
    return (
        f"SELECT count(*) AS number FROM (SELECT FROM {table}"
        f" WHERE concurrency_key <> '' AND phase = {LEASED}"
        f" AND (method, concurrency_key) >= ($1, {key})"
        f" AND (method, concurrency_key) <= ($1, {key})"
        f" ORDER BY method, concurrency_key LIMIT {most}) AS leased"
    )


def _first_by_key(table: str, columns: str, first: int, locking: str = "") -> str:
    """Returns the statement for the first of some keys that are ready: one of each key in turn.

    Of each there are as many as it has places left: what an attempt holds takes one.

    Args:
        table: The table.
        columns: The columns to read.
        first: The number of the first of four parameters: the two of ``_ready_before``, the keys,
            and the places of each; 0 for any number.
        locking: What locks the rows.
    """
    keys, places = f"${first + 2}::text[]", f"${first + 3}::int8"
    rows = f"FROM {table} WHERE concurrency_key <> ''"
    held = _held(table, "k.key", places)
    ready = (
        "SELECT sequence, row_number() OVER () AS turn FROM"
        f" (SELECT sequence {rows} AND phase = {READY} AND method = $1 AND concurrency_key = k.key"
        f" AND {_not_among(3)} AND {_ready_before(first)} ORDER BY queue_order, sequence"
        f" LIMIT CASE {places} WHEN 0 THEN $2 ELSE least({places} - held.number, $2) END) AS oldest"
    )
    # The phase is asked for again, of the row as it is once it is locked; and in no way in which an
    # index of a phase has it: of these the planner would take any while the table is small.
    return (
        "SELECT found.* FROM (SELECT ready.sequence, ready.turn, k.number"
        f" FROM unnest({keys}) WITH ORDINALITY AS k(key, number)"
        f" CROSS JOIN LATERAL ({held}) AS held CROSS JOIN LATERAL ({ready}) AS ready"
        " ORDER BY ready.turn, k.number LIMIT $2) AS next CROSS JOIN LATERAL"
        f" (SELECT {columns} FROM {table} WHERE sequence = next.sequence"
        f" AND phase::int4 = {READY} {locking}) AS found ORDER BY next.turn, next.number"
    )


def _not_among(number: int) -> str:
    """Returns the condition that a name is not in an array, in which the server looks it up.

    To compare it with each (``<> ALL``) would take seconds for thousands of both.
    """
    return f"name NOT IN (SELECT unnest(${number}::text[]))"


def _ready_before(number: int) -> str:
    """Returns the condition that what is ready has been so since before a time, if one is given.

    The parameters from ``number`` are that time, and the present one.
    """
    return f"update_time NOT BETWEEN coalesce(${number}::int8, {2**63 - 1}) AND ${number + 1}"


def _arrays(columns: tuple[str, ...], first: int) -> str:
    return ", ".join(f"${number}::{TYPES[name]}[]" for number, name in enumerate(columns, first))


def _set(column: str, number: int) -> str:
    if FIELDS[column].large:
        return f"{column} = COALESCE(v.{column}, o.{column})"  # each may stay
    return f"{column} = COALESCE(v.{column}, {_only(column, number)}, o.{column})"


def _only(column: str, number: int) -> str:
    """Returns the only value of a column; NULL if none was sent. Of several nobody asks for it."""
    return f"(${number}::{TYPES[column]}[])[1]"
