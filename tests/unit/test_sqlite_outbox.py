"""The outbox of a file: how much of it one look reads, on the event loop."""

from __future__ import annotations

import contextlib
import sqlite3

from lro_grpc._operation.completion import LEASE, Completion
from lro_grpc._stores.damage import Damage
from lro_grpc._stores.sqlite import schema
from lro_grpc._stores.sqlite.outbox import Outbox

NOW = 1_800_000_000_000_000
STEPS = 1000
"""The steps of SQLite's machine between two counts."""


def completion(number: int) -> Completion:
    return Completion(f"operations/op-{number}", NOW, NOW, 2 * NOW, NOW, event=b"done")


def test_a_look_at_the_file_is_short_however_many_completions_have_come() -> None:
    """As when a few are due again while tens of thousands have come at once."""
    came = [completion(number) for number in range(20_000)]
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += STEPS

    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        schema.upgrade(connection, 0)
        marks = ", ".join("?" * len(Completion._fields))
        connection.executemany(f"INSERT INTO outbox VALUES ({marks})", came)
        outbox = Outbox(connection, lambda: NOW, Damage().lines)
        for begin in range(0, len(came), 100):
            outbox.keep(came[begin : begin + 100])
        connection.set_progress_handler(count, STEPS)
        taken: set[str] = set()
        while some := outbox.take(50, LEASE):
            again, *told = some if some[0].name not in taken else (None, *some)
            connection.executemany(
                "DELETE FROM outbox WHERE name = ?", [(one.name,) for one in told]
            )
            settled = [(again, again._replace(next_time=NOW))] if again else []
            outbox.settled([*settled, *((one, None) for one in told)])
            taken.update(one.name for one in some)
            assert steps < 100_000
            steps = 0
    assert len(taken) == 20_000
