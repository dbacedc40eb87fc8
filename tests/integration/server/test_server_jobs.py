"""Jobs (AIP-152): operations that are shown as resources with a state."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import grpc
import pytest
from declared import message_class
from google.longrunning import operations_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, empty_pb2, field_mask_pb2
from google.rpc import code_pb2
from server_harness import (
    PARENT,
    Gate,
    Instance,
    Server,
    defined_with,
    errors_logged,
    every_store,
    refused,
    serving,
)

import lro_grpc
from lro.v1 import state_pb2
from lro_grpc._operation.events import Cancel, Delete, Event
from lro_grpc.http import JobKind
from lro_grpc.stores import ForwardingStore, MemoryStore, Record

Serve = Any

FIELD = descriptor_pb2.FieldDescriptorProto
STRING, INT, BOOL, TEXTS = "string", "int32", "bool", "map<string, string>"
TIME, STATUS, MASK = "google.protobuf.Timestamp", "google.rpc.Status", "google.protobuf.FieldMask"
OPERATION, EMPTY = "google.longrunning.Operation", "google.protobuf.Empty"

JOB = {
    "name": STRING,
    "state": "lro.v1.JobState",
    "pages": INT,
    "text": STRING,
    "error": STATUS,
    **dict.fromkeys(("create_time", "start_time", "update_time", "end_time"), TIME),
}
NAME = {"name": STRING}
MESSAGES: Mapping[str, Mapping[str, str]] = {
    "BuildJob": JOB,
    "CreateBuildJobRequest": {
        "parent": STRING,
        "build_job": "BuildJob",
        "build_job_id": STRING,
        "request_id": STRING,
        "validate_only": BOOL,
    },
    "ListBuildJobsRequest": {
        "parent": STRING,
        "filter": STRING,
        "page_size": INT,
        "page_token": STRING,
        "read_mask": MASK,
        "order_by": STRING,
    },
    "ListBuildJobsResponse": {"build_jobs": "BuildJob*", "next_page_token": STRING},
    **{f"{verb}BuildJobRequest": NAME for verb in ("Get", "Cancel", "Pause", "Resume", "Delete")},
    "RunBuildRequest": {"parent": STRING},
    "Text": {"text": STRING},
}
RPCS: Mapping[str, str] = {
    "CreateBuildJob": "BuildJob",
    "GetBuildJob": "BuildJob",
    "ListBuildJobs": "ListBuildJobsResponse",
    "CancelBuildJob": "BuildJob",
    "PauseBuildJob": EMPTY,
    "ResumeBuildJob": EMPTY,
    "DeleteBuildJob": EMPTY,
    "RunBuild": OPERATION,
}
"""The response of each method; its request is the message of its name."""

_numbers = itertools.count(1)


class Builds:
    """A service that has jobs, as the _pb2 and _pb2_grpc modules of a user's own declare it.

    Args:
        messages: Messages to declare in place of those above, by their names.
        rpcs: Methods to declare in place of those above; None for one that is not there.
        run_metadata: The ``metadata_type`` of ``RunBuild``.
    """

    def __init__(
        self,
        messages: Mapping[str, Mapping[str, str]] | None = None,
        rpcs: Mapping[str, str | None] | None = None,
        run_metadata: str = "BuildJob",
    ) -> None:
        self.package = f"test.jobs{next(_numbers)}.v1"
        self.service = f"{self.package}.BuildService"
        self.returns = {name: to for name, to in {**RPCS, **(rpcs or {})}.items() if to}
        file = descriptor_pb2.FileDescriptorProto(
            name=f"{self.package.replace('.', '/')}/builds.proto",
            package=self.package,
            syntax="proto3",
            dependency=[
                "google/longrunning/operations.proto",
                *(f"google/protobuf/{name}.proto" for name in ("timestamp", "empty", "field_mask")),
                "google/rpc/status.proto",
                "lro/v1/state.proto",
            ],
        )
        for name, fields in {**MESSAGES, **(messages or {})}.items():
            message = file.message_type.add(name=name)
            for number, (field, kind) in enumerate(fields.items(), start=1):
                if kind == TEXTS:
                    kind = f"{name}.{self._add_entry(message, field)}*"
                self._add_field(message.field.add(name=field, number=number), kind)
        service = file.service.add(name="BuildService")
        for name, to in self.returns.items():
            method = service.method.add(
                name=name, input_type=f"{name}Request", output_type=self._full_name(to)
            )
            if to == OPERATION:
                info: Any = method.options.Extensions[operations_pb2.operation_info]
                info.response_type, info.metadata_type = "Text", run_metadata
        descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
        self.Job = self.message("BuildJob")

    def message(self, name: str) -> Any:
        return message_class(self._full_name(name))

    def method(self, name: str) -> str:
        return f"/{self.service}/{name}"

    def call(self, server: Any, method: str, /, **fields: Any) -> Any:
        """Calls a method as a generated stub does."""
        request = self.message(f"{method}Request")(**fields)
        body = server.call(self.method(method), request.SerializeToString())
        return self.message(self.returns[method]).FromString(body)

    def create(self, server: Any, **job: Any) -> Any:
        return self.call(server, "CreateBuildJob", parent=PARENT, build_job=job)

    def get(self, server: Any, name: str) -> Any:
        return self.call(server, "GetBuildJob", name=name)

    def until(self, server: Any, job: Any, state: str) -> Any:
        """Gets a job again and again until it is in that state."""
        while job.state != state_pb2.JobState.Value(f"JOB_STATE_{state}"):
            assert not job.HasField("end_time"), job
            job = self.get(server, job.name)
        return job

    def add(self, servicer: Any, server: Any) -> None:
        """Adds a servicer as a generated adder does; what it lacks is UNIMPLEMENTED."""
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                getattr(servicer, name, unimplemented),
                request_deserializer=self.message(f"{name}Request").FromString,
                response_serializer=lambda message: message.SerializeToString(),
            )
            for name in self.returns
        }
        generic = grpc.method_handlers_generic_handler(self.service, handlers)
        server.add_generic_rpc_handlers((generic,))
        server.add_registered_method_handlers(self.service, handlers)

    def _full_name(self, name: str) -> str:
        is_full = "." in name and not name.endswith("Entry")
        return name if is_full else f"{self.package}.{name}"

    def _add_entry(self, message: Any, field: str) -> str:
        entry = message.nested_type.add(name=f"{field.title()}Entry")
        entry.options.map_entry = True
        for number, part in enumerate(("key", "value"), start=1):
            self._add_field(entry.field.add(name=part, number=number), STRING)
        return str(entry.name)

    def _add_field(self, field: FIELD, kind: str) -> None:
        repeated = kind.endswith("*")
        field.label = FIELD.LABEL_REPEATED if repeated else FIELD.LABEL_OPTIONAL
        kind = kind.removesuffix("*")
        if kind in (STRING, INT, BOOL):
            field.type = FIELD.Type.Value(f"TYPE_{kind.upper()}")
            return
        field.type = FIELD.TYPE_ENUM if kind.endswith("State") else FIELD.TYPE_MESSAGE
        field.type_name = f".{self._full_name(kind)}"


def unimplemented(request: Any, context: Any) -> Any:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "not by this servicer")


@pytest.fixture(scope="module")
def builds() -> Builds:
    return Builds()


def write(job: Any, op: Any) -> None:
    job.text = "." * job.pages


def with_jobs(builds: Builds, run: Any = write, **how: Any) -> Callable[[Any], None]:
    return lambda operations: operations.add_jobs(builds.service, builds.Job, run, **how)


def jobs_of(answer: Any) -> list[str]:
    return [job.name for job in answer.build_jobs]


# The life of a job


@every_store
def test_a_job_is_done(serve: Serve, builds: Builds, handler_keyword: str, store: str) -> None:
    run = defined_with(handler_keyword, write)
    server: Server = serve(configure=with_jobs(builds, run), store=store)
    created = builds.create(server, pages=3)
    parent, collection, job_id = created.name.rsplit("/", 2)
    assert (parent, collection) == (PARENT, "buildJobs")
    assert created.pages == 3
    assert created.HasField("create_time")
    done = builds.until(server, created, "SUCCEEDED")
    assert (done.pages, done.text) == (3, "...")
    times = [done.create_time, done.start_time, done.update_time, done.end_time]
    assert times == sorted(times, key=lambda time: time.ToMicroseconds())
    assert not done.HasField("error")
    operation = server.get(f"{PARENT}/operations/{job_id}")
    assert operation.response.Is(empty_pb2.Empty.DESCRIPTOR)
    shown = builds.Job()
    assert operation.metadata.Unpack(shown)
    assert (shown.text, shown.state, shown.end_time) == (done.text, done.state, done.end_time)


def test_jobs_are_served_to_interceptors_that_want_messages(serve: Serve, builds: Builds) -> None:
    server = serve(configure=with_jobs(builds), attach={"messages": True})
    done = builds.until(server, builds.create(server, pages=3), "SUCCEEDED")
    assert jobs_of(builds.call(server, "ListBuildJobs", parent=PARENT)) == [done.name]
    assert builds.call(server, "CancelBuildJob", name=done.name) == done
    builds.call(server, "DeleteBuildJob", name=done.name)
    assert refused(lambda: builds.get(server, done.name)).code is grpc.StatusCode.NOT_FOUND


def test_a_job_fails(serve: Serve, builds: Builds, handler_keyword: str) -> None:
    def run(job: Any, op: Any) -> None:
        job.text = "half"
        raise lro_grpc.LroError("no paper", code=lro_grpc.Code.RESOURCE_EXHAUSTED)

    server = serve(configure=with_jobs(builds, defined_with(handler_keyword, run)))
    done = builds.until(server, builds.create(server), "FAILED")
    assert (done.error.code, done.error.message) == (code_pb2.RESOURCE_EXHAUSTED, "no paper")
    assert done.text == "half"


def test_a_job_is_run_again_as_a_job(serve: Serve, builds: Builds, handler_keyword: str) -> None:
    server = serve(configure=with_jobs(builds, defined_with(handler_keyword, write)))
    first = builds.until(server, builds.create(server, pages=3), "SUCCEEDED")
    rerun = server.rerun(first.name.replace("/buildJobs/", "/operations/"))
    second = builds.get(server, rerun.name.replace("/operations/", "/buildJobs/"))
    done = builds.until(server, second, "SUCCEEDED")
    assert done.name != first.name
    assert (done.pages, done.text) == (3, "...")
    assert jobs_of(builds.call(server, "ListBuildJobs", parent=PARENT)) == [done.name, first.name]


def test_a_job_is_found_by_its_own_labels(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """By all of them or, where one is none here, by those of prepare alone; the log says so."""
    builds = Builds({"BuildJob": {**JOB, "labels": TEXTS}})

    def prepare(job: Any, context: Any) -> Any:
        job.labels["by"] = "prepare"
        return lro_grpc.Prepared(labels={"tenant": "t7"})

    server = serve(configure=with_jobs(builds, prepare=prepare))
    job = builds.create(server, labels={"env": "prod", "tenant": "none"})
    odd = [builds.create(server, labels={"Env": "Prod"}) for _ in range(2)]
    many = builds.create(server, labels={f"k{number}": "" for number in range(63)})
    assert dict(odd[0].labels) == {"Env": "Prod", "by": "prepare"}

    def found(filter_: str) -> list[str]:
        return jobs_of(builds.call(server, "ListBuildJobs", parent=PARENT, filter=filter_))

    assert found("labels.env = prod labels.by = prepare") == [job.name]
    everything = [one.name for one in (many, *reversed(odd), job)]
    assert found("labels.tenant = t7") == everything
    assert found("labels.by:*") == [job.name]
    told = server.describe(job.name.replace("/buildJobs/", "/operations/"))
    assert dict(told.labels) == {"env": "prod", "by": "prepare", "tenant": "t7"}
    warnings = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    (warning,) = [one for one in warnings if "label" in one]
    assert warning.startswith(builds.method("CreateBuildJob"))
    assert "'Env'" in warning
    caplog.clear()


@pytest.mark.parametrize("kind", [STRING, f"{STRING}*", "Text"])
def test_a_field_of_another_type_is_no_labels(serve: Serve, kind: str) -> None:
    builds = Builds({"BuildJob": {**JOB, "labels": kind}})
    server = serve(configure=with_jobs(builds))
    job = builds.create(server)
    told = server.describe(job.name.replace("/buildJobs/", "/operations/"))
    assert not told.labels


def test_a_job_is_cancelled(serve: Serve, builds: Builds, gate: Gate) -> None:
    server = serve(configure=with_jobs(builds, lambda job, op: gate.pass_by(op)))
    running = builds.until(server, builds.create(server), "RUNNING")
    asked = builds.call(server, "CancelBuildJob", name=running.name)
    assert asked.state in (state_pb2.JOB_STATE_CANCELLING, state_pb2.JOB_STATE_CANCELLED)
    done = builds.until(server, asked, "CANCELLED")
    assert done.error.code == code_pb2.CANCELLED
    assert builds.call(server, "CancelBuildJob", name=running.name) == done


def test_a_job_pauses(serve: Serve, builds: Builds) -> None:
    def run(job: Any, op: Any) -> None:
        while op.attempt == 1:
            op.checkpoint()

    options = lro_grpc.MethodOptions(pausable=True)
    server = serve(configure=with_jobs(builds, run, options=options))
    running = builds.until(server, builds.create(server), "RUNNING")
    builds.call(server, "PauseBuildJob", name=running.name)
    paused = builds.until(server, running, "PAUSED")
    assert not paused.HasField("end_time")
    builds.call(server, "ResumeBuildJob", name=running.name)
    builds.until(server, paused, "SUCCEEDED")


def test_a_job_is_deleted_when_it_is_done(serve: Serve, builds: Builds, gate: Gate) -> None:
    server = serve(configure=with_jobs(builds, lambda job, op: gate.pass_by(op)))
    running = builds.until(server, builds.create(server), "RUNNING")
    failure = refused(lambda: builds.call(server, "DeleteBuildJob", name=running.name))
    assert failure.code == grpc.StatusCode.FAILED_PRECONDITION
    assert failure.info.reason == "ILLEGAL_TRANSITION"
    assert running.name in failure.message
    gate.open()
    builds.until(server, running, "SUCCEEDED")
    builds.call(server, "DeleteBuildJob", name=running.name)
    for method in ("GetBuildJob", "CancelBuildJob", "DeleteBuildJob"):
        failure = refused(lambda method=method: builds.call(server, method, name=running.name))
        assert failure.code == grpc.StatusCode.NOT_FOUND
    assert jobs_of(builds.call(server, "ListBuildJobs", parent=PARENT)) == []


TIMES = {"create_time": TIME, "update_time": TIME}
AS_VERTEX_AI_HAS_IT = {
    "GenericOperationMetadata": TIMES,
    "DeleteOperationMetadata": {"generic_metadata": "GenericOperationMetadata", "verb": STRING},
}


@pytest.mark.parametrize(
    ("messages", "declared", "served"),
    [
        (AS_VERTEX_AI_HAS_IT, "", "DeleteOperationMetadata"),
        ({"Removal": {**TIMES, "verb": STRING, "target": STRING}}, "Removal", "Removal"),
        ({}, "", "lro.v1.OperationMetadata"),
    ],
)
def test_the_operation_of_a_delete_has_the_metadata_of_its_service(
    serve: Serve, messages: Mapping[str, Mapping[str, str]], declared: str, served: str
) -> None:
    builds = Builds(messages, {"DeleteBuildJob": OPERATION}, declared)
    server = serve(configure=with_jobs(builds))
    job = builds.until(server, builds.create(server), "SUCCEEDED")
    operation = builds.call(server, "DeleteBuildJob", name=job.name)
    assert operation.done
    assert operation.response.TypeName() == EMPTY
    assert operation.metadata.TypeName() == builds._full_name(served)
    metadata = builds.message(served).FromString(operation.metadata.value)
    assert metadata.verb == "delete"
    if served != "DeleteOperationMetadata":
        assert metadata.target == job.name
    times = getattr(metadata, "generic_metadata", metadata)
    assert times.create_time == times.update_time
    assert times.create_time.ToMicroseconds() >= job.end_time.ToMicroseconds() > 0


def test_the_metadata_of_a_delete_that_nobody_defines_is_refused() -> None:
    builds = Builds(rpcs={"DeleteBuildJob": OPERATION}, run_metadata="Unheard")
    operations = lro_grpc.Operations("memory:")
    with pytest.raises(lro_grpc.ConfigurationError, match="metadata_type: 'Unheard'"):
        with_jobs(builds)(operations)


def test_a_later_attempt_finds_what_an_earlier_one_wrote(serve: Serve, builds: Builds) -> None:
    def run(job: Any, op: Any) -> None:
        job.text += str(op.attempt)
        if op.attempt < 3:
            raise lro_grpc.RetryableError("again")

    at_once = lro_grpc.Backoff(timedelta(milliseconds=1), 1.0, timedelta(milliseconds=1))
    options = lro_grpc.MethodOptions(backoff=at_once)
    server = serve(configure=with_jobs(builds, run, options=options))
    assert builds.until(server, builds.create(server), "SUCCEEDED").text == "123"


def test_a_job_outlives_its_server(stack: str, builds: Builds, file_url: str) -> None:
    with serving(stack, configure=with_jobs(builds), store=file_url) as server:
        done = builds.until(server, builds.create(server, pages=2), "SUCCEEDED")
    with serving(stack, configure=with_jobs(builds), store=file_url) as server:
        assert builds.get(server, done.name) == done


def test_what_a_run_returns_is_not_lost_in_silence(serve: Serve, builds: Builds) -> None:
    server = serve(configure=with_jobs(builds, lambda job, op: Instance()))
    done = builds.until(server, builds.create(server), "FAILED")
    assert "returned Instance" in done.error.message


# Create


def test_create_is_idempotent_by_request_id(serve: Serve, builds: Builds) -> None:
    server = serve(configure=with_jobs(builds))

    def create(pages: int) -> Any:
        asked = {"parent": PARENT, "build_job": {"pages": pages}, "request_id": "r"}
        return builds.call(server, "CreateBuildJob", **asked)

    assert create(1).name == create(1).name
    failure = refused(lambda: create(2))
    assert failure.code == grpc.StatusCode.ALREADY_EXISTS


def test_a_create_that_only_validates_stores_nothing(serve: Serve, builds: Builds) -> None:
    def prepare(job: Any, context: Any) -> None:
        if job.pages < 0:
            raise lro_grpc.InvalidArgumentError("pages is negative")

    server = serve(configure=with_jobs(builds, prepare=prepare))

    def validate(pages: int) -> Any:
        asked = {"parent": PARENT, "build_job": {"pages": pages}, "validate_only": True}
        return builds.call(server, "CreateBuildJob", **asked)

    assert validate(1) == builds.Job()
    assert refused(lambda: validate(-1)).message == "pages is negative"
    assert jobs_of(builds.call(server, "ListBuildJobs", parent=PARENT)) == []


def test_what_prepare_says_and_writes(serve: Serve, builds: Builds, handler_keyword: str) -> None:
    targets = []

    def prepare(job: Any, context: Any) -> lro_grpc.Prepared:
        job.text = "prepared"
        return lro_grpc.Prepared(target="projects/p/books/b", parent="projects/q")

    def run(job: Any, op: Any) -> None:
        targets.append((op.target, job.text))

    server = serve(configure=with_jobs(builds, run, prepare=defined_with(handler_keyword, prepare)))
    done = builds.until(server, builds.create(server), "SUCCEEDED")
    assert done.name.startswith("projects/q/buildJobs/")
    assert targets == [("projects/p/books/b", "prepared")]


def test_what_the_server_says_of_a_job_is_not_the_callers(
    serve: Serve, builds: Builds, gate: Gate
) -> None:
    server = serve(configure=with_jobs(builds, lambda job, op: gate.pass_by(op)))
    failed = state_pb2.JOB_STATE_FAILED
    said = {"name": "mine", "state": failed, "end_time": {"seconds": 1}, "error": {"code": 3}}
    created = builds.create(server, **said)
    running = builds.until(server, created, "RUNNING")
    for job in (created, running):
        assert job.name.startswith(f"{PARENT}/buildJobs/op-")
        assert not job.HasField("end_time")
        assert not job.HasField("error")


def test_a_job_without_a_parent(serve: Serve, builds: Builds) -> None:
    server = serve(configure=with_jobs(builds))
    job = builds.call(server, "CreateBuildJob", build_job={"pages": 1})
    assert job.name.startswith("buildJobs/op-")
    builds.create(server)
    assert jobs_of(builds.call(server, "ListBuildJobs")) == [job.name]
    builds.until(server, job, "SUCCEEDED")


@pytest.mark.parametrize(
    ("method", "field"), [("CreateBuildJob", "build_job_id"), ("ListBuildJobs", "order_by")]
)
def test_a_field_that_would_have_no_effect_is_refused(
    serve: Serve, builds: Builds, method: str, field: str
) -> None:
    server = serve(configure=with_jobs(builds))
    failure = refused(lambda: builds.call(server, method, **{"parent": PARENT, field: "x"}))
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT
    assert failure.info.reason == "FIELD_NOT_SUPPORTED"
    assert failure.info.metadata == {"field": field}


# List


@every_store
def test_a_list_has_pages(serve: Serve, builds: Builds, store: str) -> None:
    def configure(operations: lro_grpc.Operations) -> None:
        with_jobs(builds)(operations)
        operations.add_method(
            "/test.Other/Do", lambda request, op: Instance(), request=Instance, response=Instance,
            prepare=lambda request, context: lro_grpc.Prepared(parent=PARENT),
        )  # fmt: skip

    server = serve(configure=configure, store=store)
    names = []
    for number in range(5):
        names.insert(0, builds.create(server, pages=number).name)
        server.start("/test.Other/Do", Instance())
    token, pages = "", []
    for size in (2, 1, 9):
        asked = {"parent": PARENT, "page_size": size, "page_token": token}
        page = builds.call(server, "ListBuildJobs", **asked)
        pages.append(jobs_of(page))
        token = page.next_page_token
    assert pages == [names[:2], names[2:3], names[3:]]
    assert token == ""
    assert len(server.names()) == 10
    everywhere = builds.call(server, "ListBuildJobs", parent="projects/-/locations/l")
    assert jobs_of(everywhere) == names


@every_store
def test_a_list_with_a_filter(serve: Serve, builds: Builds, gate: Gate, store: str) -> None:
    def run(job: Any, op: Any) -> None:
        if job.pages:
            gate.pass_by(op)

    server = serve(configure=with_jobs(builds, run), store=store)
    done = builds.until(server, builds.create(server, text="Docs"), "SUCCEEDED").name
    running = builds.until(server, builds.create(server, pages=1), "RUNNING").name
    for text, expected in {
        'state="JOB_STATE_SUCCEEDED"': [done],
        "state = RUNNING OR state = SUCCEEDED": [running, done],
        "NOT done = true": [running],
        "error.code = NOT_FOUND": [],
        "text:docs": [done],
        "pages = 1 OR text = Docs": [running, done],
        "pages = 0 AND state = SUCCEEDED": [done],
        "NOT text:*": [running],
    }.items():
        found = builds.call(server, "ListBuildJobs", parent=PARENT, filter=text)
        assert jobs_of(found) == expected, text


def test_a_list_shows_what_its_mask_has(serve: Serve, builds: Builds) -> None:
    server = serve(configure=with_jobs(builds))
    job = builds.until(server, builds.create(server, pages=2), "SUCCEEDED")

    def masked(*paths: str) -> Any:
        mask = field_mask_pb2.FieldMask(paths=paths)
        (found,) = builds.call(server, "ListBuildJobs", parent=PARENT, read_mask=mask).build_jobs
        return found

    assert masked("name", "pages") == builds.Job(name=job.name, pages=2)
    assert masked() == masked("*") == job


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"parent": "a//b"}, "INVALID_NAME"),
        ({"page_size": -1}, "INVALID_PAGE_SIZE"),
        ({"page_token": "x"}, "INVALID_PAGE_TOKEN"),
        ({"filter": "pages ="}, "INVALID_FILTER"),
        ({"filter": "pages = many"}, "INVALID_FILTER"),
        ({"filter": "no_such = 1"}, "INVALID_FILTER"),
        ({"filter": "metadata.pages = 1"}, "INVALID_FILTER"),
        ({"filter": "error.details = 1"}, "INVALID_FILTER"),
        ({"read_mask": {"paths": ["no_such"]}}, "INVALID_READ_MASK"),
    ],
)
def test_a_list_that_is_wrong(
    serve: Serve, builds: Builds, wrong: dict[str, Any], reason: str
) -> None:
    server = serve(configure=with_jobs(builds))
    failure = refused(lambda: builds.call(server, "ListBuildJobs", **{"parent": PARENT, **wrong}))
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT
    assert failure.info.reason == reason


def test_a_page_token_is_for_one_list(serve: Serve, builds: Builds) -> None:
    server = serve(configure=with_jobs(builds))
    for _ in range(2):
        builds.create(server)
    asked = {"parent": PARENT, "page_size": 1}
    token = builds.call(server, "ListBuildJobs", **asked).next_page_token
    operations_token = server.list(page_size=1).next_page_token
    for other in (
        {"page_token": operations_token},
        {"page_token": token, "filter": "done = true"},
        {"page_token": token, "parent": "projects/-/locations/l"},
        {"page_token": token, "read_mask": {"paths": ["name"]}},
    ):
        failure = refused(
            lambda other=other: builds.call(server, "ListBuildJobs", **{**asked, **other})
        )
        assert failure.info.reason == "INVALID_PAGE_TOKEN"
    assert refused(lambda: server.list(page_token=token)).info.reason == "INVALID_PAGE_TOKEN"


# Names, bodies, and who may


@pytest.mark.parametrize("method", ["GetBuildJob", "CancelBuildJob", "DeleteBuildJob"])
def test_a_name_of_no_job(serve: Serve, builds: Builds, method: str) -> None:
    def configure(operations: lro_grpc.Operations) -> None:
        with_jobs(builds)(operations)
        operations.add_method(
            "/test.Other/Do", lambda request, op: Instance(), request=Instance, response=Instance
        )

    server = serve(configure=configure)
    other = server.start("/test.Other/Do", Instance()).name.replace("operations", "buildJobs")
    for name in (f"{PARENT}/buildJobs/none", other):
        failure = refused(lambda name=name: builds.call(server, method, name=name))
        assert failure.code == grpc.StatusCode.NOT_FOUND
        assert failure.message == f"job '{name}' not found"
    for name in (
        "",
        "x",
        f"{PARENT}/operations/x",
        f"{PARENT}/buildJobs/",
        "/buildJobs/x",
        "é" * 9,
    ):
        failure = refused(lambda name=name: builds.call(server, method, name=name))
        assert failure.code == grpc.StatusCode.INVALID_ARGUMENT
        assert failure.info.reason == "INVALID_NAME"


@pytest.mark.parametrize("method", [name for name in RPCS if name != "RunBuild"])
def test_a_body_that_is_no_request(
    serve: Serve, builds: Builds, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(configure=with_jobs(builds))
    failure = refused(lambda: server.call(builds.method(method), b"\xff\xff"))
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT
    assert failure.info.reason == "MALFORMED_REQUEST"
    assert errors_logged(caplog) == []


PERMISSIONS = {
    "GetBuildJob": "operations.get",
    "CancelBuildJob": "operations.cancel",
    "PauseBuildJob": "operations.pause",
    "ResumeBuildJob": "operations.resume",
    "DeleteBuildJob": "operations.delete",
}


@pytest.mark.parametrize("method", PERMISSIONS)
def test_who_may_is_asked_first(serve: Serve, builds: Builds, method: str) -> None:
    asked: list[lro_grpc.Access] = []

    def authorize(access: lro_grpc.Access) -> bool:
        asked.append(access)
        return access.permission == "operations.start"

    server = serve(configure=with_jobs(builds), identify=lambda context: "ada", authorize=authorize)
    job = builds.create(server)
    names = [job.name, f"{PARENT}/buildJobs/none", "no/name", ""]
    for name in names:
        failure = refused(lambda name=name: builds.call(server, method, name=name))
        assert failure.code == grpc.StatusCode.PERMISSION_DENIED
        denied = f"Permission '{PERMISSIONS[method]}' denied on resource '{name}'"
        assert failure.message == f"{denied} (or it might not exist)."
    _, *accesses = asked
    assert [access.resource for access in accesses] == names
    assert {access.permission for access in accesses} == {PERMISSIONS[method]}
    assert {access.method for access in accesses} == {builds.method(method)}
    known = [access.operation for access in accesses]
    assert known[1:] == [None, None, None]
    assert known[0] == lro_grpc.KnownOperation(
        name=job.name.replace("buildJobs", "operations"),
        method=builds.method("CreateBuildJob"),
        target="",
        caller="ada",
    )


def test_who_may_create_and_list(serve: Serve, builds: Builds) -> None:
    asked: list[tuple[str, str]] = []

    def authorize(access: lro_grpc.Access) -> bool:
        asked.append((access.permission, access.resource))
        return False

    server = serve(configure=with_jobs(builds), authorize=authorize)
    for call in (
        lambda: builds.call(server, "CreateBuildJob", parent=PARENT, build_job_id="x"),
        lambda: builds.call(server, "ListBuildJobs", parent=PARENT, order_by="x"),
    ):
        assert refused(call).code == grpc.StatusCode.PERMISSION_DENIED
    assert asked == [("operations.start", PARENT), ("operations.list", PARENT)]


# Jobs that another method starts, and servicers beside them


@pytest.mark.parametrize("run_metadata", ["BuildJob", "lro.v1.OperationMetadata"])
def test_jobs_of_a_method_that_returns_an_operation(
    stack: str, handler_keyword: str, run_metadata: str
) -> None:
    """S25: what runs a job returns an operation."""
    builds = Builds(run_metadata=run_metadata)

    def run(self: Any, request: Any, op: Any) -> Any:
        if run_metadata == "BuildJob":
            op.metadata.pages = 7
        return builds.message("Text")(text="done")

    servicer = type(
        "Builder", (), {"RunBuild": lro_grpc.method(defined_with(handler_keyword, run))}
    )
    jobs = with_jobs(builds, None, started_by=builds.method("RunBuild"))

    def configure(operations: lro_grpc.Operations, add: Callable[[], None]) -> None:
        jobs(operations)
        add()

    with serving_both(stack, builds, servicer(), configure) as server:
        operation = builds.call(server, "RunBuild", parent=PARENT)
        name = operation.name.replace("operations", "buildJobs")
        done = builds.until(server, builds.get(server, name), "SUCCEEDED")
        assert done.pages == (7 if run_metadata == "BuildJob" else 0)
        assert done.HasField("start_time")
        assert server.done(operation.name).response.Is(builds.message("Text").DESCRIPTOR)
        assert jobs_of(builds.call(server, "ListBuildJobs", parent=PARENT)) == [name]


def serving_both(
    stack: str,
    builds: Builds,
    servicer: Any,
    configure: Callable[[lro_grpc.Operations, Callable[[], None]], None],
) -> AbstractContextManager[Server]:
    """Serves what ``configure`` adds: it is given the operations, and what adds the servicer."""
    registrars: list[Any] = []
    return serving(
        stack,
        servicer,
        add=lambda servicer, registrar: registrars.append(registrar),
        configure=lambda operations: configure(
            operations, lambda: builds.add(servicer, registrars[0])
        ),
    )


def test_a_servicer_has_the_other_methods(stack: str, builds: Builds) -> None:
    """A generated adder registers every method of the service, implemented or not."""

    def run(self: Any, request: Any, context: Any) -> Any:
        return operations_pb2.Operation(name="plain")

    def configure(operations: lro_grpc.Operations, add: Callable[[], None]) -> None:
        with_jobs(builds)(operations)
        add()

    servicer = type("Builder", (), {"RunBuild": run})()
    with serving_both(stack, builds, servicer, configure) as server:
        builds.until(server, builds.create(server), "SUCCEEDED")
        assert builds.call(server, "RunBuild", parent=PARENT).name == "plain"


def test_a_servicer_that_has_them_already(stack: str, builds: Builds) -> None:
    def configure(operations: lro_grpc.Operations, add: Callable[[], None]) -> None:
        add()
        with_jobs(builds)(operations)

    with (
        pytest.raises(lro_grpc.ConfigurationError, match="BuildJob is served by a servicer"),
        serving_both(stack, builds, object(), configure),
    ):
        pass


# What stops the start-up

WRONG: Mapping[str, tuple[dict[str, Any], str]] = {
    "no state": ({"messages": {"BuildJob": NAME}}, "needs a string field name, and a field state"),
    "a state of its own": (
        {"messages": {"BuildJob": {**JOB, "state": "lro.v1.BatchCreateInstanceStatus.State"}}},
        "needs a string field name, and a field state",
    ),
    "no name": ({"messages": {"BuildJob": {"state": "lro.v1.JobState"}}}, "a string field name"),
    "no get": ({"rpcs": {"GetBuildJob": None}}, "no imported module declares GetBuildJob"),
    "no create": ({"rpcs": {"CreateBuildJob": None}}, "has no CreateBuildJob that returns"),
    "create returns an operation": (
        {"rpcs": {"CreateBuildJob": OPERATION}},
        "has no CreateBuildJob that returns",
    ),
    "create has no job": (
        {"messages": {"CreateBuildJobRequest": NAME}},
        "CreateBuildJobRequest has 0 fields that hold one",
    ),
    "get has no name": (
        {"messages": {"GetBuildJobRequest": {"name": INT}}},
        "its request has no string field name",
    ),
    "get returns something else": ({"rpcs": {"GetBuildJob": "Text"}}, "it returns"),
    "list has no jobs": (
        {"messages": {"ListBuildJobsResponse": {"next_page_token": STRING}}},
        "ListBuildJobsResponse has 0 fields that hold several",
    ),
    "list has another filter": (
        {"messages": {"ListBuildJobsRequest": {"parent": STRING, "filter": INT}}},
        "the field filter of its request is of another type",
    ),
    "list has no token": (
        {"messages": {"ListBuildJobsResponse": {"build_jobs": "BuildJob*"}}},
        "no string field next_page_token",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_service_that_cannot_have_jobs(what: str) -> None:
    declared, message = WRONG[what]
    builds = Builds(**declared)
    with pytest.raises(lro_grpc.ConfigurationError, match=message):
        with_jobs(builds)(lro_grpc.Operations("memory:"))


def test_what_add_jobs_refuses(builds: Builds) -> None:
    operations = lro_grpc.Operations("memory:")
    for how, message in (
        ({"run": None}, "need either run, or started_by"),
        ({"started_by": builds.method("RunBuild")}, "need either run, or started_by"),
    ):
        with pytest.raises(lro_grpc.ConfigurationError, match=message):
            with_jobs(builds, **how)(operations)
    with pytest.raises(lro_grpc.ConfigurationError, match=r"declares GetBuildJob of no\.such"):
        operations.add_jobs("no.such.Service", builds.Job, write)
    with_jobs(builds)(operations)
    with pytest.raises(lro_grpc.ConfigurationError, match="was added twice"):
        with_jobs(builds)(operations)


@pytest.mark.parametrize("collection", ["operations", "-", "a/b", "a b", ".."])
def test_a_collection_that_no_name_can_have(builds: Builds, collection: str) -> None:
    with pytest.raises(lro_grpc.ConfigurationError, match="collection"):
        JobKind(builds.service, builds.Job, collection)


@pytest.mark.parametrize("parent", ["projects/-/locations/l", "projects/p/locations/*"])
def test_no_job_has_several_parents(serve: Serve, builds: Builds, parent: str) -> None:
    server = serve(configure=with_jobs(builds))
    failure = refused(lambda: builds.call(server, "CreateBuildJob", parent=parent))
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "stands for several resources" in failure.message
    assert builds.call(server, "ListBuildJobs", parent="projects/-/locations/-").build_jobs == []


def test_jobs_that_nothing_starts(stack: str, builds: Builds) -> None:
    jobs = with_jobs(builds, None, started_by="/test.Other/Do")
    with (
        pytest.raises(lro_grpc.ConfigurationError, match="Do is to start jobs"),
        serving(stack, configure=jobs),
    ):
        pass


def test_jobs_that_come_after_the_start(stack: str, builds: Builds) -> None:
    with (
        serving(stack) as server,
        pytest.raises(lro_grpc.ConfigurationError, match="comes too late"),
    ):
        with_jobs(builds)(server.operations)


def test_a_prepare_whose_metadata_is_of_another_type(serve: Serve) -> None:
    def configure(operations: lro_grpc.Operations) -> None:
        operations.add_method(
            "/test.Other/Do",
            lambda request, op: Instance(),
            request=Instance,
            response=Instance,
            prepare=lambda request, context: lro_grpc.Prepared(metadata=Instance()),
        )

    server = serve(configure=configure)
    failure = refused(lambda: server.start("/test.Other/Do", Instance()))
    assert failure.info.domain == "lro-grpc"
    assert "the method's own is lro.v1.OperationMetadata" in failure.message


class DeletesBeforeACancel(ForwardingStore):
    """A store in which an operation is deleted by another one, just before it is cancelled."""

    async def apply(self, name: str, event: Event) -> Record:
        if isinstance(event, Cancel):
            await super().apply(name, Delete())
        return await super().apply(name, event)


def test_a_job_that_is_deleted_before_it_is_cancelled_is_not_there(
    serve: Serve, builds: Builds, gate: Gate
) -> None:
    """And it is named as the job that it was."""
    store = DeletesBeforeACancel(MemoryStore(lambda: time.time_ns() // 1000))
    configure = with_jobs(builds, lambda job, op: gate.pass_by(op))
    server = serve(configure=configure, store=store)
    running = builds.until(server, builds.create(server), "RUNNING")
    failure = refused(lambda: builds.call(server, "CancelBuildJob", name=running.name))
    assert failure.code == grpc.StatusCode.NOT_FOUND
    assert running.name in failure.message
