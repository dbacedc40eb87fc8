"""Events applied in memory to rows that are known, or cannot be."""

from __future__ import annotations

from lro_grpc import OperationDamagedError
from lro_grpc._operation.events import Cancel, Delete
from lro_grpc._stores.postgres.staged_changes import StagedChanges


def test_a_row_that_nobody_can_read_is_damaged_and_not_missing() -> None:
    damaged = OperationDamagedError("its row cannot be read")
    staged = StagedChanges({}, {"operations/x": damaged}, 1)
    for event in (Cancel(), Delete()):
        assert staged.apply("operations/x", event) is damaged
    assert list(staged.changed) == []
