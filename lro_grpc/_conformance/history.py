"""Tests of the history of attempts: the end of each, its worker, its times."""

from __future__ import annotations

from lro.v1.operation_description_pb2 import OperationAttempt
from lro_grpc._conformance.cases import StoreCases, refused, with_store
from lro_grpc._conformance.samples import ERROR, LEASE, RESPONSE
from lro_grpc._errors import LroError, OperationNotFoundError
from lro_grpc._operation.attempts import AttemptRecord
from lro_grpc._operation.events import (
    Cancel,
    Claim,
    Delete,
    LeaseLost,
    Release,
    Report,
    RetryLater,
    Succeed,
)
from lro_grpc._operation.record import Record
from lro_grpc._stores.store import Store


class History(StoreCases):
    """Promises of the attempts that a store keeps."""

    # The history of attempts.

    @with_store
    async def test_the_history_has_each_attempt_and_how_it_ended(self, store: Store) -> None:
        """Also if one commit holds the end of one attempt and the beginning of the next."""
        made = await store.create(self.record())
        assert await store.read_attempts(made.name) == (made, [])
        outcomes = await store.apply_all(
            [
                (made.name, Claim(LEASE, worker="one")),
                (made.name, RetryLater(Report(1), ERROR, 0)),
                (made.name, Claim(LEASE, worker="two")),
                (made.name, LeaseLost(2, proven=True)),
            ]
        )
        assert not [one for one in outcomes if isinstance(one, LroError)]
        began = self.time
        self.time += 1_000_000
        await store.apply(made.name, Claim(LEASE, worker="three \N{SNOWMAN}"))
        record, attempts = await store.read_attempts(made.name)
        assert record == await store.read(made.name)
        first, _, third = attempts
        assert first.error
        assert [*attempts] == [
            AttemptRecord(1, "one", began, began, OperationAttempt.RETRIED, first.error),
            AttemptRecord(2, "two", began, began, OperationAttempt.LOST),
            AttemptRecord(3, "three \N{SNOWMAN}", self.time),
        ]
        await store.apply(made.name, Succeed(Report(3), RESPONSE))
        _, (*_, last) = await store.read_attempts(made.name)
        ended = third._replace(end_time=self.time, outcome=OperationAttempt.SUCCEEDED)
        assert last == ended
        await refused(OperationNotFoundError, store.read_attempts("operations/op-2"))

    @with_store
    async def test_the_history_has_the_first_attempt_and_the_latest(self, store: Store) -> None:
        """Of 61 attempts these are 50: the first one, and the latest 49."""
        name = (await store.create(self.record())).name
        for number in range(1, 61):
            claim = Claim(LEASE, worker=f"worker-{number}")
            await store.apply_all([(name, claim), (name, Release(Report(number)))])
        await store.apply(name, Claim(LEASE, worker="worker-61"))
        _, attempts = await store.read_attempts(name)
        kept = [1, *range(13, 62)]
        assert [(one.number, one.worker) for one in attempts] == [
            (number, f"worker-{number}") for number in kept
        ]

    @with_store
    async def test_the_worker_of_a_former_release_is_unknown(self, store: Store) -> None:
        """It claims without a word on it, and nobody takes the last known one for it."""
        name = (await store.create(self.record())).name
        await store.apply(name, _FormerClaim(LEASE))
        _, attempts = await store.read_attempts(name)
        assert [*attempts] == [AttemptRecord(1)]
        await store.apply(name, Release(Report(1)))
        await store.apply(name, Claim(LEASE, worker="two"))
        await store.apply(name, Release(Report(2)))
        for number in (3, 4):
            await store.apply(name, _FormerClaim(LEASE))
            await store.apply(name, LeaseLost(number, proven=True))
        await store.apply(name, Claim(LEASE, worker="five"))
        _, attempts = await store.read_attempts(name)
        assert [(one.number, one.worker, one.outcome) for one in attempts] == [
            (1, "", OperationAttempt.RELEASED),
            (2, "two", OperationAttempt.RELEASED),
            (3, "", OperationAttempt.LOST),
            (4, "", OperationAttempt.LOST),
            (5, "five", 0),
        ]

    @with_store
    async def test_a_history_goes_with_its_operation(self, store: Store) -> None:
        """Another operation of its name has none of it."""
        name = (await store.create(self.record())).name
        for number in (1, 2):
            await store.apply(name, Claim(LEASE, worker="former"))
            await store.apply(name, Release(Report(number)))
        await store.apply(name, Cancel())
        await store.apply(name, Delete())
        await refused(OperationNotFoundError, store.read_attempts(name))
        await store.create(self.record())
        await store.apply(name, _FormerClaim(LEASE))
        await store.apply(name, Release(Report(1)))
        await store.apply(name, _FormerClaim(LEASE))
        _, attempts = await store.read_attempts(name)
        assert [one.worker for one in attempts] == ["", ""]


class _FormerClaim(Claim):
    """A claim by a release that knows nothing of the history."""

    def apply(self, record: Record, now: int) -> Record:
        after = super().apply(record, now)
        return after._replace(
            worker=record.worker,
            attempt_number=record.attempt_number,
            attempt_start_time=record.attempt_start_time,
            attempt_end_time=record.attempt_end_time,
            attempt_outcome=record.attempt_outcome,
            attempt_error=record.attempt_error,
        )
