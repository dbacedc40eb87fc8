"""All that the tables of a database have, in portions: for a copy of it, and for a check."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from itertools import takewhile

from lro_grpc._operation.attempts import is_sound
from lro_grpc._operation.completion import Completion
from lro_grpc._stores.postgres.connections import Row
from lro_grpc._stores.postgres.failures import DamagedPageError
from lro_grpc._stores.postgres.portions import MORE, read_portion
from lro_grpc._stores.postgres.rows import (
    ATTEMPT_COLUMNS,
    COLUMNS,
    COMPLETION_COLUMNS,
    attempt_from,
    bounded,
    completion_from,
    is_whole,
    record_from,
)
from lro_grpc._stores.postgres.statements import prefix_of
from lro_grpc._stores.postgres.table import Fetching
from lro_grpc._stores.postgres.texts import text_from
from lro_grpc._stores.transfer import (
    MOST_RECORDS,
    Numbered,
    Portion,
    damage,
    portion_of,
    with_attempts,
)


class Content:
    """The rows of a database.

    Args:
        reading: Carries out the statements.
        schema: The schema of the tables.
    """

    def __init__(self, reading: Fetching, schema: str) -> None:
        self._reading = reading
        prefix = prefix_of(schema)
        table = f"{prefix}lro_operations"
        attempts = f"{prefix}lro_attempts"
        columns_of_attempts = ", ".join(ATTEMPT_COLUMNS)
        outbox = f"{prefix}lro_outbox"
        # The attempts are read by themselves, and have their part in the bytes of a row.
        self._next = (
            f"SELECT o.sequence, {bounded(COLUMNS, '$3 - a.size', 'o.')}"
            f" FROM (SELECT * FROM {table} WHERE sequence > $1 ORDER BY sequence LIMIT $2) AS o"
            " CROSS JOIN LATERAL"
            " (SELECT coalesce(sum(octet_length(worker) + octet_length(error)), 0) AS size"
            f" FROM {attempts} WHERE operation = o.sequence) AS a ORDER BY o.sequence"
        )
        self._attempts = (
            f"SELECT operation, {columns_of_attempts} FROM {attempts} WHERE operation = ANY($1)"
        )
        self._completions = (
            f"SELECT {', '.join(COMPLETION_COLUMNS[:-1])},"
            f" CASE WHEN octet_length(event) <= $4::int8 THEN event END FROM {outbox}"
            " WHERE (name, create_time) > ($1, $2) ORDER BY name, create_time LIMIT $3"
        )

    async def portions(self) -> AsyncIterator[Portion]:
        """Yields all rows, in the order of their sequence numbers."""
        last, number = 0, MOST_RECORDS
        while True:
            ask = partial(self._reading.fetch, self._next, last)
            rows, number, error = await read_portion(ask, number, is_whole)
            if error is not None:
                if not rows:
                    raise error
                ((last, name, *_),) = rows
                yield Portion((), [damage(text_from(name), f"its row cannot be read ({error})")])
            elif rows:
                whole = [*takewhile(is_whole, rows)]
                records = [Numbered(sequence, record_from(row)) for sequence, *row in whole]
                last = records[-1].sequence
                try:
                    portions = [portion_of(await self._with_attempts(records), ())]
                except DamagedPageError:  # each by itself, so that it leaves out no other one
                    portions = [await self._alone(one) for one in records]
                for portion in portions:
                    yield portion
            else:
                break
            number = min(MOST_RECORDS, MORE * number)

    async def completions(self) -> AsyncIterator[Sequence[Completion]]:
        """Yields the completions that were not told, some at a time."""
        last: tuple[object, ...] = ("", -1)
        number = MOST_RECORDS
        while True:
            ask = partial(self._reading.fetch, self._completions, *last)
            rows, number, error = await read_portion(ask, number, _has_event)
            if error is not None:
                raise error
            if not rows:
                break
            whole = [*takewhile(_has_event, rows)]
            last = tuple(whole[-1][:2])
            yield [completion_from(row) for row in whole]
            number = min(MOST_RECORDS, MORE * number)

    async def _alone(self, one: Numbered) -> Portion:
        """Returns the portion of one row, whose attempts may be beyond reach."""
        try:
            return portion_of(await self._with_attempts([one]), ())
        except DamagedPageError as error:
            why = f"its attempts cannot be read ({error})"
            return Portion((), [damage(one.record.name, why)])

    async def _with_attempts(self, records: Sequence[Numbered]) -> Sequence[Numbered]:
        """Returns rows with the superseded attempts of their operations.

        Raises:
            DamagedPageError: If one of these cannot be read.
        """
        sequences = [one.sequence for one in records]
        rows = await self._reading.fetch(self._attempts, sequences)
        attempts: dict[int, list[Sequence[object]]] = {}
        for sequence, *row in rows:
            attempts.setdefault(sequence, []).append(attempt_from(row) if is_sound(row) else row)
        return [with_attempts(one, attempts.get(one.sequence, ())) for one in records]


def _has_event(row: Row) -> bool:
    return row[-1] is not None
