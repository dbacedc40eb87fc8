"""The view of an operation: its words, times, links and commands."""

from __future__ import annotations

import html
import shlex
from urllib.parse import urlencode

import pytest
import sample_operations as samples
from google.longrunning import operations_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from sample_operations import NOW, PARENT, ago

from lro.v1 import batch_create_instances_pb2
from lro.v1.operation_description_pb2 import CompletionDelivery, DescribeOperationResponse
from lro_grpc import _anys
from lro_grpc._console.form import FORMS, form_of, request_form
from lro_grpc._console.operation_page import OperationPage, operation_page
from lro_grpc._console.rendering import Frame, render
from lro_grpc._console.row import Row, row_of
from lro_grpc._filtering.parser import parse

WaitReason = DescribeOperationResponse.WaitReason


def row(operation: operations_pb2.Operation) -> Row:
    return row_of(operation, _anys.unpack)


def page(
    operation: operations_pb2.Operation,
    described: DescribeOperationResponse | None = None,
    **options: object,
) -> OperationPage:
    return operation_page(
        operation,
        _anys.unpack,
        target="127.0.0.1:50051",
        description=described,
        **options,  # type: ignore[arg-type]
    )


def body(shown: OperationPage) -> str:
    return render("body.html", Frame(target="x", now=NOW), page=shown, refusal=None)


def named(name: str) -> operations_pb2.Operation:
    return operations_pb2.Operation(name=name)


# A row


def test_a_row_has_verb_and_target_over_the_id() -> None:
    found = row(samples.running())
    assert (found.verb, found.subject, found.id) == (
        *("restoreBackup", "nightly-2026-11-29"),
        "op-yvqte5acjrfk3e2s6qyb22xc7m",
    )
    assert (found.look.word, found.progress, found.done) == ("Running", 58, False)
    assert found.note == "replaying the log: 716,010 of 1,234,500 rows"


def test_a_row_of_a_failed_one_has_code_and_message() -> None:
    found = row(samples.failed())
    assert (found.code, found.note[:10], found.seconds) == (
        *("RESOURCE_EXHAUSTED", "disk quota"),
        48 * 60.0,
    )


@pytest.mark.parametrize(
    ("type_name", "verb"),
    [
        ("google.cloud.aiplatform.v1.CreateModelOperationMetadata", "CreateModel"),
        ("acme.build.v1.BuildImageMetadata", "BuildImage"),
        ("acme.Progress", "Progress"),
        ("acme.Metadata", "operation"),
        ("", "operation"),
    ],
)
def test_without_a_verb_the_type_of_the_metadata_says_it(type_name: str, verb: str) -> None:
    operation = named("operations/x")
    operation.metadata.type_url = f"type.googleapis.com/{type_name}"
    assert row(operation).verb == verb


@pytest.mark.parametrize(
    ("name", "can_open", "can_act"),
    [
        ("operations/x", True, True),
        ("projects/ü/operations/..%2F//?&=\u202e", True, True),
        ("operations/a\nb", True, False),
        ("operations/a\0b", True, False),
        ("", False, False),
        ("x" * 2_001, False, False),
        ("ü" * 400, False, False),  # %C3%BC each
    ],
)
def test_a_name_is_linked_as_far_as_addresses_and_forms_hold_it(
    name: str, can_open: bool, can_act: bool
) -> None:
    found = row(named(name))
    assert (found.can_open, found.can_act) == (can_open, can_act)
    assert found.key != row(named(f"{name}x")).key
    assert found.address == (name if can_open else "")


@pytest.mark.parametrize("name", ["operations/a\nb", "operations/a\x1b[201~b", "x" * 5_000, ""])
def test_a_name_that_a_shell_would_obey_makes_no_command_and_is_not_copied(name: str) -> None:
    assert page(named(name)).commands == ()
    assert page(named(name)).copied_name == ""
    assert page(named("operations/a b")).copied_name == "operations/a b"


@pytest.mark.parametrize("percent", [-5, 2_000_000_000])
def test_progress_is_between_0_and_100(percent: int) -> None:
    found = row(samples.operation("x", "RUNNING", "copy", "t", progress_percent=percent))
    assert found.progress in (0, 100)


def test_a_bar_is_for_what_moves_and_for_what_has_ended_half_way() -> None:
    rows = [row(one) for one in samples.every_state()]
    assert {one.look.word for one in rows if one.shows_bar} == {
        *("Running", "Updating", "Paused", "Cancelling", "Failed", "Expired"),
    }


def test_an_end_before_the_start_is_no_negative_duration() -> None:
    found = row(samples.operation("x", "SUCCEEDED", "c", "t", started=NOW, ended=ago(seconds=5)))
    assert found.seconds == 0


# Actions


def verbs(shown: OperationPage) -> list[str]:
    return [one.verb for one in shown.actions]


def test_actions_are_those_that_the_server_says_one_may_request() -> None:
    described = samples.description(samples.running())
    assert verbs(page(samples.running(), described)) == ["pause", "cancel", "terminate"]
    del described.actions[:]
    assert verbs(page(samples.running(), described)) == []


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (samples.running(), ["cancel"]),
        (samples.failed(), ["delete"]),
        (samples.operation("x", "CANCELLING", "c", "t", cancel_requested=True), []),
    ],
)
def test_of_another_server_cancel_and_delete_are_offered(
    operation: operations_pb2.Operation, expected: list[str]
) -> None:
    assert verbs(page(operation)) == expected


def test_nothing_is_offered_that_the_server_lacks_or_to_readers_alone() -> None:
    assert verbs(page(samples.running(), lacks={"cancel"})) == []
    assert verbs(page(samples.running(), read_only=True)) == []
    described = samples.description(samples.running())
    assert verbs(page(samples.running(), described, lacks={"pause"})) == ["cancel", "terminate"]


# Its page


def test_the_title_tells_percent_and_state_first() -> None:
    assert page(samples.running()).title == "58 % · Running · restoreBackup nightly-2026-11-29"
    assert page(samples.failed_batch()).title == "Failed · batchCreate instances"


def test_a_timeline_has_its_laps() -> None:
    created, started, ended = page(samples.failed()).steps
    assert (created.word, started.word, ended.word) == ("Created", "Started", "Failed")
    assert (created.lap, started.lap, ended.lap) == (60.0, 48 * 60.0, None)
    assert [one.is_here for one in page(samples.running()).steps] == [False, True, False]
    assert page(named("operations/x")).steps == ()


def test_the_reasons_for_a_wait_are_told() -> None:
    described = samples.description(samples.running())
    described.schedule_time.FromDatetime(NOW)
    reasons = [WaitReason.SCHEDULED, WaitReason.NO_HANDLER, WaitReason.CONCURRENCY_KEY, 77]
    described.wait_reasons.extend(reasons)  # type: ignore[arg-type]
    told = [(one.text, one.until) for one in page(samples.running(), described).waits]
    assert told == [
        ("Waits until", NOW),
        ("No server goes on with it: none serves its method, or its types do not fit", None),
        ("Waits for a place of its key: as many of it run as may at a time", None),
        ("Waits: 77", None),
    ]


def test_an_error_has_facts_links_and_details() -> None:
    error = page(samples.failed()).error
    assert error is not None
    assert (error.code, error.number) == ("RESOURCE_EXHAUSTED", 8)
    assert error.facts == (
        ("Reason", "DISK_QUOTA"),
        ("Domain", "fleet.example.com"),
        ("limit", "500 GiB"),
        ("used", "499.7 GiB"),
    )
    assert error.links == (("Raise the quota", "https://fleet.example.com/quotas"),)
    assert [one.type for one in error.details] == ["google.rpc.QuotaFailure"]


@pytest.mark.parametrize(
    "url",
    [
        *("javascript:alert(1)", "http://example.com", "//example.com", "data:text/html,x"),
        *("https:", "https://", "https://[", " https://example.com", "HTTPS://e.com\n", ""),
        f"https://example.com/{'x' * 3_000}",
    ],
)
def test_a_link_of_an_error_is_one_only_if_it_is_https(url: str) -> None:
    helped = error_details_pb2.Help(
        links=[error_details_pb2.Help.Link(description="Read on", url=url)]
    )
    error = status_pb2.Status(code=3, details=[_anys.pack(helped)])
    shown = page(samples.operation("x", "FAILED", "c", "t", ended=NOW, error=error))
    assert shown.error is not None
    ((text, address),) = shown.error.links
    assert address == ""
    assert text.startswith("Read on")
    assert 'target="_blank"' not in body(shown)


def test_an_error_of_another_code_is_its_number() -> None:
    error = status_pb2.Status(code=-7, message="odd")
    shown = page(samples.operation("x", "FAILED", "c", "t", ended=NOW, error=error)).error
    assert shown is not None
    assert (shown.code, shown.number) == ("-7", -7)


def test_a_long_batch_shows_those_with_errors_first() -> None:
    batch = batch_create_instances_pb2.BatchCreateInstancesMetadata()
    for number in range(300):
        batch.instance_targets.append(f"i/{number}")
        status = batch.instance_statuses[f"i/{number}"]
        status.state = samples.BatchStatus.READY
    status.state = samples.BatchStatus.FAILED
    status.error.code = code_pb2.ABORTED
    operation = samples.operation("x", "RUNNING", "c", "t", batch_create_instances_metadata=batch)
    shown = page(operation).batch
    assert shown is not None
    assert (shown.size, len(shown.instances)) == (300, 200)
    assert (shown.instances[0].name, shown.instances[0].error) == ("299", "ABORTED")
    assert [(look.word, count) for look, count in shown.counts] == [("Ready", 299), ("Failed", 1)]
    assert "and 100 more, in the JSON file" in body(page(operation))


def test_attempts_have_outcomes_and_errors() -> None:
    first, second = page(samples.running(), samples.description(samples.running())).attempts
    assert (first.number, first.look.word, first.code, first.seconds) == (
        *(1, "Retried", "UNAVAILABLE"),
        6.0,
    )
    assert (second.look.word, second.is_running, second.code) == ("Running", True, "")


def test_facts_are_those_that_are_known() -> None:
    described = samples.description(samples.failed())
    described.delivery.state = CompletionDelivery.PENDING
    described.delivery.attempt_count = 2
    described.delivery.error.code = code_pb2.UNAVAILABLE
    described.concurrency_key = "shop"
    facts = {one.label: one for one in page(samples.failed(), described).facts}
    assert facts["Method"].text == "fleet.v1.FleetService/RestoreBackup"
    assert facts["Concurrency key"].text == "shop"
    assert facts["Runs again"].operation == f"{PARENT}/operations/op-first"
    assert page(samples.failed(), described).request_size == "1,234 bytes"
    assert facts["Told of its end"].text == "Pending, 2 attempts, UNAVAILABLE"
    assert facts["Kept until"].time is not None
    assert "Caller" not in {one.label for one in page(samples.failed()).facts}


@pytest.mark.parametrize(
    ("key", "value", "query"),
    [
        ("env", "prod", "labels.env = prod"),
        ("cost-center", "7", 'labels."cost-center" = "7"'),
        ("env", "", 'labels.env = ""'),
        ("env", 'a"b\\', 'labels.env = "a\\"b\\\\"'),
        ("env", "x" * 400, ""),
    ],
)
def test_a_label_leads_to_all_that_have_it(key: str, value: str, query: str) -> None:
    described = samples.description(samples.running())
    described.labels.clear()
    described.labels[key] = value
    (label,) = page(samples.running(), described).labels
    assert label.filter == query
    if query:
        parse(query)
        assert urlencode({"filter": query}) in html.unescape(
            body(page(samples.running(), described))
        )


def test_failures_of_parts_are_told() -> None:
    shown = page(samples.partly_failed())
    assert shown.failures is not None
    assert [(one.code, one.message) for one in shown.failures.shown] == [
        ("FAILED_PRECONDITION", "table customers_pii has no key")
    ]
    assert "table customers_pii has no key" in body(shown)


def test_the_response_comes_before_the_metadata_with_its_type() -> None:
    shown = page(samples.partly_failed())
    assert [(one.title, one.type) for one in shown.blocks] == [
        ("Response", "google.protobuf.Struct"),
        ("Metadata", "lro.v1.OperationMetadata"),
    ]


def test_a_type_that_is_not_known_is_named_with_its_bytes() -> None:
    *_, foreign = samples.every_state()
    (block,) = page(foreign).blocks
    assert (block.type, block.json) == ("acme.build.v1.BuildImageMetadata", None)
    assert block.note == "5 bytes, which cannot be read as this type"


# Commands


@pytest.mark.parametrize("name", ["operations/x", "-rf", "operations/$(reboot)", "o/a'b c"])
def test_a_command_gives_the_shell_the_name_as_it_is(name: str) -> None:
    for command in page(named(name)).commands:
        *_, last = words = shlex.split(command.whole)
        assert words[0] == "lro"
        assert last == name
        assert ("--" in words) == name.startswith("-")
        assert words[words.index("--target") + 1] == "127.0.0.1:50051"


def test_commands_are_those_of_its_state() -> None:
    assert [one.begin for one in page(samples.running()).commands] == ["lro watch ", "lro cancel "]
    described = samples.description(samples.failed())
    done = [one.begin for one in page(samples.failed(), described).commands]
    assert done == ["lro get ", "lro get --attempts "]


# Forms


def test_a_form_that_does_not_apply_says_why() -> None:
    form = form_of(samples.running(), "alloydb", _anys.unpack)
    assert form.json is None
    assert "cannot be shown as alloydb" in form.note


@pytest.mark.parametrize("dialect", FORMS)
def test_every_form_of_a_batch_is_shown(dialect: str) -> None:
    form = form_of(samples.failed_batch(), dialect, _anys.unpack)
    assert form.json is not None
    assert "RESOURCE_EXHAUSTED" in form.json or "capacity" in form.json


def test_a_request_is_shown_or_it_is_said_why_not() -> None:
    described = samples.description(samples.running())
    assert request_form(described, _anys.unpack).json is None
    described.request.CopyFrom(_anys.pack(samples.quota_error()))
    assert "disk quota" in str(request_form(described, _anys.unpack).json)
