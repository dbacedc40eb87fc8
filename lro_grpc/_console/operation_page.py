"""Everything of one operation, as its page shows it.

All is taken from the operation itself and, where a server has that, from its description. It is
pure, and nothing that an operation may hold raises: what cannot be read is said in words.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lro_grpc._console.actions import ACTIONS, CONTROL, Action, possible
from lro_grpc._console.block import Block, block_of, size_text
from lro_grpc._console.form import FORMS
from lro_grpc._console.looks import Look, look_of
from lro_grpc._console.markup import Budget, cut
from lro_grpc._console.row import NAME_BYTES, Row, row_of_summary, summary_of, verb_of_type
from lro_grpc._console.shown_error import ShownError, shown_error
from lro_grpc._console.texts import seconds_between
from lro_grpc._inspection.description import (
    AttemptSummary,
    DeliverySummary,
    Description,
    read_description,
)
from lro_grpc._inspection.summary import InstanceSummary, Summary

if TYPE_CHECKING:
    from google.longrunning import operations_pb2
    from google.protobuf.message import Message

    from lro.v1.operation_description_pb2 import DescribeOperationResponse
    from lro_grpc._dialects.canonical_json import Unpack

_NARROW = 18
_LONG_TEXT = 4_000
_FAILURES = 100
_INSTANCES = 200
_ATTEMPTS = 50
_LABELS = 64
_LABEL_FILTER = 300
_WORD = re.compile(r"[a-z]\w*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Step:
    """One point of a timeline."""

    word: str
    time: datetime | None
    is_reached: bool
    is_here: bool
    """Whether the operation is between this point and the next one."""
    lap: float | None = None
    """The seconds until the next point; None if they are not known."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure of a part."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Failures:
    """Failures of parts that did not fail the whole."""

    size: int
    shown: tuple[Failure, ...]
    """At most 100."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance of a batch."""

    name: str
    look: Look
    error: str


@dataclass(frozen=True, slots=True)
class Batch:
    """The instances of a batch."""

    size: int
    counts: tuple[tuple[Look, int], ...]
    """The number of instances in each state, of the most frequent one first."""
    instances: tuple[Instance, ...]
    """At most 200; of more, those with errors first."""


@dataclass(frozen=True, slots=True)
class ShownAttempt:
    """One attempt."""

    number: int
    look: Look
    worker: str
    start_time: datetime | None
    is_running: bool
    seconds: float | None
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Fact:
    """One value of the operation."""

    label: str
    text: str = ""
    time: datetime | None = None
    is_code: bool = False
    """Whether it is a name, and not a word."""
    operation: str = ""
    """The name of the operation that it leads to."""
    copied: str = ""
    """The text to copy."""

    @property
    def is_wide(self) -> bool:
        """Whether it takes a line of its own."""
        return self.is_code or len(self.text) > _NARROW


@dataclass(frozen=True, slots=True)
class Label:
    """A label, with the way to all that have it."""

    key: str
    value: str
    filter: str
    """Finds the operations that have it; empty if it is too long for an address."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command of ``lro``, to copy."""

    begin: str
    name: str
    whole: str


@dataclass(frozen=True, slots=True)
class Wait:
    """A reason why an operation waits."""

    text: str
    until: datetime | None


@dataclass(frozen=True, slots=True)
class OperationPage:
    """Everything of one operation."""

    row: Row
    full_name: str
    parent: str
    parent_text: str
    title: str
    """For the tab: with the state and the percentage first."""
    requested: tuple[str, ...]
    """The requests that the state does not show yet: ``cancel``, ``pause``."""
    attempt: int
    """The number of the attempt; 0 if it is not known."""
    detail: str
    waits: tuple[Wait, ...]
    steps: tuple[Step, ...]
    """Empty if no time is known."""
    error: ShownError | None
    failures: Failures | None
    batch: Batch | None
    attempts: tuple[ShownAttempt, ...]
    labels: tuple[Label, ...]
    facts: tuple[Fact, ...]
    blocks: tuple[Block, ...]
    commands: tuple[Command, ...]
    actions: tuple[Action, ...]
    request_size: str
    """Of the request that started it; empty if the server does not tell it."""
    forms: tuple[str, ...] = FORMS

    @property
    def icon(self) -> str:
        """The name of its icon for the tab."""
        return f"icon-{self.row.look.colour}.svg"

    @property
    def copied_name(self) -> str:
        """The operation's name, to copy; empty if it is none that one may paste."""
        return _copied(self.row.address)


def operation_page(
    operation: operations_pb2.Operation,
    unpack: Unpack,
    *,
    target: str,
    description: DescribeOperationResponse | None = None,
    lacks: Collection[str] = (),
    read_only: bool = False,
) -> OperationPage:
    """Returns the page of an operation.

    Args:
        operation: The operation.
        unpack: Opens each ``Any``; it does no input or output, and does not raise.
        target: The address of the server, for commands; empty if it is not known.
        description: The description, of a server that has it.
        lacks: The verbs that the server does not have.
        read_only: Whether no action is offered.
    """
    described = None if description is None else read_description(description)
    if description is not None and description.HasField("metadata"):
        metadata: Message | None = description.metadata
    else:
        metadata = unpack(operation.metadata)
    summary = summary_of(operation, metadata)
    row = row_of_summary(summary, verb_of_type(operation.metadata))
    budget = Budget()
    parent = row.name.rpartition("/operations/")[0]
    # In the order of what is to be there still when the page is full.
    return OperationPage(
        row=row,
        full_name=cut(row.name),
        parent=parent,
        parent_text=cut(parent) or "all operations",
        title=_title(row),
        requested=summary.requested,
        attempt=summary.attempt or 0,
        detail=budget.take(summary.detail, _LONG_TEXT, keep="\n"),
        waits=tuple(_waits(described)),
        steps=tuple(_steps(summary, row)),
        error=shown_error(operation.error, unpack, budget) if operation.HasField("error") else None,
        failures=_failures(summary.partial_failures, budget),
        batch=_batch(summary.batch, budget),
        attempts=tuple(_attempts(described, row, budget)),
        labels=tuple(_labels(described, budget)),
        facts=tuple(_facts(summary, described, budget)),
        blocks=tuple(_blocks(operation, unpack, budget)),
        commands=tuple(_commands(row, target, described is not None)),
        actions=() if read_only else _actions(row, described, lacks),
        request_size=size_text(described.request_size_bytes) if described else "",
    )


def _title(row: Row) -> str:
    percent = f"{row.progress} % · " if not row.done and row.progress is not None else ""
    return f"{percent}{row.look.word} · {row.verb} {row.subject}"


def _actions(row: Row, described: Description | None, lacks: Collection[str]) -> tuple[Action, ...]:
    if not row.can_act:
        return ()
    if described is not None:
        verbs: Collection[str] = described.actions
    else:
        verbs = [one for one in possible(row.state, done=row.done) if one not in CONTROL]
    return tuple(one for verb, one in ACTIONS.items() if verb in verbs and verb not in lacks)


def _waits(described: Description | None) -> Iterator[Wait]:
    for reason in described.wait_reasons if described else ():
        if described and reason == "SCHEDULED" and described.schedule_time:
            yield Wait("Waits until", described.schedule_time)
        else:
            yield Wait(_WAITS.get(reason, f"Waits: {reason}"), None)


_WAITS = {
    "QUEUED": "Waits for a process with a free slot",
    "SCHEDULED": "Waits for its time",
    "NO_HANDLER": "No server goes on with it: none serves its method, or its types do not fit",
    "PAUSED": "Waits to be resumed",
    "CONCURRENCY_KEY": "Waits for a place of its key: as many of it run as may at a time",
}


def _steps(summary: Summary, row: Row) -> Iterator[Step]:
    created, started = summary.create_time, summary.start_time
    ended = summary.end_time if row.done else None
    if not (created or started or ended):
        return
    moves = not row.done
    waited = seconds_between(created, started) or None  # none that is worth a word
    yield Step("Created", created, True, moves and started is None, waited)
    yield Step(
        "Started",
        started,
        started is not None,
        moves and started is not None,
        seconds_between(started, ended),
    )
    yield Step(row.look.word if row.done else "Done", ended, row.done, row.done)


def _failures(errors: tuple[str, ...], budget: Budget) -> Failures | None:
    if not errors:
        return None
    parts = (error.partition(": ") for error in errors[:_FAILURES])
    shown = tuple(Failure(cut(code, 40), budget.take(message)) for code, _, message in parts)
    return Failures(len(errors), shown)


def _batch(summaries: tuple[InstanceSummary, ...], budget: Budget) -> Batch | None:
    if not summaries:
        return None
    counts = Counter(one.state for one in summaries)
    shown = summaries
    if len(summaries) > _INSTANCES:
        shown = tuple(sorted(summaries, key=lambda one: not one.error))[:_INSTANCES]
    return Batch(
        size=len(summaries),
        counts=tuple((look_of(state), count) for state, count in counts.most_common(20)),
        instances=tuple(
            Instance(
                budget.take(one.name.rpartition("/")[2] or one.name, 200),
                look_of(one.state),
                budget.take(one.error),
            )
            for one in shown
        ),
    )


def _attempts(described: Description | None, row: Row, budget: Budget) -> Iterator[ShownAttempt]:
    for one in described.attempts[-_ATTEMPTS:] if described else ():
        is_running = not one.outcome and one.end_time is None and not row.done
        code, _, message = one.error.partition(": ")
        yield ShownAttempt(
            number=one.number,
            look=look_of(_outcome(one, is_running=is_running)),
            worker=budget.take(one.worker, 200),
            start_time=one.start_time,
            is_running=is_running,
            seconds=seconds_between(one.start_time, one.end_time),
            code=cut(code, 40),
            message=budget.take(message, 1_000),
        )


def _outcome(attempt: AttemptSummary, *, is_running: bool) -> str:
    return attempt.outcome or ("RUNNING" if is_running else "UNKNOWN")


def _labels(described: Description | None, budget: Budget) -> Iterator[Label]:
    for key, value in described.labels[:_LABELS] if described else ():
        query = f"labels.{_quoted(key)} = {_quoted(value)}"
        has_room = len(query) <= _LABEL_FILTER and budget.spend(query)
        yield Label(budget.take(key, 80), budget.take(value, 100), query if has_room else "")


def _quoted(text: str) -> str:
    """Returns a text as a filter has it: in quotes, unless it is a plain word."""
    if _WORD.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _facts(summary: Summary, described: Description | None, budget: Budget) -> Iterator[Fact]:
    """Yields the values that are there, each text within its bounds."""
    if summary.target:
        text = budget.take(summary.target)
        yield Fact("Target", text, is_code=True, copied=_copied(summary.target))
    if summary.api_version:
        yield Fact("API version", budget.take(summary.api_version, 60))
    if described:
        yield from _described_facts(described, budget)
    yield from (
        Fact(label, time=time)
        for label, time in (
            ("Updated", summary.update_time),
            ("Kept until", summary.expire_time),
        )
        if time
    )


def _described_facts(described: Description, budget: Budget) -> Iterator[Fact]:
    failed, most = described.failed_attempts, described.max_attempts
    operator = "Run again or terminated by"
    for label, text, is_code in (
        ("Method", described.method.removeprefix("/"), True),
        ("Caller", described.caller, False),
        (operator, described.operator_caller, False),
        ("Worker", described.worker, True),
        ("Failed attempts", f"{failed} of at most {most}" if failed else "", False),
        ("Priority", str(described.priority or ""), False),
        ("Concurrency key", described.concurrency_key, True),
        ("Has for itself", described.exclusive_target, True),
        ("Told of its end", _told(described.delivery), False),
    ):
        if text:
            yield Fact(label, budget.take(text), is_code=is_code)
    for label, name in (
        ("Runs again", described.source_operation),
        ("Run again as", described.rerun_operation),
    ):
        if name:
            yield Fact(label, budget.take(name), is_code=True, operation=name[:NAME_BYTES])
    for label, time in (
        ("Deadline", described.deadline_time),
        ("Told again from", described.delivery.next_attempt_time if described.delivery else None),
    ):
        if time:
            yield Fact(label, time=time)


def _told(delivery: DeliverySummary | None) -> str:
    """Returns how far the telling of an end is; empty if nobody is to be told."""
    if delivery is None:
        return ""
    number = delivery.attempts
    attempts = f"{number} attempt{'s' if number != 1 else ''}" if number else ""
    return ", ".join(filter(None, (delivery.state.capitalize(), attempts, delivery.error)))


def _copied(text: str) -> str:
    """Returns a text to copy; empty if it is no line that one may paste."""
    return text if text.isprintable() and len(text) <= NAME_BYTES else ""


def _blocks(operation: operations_pb2.Operation, unpack: Unpack, budget: Budget) -> Iterator[Block]:
    if operation.HasField("response"):
        yield block_of("Response", operation.response, unpack, budget)
    if operation.HasField("metadata"):
        yield block_of("Metadata", operation.metadata, unpack, budget)


def _commands(row: Row, target: str, is_described: bool) -> Iterator[Command]:
    """Yields the commands for an operation whose name a shell may be given."""
    if not (row.can_act and row.name.isprintable()):
        return
    verbs = ["get"] if row.done else ["watch", "cancel"]
    if is_described:
        verbs.append("get --attempts")
    name = ("-- " if row.name.startswith("-") else "") + shlex.quote(row.name)
    where = f"--target {shlex.quote(target)} " if target else ""
    for verb in verbs:
        yield Command(f"lro {verb} ", row.name, f"lro {verb} {where}{name}")
