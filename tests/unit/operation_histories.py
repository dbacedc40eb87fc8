"""Histories of operations: records, each after the one before by an event that can happen."""

from __future__ import annotations

from google.protobuf import empty_pb2, wrappers_pb2
from google.rpc import error_details_pb2, status_pb2
from hypothesis import strategies as st

from lro.v1 import operation_metadata_pb2
from lro_grpc import _anys
from lro_grpc._errors import Code, LroError, to_status
from lro_grpc._operation import events, publication
from lro_grpc._operation.batch_states import BatchStates, Status
from lro_grpc._operation.record import Record
from lro_grpc._operation.states import BATCH_INSTANCE

NOW = 1_800_000_000_000_000
SECOND = 1_000_000
LEASE = 15 * SECOND

TARGETS = (
    "",
    "projects/p/locations/global/deployments/d",
    "projects/p/locations/l/instances/50% off?#é",
    "https://example.com/deployments/d?x=1",
)
RESPONSES = (
    _anys.packed_bytes(empty_pb2.Empty()),
    _anys.packed_bytes(wrappers_pb2.StringValue(value="x")),
)
PARTIAL = operation_metadata_pb2.OperationMetadata(
    partial_failures=[status_pb2.Status(code=Code.NOT_FOUND, message="one is gone")]
).SerializeToString()

creations = st.fixed_dictionaries(
    {
        "parent": st.sampled_from(("", "projects/p", "projects/p/locations/global")),
        "target": st.sampled_from(TARGETS),
        "request_id": st.sampled_from(("", "r")),
        "caller": st.sampled_from(("", "user@example.com")),
        "verb": st.sampled_from(("", "create")),
        "api_version": st.sampled_from(("", "v1")),
        "max_attempts": st.integers(1, 3),
        "pausable": st.booleans(),
        "timeout": st.sampled_from((0, 0, 20 * SECOND)),
        "schedule_time": st.sampled_from((0, 0, NOW + 5 * SECOND)),
    }
)
steps_in_time = st.sampled_from((0, 1, 1_000, SECOND, LEASE, -SECOND))
errors = st.builds(
    lambda code, message, details: to_status(
        LroError(message, code=code, domain="d.example", details=details)
    ),
    st.sampled_from([code for code in Code if code is not Code.OK]),
    st.sampled_from(("it broke", "", "\N{SNOWMAN}")),
    st.sampled_from(
        (
            [],
            [error_details_pb2.Help(links=[error_details_pb2.Help.Link(url="https://x.example")])],
            [error_details_pb2.ResourceInfo(resource_name="r")],
        )
    ),
)


def create(**values: object) -> Record:
    chosen = {
        "parent": "projects/p",
        "operation_id": "op-1",
        "method": "/a.B/C",
        "request": b"request",
        "metadata_type": "lro.v1.OperationMetadata",
        "now": NOW,
    }
    return publication.create(**{**chosen, **values})


@st.composite
def histories(draw: st.DrawFn, *, batch: bool = False) -> list[Record]:
    """The records of one operation from its start on; a batch begins in the first attempt."""
    one = create(**draw(creations))
    records, now = [one], NOW
    if batch:
        one = events.Claim(LEASE, waited_for=one.scheduled_time).apply(one, now)
        begun = BatchStates.begin(["i/b", "i/a"]).serialized()
        one = events.SaveBatch(events.Report(one.attempt), begun, b"").apply(one, now)
        records.append(one)
    for _ in range(draw(st.integers(0, 30))):
        if one.done:
            break
        now += draw(steps_in_time)
        event = draw(next_events(one))
        try:
            one = event.apply(one, now)
        except LroError:
            continue
        records.append(one)
    return records


@st.composite
def next_events(draw: st.DrawFn, one: Record) -> events.Event:
    """An event that may happen to this record; some cannot, and are refused."""
    report = events.Report(
        one.attempt,
        draw(st.none() | st.integers(0, 100)),
        draw(st.sampled_from((None, "", "half"))),
        draw(st.sampled_from((None, None, PARTIAL))),
    )
    error = draw(errors)
    others: list[events.Event] = [
        report,
        events.SetUpdating(report, updating=True),
        events.SetUpdating(report, updating=False),
        events.RetryLater(report, error.SerializeToString(), 0),
        events.Release(report),
        events.Cancel(),
        events.Pause(),
        events.Resume(),
        events.Terminate("stuck"),
        events.TimePassed(),
    ]
    kinds: dict[str, list[events.Event]] = {
        "claim": [events.Claim(LEASE), events.Claim(LEASE, waited_for=one.scheduled_time)],
        "others": others,
        "ends": list(_ends(draw, one, report, error)),
        "batch": list(_batch_steps(draw, one, report, error)),
    }
    is_ready = one.batch and _is_ready(BatchStates(one.batch))
    weights = {"claim": 3, "others": 4, "ends": 9 if is_ready else 1, "batch": 6}
    names = [name for name, weight in weights.items() for _ in range(weight) if kinds[name]]
    return draw(st.sampled_from(kinds[draw(st.sampled_from(names))]))


def _ends(draw, one: Record, report: events.Report, error: status_pb2.Status):
    if _is_ready(BatchStates(one.batch)):  # as is what is no batch
        partial = bool((report.handler_metadata or one.handler_metadata) and not one.batch)
        yield events.Succeed(report, draw(st.sampled_from(RESPONSES)), partial)
    first = one.batch_error or error.SerializeToString()
    yield events.Fail(report, first)
    if one.deadline_time:
        yield events.Expire(report)


def _is_ready(batch: BatchStates) -> bool:
    return batch.among(frozenset({Status.READY})) == batch.targets


def _batch_steps(draw, one: Record, report: events.Report, error: status_pb2.Status):
    """A batch goes on by one step of one instance; the bad ones come less often."""
    if not one.batch or one.done:
        return
    batch = BatchStates(one.batch)
    steps = [
        (target, following)
        for target in batch.targets
        for following in sorted(BATCH_INSTANCE.states[batch.of(target)].next)
        for _ in range(3 if following in (Status.CREATING, Status.READY) else 1)
    ]
    if steps:
        target, following = draw(st.sampled_from(steps))
        failed = following == Status.FAILED
        batch.move(target, following, error=error if failed else None)
        first = error.SerializeToString() if failed else b""
        yield events.SaveBatch(report, batch.serialized(), first)
