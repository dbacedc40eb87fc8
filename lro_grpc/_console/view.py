"""One operation as the pages show it: as a row of a list, as a page, and in other forms.

Everything is taken from the operation itself and, where a server has that, from its description.
It is pure, and nothing that an operation may hold raises: what cannot be read is said in words.
"""

from __future__ import annotations

import hashlib
import shlex
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus, urlsplit

from google.protobuf.message import DecodeError, EncodeError
from google.rpc import code_pb2, error_details_pb2
from markupsafe import Markup

from lro_grpc._console.actions import ACTIONS, CONTROL, Action, possible
from lro_grpc._console.looks import Look, look_of
from lro_grpc._console.markup import ROW_TEXT, Budget, cut
from lro_grpc._console.texts import seconds_between
from lro_grpc._dialects import canonical_json, longrunning
from lro_grpc._dialects.registry import DIALECTS, to_json
from lro_grpc._errors import LroError
from lro_grpc._inspection.description import (
    AttemptSummary,
    DeliverySummary,
    Description,
    read_description,
)
from lro_grpc._inspection.summary import InstanceSummary, Summary, summarize

if TYPE_CHECKING:
    from google.longrunning import operations_pb2
    from google.protobuf import any_pb2
    from google.protobuf.message import Message
    from google.rpc import status_pb2

    from lro.v1.operation_description_pb2 import DescribeOperationResponse
    from lro_grpc._dialects.canonical_json import Unpack

FORMS = tuple(DIALECTS)
"""The names of the forms, and of the dialects."""

REQUEST = "request"
"""The name of one more form: the request that started the operation."""

_NAME_BYTES = 2_000
"""The most bytes of a name in an address: those on the way cut or refuse longer ones."""

_JSON_BYTES = 1 << 20
"""The most bytes of a message that is made into JSON, to show 64 KiB of it."""

_NARROW = 18
_LONG_TEXT = 4_000
_DETAILS = 20
_INFO = 20
_LINKS = 10
_FAILURES = 100
_INSTANCES = 200
_ATTEMPTS = 50

_NOT_IN_FORMS = frozenset("\0\r\n")
"""Characters that a browser changes in the fields of a form."""


@dataclass(frozen=True, slots=True)
class Row:
    """An operation at a glance."""

    name: str
    key: str
    """The ``id`` of its row: made of the name, whatever that holds."""
    can_open: bool
    """Whether an address can hold its name."""
    can_act: bool
    """Whether a form can, too."""
    id: str
    """The last part of its name."""
    verb: str
    subject: str
    """The last part of its target, or of its name."""
    state: str
    """Such as RUNNING."""
    look: Look
    done: bool
    progress: int | None
    """In percent, from 0 to 100."""
    code: str
    """The code of its error; empty if it has none."""
    note: str
    """The message of its error, or else the detail of its state."""
    create_time: datetime | None
    begin_time: datetime | None
    """The time from which its duration counts: its start, or else its creation."""
    seconds: float | None
    """Its duration; None as long as it is not done."""

    @property
    def address(self) -> str:
        """Its name, for addresses and fields; empty if neither can hold it."""
        return self.name if self.can_open else ""

    @property
    def shows_bar(self) -> bool:
        """Whether progress is worth a bar: of what moves, and of what has ended half-way."""
        if not self.done:
            return self.look.colour != "waiting" or bool(self.progress)
        return self.look.colour in ("failed", "cancelled") and self.progress not in (None, 0, 100)


def row_of(operation: operations_pb2.Operation, unpack: Unpack) -> Row:
    """Returns the row of an operation.

    Args:
        operation: The operation.
        unpack: Opens its metadata; it does no input or output, and does not raise.
    """
    metadata = unpack(operation.metadata)
    return _row(_summary(operation, metadata), _type_verb(operation.metadata))


def _summary(operation: operations_pb2.Operation, metadata: Message | None) -> Summary:
    try:
        return summarize(operation, metadata)
    except (ValueError, DecodeError, EncodeError):  # a type of the server's own, broken inside
        return summarize(operation, None)


def _row(summary: Summary, type_verb: str) -> Row:
    name = summary.name
    own_id = name.rpartition("/")[2] or name
    target = summary.target.rpartition("/")[2]
    code, _, message = summary.error.partition(": ")
    begin_time = summary.start_time or summary.create_time
    can_open = 0 < len(name) <= _NAME_BYTES and len(quote_plus(name, safe="/")) <= _NAME_BYTES
    progress = summary.progress
    return Row(
        name=name,
        key=f"r-{hashlib.blake2b(name.encode(), digest_size=8).hexdigest()}",
        can_open=can_open,
        can_act=can_open and _NOT_IN_FORMS.isdisjoint(name),
        id=cut(own_id, 100) or "without a name",
        verb=cut(summary.verb or type_verb, 60),
        subject=cut(target or own_id, 100) or "without a name",
        state=summary.state,
        look=look_of(summary.state),
        done=summary.done,
        progress=None if progress is None else max(0, min(100, progress)),
        code=cut(code, 40),
        note=cut(message if summary.error else summary.detail, ROW_TEXT),
        create_time=summary.create_time,
        begin_time=begin_time,
        seconds=seconds_between(begin_time, summary.end_time) if summary.done else None,
    )


def _type_verb(metadata: any_pb2.Any) -> str:
    """Returns a verb for an operation that has none: CreateModel of a CreateModelMetadata."""
    own = metadata.TypeName().rpartition(".")[2]
    for end in ("OperationMetadata", "Metadata"):
        own = own.removesuffix(end)
    return own or "operation"


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
class Block:
    """A message as JSON."""

    title: str
    type: str
    json: Markup | None
    note: str
    """The reason why there is no JSON; empty if there is."""


@dataclass(frozen=True, slots=True)
class ShownError:
    """An error with its details."""

    code: str
    number: int
    message: str
    facts: tuple[tuple[str, str], ...]
    """Labels and texts of an ErrorInfo."""
    links: tuple[tuple[str, str], ...]
    """Texts and addresses of a Help; each address is HTTPS."""
    details: tuple[Block, ...]
    left_out: int
    """The number of details that are not shown."""


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
    summary = _summary(operation, metadata)
    row = _row(summary, _type_verb(operation.metadata))
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
        error=_error(operation.error, unpack, budget) if operation.HasField("error") else None,
        failures=_failures(summary.partial_failures, budget),
        batch=_batch(summary.batch, budget),
        attempts=tuple(_attempts(described, row, budget)),
        facts=tuple(_facts(summary, described, budget)),
        blocks=tuple(_blocks(operation, unpack, budget)),
        commands=tuple(_commands(row, target, described is not None)),
        actions=() if read_only else _actions(row, described, lacks),
        request_size=_bytes(described.request_size_bytes) if described else "",
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


def _error(status: status_pb2.Status, unpack: Unpack, budget: Budget) -> ShownError:
    number = status.code or code_pb2.UNKNOWN
    known = number in code_pb2.Code.values()
    message = budget.take(status.message, _LONG_TEXT, keep="\n")
    facts: list[tuple[str, str]] = []
    links: list[tuple[str, str]] = []
    details: list[Block] = []
    for packed in status.details[:_DETAILS]:
        if (info := _as(error_details_pb2.ErrorInfo, packed)) and not facts:
            facts.extend(_info_facts(info, budget))
        elif (helped := _as(error_details_pb2.Help, packed)) and not links:
            links.extend(_help_links(helped, budget))
        else:
            details.append(_block("", packed, unpack, budget))
    return ShownError(
        code=code_pb2.Code.Name(number) if known else str(number),
        number=number,
        message=message,
        facts=tuple(facts),
        links=tuple(links),
        details=tuple(details),
        left_out=max(0, len(status.details) - _DETAILS),
    )


def _as(kind: Any, packed: any_pb2.Any) -> Any:
    """Returns the message in an ``Any``; None if it is of another type, empty or broken."""
    if packed.TypeName() != kind.DESCRIPTOR.full_name:
        return None
    try:
        message = kind.FromString(packed.value)
    except DecodeError:
        return None
    return message if message.ListFields() else None


def _info_facts(info: error_details_pb2.ErrorInfo, budget: Budget) -> Iterator[tuple[str, str]]:
    named = [("Reason", info.reason), ("Domain", info.domain), *sorted(info.metadata.items())]
    for label, text in named[:_INFO]:
        if text:
            yield budget.take(label, 80), budget.take(text)
    if len(named) > _INFO:
        yield "And", f"{len(named) - _INFO:,} more, in the JSON file"


def _help_links(message: error_details_pb2.Help, budget: Budget) -> Iterator[tuple[str, str]]:
    for link in message.links[:_LINKS]:
        if _is_web_address(link.url):
            text = budget.take(link.description or link.url, 200)
            yield text, link.url
        else:
            yield budget.take(f"{link.description} {link.url}".strip(), 300), ""


def _is_web_address(url: str) -> bool:
    """Whether a browser may be sent to an address: it is HTTPS, and plain to see."""
    if not (url.startswith("https://") and url.isascii() and url.isprintable()):
        return False
    try:
        return bool(urlsplit(url).hostname) and len(url) <= _NAME_BYTES
    except ValueError:
        return False


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
            yield Fact(label, budget.take(name), is_code=True, operation=name[:_NAME_BYTES])
    for label, time in (
        ("Held until", described.lease_expire_time),
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


def _bytes(number: int) -> str:
    return "1 byte" if number == 1 else f"{number:,} bytes"


def _copied(text: str) -> str:
    """Returns a text to copy; empty if it is no line that one may paste."""
    return text if text.isprintable() and len(text) <= _NAME_BYTES else ""


def _blocks(operation: operations_pb2.Operation, unpack: Unpack, budget: Budget) -> Iterator[Block]:
    if operation.HasField("response"):
        yield _block("Response", operation.response, unpack, budget)
    if operation.HasField("metadata"):
        yield _block("Metadata", operation.metadata, unpack, budget)


def _block(title: str, packed: any_pb2.Any, unpack: Unpack, budget: Budget) -> Block:
    kind = budget.take(packed.TypeName(), 200) or "no type"
    size = len(packed.value)
    if size > _JSON_BYTES:
        return Block(title, kind, None, f"{_bytes(size)}: the JSON file has all of it")
    message = unpack(packed)
    if message is None:
        what = "no bytes" if not size else f"{_bytes(size)}, which cannot be read as this type"
        return Block(title, kind, None, what)
    return Block(title, kind, budget.take_json(canonical_json.to_json(message, unpack)), "")


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


@dataclass(frozen=True, slots=True)
class Form:
    """An operation in another form."""

    operation: str
    """The operation's name."""
    name: str
    json: Markup | None
    note: str
    """The reason why there is no JSON; empty if there is."""


def form_of(operation: operations_pb2.Operation, dialect: str, unpack: Unpack) -> Form:
    """Returns an operation as the JSON of a dialect.

    Args:
        operation: The operation.
        dialect: One of ``FORMS``.
        unpack: As in ``operation_page``.
    """
    name = operation.name
    if operation.ByteSize() > _JSON_BYTES:
        note = f"{_bytes(operation.ByteSize())}: the JSON file has all of it"
        return Form(name, dialect, None, note)
    try:
        if dialect == longrunning.NAME:
            value = canonical_json.to_json(operation, unpack)
        else:
            value = to_json(operation, dialect)
    except LroError as error:
        return Form(name, dialect, None, cut(error.message, 1_000))
    return Form(name, dialect, Budget().take_json(value), "")


def request_form(description: DescribeOperationResponse, unpack: Unpack) -> Form:
    """Returns the request that started an operation.

    Args:
        description: The description in the FULL view.
        unpack: As in ``operation_page``.
    """
    name = description.operation.name
    if not description.HasField("request"):
        note = "The server does not show it: it is too large, or may hold what nobody is to see."
        return Form(name, REQUEST, None, note)
    block = _block("", description.request, unpack, Budget())
    return Form(name, REQUEST, block.json, block.note)
