"""The parts of a store that creations, changes and claims share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lro_grpc._operation.record import Record
from lro_grpc._stores.postgres.database_clock import StoreTime
from lro_grpc._stores.postgres.remembered import RememberedRecords
from lro_grpc._stores.postgres.rows import Known
from lro_grpc._stores.postgres.table import Table
from lro_grpc._stores.store import Listener, announce


@dataclass(frozen=True)
class WriterParts:
    """The rows, the records in memory, the time and the listeners of one store."""

    table: Table
    """The rows."""
    remembered: RememberedRecords
    """The remembered records."""
    time: StoreTime
    """The time, and the bound within which the server checks it."""
    listeners: Sequence[Listener]
    """Get each change; may grow."""

    def publish(
        self, stored: Iterable[Known], transitions: Iterable[tuple[Record | None, Record]]
    ) -> None:
        """Remembers the records that are durable now, and calls the listeners with each change."""
        for known in stored:
            self.remembered.keep(known)
        for transition in transitions:
            announce(self.listeners, *transition)
