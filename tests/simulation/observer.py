"""Judges every change at the store, and every step of a handler."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from math import inf
from typing import TYPE_CHECKING

from google.longrunning import operations_pb2

from lro.example.v1 import fleet_service_pb2
from lro_grpc._testing.invariants import Invariants

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scenario import Scenario
    from simulated_loop import Process, SimulatedLoop
    from simulated_server import SimulatedClock
    from totals import Totals

    from lro_grpc._operation.record import Record

MARGIN = 5.0
"""Seconds for all that takes a moment: a round of the engine, a try again, a delayed call."""

LIMITED = "/simulation.v1.Simulation/CreateLimited"
"""The method whose operations have little time, and few attempts."""

PER_KEY = 2
"""Attempts of one concurrency key at a time, in all processes."""

SIGNATURE = re.compile(r" by attempt (\d+)$")
"""What stands at the end of all that a handler says."""

TERMINATED = b"OPERATION_TERMINATED"
"""Stands in an operation that was ended by force, which is not for its attempt to say first."""

Response = fleet_service_pb2.Instance


class Observer:
    """Notes what happens, and what of it must not be.

    Args:
        loop: Tells the time that has passed.
        clock: Tells the time of day at the store.
        scenario: What is going on.
        totals: Where changes are counted.
    """

    def __init__(
        self, loop: SimulatedLoop, clock: SimulatedClock, scenario: Scenario, totals: Totals
    ) -> None:
        self.problems: list[str] = []
        self.done_at: dict[str, float] = {}
        """When each operation was done, by the loop's time."""
        self.to_be_deleted: set[str] = set()
        """The operations that someone has asked to delete."""
        self.excused: dict[Process, float] = {}
        """Until when a process that was frozen may go on with what it has lost meanwhile."""
        self.disturbed = 0.0
        """When a fault was last in force; infinite while one is."""
        self.latest_time = 0
        """The latest time of day before it was set back."""
        self.set_back = 0.0
        """The seconds by which the time of day was set back, all in all."""
        self.leases_were_cut = False
        """Whether the time of day was set forward, by which leases end in the store only."""
        self._loop = loop
        self._clock = clock
        self._scenario = scenario
        self._totals = totals
        self._invariants = Invariants()
        self._begun: dict[str, dict[int, Process | None]] = defaultdict(dict)
        self._expire_times: dict[str, int] = {}
        self._trace = hashlib.blake2b()

    @property
    def trace(self) -> str:
        """A hash of all that has happened."""
        return self._trace.hexdigest()

    @property
    def records(self) -> list[Record]:
        """All there are in the store, deleted ones that still run among them."""
        return list(self._invariants.records.values())

    def note(self, *what: object) -> None:
        """Takes something that happens, to be a part of the trace."""
        self._trace.update(repr((self._loop.time(), *what)).encode())

    def changed(self, before: Record | None, record: Record) -> None:
        """Takes a change, as the store announces it."""
        # Without what has maps, whose entries protobuf writes in any order.
        self.note("change", *record._replace(attempt_error=b"", operation=b""))
        self._totals.changes += 1
        self._invariants.check(before, record)
        self._take(record)
        if record.deleted and not self.may_be_gone(record.name):
            self.problems.append(f"{record.name} was removed, and nobody has asked for it")
        if before is not None:
            self._check_takeover(before, record)
            self._check_key(record)
            self._check_writer(before, record)
        if record.done:
            self._check_attempts(record)

    def _check_key(self, record: Record) -> None:
        """Checks that no more are held of a key than may be."""
        if record.concurrency_key and record.lease_expire_time:
            key = record.method, record.concurrency_key
            held = [
                one.name
                for one in self.records
                if one.lease_expire_time and (one.method, one.concurrency_key) == key
            ]
            if len(held) > PER_KEY:
                self.problems.append(f"{len(held)} of the key {key} are held: {held}")

    def stored(self, records: Iterable[Record]) -> None:
        """Takes all that is in the store after its process has died: all that was announced (R1).

        What was not announced may be there, too.
        """
        found = {record.name: record for record in records}
        for name in self._invariants.records.keys() - found.keys():
            if not self.may_be_gone(name):
                self.problems.append(f"{name} was stored, and is there no more")
            self._invariants.forget(name)
        for record in found.values():
            self._invariants.catch_up(record)
            self._take(record)

    def begin(self, name: str, attempt: int, process: Process | None) -> None:
        """Takes the beginning of a handler: once in an attempt."""
        self.note("begin", name, attempt)
        if attempt in self._begun[name]:
            self.problems.append(f"attempt {attempt} of {name} was begun twice")
        self._begun[name][attempt] = process

    def effect(self, name: str, attempt: int, process: Process | None) -> None:
        """Takes something that a handler does: only while the operation is its own (R10)."""
        self.note("effect", name, attempt)
        record = self._invariants.records.get(name)
        if record is None or (record.attempt == attempt and record.lease_expire_time):
            return
        if self._may_not_know(record):
            return
        is_excused = process is not None and self.excused.get(process, 0.0) >= self._loop.time()
        if not is_excused and not self.leases_were_cut:
            self.problems.append(f"attempt {attempt} goes on, though it was fenced: {record}")

    def may_be_gone(self, name: str) -> bool:
        """Whether someone has asked to delete an operation, or it was kept long enough (S7)."""
        latest = max(self.latest_time, self._clock.now())
        return name in self.to_be_deleted or self._expire_times.get(name, inf) <= latest

    def _may_not_know(self, record: Record) -> bool:
        """Whether a handler need not have been told yet that its operation was terminated."""
        if not (record.done and TERMINATED in record.operation):
            return False
        told_from = max(self.done_at[record.name], self.disturbed)
        faults = self._scenario.store_faults
        delays = 4 * faults.longest_delay if faults.delay else 0.0
        in_time = self._scenario.lease + self._scenario.sweep + delays + MARGIN
        return self._loop.time() <= told_from + in_time or not self._scenario.store_is_reliable

    def _take(self, record: Record) -> None:
        """Takes over what the invariants have found, and the record."""
        self.problems += map(str, self._invariants.violations)
        self._invariants.violations.clear()
        if record.done:
            self.done_at.setdefault(record.name, self._loop.time())
            self._expire_times[record.name] = record.expire_time

    def _check_takeover(self, before: Record, after: Record) -> None:
        """An operation is taken from its worker neither too early nor too late (R6)."""
        has_failed = after.failed_attempts > before.failed_attempts
        by_itself = after.scheduled_time or before.pause_requested or after.done
        if not has_failed or by_itself or after.method == LIMITED:
            return
        left = (before.lease_expire_time - self._clock.now()) / 1_000_000
        process = self._begun[before.name].get(before.attempt)
        if left > 0 and process is not None and process.alive:
            self.problems.append(f"it was taken from its worker {left} seconds early: {before}")
        late = min(-left, self._loop.time() - self.disturbed)
        faults = self._scenario.store_faults
        delays = 4 * faults.longest_delay if faults.delay else 0.0  # of the look, and of the write
        in_time = self._scenario.sweep + delays + MARGIN
        is_reliable = self._scenario.store_is_reliable and not self.leases_were_cut
        if late > in_time and is_reliable:
            self.problems.append(f"it was taken from its worker {late} seconds late: {before}")

    def _check_writer(self, before: Record, after: Record) -> None:
        """What is written was said by the attempt that holds the operation (R5)."""
        said = [after.status_detail] if after.status_detail != before.status_detail else []
        if after.done:
            operation = operations_pb2.Operation.FromString(after.operation)
            response = Response.FromString(operation.response.value)
            said += [operation.error.message, response.name]
        numbers = [int(number) for text in said for number in SIGNATURE.findall(text)]
        if any(number != after.attempt for number in numbers):
            self.problems.append(f"other attempts have written {said}: {after}")

    def _check_attempts(self, record: Record) -> None:
        """No handler is begun without an attempt: none at all after a cancel in time (R7)."""
        begun = self._begun[record.name]
        if len(begun) > record.attempt or max(begun, default=0) > record.attempt:
            self.problems.append(f"handlers were begun in the attempts {[*begun]}: {record}")
