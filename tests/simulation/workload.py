"""Work of the operations in a simulation, and the traces that it leaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from observer import LIMITED, PER_KEY, Response
from simulated_loop import current_process

from lro.example.v1 import fleet_service_pb2
from lro.v1 import operation_metadata_pb2
from lro_grpc import MethodOptions, Prepared
from lro_grpc._errors import Code, LroError, RetryableError

if TYPE_CHECKING:
    from random import Random

    from observer import Observer

    from lro_grpc import Operations

Request = fleet_service_pb2.CreateInstanceRequest

WORK = "/simulation.v1.Simulation/CreateWork"
BATCH = "/simulation.v1.Simulation/CreateBatch"
EXCLUSIVE = "/simulation.v1.Simulation/CreateExclusive"
"""One of its operations at a time may have a target."""
METHODS = (WORK, BATCH, LIMITED, EXCLUSIVE)

CONCURRENCY = 4
"""Attempts of one method at a time in one process."""

TIMEOUT_LEASES = 5
"""Leases that an operation of ``LIMITED`` may take."""


@dataclass(frozen=True)
class Plan:
    """What one operation is to do, in each of its attempts."""

    method: str
    pauses: tuple[float, ...]
    """Seconds between its effects."""
    ending: str = "succeed"
    """Or ``fail``, ``break``, ``wrong type``."""
    when_stopped: str = "end"
    """Or ``clean up`` for a while first, or ``go on`` as if nothing were."""
    retries: int = 0
    """Attempts that end with an error to retry."""
    checkpoints: bool = False
    """Whether it stores how far it is, and goes on from there."""
    updating: bool = False
    """Whether it shows some of its steps as an update."""
    failing_target: int = -1
    """Of a batch: which target cannot be created."""
    parallelism: int = 1

    def longest(self, lease: float) -> float:
        """Returns the seconds that it takes at most, undoing and cleaning up among them."""
        attempt = 2 * sum(self.pauses) + 3.0 + (2 * lease if self.method == LIMITED else 0.0)
        return (self.retries + 2) * (attempt + RETRY_AFTER)


RETRY_AFTER = 2.0
"""Seconds before another attempt."""


def random_plan(random: Random, lease: float) -> Plan:
    method = random.choice((WORK, WORK, BATCH, LIMITED, EXCLUSIVE))
    if method == BATCH:
        return Plan(
            BATCH,
            tuple(random.choice((0.0, 0.05, 1.0, lease / 2)) for _ in range(random.randint(1, 4))),
            ending=random.choice(("succeed", "succeed", "fail")),
            failing_target=random.choice((-1, -1, 0, 1, 2)),
            parallelism=random.randint(1, 3),
        )
    steps, longest = random.choice(
        ((0, 0.0), (1, 0.1), (2, 1.0), (12, lease * 1.1), (25, lease / 3))
    )
    return Plan(
        method,
        tuple(random.uniform(0, longest) for _ in range(steps)),
        ending=random.choice(("succeed", "succeed", "succeed", "fail", "break", "wrong type")),
        when_stopped=random.choice(("end", "end", "clean up", "go on")),
        retries=random.choice((0, 0, 0, 1, 3)),
        checkpoints=random.random() < 0.5,
        updating=random.random() < 0.2,
    )


class Workload:
    """The handlers, and what they have done.

    Args:
        observer: Sees what they do.
    """

    def __init__(self, observer: Observer) -> None:
        self.plans: dict[str, Plan] = {}
        """By the request's ``instance_id``."""
        self.stored: dict[str, int] = defaultdict(int)
        """The last checkpoint whose call has returned, by operation."""
        self.meeting: set[str] = set()
        """The operations whose handlers wait for each other."""
        self._observer = observer
        self._met: asyncio.Event | None = None
        self._expected = 0

    def add_methods(self, operations: Operations, lease: float) -> None:
        many = MethodOptions(concurrency=CONCURRENCY, max_attempts=1000)
        few = replace(
            many,
            max_attempts=3,
            timeout=timedelta(seconds=TIMEOUT_LEASES * lease),
            progress_timeout=timedelta(seconds=lease),
        )
        prepares = {EXCLUSIVE: self._prepare_exclusive, WORK: self._prepare_work}
        for method, run, options in (
            (WORK, self._work, replace(many, pausable=True, concurrency_per_key=PER_KEY)),
            (BATCH, self._batch, many),
            (LIMITED, self._work, few),
            (EXCLUSIVE, self._work, replace(many, exclusive=True, pausable=True)),
        ):
            operations.add_method(
                method,
                run,
                request=Request,
                response=Response,
                metadata=operation_metadata_pb2.OperationMetadata,
                prepare=prepares.get(method),
                options=options,
            )

    async def _prepare_work(self, request: Request, context: object) -> Prepared:
        del context
        if self.plans[request.instance_id].ending == "meet":  # that is for all slots at a time
            return Prepared()
        number = int(request.instance_id.rpartition("-")[2], 16) % 4
        return Prepared(concurrency_key=("", "", "a", "b")[number])

    async def _prepare_exclusive(self, request: Request, context: object) -> Prepared:
        del context
        number = int(request.instance_id.rpartition("-")[2], 16) % 3
        return Prepared(target=f"{request.parent}/instances/{number}")

    def expect(self, number: int) -> None:
        """Lets handlers with the ending ``meet`` wait until so many run at a time."""
        self._met = asyncio.Event()
        self._expected = number
        self.meeting.clear()

    async def _work(self, request: Request, op: Any) -> Response:
        plan = self._begin(request, op)
        first = self._first_step(op) if plan.checkpoints else 0
        try:
            for number, pause in enumerate(plan.pauses[first:], start=first):
                self._observer.effect(op.name, op.attempt, current_process())
                op.progress(
                    100 * number / len(plan.pauses), f"step {number} by attempt {op.attempt}"
                )
                async with op.updating() if plan.updating else contextlib.nullcontext():
                    await asyncio.sleep(pause)
                if plan.checkpoints:
                    await op.checkpoint(bytes([number + 1]))
                    self.stored[op.name] = number + 1
        except asyncio.CancelledError:
            if plan.when_stopped == "clean up":
                await asyncio.sleep(plan.pauses[0])
            if plan.when_stopped != "go on":
                raise
        if op.attempt <= plan.retries:
            raise RetryableError(
                f"not now by attempt {op.attempt}", retry_after=timedelta(seconds=RETRY_AFTER)
            )
        return await self._end(plan, op)

    def _first_step(self, op: Any) -> int:
        """Returns with which step to go on."""
        state = op.checkpoint_state
        first = state[0] if state else 0
        if first < self.stored[op.name]:
            self._observer.problems.append(
                f"attempt {op.attempt} of {op.name} finds the checkpoint {first},"
                f" and {self.stored[op.name]} was stored"
            )
        return first

    async def _batch(self, request: Request, op: Any) -> Response:
        plan = self._begin(request, op)
        pauses = {f"{op.id}-{number}": pause for number, pause in enumerate(plan.pauses)}

        async def create(target: str) -> None:
            self._observer.effect(op.name, op.attempt, current_process())
            await asyncio.sleep(pauses[target])
            if target == f"{op.id}-{plan.failing_target}":
                raise LroError(f"{target} cannot be made", code=Code.OUT_OF_RANGE)

        async def delete(target: str) -> None:
            self._observer.effect(op.name, op.attempt, current_process())
            await asyncio.sleep(pauses[target])

        await op.batch(list(pauses), create=create, delete=delete, parallelism=plan.parallelism)
        return await self._end(plan, op)

    def _begin(self, request: Request, op: Any) -> Plan:
        self._observer.begin(op.name, op.attempt, current_process())
        return self.plans[request.instance_id]

    async def _end(self, plan: Plan, op: Any) -> Any:
        if plan.ending == "fail":
            # An error that a batch is rolled back for may be reported by a later attempt.
            by = "" if plan.method == BATCH else f" by attempt {op.attempt}"
            raise LroError(f"failed{by}", code=Code.DATA_LOSS)
        if plan.ending == "break":
            raise ZeroDivisionError
        if plan.ending == "wrong type":
            return None
        if plan.ending == "meet":
            assert self._met is not None
            self.meeting.add(op.name)
            if len(self.meeting) == self._expected:
                self._met.set()
            await self._met.wait()
        return Response(name=f"made by attempt {op.attempt}")
