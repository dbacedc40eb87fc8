"""Judges a history: what was promised to the callers, and was not kept."""

from __future__ import annotations

import bisect
import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import grpc
from google.longrunning import operations_pb2
from killable import Run, expected, outcome, reason, seen

from lro.example.v1 import fleet_service_pb2 as fleet
from lro_grpc._operation.states import JOB

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from call_history import Call, History
    from google.protobuf.message import Message

CANCELLED = 1

KINDS = ("lost", "unexpected", "doubled", "backwards", "wrong")


@dataclass
class Verdict:
    """What has come of a history: every broken promise by its kind, and how operations ended."""

    lost: list[str] = field(default_factory=list)
    """Acknowledged, and not found later or without an end."""
    unexpected: list[str] = field(default_factory=list)
    """Started by nobody."""
    doubled: list[str] = field(default_factory=list)
    """Two operations of one request, two outcomes of one operation, two runs of one attempt."""
    backwards: list[str] = field(default_factory=list)
    """Answered as it was before an earlier answer."""
    wrong: list[str] = field(default_factory=list)
    """Ended with what does not follow from the request, or from a cancel; refused for nothing."""

    ends: dict[str, operations_pb2.Operation] = field(default_factory=dict)
    """How each operation ended, by its request_id; but for those that were deleted before."""

    @property
    def most_attempts(self) -> int:
        return max((seen(end).attempt for end in self.ends.values()), default=0)

    @property
    def problems(self) -> list[str]:
        """All of them; each begins with its kind."""
        return [f"{kind}: {problem}" for kind in KINDS for problem in getattr(self, kind)]


class Version(NamedTuple):
    """What never goes back of an operation."""

    update_time: int
    done: bool
    attempt: int
    progress_percent: int
    cancel_requested: bool
    start_time: int


@dataclass(frozen=True)
class Read:
    """The answer of one call on one operation."""

    begun: int
    ended: int
    body: bytes | None
    """None if there was no such operation."""


def judge(history: History, notes: Mapping[str, Sequence[Run]]) -> Verdict:
    """Returns what is wrong with a history whose last calls have asked for everything once more.

    Args:
        history: The calls and their answers.
        notes: What handlers have noted of each operation, in order.
    """
    judge = _Judge(history, notes)
    judge.check()
    return judge.verdict


class _Judge:
    def __init__(self, history: History, notes: Mapping[str, Sequence[Run]]) -> None:
        self.verdict = Verdict()
        self._history = history
        self._notes = notes
        self._runs = {
            name: sorted(run for run in noted if run.what == "run") for name, noted in notes.items()
        }
        self._calls: dict[str, list[Call]] = defaultdict(list)
        for call in history.calls:
            self._calls[call.what].append(call)
        self._parsed: dict[bytes, operations_pb2.Operation] = {}
        self._versions: dict[bytes, Version] = {}
        self._reads = self._all_reads()
        self._acknowledged = self._all_acknowledged()
        self._cancels = _by_name(self._calls["cancel"])
        self._deletes = _by_name(self._calls["delete"])

    def check(self) -> None:
        """Checks every promise."""
        self._check_starts()
        self._check_names()
        self._check_refusals()
        self._check_walks()
        for name, reads in self._reads.items():
            if name in self._acknowledged:
                self._check_operation(name, reads)

    # What is known.

    def _all_reads(self) -> dict[str, list[Read]]:
        reads = defaultdict(list)
        for call in self._history.calls:
            for body in call.answers if call.ok else ():
                reads[self._operation(body).name].append(Read(call.begun, call.ended, body))
            if call.code is grpc.StatusCode.NOT_FOUND and call.what != "start":
                reads[call.about].append(Read(call.begun, call.ended, None))
        return reads

    def _all_acknowledged(self) -> dict[str, str]:
        """The request_id of each operation that a start was answered with."""
        return {
            self._operation(call.answers[0]).name: call.about
            for call in self._calls["start"]
            if call.ok
        }

    def _operation(self, body: bytes) -> operations_pb2.Operation:
        operation = self._parsed.get(body)
        if operation is None:
            operation = self._parsed[body] = operations_pb2.Operation.FromString(body)
        return operation

    def _version(self, body: bytes) -> Version:
        version = self._versions.get(body)
        if version is None:
            operation = self._operation(body)
            metadata = seen(operation)
            version = self._versions[body] = Version(
                metadata.update_time.ToMicroseconds(),
                operation.done,
                metadata.attempt,
                metadata.progress_percent,
                metadata.cancel_requested,
                metadata.start_time.ToMicroseconds(),
            )
        return version

    # Promises about all of them.

    def _check_starts(self) -> None:
        names = defaultdict(set)
        for name, request_id in self._acknowledged.items():
            names[request_id].add(name)
        self.verdict.lost += [
            f"{request_id} was never acknowledged"
            for request_id in self._history.requests - names.keys()
        ]
        self.verdict.doubled += [
            f"{request_id} has started {sorted(started)}"
            for request_id, started in names.items()
            if len(started) > 1
        ]

    def _check_names(self) -> None:
        found = {name for name, reads in self._reads.items() if any(read.body for read in reads)}
        for name in (found | self._runs.keys()) - self._acknowledged.keys():
            self.verdict.unexpected.append(f"{name} was started by nobody")

    def _check_refusals(self) -> None:
        self.verdict.wrong += [
            f"{call.what} of {call.about} was refused with {call.code}"
            for call in self._history.calls
            if not call.ok and not call.is_open and not self._may_be_refused(call)
        ]

    def _may_be_refused(self, call: Call) -> bool:
        """Whether it may come too late; that of an operation not found is judged with its reads."""
        if call.code is grpc.StatusCode.NOT_FOUND:
            return call.about in self._acknowledged
        too_late = call.code is grpc.StatusCode.FAILED_PRECONDITION
        return too_late and call.what in ("pause", "resume")

    def _check_walks(self) -> None:
        """A list has whatever was acknowledged before it was asked for, once."""
        starts = sorted(
            (call.ended, self._operation(call.answers[0]).name)
            for call in self._calls["start"]
            if call.ok
        )
        for walk in self._calls["walk"]:
            if not walk.ok:
                continue
            listed = Counter(self._operation(body).name for body in walk.answers)
            self.verdict.doubled += [
                f"{name} is listed {times} times" for name, times in listed.items() if times > 1
            ]
            before = {name for _, name in starts[: bisect.bisect(starts, (walk.begun, ""))]}
            self.verdict.lost += [
                f"{name} is not listed"
                for name in before - listed.keys()
                if not any(delete.begun < walk.ended for delete in self._deletes[name])
            ]

    # Promises about one.

    def _check_operation(self, name: str, reads: list[Read]) -> None:
        self._check_presence(name, reads)
        self._check_order(name, reads)
        ends = {read.body for read in reads if read.body and self._operation(read.body).done}
        if len(ends) > 1:
            shown = "\n".join(str(self._operation(end)) for end in ends)
            self.verdict.doubled.append(f"{name} has ended in {len(ends)} ways:\n{shown}")
        request = self._history.requests[self._acknowledged[name]]
        self.verdict.doubled += self._doubled_runs(name)
        self.verdict.backwards += self._forgotten_steps(name)
        if ends:
            end = self.verdict.ends[self._acknowledged[name]] = self._operation(next(iter(ends)))
            self.verdict.wrong += self._wrong_end(request, end)
            self.verdict.wrong += self._wrong_cancel(request, end, reads)
        elif not self._deletes[name]:
            self.verdict.lost.append(f"{name} has no end")

    def _check_presence(self, name: str, reads: list[Read]) -> None:
        deletes = self._deletes[name]
        gone = min((delete.ended for delete in deletes if delete.ok), default=None)
        for read in reads:
            if read.body is None and not any(one.begun < read.ended for one in deletes):
                self.verdict.lost.append(f"{name} was acknowledged, and was not found later")
            if read.body is not None and gone is not None and gone < read.begun:
                self.verdict.backwards.append(f"{name} was deleted, and was found later")

    def _check_order(self, name: str, reads: list[Read]) -> None:
        """A read shows no less than any that had ended before it began: a register's order."""
        found = [read for read in reads if read.body is not None]
        ended = iter(sorted(found, key=lambda read: read.ended))
        latest = next(ended, None)
        floor, state = Version(0, False, 0, 0, False, 0), 0
        for read in sorted(found, key=lambda read: read.begun):
            while latest is not None and latest.ended < read.begun:
                version = self._version(latest.body)
                if version.update_time >= floor.update_time:
                    state = seen(self._operation(latest.body)).state
                floor = Version(*map(max, floor, version))
                latest = next(ended, None)
            shown = self._version(read.body)
            back = [
                key
                for key, now, then in zip(shown._fields, shown, floor, strict=True)
                if now < then
            ]
            now = seen(self._operation(read.body)).state
            if state and now not in REACHABLE[state]:
                back.append(f"state {JOB.name_of(state)}")
            if floor.start_time and shown.start_time != floor.start_time:
                back.append("start_time")
            if back:
                self.verdict.backwards.append(f"{name}: {back} of {floor}, then {shown}")

    def _doubled_runs(self, name: str) -> Iterator[str]:
        for attempt, times in Counter(run.attempt for run in self._runs.get(name, ())).items():
            if times > 1:
                yield f"{name} was run {times} times as attempt {attempt}"

    def _forgotten_steps(self, name: str) -> Iterator[str]:
        """What a checkpoint has kept is not done again, and no late attempt's checkpoint is kept.

        The order is that of the attempts, not of the notes: a process that was frozen may note what
        it has done after others have gone on.
        """
        kept = 0
        for note in sorted(self._notes.get(name, ()), key=lambda note: note.attempt):
            word, _, step = note.what.partition(" ")
            if word == "kept":
                kept = int(step)
            elif word == "step" and int(step) <= kept:
                yield f"{name} has done step {step} again, though {kept} steps were kept"

    def _wrong_end(self, request: Message, end: operations_pb2.Operation) -> Iterator[str]:
        name, metadata, found = end.name, seen(end), outcome(end)
        runs = self._runs.get(name, [])
        once = isinstance(request, fleet.DeleteInstanceRequest)
        if found == expected(request):
            if not runs or runs[-1].attempt != metadata.attempt:
                yield f"{name} has the outcome of attempt {metadata.attempt}, of {runs}"
        elif end.error.code == CANCELLED:
            if not self._cancels[name]:
                yield f"{name} was cancelled by nobody"
        elif not once or reason(end.error) != "WORKER_LOST":
            yield f"{name} ended with {found}, not with {expected(request)}"
        if runs and runs[-1].attempt > metadata.attempt:
            yield f"{name} was run as an attempt that is none of its {metadata.attempt}: {runs}"
        if once and any(run.process in self._history.killed for run in runs[:-1]):
            yield f"{name} was run again after a kill, though it may run once only: {runs}"

    def _wrong_cancel(
        self, request: Message, end: operations_pb2.Operation, reads: list[Read]
    ) -> Iterator[str]:
        """An acknowledged cancel is never forgotten, and nothing begins after it but an undoing."""
        name, metadata = end.name, seen(end)
        acknowledged = [call for call in self._cancels[name] if call.ok]
        if not acknowledged:
            return
        first = min(acknowledged, key=lambda call: call.ended)
        if not metadata.cancel_requested and metadata.end_time.ToNanoseconds() > first.ended_at:
            yield f"{name} has forgotten a cancel that was acknowledged"
        if isinstance(request, fleet.BatchCreateInstancesRequest) or self._keeps_steps(name):
            return
        after = {
            self._version(read.body).attempt
            for read in reads
            if read.body is not None and read.begun > first.ended
        }
        if len(after) > 1:
            yield f"{name} was begun again after it was cancelled: attempts {sorted(after)}"

    def _keeps_steps(self, name: str) -> bool:
        return any(note.what.startswith("step") for note in self._notes.get(name, ()))


def _by_name(calls: Sequence[Call]) -> dict[str, list[Call]]:
    by_name = defaultdict(list)
    for call in calls:
        by_name[call.about].append(call)
    return by_name


def _reachable(state: int) -> frozenset[int]:
    found, following = {state}, {state}
    while following:
        following = set(itertools.chain.from_iterable(JOB.states[one].next for one in following))
        following -= found
        found |= following
    return frozenset(found)


REACHABLE = {state: _reachable(state) for state in JOB.states}
"""For each state of an operation, those in which it may be later."""
