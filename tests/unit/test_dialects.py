"""Each dialect by example: what it shows, what it loses, and what it refuses."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
from google.longrunning import operations_pb2
from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    field_mask_pb2,
    json_format,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from operation_histories import LEASE, NOW, PARTIAL, SECOND, create
from pages import Page

from lro.v1 import (
    deployment_operation_pb2,
    operation_metadata_pb2,
    operation_status_pb2,
    state_pb2,
)
from lro_grpc import _anys
from lro_grpc._dialects import (
    alloydb,
    azure_face,
    canonical_json,
    deployment_manager,
    http_status,
    longrunning,
    vertex_ai,
)
from lro_grpc._dialects.losses import CARRIED, lost_in
from lro_grpc._dialects.registry import DIALECTS, to_json
from lro_grpc._dialects.view import OperationView
from lro_grpc._errors import Code, InvalidArgumentError, LroError, to_status
from lro_grpc._operation.batch_states import BatchStates, Status
from lro_grpc._operation.events import (
    Cancel,
    Claim,
    Event,
    Expire,
    Fail,
    Pause,
    Release,
    Report,
    SaveBatch,
    SetUpdating,
    Succeed,
)
from lro_grpc._operation.record import Record
from lro_grpc._operation.states import (
    CANCELLED,
    CANCELLING,
    EXPIRED,
    FAILED,
    PARTIALLY_SUCCEEDED,
    PAUSED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
)

DEPLOYMENT = "projects/p/locations/global/deployments/d"
ERROR = to_status(
    LroError(
        "no such image",
        code=Code.NOT_FOUND,
        reason="NO_IMAGE",
        domain="d.example",
        metadata={"image": "i"},
        details=[
            error_details_pb2.Help(links=[error_details_pb2.Help.Link(url="https://x.example")]),
            error_details_pb2.LocalizedMessage(locale="de", message="kein Abbild"),
        ],
    )
)
WITH_OTHER_DETAILS = to_status(
    LroError(
        "no such image",
        code=Code.NOT_FOUND,
        details=[error_details_pb2.ResourceInfo(resource_name="i")],
    )
)
TEXT = _anys.packed_bytes(wrappers_pb2.StringValue(value="x"))
CANCELLED_ERROR = to_status(LroError("enough", code=Code.CANCELLED))


def started(**values: object) -> Record:
    chosen = {
        "parent": "projects/p/locations/global",
        "target": DEPLOYMENT,
        "verb": "insert",
        "api_version": "v1",
        "caller": "user@example.com",
        "request_id": "r",
        "timeout": 20 * SECOND,
        "pausable": True,
    }
    return create(**{**chosen, **values})


def after(*events: Event, start: Record | None = None) -> Record:
    one = start or started()
    for second, event in enumerate(events, start=1):
        one = event.apply(one, NOW + second * SECOND)
    return one


def view(record: Record) -> OperationView:
    return OperationView.of_record(record)


HALF = Report(1, 50, "half")
QUEUED_ONE = started()
RUNNING_ONE = after(Claim(LEASE), HALF)
SUCCEEDED_ONE = after(Claim(LEASE), HALF, Succeed(Report(1), TEXT))
FAILED_ONE = after(Claim(LEASE), HALF, Fail(Report(1), ERROR.SerializeToString()))
CANCELLED_ONE = after(Claim(LEASE), Cancel(), Fail(HALF, CANCELLED_ERROR.SerializeToString()))
EXPIRED_ONE = after(Claim(LEASE), Expire(HALF))


def batch(*states: Any, first_error: status_pb2.Status = ERROR) -> bytes:
    instances = BatchStates.begin([f"instances/i{number}" for number in range(1, len(states) + 1)])
    ways = {
        Status.PENDING_CREATE: (),
        Status.READY: (Status.CREATING, Status.READY),
        Status.ROLLED_BACK: (
            *(Status.CREATING, Status.READY),
            *(Status.DELETING, Status.ROLLED_BACK),
        ),
        Status.FAILED: (Status.FAILED,),
    }
    errors = iter([first_error, *[status_pb2.Status(code=10, message="not begun")] * len(states)])
    for target, state in zip(instances.targets, states, strict=True):
        if ways[state]:
            error = next(errors) if state == Status.FAILED else None
            instances.move(target, *ways[state], error=error)
    return instances.serialized()


FAILED_BATCH = after(
    Claim(LEASE),
    SaveBatch(HALF, batch(*[Status.ROLLED_BACK] * 2, *[Status.FAILED] * 2), b""),
    Fail(Report(1), ERROR.SerializeToString()),
)
"""The documented example of AlloyDB: four instances, of which the third fails."""


# What is lost.

RICH: dict[str, list[Record]] = {
    name: [
        RUNNING_ONE,
        SUCCEEDED_ONE,
        FAILED_ONE,
        CANCELLED_ONE,
        EXPIRED_ONE,
        after(Pause()),
        after(Claim(LEASE), Pause()),
        after(Claim(LEASE), Cancel(), Succeed(Report(1), TEXT)),
        after(Claim(LEASE), SetUpdating(HALF, updating=True)),
        after(Claim(LEASE), Fail(HALF, WITH_OTHER_DETAILS.SerializeToString())),
        FAILED_BATCH,
        started(parent="projects/p/global", target="projects/p/global/deployments/d"),
        started(schedule_time=NOW + 9 * SECOND),
    ]
    for name in DIALECTS
    if name != "alloydb"
}
PARTIAL_ONE = after(Claim(LEASE), Succeed(Report(1, handler_metadata=PARTIAL), TEXT, partial=True))
WITH_DETAILS_OF_PARTS = operation_metadata_pb2.OperationMetadata(partial_failures=[ERROR])
for records in RICH.values():
    own = WITH_DETAILS_OF_PARTS.SerializeToString()
    records.append(
        after(Claim(LEASE), Succeed(Report(1, handler_metadata=own), TEXT, partial=True))
    )
RICH["alloydb"] = [
    after(
        Claim(LEASE, waited_for=NOW + 9 * SECOND),
        SaveBatch(HALF, batch(Status.READY), b""),
        start=started(schedule_time=NOW + 9 * SECOND),
    ),
    FAILED_BATCH,
    after(Claim(LEASE), SaveBatch(HALF, batch(Status.READY), b""), Pause()),
    after(
        Claim(LEASE),
        SaveBatch(Report(1, handler_metadata=PARTIAL), batch(Status.READY), b""),
        SetUpdating(HALF, updating=True),
    ),
]


@pytest.mark.parametrize("name", DIALECTS)
def test_what_is_listed_as_lost_is_lost(name: str) -> None:
    """And nothing else: test_dialects_properties.py tries that of all that can happen."""
    differing = set()
    for record in RICH[name]:
        known, dialect = view(record), DIALECTS[name]
        back = OperationView.of_operation(dialect.to_operation(dialect.from_view(known)))
        differing |= {
            field
            for field in OperationView.__dataclass_fields__
            if getattr(known, field) != getattr(back, field)
        }
    assert differing == set(lost_in(name))


# AlloyDB.


def test_a_batch_that_fails_shows_as_documented() -> None:
    shown = alloydb.to_json(alloydb.from_view(view(FAILED_BATCH)))
    statuses = shown["metadata"]["batchCreateInstancesMetadata"]["instanceStatuses"]
    assert [(target, status["state"]) for target, status in statuses.items()] == [
        ("instances/i1", "ROLLED_BACK"),
        ("instances/i2", "ROLLED_BACK"),
        ("instances/i3", "FAILED"),
        ("instances/i4", "FAILED"),
    ]
    assert statuses["instances/i3"]["error"]["code"] == Code.NOT_FOUND
    assert statuses["instances/i3"]["errorMsg"] == "no such image"
    assert shown["metadata"]["statusMessage"] == "half"
    assert shown["done"]
    assert shown["error"]["message"] == "no such image"


def test_the_state_of_a_batch_follows_from_its_instances() -> None:
    for states, state in (([Status.PENDING_CREATE] * 2, QUEUED), ([Status.READY] * 2, RUNNING)):
        one = after(Claim(LEASE), SaveBatch(HALF, batch(*states), b""))
        back = alloydb.to_operation(alloydb.from_view(view(one)))
        assert OperationView.of_operation(back).state == state
    one = after(Claim(LEASE), SaveBatch(HALF, batch(Status.READY), b""), Cancel())
    back = alloydb.to_operation(alloydb.from_view(view(one)))
    assert OperationView.of_operation(back).state == CANCELLING


def test_what_is_no_batch_is_not_shown_as_one() -> None:
    with pytest.raises(LroError, match=f"{RUNNING_ONE.name} cannot be shown as alloydb") as caught:
        alloydb.from_view(view(RUNNING_ONE))
    assert caught.value.code == Code.FAILED_PRECONDITION
    assert caught.value.reason == "DIALECT_DOES_NOT_APPLY"


@pytest.mark.parametrize(
    "own",
    [
        any_pb2.Any(type_url="type.googleapis.com/google.protobuf.Empty"),
        any_pb2.Any(type_url=f"type.googleapis.com/{alloydb.METADATA_TYPE}", value=b"\xff"),
        any_pb2.Any(),
    ],
)
def test_metadata_of_others_is_no_batch(own: any_pb2.Any) -> None:
    with pytest.raises(InvalidArgumentError, match="the metadata of operations/x") as caught:
        alloydb.to_operation(operations_pb2.Operation(name="operations/x", metadata=own))
    what = (
        "is broken" if own.value else f"is a {own.TypeName()}; expected a {alloydb.METADATA_TYPE}"
    )
    assert caught.value.message == f"the metadata of operations/x {what}"
    if not own.value:
        assert caught.value.metadata == {"operation": "operations/x", "type": own.TypeName()}


# Vertex AI.


def test_metadata_with_several_generic_ones_has_none_for_the_operation() -> None:
    several = custom_message({"generic_metadata": "google.rpc.ErrorInfo*", "verb": "string"})()
    vertex_ai.fill_metadata(several, replace(view(RUNNING_ONE), verb="create"))
    assert several == type(several)(verb="create")


def test_a_job_shows_as_documented() -> None:
    name = "projects/p/locations/l/customJobs/1"
    assert vertex_ai.from_view(view(QUEUED_ONE), name=name) == {
        "name": name,
        "state": "JOB_STATE_QUEUED",
        "createTime": "2027-01-15T08:00:00Z",
        "updateTime": "2027-01-15T08:00:00Z",
    }
    failed = vertex_ai.from_view(view(FAILED_ONE))
    assert failed == {
        "name": FAILED_ONE.name,
        "state": "JOB_STATE_FAILED",
        "createTime": "2027-01-15T08:00:00Z",
        "startTime": "2027-01-15T08:00:01Z",
        "endTime": "2027-01-15T08:00:03Z",
        "updateTime": "2027-01-15T08:00:03Z",
        "error": json_format.MessageToDict(ERROR),
    }
    partial = vertex_ai.from_view(view(PARTIAL_ONE))
    assert partial["partialFailures"] == [{"code": 5, "message": "one is gone"}]


def test_a_job_of_any_state_comes_back() -> None:
    for number, state in state_pb2.JobState.items():
        if state:
            back = vertex_ai.to_operation({"name": "operations/x", "state": number})
            known = OperationView.of_operation(back)
            assert known.state == state
            assert back.done == (back.WhichOneof("result") is not None)


def test_a_job_of_others_is_what_its_state_says() -> None:
    error = {"code": 5, "message": "m"}
    running = vertex_ai.to_operation({"state": "JOB_STATE_RUNNING", "error": error})
    assert running.WhichOneof("result") is None
    succeeded = vertex_ai.to_operation({"state": "JOB_STATE_SUCCEEDED", "error": error})
    assert succeeded.WhichOneof("result") == "response"
    cancelled = vertex_ai.to_operation({"state": "JOB_STATE_CANCELLED", "error": error})
    assert cancelled.error == status_pb2.Status(code=Code.CANCELLED, message="m")
    failed = vertex_ai.to_operation({"state": "JOB_STATE_FAILED"})
    assert failed.error == status_pb2.Status(code=Code.UNKNOWN)


def test_an_error_of_another_type_is_the_services_own() -> None:
    job = custom_message({"error": "string", "partial_failures": "google.protobuf.Any*"})
    own = job(error="mine")
    own.partial_failures.add(type_url="x")
    before = own.SerializeToString()
    for record in (FAILED_ONE, PARTIAL_ONE, QUEUED_ONE):
        vertex_ai.fill(own, OperationView.of_record(record))
        assert own.SerializeToString() == before


def test_a_message_of_the_services_own_is_filled_and_cleared() -> None:
    """Any message will do; this one has all of the fields but ``error``."""
    job = operation_metadata_pb2.OperationMetadata()
    vertex_ai.fill(job, OperationView.of_record(PARTIAL_ONE))
    assert job.state == PARTIALLY_SUCCEEDED
    assert [failure.message for failure in job.partial_failures] == ["one is gone"]
    assert job.end_time.ToMicroseconds() == PARTIAL_ONE.end_time
    vertex_ai.fill(job, OperationView.of_record(QUEUED_ONE))
    assert not job.partial_failures
    assert not job.HasField("end_time")
    operation = operations_pb2.Operation()
    vertex_ai.fill(operation, OperationView.of_record(FAILED_ONE))
    assert operation == operations_pb2.Operation(error=ERROR)
    vertex_ai.fill(operation, OperationView.of_record(EXPIRED_ONE))
    assert operation == operations_pb2.Operation()


STRUCT = {"@type": "type.googleapis.com/google.protobuf.Struct"}


def nested(depth: int) -> dict[str, Any]:
    """An object in an object, and so on."""
    found: dict[str, Any] = {}
    for _ in range(depth):
        found = {"a": found}
    return found


@pytest.mark.parametrize(
    "job",
    [
        {},
        {"state": "JOB_STATE_UNSPECIFIED"},
        {"state": 57},
        {"state": "EXPIRED"},
        {"state": []},
        {"state": "JOB_STATE_RUNNING", "createTime": "today"},
        {"state": "JOB_STATE_FAILED", "error": "it broke"},
        {"state": "JOB_STATE_FAILED", "error": {"details": [{"@type": "x.example/no.Such"}]}},
        {"state": "JOB_STATE_FAILED", "error": {"details": [{"@type": 5}]}},
        {"state": 1e999},
        {"state": "JOB_STATE_FAILED", "error": {"code": 1e999}},
        {"state": "JOB_STATE_FAILED", "error": {"details": [STRUCT | {"value": {"\ud800": 1}}]}},
        {"state": "JOB_STATE_FAILED", "error": {"details": [STRUCT | {"value": nested(900)}]}},
    ],
)
def test_what_is_no_job_is_refused_and_left_as_it_was(job: dict[str, Any]) -> None:
    before = json.dumps(job)
    with pytest.raises(InvalidArgumentError, match="job"):
        vertex_ai.to_operation(job)
    assert json.dumps(job) == before


@pytest.mark.parametrize("state", ["RUNNING", "CANCELLING", "CANCELLED"])
def test_a_job_that_is_being_cancelled_was_asked_to(state: str) -> None:
    operation = vertex_ai.to_operation({"state": f"JOB_STATE_{state}"}, name="operations/x")
    assert OperationView.of_operation(operation).cancel_requested is (state != "RUNNING")


# Azure Face.


def test_an_operation_status_shows_as_documented() -> None:
    assert azure_face.to_json(azure_face.from_view(view(QUEUED_ONE))) == {
        "status": "notstarted",
        "createdTime": "2027-01-15T08:00:00.0000000Z",
        "lastActionTime": "2027-01-15T08:00:00.0000000Z",
    }
    assert azure_face.to_json(azure_face.from_view(view(SUCCEEDED_ONE))) == {
        "status": "succeeded",
        "createdTime": "2027-01-15T08:00:00.0000000Z",
        "lastActionTime": "2027-01-15T08:00:03.0000000Z",
        "resourceLocation": f"/{DEPLOYMENT}",
    }
    failed = azure_face.to_json(azure_face.from_view(view(FAILED_ONE)))
    assert failed["message"] == "no such image"
    wordless = after(Claim(LEASE), Fail(HALF, status_pb2.Status(code=5).SerializeToString()))
    assert azure_face.from_view(view(wordless)).message == "NOT_FOUND"


def test_the_words_of_what_waits_again_do_not_go_back() -> None:
    assert azure_face.from_view(view(after(Pause()))).status == operation_status_pb2.notstarted
    for again in (
        after(Claim(LEASE), Release(Report(1))),
        after(Claim(LEASE), Pause(), Release(Report(1))),
        after(Claim(LEASE), Cancel()),
    ):
        assert azure_face.from_view(view(again)).status == operation_status_pb2.running


def test_the_documented_operation_status_comes_back() -> None:
    status = operation_status_pb2.OperationStatus(
        status="succeeded",
        created_time="2018-12-25T11:41:02.2331413Z",
        last_action_time="2018-12-25T11:51:27.8705696Z",
        resource_location="/snapshots/e58b3f08-1e8b-4165-81df-aa9858f233dc",
    )
    operation = azure_face.to_operation(status, name="operations/x")
    known = OperationView.of_operation(operation)
    assert (known.name, known.state) == ("operations/x", SUCCEEDED)
    assert known.target == "snapshots/e58b3f08-1e8b-4165-81df-aa9858f233dc"
    again = azure_face.from_view(known)
    status.created_time = "2018-12-25T11:41:02.2331410Z"  # a Timestamp of ours has microseconds
    status.last_action_time = "2018-12-25T11:51:27.8705690Z"
    assert again == status


@pytest.mark.parametrize("public_url", ["", "https://x.example", "https://x.example/api/"])
@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("snapshots/s", "/snapshots/s"),
        ("snapshots/a b-é", "/snapshots/a%20b-%C3%A9"),
        ("", None),
        ("https://elsewhere.example/s", "https://elsewhere.example/s"),
    ],
)
def test_the_location_of_a_resource_is_a_path_or_a_link_and_comes_back(
    public_url: str, target: str, path: str | None
) -> None:
    record = after(Claim(LEASE), Succeed(HALF, TEXT), start=started(target=target))
    status = azure_face.from_view(view(record), public_url=public_url)
    expected = path and (path if "://" in path else public_url.rstrip("/") + path)
    assert azure_face.to_json(status).get("resourceLocation") == expected
    operation = azure_face.to_operation(status, public_url=public_url)
    assert OperationView.of_operation(operation).target == target


def test_a_location_at_another_server_whose_name_begins_alike_is_its_own_target() -> None:
    elsewhere = "https://x.example.org/snapshots/s"
    status = operation_status_pb2.OperationStatus(
        status="succeeded", created_time="2018-12-25T11:41:02Z", resource_location=elsewhere
    )
    operation = azure_face.to_operation(status, public_url="https://x.example")
    assert OperationView.of_operation(operation).target == elsewhere


@pytest.mark.parametrize(
    ("word", "result"),
    [("notstarted", None), ("running", None), ("succeeded", "response"), ("failed", "error")],
)
def test_a_status_of_others_has_the_result_that_its_word_says(
    word: str, result: str | None
) -> None:
    status = operation_status_pb2.OperationStatus(
        status=word, created_time="2018-12-25T11:41:02Z", message="no such list"
    )
    operation = azure_face.to_operation(status)
    assert operation.WhichOneof("result") == result
    assert operation.done == (result is not None)
    assert operation.error == status_pb2.Status(
        **({"code": 2, "message": "no such list"} if result == "error" else {})
    )
    assert operation.response.TypeName() == (
        "google.protobuf.Empty" if result == "response" else ""
    )


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"status": 0}, "0 is no status"),
        ({"status": 9}, "expected one of notstarted, running, succeeded, failed"),
        ({"status": 1, "created_time": "today"}, "created_time is 'today'"),
        ({"status": 1, "last_action_time": "2018-12-25T11:41:02"}, "last_action_time is"),
        ({"status": 1, "created_time": "2018-12-25T11:41:02.1234567890Z"}, "created_time is"),
    ],
)
def test_what_is_no_operation_status_is_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidArgumentError, match=says) as caught:
        azure_face.to_operation(operation_status_pb2.OperationStatus(**values))
    if "_time is" in says:
        assert caught.value.metadata == {"field": says.partition(" ")[0]}


def test_a_status_needs_the_time_of_the_creation() -> None:
    operation = operations_pb2.Operation(name="operations/x")
    with pytest.raises(LroError, match="operations/x cannot be shown as azure_face") as caught:
        to_json(operation, "azure_face")
    assert caught.value.reason == "DIALECT_DOES_NOT_APPLY"


# Deployment Manager.


def test_a_deployment_operation_shows_as_documented() -> None:
    made = deployment_manager.from_view(view(SUCCEEDED_ONE), public_url="https://x.example/")
    base = "https://x.example/deploymentmanager/v2/projects/p/global"
    digests = [
        hashlib.sha256(name.encode()).hexdigest()[:16] for name in (SUCCEEDED_ONE.name, DEPLOYMENT)
    ]
    assert deployment_manager.to_json(made) == {
        "kind": "deploymentmanager#operation",
        "id": str(int(digests[0], 16) // 2),
        "name": "op-1",
        "operationType": "insert",
        "targetLink": f"{base}/deployments/d",
        "targetId": str(int(digests[1], 16) // 2),
        "status": "DONE",
        "statusMessage": "half",
        "user": "user@example.com",
        "progress": 100,
        "insertTime": "2027-01-15T08:00:00.000000+00:00",
        "startTime": "2027-01-15T08:00:01.000000+00:00",
        "endTime": "2027-01-15T08:00:03.000000+00:00",
        "clientOperationId": "r",
        "selfLink": f"{base}/operations/op-1",
    }


@pytest.mark.parametrize(
    ("target", "link"),
    [
        (DEPLOYMENT, "/deploymentmanager/v2/projects/p/global/deployments/d"),
        ("projects/p/things/50% off?", "/deploymentmanager/v2/projects/p/things/50%25%20off%3F"),
        ("https://example.com/d?x=1", "https://example.com/d?x=1"),
        ("", ""),
    ],
)
def test_a_target_is_a_link_and_comes_back(target: str, link: str) -> None:
    made = deployment_manager.from_view(view(started(target=target)))
    assert made.target_link == link
    assert (made.target_id != 0) == (target != "")
    assert OperationView.of_operation(deployment_manager.to_operation(made)).target == target


def test_no_progress_shows_as_0() -> None:
    shown = deployment_manager.to_json(deployment_manager.from_view(view(QUEUED_ONE)))
    assert (shown["status"], shown["progress"]) == ("PENDING", 0)


def test_a_failure_shows_as_documented() -> None:
    shown = deployment_manager.to_json(deployment_manager.from_view(view(FAILED_ONE)))
    assert shown["error"] == {
        "errors": [
            {
                "code": "NOT_FOUND",
                "message": "no such image",
                "errorDetails": [
                    {
                        "errorInfo": {
                            "reason": "NO_IMAGE",
                            "domain": "d.example",
                            "metadatas": {"image": "i"},
                        }
                    },
                    {"help": {"links": [{"url": "https://x.example"}]}},
                    {"localizedMessage": {"locale": "de", "message": "kein Abbild"}},
                ],
            }
        ]
    }
    assert (shown["httpErrorStatusCode"], shown["httpErrorMessage"]) == (404, "NOT FOUND")
    cancelled = deployment_manager.from_view(view(CANCELLED_ONE))
    assert cancelled.error.errors[0].code == "CANCELLED"
    assert cancelled.http_error_status_code == 499
    assert deployment_manager.from_view(view(EXPIRED_ONE)).http_error_status_code == 504


def test_what_a_failure_has_for_whoever_mends_it_comes_back() -> None:
    debug = error_details_pb2.DebugInfo(stack_entries=["a.py:1", "b.py:2"], detail="no disk")
    error = to_status(LroError("it broke", code=Code.INTERNAL, details=[debug]))
    made = deployment_manager.from_view(view(after(Claim(LEASE), fail_with(error))))
    (entry,) = deployment_manager.to_json(made)["error"]["errors"]
    assert entry["debugInfo"] == {"stackEntries": ["a.py:1", "b.py:2"], "detail": "no disk"}
    assert deployment_manager.to_operation(made).error == error
    assert "debugInfo" not in json.dumps(
        deployment_manager.to_json(deployment_manager.from_view(view(FAILED_ONE)))
    )


def fail_with(error: status_pb2.Status) -> Fail:
    return Fail(HALF, error.SerializeToString())


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
def test_every_code_comes_back(code: Code) -> None:
    """HTTP has one status for several codes; the name of the code makes the difference."""
    error = to_status(LroError("it broke", code=code))
    one = after(Claim(LEASE), Fail(HALF, error.SerializeToString()))
    made = deployment_manager.from_view(view(one))
    assert deployment_manager.to_operation(made).error == error


def test_each_instance_that_failed_is_an_error() -> None:
    made = deployment_manager.from_view(view(FAILED_BATCH))
    assert [(one.location, one.code, one.message) for one in made.error.errors] == [
        ("instances/i3", "NOT_FOUND", "no such image"),
        ("instances/i4", "ABORTED", "not begun"),
    ]
    *_, other = deployment_manager.to_operation(made).error.details
    failure = status_pb2.Status()
    assert other.Unpack(failure)
    assert (failure.code, failure.message) == (Code.ABORTED, "not begun")


def test_failures_of_parts_are_warnings() -> None:
    shown = deployment_manager.to_json(deployment_manager.from_view(view(PARTIAL_ONE)))
    assert shown["warnings"] == [
        {
            "code": "PARTIAL_SUCCESS",
            "message": "one is gone",
            "data": [{"key": "code", "value": "NOT_FOUND"}],
        }
    ]
    assert "error" not in shown


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"errors": [{"code": "QUOTA_EXCEEDED", "message": "m"}]}, (Code.UNKNOWN, "m")),
        ({"errors": [{"code": "", "message": "m"}], "http": 404}, (Code.NOT_FOUND, "m")),
        ({"errors": [{"code": "OK", "message": "m"}], "http": 409}, (Code.ALREADY_EXISTS, "m")),
        ({"errors": [{"code": "CONFLICT"}], "http": 418}, (Code.UNKNOWN, "")),
        ({"errors": [{"code": "UNKNOWN"}], "http": 404}, (Code.UNKNOWN, "")),
    ],
)
def test_an_error_of_others_comes_back_by_its_http_status(
    values: dict[str, Any], error: tuple[Code, str]
) -> None:
    operation = deployment_operation_pb2.DeploymentOperation(
        status="DONE", error={"errors": values["errors"]}, http_error_status_code=values.get("http")
    )
    back = deployment_manager.to_operation(operation)
    assert (back.error.code, back.error.message) == error


def test_an_empty_error_is_none() -> None:
    operation = deployment_operation_pb2.DeploymentOperation(status="DONE", error={})
    back = deployment_manager.to_operation(operation)
    assert back.WhichOneof("result") == "response"
    assert OperationView.of_operation(back).state == SUCCEEDED


def test_the_documented_deployment_operation_comes_back() -> None:
    base = "https://www.googleapis.com/deploymentmanager/v2/projects/example-project/global"
    operation = deployment_operation_pb2.DeploymentOperation(
        name="operation-1",
        operation_type="insert",
        target_link=f"{base}/deployments/wordpress-1",
        status="DONE",
        progress=100,
        insert_time="2019-04-29T11:08:32.190-07:00",
        start_time="2019-04-29T11:08:32.200-07:00",
        end_time="2019-04-29T11:09:38.176-07:00",
        self_link=f"{base}/operations/operation-1",
    )
    known = OperationView.of_operation(deployment_manager.to_operation(operation))
    assert known.name == "projects/example-project/locations/global/operations/operation-1"
    assert known.target == "projects/example-project/locations/global/deployments/wordpress-1"
    assert (known.verb, known.state, known.progress_percent) == ("insert", SUCCEEDED, 100)
    assert known.end_time - known.create_time == 65_986_000


def test_without_links_a_name_is_all_there_is() -> None:
    operation = deployment_operation_pb2.DeploymentOperation(name="op-1", status="PENDING")
    assert deployment_manager.to_operation(operation).name == "operations/op-1"


def test_what_has_no_status_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="expected one of PENDING, RUNNING, DONE"):
        deployment_manager.to_operation(deployment_operation_pb2.DeploymentOperation(name="op-1"))


def test_a_project_has_its_operations_under_its_global_location() -> None:
    assert deployment_manager.parent_of("p") == SUCCEEDED_ONE.parent


# Operations of others.


def test_an_operation_of_unknown_metadata_shows_its_result() -> None:
    unknown = any_pb2.Any(type_url="type.googleapis.com/no.Such", value=b"\xff")
    for values, state in (
        ({}, RUNNING),
        ({"done": True, "response": any_pb2.Any()}, SUCCEEDED),
        ({"done": True}, SUCCEEDED),
        ({"done": True, "error": status_pb2.Status(code=1)}, CANCELLED),
        ({"done": True, "error": status_pb2.Status(code=4)}, FAILED),
        ({"done": True, "error": status_pb2.Status()}, FAILED),
    ):
        operation = operations_pb2.Operation(name="operations/x", metadata=unknown, **values)
        known = OperationView.of_operation(operation)
        assert (known.state, known.progress_percent) == (state, None)
        shown = to_json(operation, "deployment_manager")
        assert shown["status"] == ("DONE" if values else "RUNNING")
        assert longrunning.to_json(operation)["metadata"] == {
            "@type": "type.googleapis.com/no.Such",
            "value": "/w==",
        }


def test_an_error_without_a_code_is_a_failure_in_every_dialect() -> None:
    for metadata in (
        operation_metadata_pb2.OperationMetadata(create_time={"seconds": 1}),
        operation_metadata_pb2.OperationMetadata(create_time={"seconds": 1}, state=SUCCEEDED),
        operation_metadata_pb2.OperationMetadata(
            create_time={"seconds": 1}, partial_failures=[ERROR]
        ),
    ):
        operation = operations_pb2.Operation(name="operations/x", done=True, error={"message": "m"})
        operation.metadata.Pack(metadata)
        assert OperationView.of_operation(operation).state == FAILED
        job = to_json(operation, "vertex_ai")
        assert (job["state"], job["error"]) == ("JOB_STATE_FAILED", {"message": "m"})
        status = to_json(operation, "azure_face")
        assert (status["status"], status["message"]) == ("failed", "m")
        deployment = to_json(operation, "deployment_manager")
        assert deployment["error"]["errors"] == [{"code": "UNKNOWN", "message": "m"}]
        assert deployment["httpErrorStatusCode"] == 500
        assert longrunning.error_body(operation.error)["error"]["status"] == "UNKNOWN"


def test_an_error_that_came_with_200_is_a_failure_all_the_same() -> None:
    operation = deployment_operation_pb2.DeploymentOperation(
        status="DONE", error={"errors": [{"message": "m"}]}, http_error_status_code=200
    )
    back = deployment_manager.to_operation(operation)
    assert back.error.code == Code.UNKNOWN
    assert OperationView.of_operation(back).state == FAILED


@pytest.mark.parametrize(
    ("values", "done", "state"),
    [
        ({}, False, QUEUED),
        ({"state": PAUSED}, False, PAUSED),
        ({"start_time": "2018-12-25T11:41:02Z"}, False, RUNNING),
        ({"cancel_requested": True}, False, CANCELLING),
        ({"state": RUNNING}, True, SUCCEEDED),
        ({"state": SUCCEEDED}, False, QUEUED),
        ({"state": 57}, False, QUEUED),
        ({"partial_failures": [ERROR]}, True, PARTIALLY_SUCCEEDED),
        ({"state": EXPIRED}, True, EXPIRED),
    ],
)
def test_a_state_that_cannot_be_follows_from_the_rest(
    values: dict[str, Any], done: bool, state: int
) -> None:
    metadata = operation_metadata_pb2.OperationMetadata()
    json_values = {key: value for key, value in values.items() if key == "start_time"}
    json_format.ParseDict(json_values, metadata)
    metadata.MergeFrom(
        operation_metadata_pb2.OperationMetadata(
            **{key: value for key, value in values.items() if key not in json_values}
        )
    )
    operation = operations_pb2.Operation(name="operations/x", done=done)
    operation.metadata.Pack(metadata)
    assert OperationView.of_operation(operation).state == state


def test_a_result_before_the_end_is_none() -> None:
    operation = operations_pb2.Operation(name="operations/x", error=status_pb2.Status())
    assert OperationView.of_operation(operation).error is None


def test_a_time_that_is_none_is_not_known() -> None:
    metadata = operation_metadata_pb2.OperationMetadata()
    metadata.create_time.seconds = 10**15
    operation = operations_pb2.Operation(name="operations/x")
    operation.metadata.Pack(metadata)
    assert OperationView.of_operation(operation).create_time == 0
    shown = longrunning.to_json(operation)["metadata"]["createTime"]
    assert shown == as_bytes(metadata.create_time)


# By name.


def test_each_dialect_has_the_name_of_its_module() -> None:
    modules = (longrunning, alloydb, vertex_ai, azure_face, deployment_manager)
    assert list(DIALECTS) == [one.__name__.rpartition(".")[2] for one in modules]
    operation = longrunning.from_view(view(FAILED_BATCH))
    shown = {name: to_json(operation, name) for name in DIALECTS}
    assert shown["longrunning"] == json_format.MessageToDict(operation)
    assert shown["vertex_ai"] == vertex_ai.from_view(view(FAILED_BATCH))
    assert shown["azure_face"]["status"] == "failed"
    assert shown["deployment_manager"]["status"] == "DONE"
    assert "user" not in shown["deployment_manager"]  # only its server knows
    batch = alloydb.to_json(alloydb.from_view(view(FAILED_BATCH)))
    assert shown["alloydb"] == batch


def test_what_an_operation_without_metadata_does_not_say_is_unset() -> None:
    bare = OperationView.of_operation(operations_pb2.Operation(name="operations/x"))
    assert bare == OperationView(name="operations/x", state=bare.state)


def test_there_is_no_dialect_of_another_name() -> None:
    with pytest.raises(
        InvalidArgumentError, match="expected one of longrunning, alloydb"
    ) as caught:
        to_json(operations_pb2.Operation(), "xml")
    assert caught.value.metadata == {"dialect": "xml"}


def test_what_is_lost_is_said_of_dialects_that_there_are() -> None:
    assert {dialect for carried in CARRIED.values() for dialect in carried} == {*DIALECTS}
    assert {*CARRIED} <= {*OperationView.__dataclass_fields__}


def test_the_code_in_the_document_runs() -> None:
    (block,) = Page("dialects/index.md").texts("python")
    names: dict[str, Any] = {"operation": longrunning.from_view(view(SUCCEEDED_ONE))}
    exec(block, names)
    assert names["message"].target_link.endswith("/projects/p/global/deployments/d")
    assert "lro_grpc._" not in block


# Errors of calls.


def test_a_call_that_is_refused_is_answered_as_the_vendor_does() -> None:
    error = to_status(LroError("no such operation", code=Code.NOT_FOUND, domain="d.example"))
    google = longrunning.error_body(error)["error"]
    assert (google["code"], google["status"]) == (404, "NOT_FOUND")
    assert google["details"][0]["domain"] == "d.example"
    assert "details" not in longrunning.error_body(status_pb2.Status(code=5))["error"]
    assert azure_face.error_body(error) == {
        "error": {"code": "NOT_FOUND", "message": "no such operation"}
    }
    assert deployment_manager.error_body(error) == {
        "error": {
            "code": 404,
            "message": "no such operation",
            "errors": [{"message": "no such operation", "domain": "global", "reason": "NOT_FOUND"}],
            "status": "NOT_FOUND",
        }
    }


@pytest.mark.parametrize(
    ("code", "status"),
    [
        *((0, 200), (1, 499), (2, 500), (3, 400), (4, 504), (5, 404), (6, 409), (7, 403)),
        *((8, 429), (9, 400), (10, 409), (11, 400), (12, 501), (13, 500), (14, 503), (15, 500)),
        (16, 401),
    ],
)
def test_the_http_status_of_a_code_is_that_of_its_proto(code: int, status: int) -> None:
    """As the comments of google/rpc/code.proto have it."""
    assert http_status.OF_CODE[Code(code)] == status


def test_http_has_words_for_every_code() -> None:
    assert set(http_status.OF_CODE) == set(Code)
    assert http_status.phrase(http_status.OF_CODE[Code.CANCELLED]) == "Client Closed Request"
    assert http_status.phrase(http_status.OF_CODE[Code.RESOURCE_EXHAUSTED]) == "Too Many Requests"
    assert http_status.canonical(57) is Code.UNKNOWN
    assert {http_status.code_of(status) for status in http_status.OF_CODE.values()} <= set(Code)


# JSON.


def test_what_cannot_be_unpacked_is_shown_as_it_is_and_hides_nothing_else() -> None:
    unknown = any_pb2.Any(type_url="type.googleapis.com/no.Such", value=b"abc")
    broken = any_pb2.Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff")
    metadata = operation_metadata_pb2.OperationMetadata(progress_percent=3)
    metadata.partial_failures.add(details=[unknown])
    metadata.batch_create_instances_metadata.instance_statuses["a"].error.details.append(unknown)
    metadata.details.Pack(wrappers_pb2.BytesValue(value=b"q"))
    operation = operations_pb2.Operation(error=status_pb2.Status(details=[broken]))
    operation.metadata.Pack(metadata)
    before = operation.SerializeToString(deterministic=True)
    as_it_is = {"@type": "type.googleapis.com/no.Such", "value": "YWJj"}
    shown = canonical_json.to_json(operation)
    assert shown["metadata"]["progressPercent"] == 3
    assert shown["metadata"]["partialFailures"] == [{"details": [as_it_is]}]
    statuses = shown["metadata"]["batchCreateInstancesMetadata"]["instanceStatuses"]
    assert statuses["a"]["error"]["details"] == [as_it_is]
    assert shown["metadata"]["details"]["@type"].endswith("/google.protobuf.BytesValue")
    assert shown["error"]["details"] == [
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "value": "/w=="}
    ]
    assert operation.SerializeToString(deterministic=True) == before


def as_bytes(message: Message) -> dict[str, str]:
    """Returns what is shown of a message that has no JSON."""
    value = base64.b64encode(message.SerializeToString()).decode()
    return {"@type": f"type.googleapis.com/{message.DESCRIPTOR.full_name}", "value": value}


def packed(message: Message) -> any_pb2.Any:
    envelope = any_pb2.Any()
    envelope.Pack(message)
    return envelope


NAN = struct_pb2.Struct(fields={"a": struct_pb2.Value(number_value=float("nan"))})
WITHOUT_JSON: list[Message] = [
    NAN,
    struct_pb2.Value(number_value=float("-inf")),
    struct_pb2.ListValue(values=[struct_pb2.Value(struct_value=NAN)]),
    duration_pb2.Duration(seconds=10**12),
    duration_pb2.Duration(seconds=1, nanos=-1),
    timestamp_pb2.Timestamp(seconds=2**62),
    timestamp_pb2.Timestamp(nanos=-5),
    field_mask_pb2.FieldMask(paths=["CamelCase", "a__b", "x_3"]),
]


@pytest.mark.parametrize("bad", WITHOUT_JSON, ids=lambda one: one.DESCRIPTOR.name)
def test_a_value_without_json_is_shown_by_its_bytes_and_hides_nothing_else(bad: Message) -> None:
    good = wrappers_pb2.StringValue(value="here")
    metadata = operation_metadata_pb2.OperationMetadata(progress_percent=3)
    metadata.partial_failures.add(message="x", details=[packed(good), packed(bad)])
    metadata.batch_create_instances_metadata.instance_statuses["a"].error.details.append(
        packed(packed(bad))
    )
    operation = operations_pb2.Operation(name="operations/x", done=True, response=packed(bad))
    operation.metadata.Pack(metadata)
    before = operation.SerializeToString(deterministic=True)
    shown = canonical_json.to_json(operation)
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
    assert (shown["name"], shown["done"]) == ("operations/x", True)
    assert shown["response"] == as_bytes(bad)
    (failure,) = shown["metadata"]["partialFailures"]
    assert failure == {
        "message": "x",
        "details": [
            {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "here"},
            as_bytes(bad),
        ],
    }
    assert shown["metadata"]["progressPercent"] == 3
    statuses = shown["metadata"]["batchCreateInstancesMetadata"]["instanceStatuses"]
    assert statuses["a"]["error"]["details"] == [
        {"@type": "type.googleapis.com/google.protobuf.Any", "value": as_bytes(bad)}
    ]
    assert operation.SerializeToString(deterministic=True) == before


def test_a_field_without_json_leaves_its_siblings_as_they_are() -> None:
    job = custom_message(
        {
            "text": "string",
            "flags": "bool*",
            "extra": "google.protobuf.Struct",
            "all": "google.protobuf.Struct*",
            "size": "google.protobuf.Int64Value",
        }
    )
    fine = struct_pb2.Struct(fields={"b": struct_pb2.Value(bool_value=True)})
    message = job(text="t", flags=[True, False], extra=NAN, all=[fine, NAN])
    message.size.value = 2**60
    assert canonical_json.to_json(message) == {
        "text": "t",
        "flags": [True, False],
        "extra": as_bytes(NAN),
        "all": [{"b": True}, as_bytes(NAN)],
        "size": str(2**60),
    }
    assert list(canonical_json.to_json(message)) == ["text", "flags", "extra", "all", "size"]


def test_a_map_beside_a_field_without_json_is_shown_as_any_map() -> None:
    """Whether its values are messages or not."""
    info = error_details_pb2.ErrorInfo(metadata={"b": "1", "a": "2"})
    fine = packed(struct_pb2.Struct(fields={"x": struct_pb2.Value(number_value=1)}))
    job = custom_message(
        {
            "info": "google.rpc.ErrorInfo",
            "extra": "google.protobuf.Struct",
            "any": "google.protobuf.Any",
        }
    )
    assert canonical_json.to_json(job(info=info, extra=NAN, any=fine)) == {
        "info": {"metadata": {"a": "2", "b": "1"}},
        "extra": as_bytes(NAN),
        "any": {"@type": fine.type_url, "value": {"x": 1.0}},
    }


def test_any_depth_is_shown_down_to_a_limit() -> None:
    deep = packed(NAN)
    for _ in range(2_000):
        deep = packed(deep)
    shown = canonical_json.to_json(operations_pb2.Operation(name="operations/x", response=deep))
    assert shown["name"] == "operations/x"
    assert json.loads(json.dumps(shown)) == shown
    depth, inner = 0, shown["response"]
    while isinstance(inner["value"], dict):
        depth, inner = depth + 1, inner["value"]
    assert 50 < depth <= canonical_json.MOST_DEPTH
    assert base64.b64decode(inner["value"])


def test_each_piece_is_converted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Message] = []
    convert = json_format.MessageToDict

    def counted(message: Message) -> Any:
        calls.append(message)
        return convert(message)

    monkeypatch.setattr(json_format, "MessageToDict", counted)
    deep = packed(NAN)
    for _ in range(40):
        deep = packed(status_pb2.Status(code=3, details=[deep, packed(NAN)]))
    canonical_json.to_json(operations_pb2.Operation(response=deep))
    assert len(calls) <= 3 * 40 + 10


@pytest.mark.parametrize("name", ["two_words", "twoWords"])
def test_an_any_is_read_under_either_name_of_its_field(name: str) -> None:
    message = custom_message({"two_words": "google.protobuf.Any"})()
    empty = {"@type": "type.googleapis.com/google.protobuf.Empty", "value": {}}
    canonical_json.parse({name: empty}, message)
    assert message.two_words.type_url == empty["@type"]


_NUMBERS = itertools.count()


def custom_message(fields: dict[str, str]) -> Any:
    """Returns the class of a message with such fields, each the only one of its file."""
    package = f"test.dialects{next(_NUMBERS)}"
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package}.proto", package=package, syntax="proto3"
    )
    file.dependency.extend(f"google/protobuf/{one}.proto" for one in ("any", "struct", "wrappers"))
    file.dependency.append("google/rpc/error_details.proto")
    message = file.message_type.add(name="Custom")
    for number, (name, kind) in enumerate(fields.items(), start=1):
        field = message.field.add(name=name, number=number, label=1)
        if kind.endswith("*"):
            field.label = 3
        kind = kind.removesuffix("*")
        if "." in kind:
            field.type, field.type_name = 11, f".{kind}"
        else:
            field.type = {"string": 9, "bool": 8}[kind]
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
    found = descriptor_pool.Default().FindMessageTypeByName(f"{package}.Custom")
    return message_factory.GetMessageClass(found)
