"""google-cloud-aiplatform's JobServiceClient, unmodified, against jobs of ours."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc.aio
import pytest
from fleet import PARENT
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.protobuf import empty_pb2
from google.rpc import code_pb2, status_pb2
from vendor_clients import NOBODY, over_asyncio, over_grpc, over_rest, serving

import lro_grpc
from lro_grpc import testing
from lro_grpc._http.gateway import gateway
from lro_grpc._server.jobs.kind import JobKind
from lro_grpc.http import listening

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

aiplatform_v1 = pytest.importorskip("google.cloud.aiplatform_v1")
transports = pytest.importorskip("google.cloud.aiplatform_v1.services.job_service.transports")

pytestmark = pytest.mark.vendors

SDKS = {
    "google-cloud-aiplatform jobs (gRPC)": over_grpc(
        aiplatform_v1.JobServiceClient, transports.JobServiceGrpcTransport
    ),
    "google-cloud-aiplatform jobs (asyncio)": over_asyncio(
        aiplatform_v1.JobServiceAsyncClient, transports.JobServiceGrpcAsyncIOTransport
    ),
    "google-cloud-aiplatform jobs (REST)": over_rest(
        aiplatform_v1.JobServiceClient, transports.JobServiceRestTransport
    ),
}

SERVICE = "google.cloud.aiplatform.v1.JobService"


class Trainer:
    """The service: what becomes of a job is in its display name."""

    def __init__(self) -> None:
        self.may_go_on = threading.Semaphore(0)
        """How often a job that waits may go on."""

    def add_to(self, operations: lro_grpc.Operations) -> None:
        operations.add_jobs(
            SERVICE,
            aiplatform_v1.CustomJob,
            self.train,
            prepare=self.prepare,
            options=lro_grpc.MethodOptions(
                pausable=True, timeout=timedelta(hours=1), concurrency=1
            ),
        )
        operations.add_jobs(SERVICE, aiplatform_v1.BatchPredictionJob, self.predict)

    def prepare(self, job: Any, context: Any) -> None:
        assert isinstance(job, aiplatform_v1.CustomJob)
        if not job.display_name:
            raise lro_grpc.InvalidArgumentError("display_name is empty; give one")
        job.labels["by"] = "prepare"

    def train(self, job: Any, op: lro_grpc.OperationContext[Any]) -> None:
        assert isinstance(job, aiplatform_v1.CustomJob)
        job.web_access_uris["log"] = f"https://logs.example.com/{job.name}"
        op.progress(10)
        if job.display_name == "waits":
            self.wait(op)
            with op.updating():
                self.wait(op)
        elif job.display_name == "fails":
            raise lro_grpc.LroError("no data", code=lro_grpc.Code.FAILED_PRECONDITION)
        elif job.display_name == "pauses" and not op.checkpoint_state:
            op.checkpoint(b"half")
            while True:
                op.checkpoint()
        elif job.display_name == "slow to stop":
            while op.stop_reason is None:
                pass
            self.may_go_on.acquire(timeout=10)
            op.raise_if_stopped()

    def wait(self, op: lro_grpc.OperationContext[Any]) -> None:
        while not self.may_go_on.acquire(timeout=0.01):
            op.raise_if_stopped()

    async def predict(self, job: Any, op: lro_grpc.AsyncOperationContext[Any]) -> None:
        job.partial_failures.append(status_pb2.Status(code=5, message="no image 7"))


def job_of(display_name: str) -> Any:
    return aiplatform_v1.CustomJob(display_name=display_name, labels={"of": "a test"})


@pytest.fixture
def service() -> Trainer:
    return Trainer()


@pytest.fixture
def served(service: Trainer) -> Iterator[testing.Served]:
    with serving(service.add_to) as served:
        yield served


@pytest.fixture
def create(client: Any, awaited: Any) -> Callable[[str], Any]:
    """Creates a job by its display name."""
    return lambda name: awaited(client.create_custom_job(parent=PARENT, custom_job=job_of(name)))


@pytest.fixture
def until(client: Any, awaited: Any) -> Callable[[Any, str], Any]:
    """Gets a job again and again until it is in that state."""

    def until(job: Any, state: str) -> Any:
        while job.state.name != f"JOB_STATE_{state}":
            assert not job.end_time, job
            job = awaited(client.get_custom_job(name=job.name))
        return job

    return until


@pytest.mark.case("success")
def test_a_job_is_watched_to_its_end(
    service: Trainer, served: testing.Served, create: Any, until: Any
) -> None:
    created = create("waits")
    assert isinstance(created, aiplatform_v1.CustomJob)
    assert created.name.startswith(f"{PARENT}/customJobs/op-")
    assert created.display_name == "waits"
    running = until(created, "RUNNING")
    assert running.create_time == created.create_time
    assert running.start_time >= running.create_time
    assert not running.end_time
    served.clock.advance(timedelta(minutes=1))
    service.may_go_on.release()
    updating = until(running, "UPDATING")
    assert updating.update_time > running.update_time
    served.clock.advance(timedelta(minutes=1))
    service.may_go_on.release()
    done = until(updating, "SUCCEEDED")
    assert done.start_time == running.start_time
    assert done.end_time == done.update_time > updating.update_time
    assert not done.error.code
    assert done.web_access_uris == {"log": f"https://logs.example.com/{done.name}"}
    assert done.labels == {"of": "a test", "by": "prepare"}


@pytest.mark.case("failure")
def test_a_job_fails(create: Any, until: Any) -> None:
    done = until(create("fails"), "FAILED")
    assert (done.error.code, done.error.message) == (code_pb2.FAILED_PRECONDITION, "no data")
    assert done.end_time == done.update_time
    assert done.error.details


@pytest.mark.case("failure")
def test_a_job_that_cannot_begin(client: Any, create: Any, awaited: Any) -> None:
    with pytest.raises(exceptions.BadRequest) as raised:
        create("")
    assert "display_name is empty; give one" in raised.value.message
    assert awaited(client.list_custom_jobs(parent=PARENT)).custom_jobs == []


@pytest.mark.case("cancel")
def test_cancel(service: Trainer, client: Any, create: Any, until: Any, awaited: Any) -> None:
    running = until(create("slow to stop"), "RUNNING")
    assert awaited(client.cancel_custom_job(name=running.name)) is None
    cancelling = until(running, "CANCELLING")
    assert not cancelling.end_time
    assert not cancelling.error.code
    service.may_go_on.release()
    done = until(cancelling, "CANCELLED")
    assert done.error.code == code_pb2.CANCELLED
    assert done.end_time == done.update_time
    assert awaited(client.cancel_custom_job(name=running.name)) is None
    assert awaited(client.get_custom_job(name=running.name)) == done


@pytest.mark.case("cancel")
def test_cancel_of_a_job_that_waits_for_another(
    client: Any, create: Any, until: Any, awaited: Any
) -> None:
    first = until(create("waits"), "RUNNING")
    second = create("waits")
    assert second.state.name == "JOB_STATE_QUEUED"
    awaited(client.cancel_custom_job(name=second.name))
    done = until(second, "CANCELLED")
    assert not done.start_time
    assert awaited(client.get_custom_job(name=first.name)).state.name == "JOB_STATE_RUNNING"


@pytest.mark.case("list")
def test_list_by_pages(client: Any, create: Any, until: Any, awaited: Any, loop: Any) -> None:
    created = [create(f"job {number}") for number in range(5)]
    pager = awaited(client.list_custom_jobs({"parent": PARENT, "page_size": 2}))

    async def all_pages() -> list[list[str]]:
        return [[job.display_name for job in page.custom_jobs] async for page in pager.pages]

    if hasattr(pager.pages, "__aiter__"):
        pages = loop.run_until_complete(all_pages())
    else:
        pages = [[job.display_name for job in page.custom_jobs] for page in pager.pages]
    assert pages == [["job 4", "job 3"], ["job 2", "job 1"], ["job 0"]]
    failed = until(create("fails"), "FAILED")
    for job in created:
        until(job, "SUCCEEDED")
    found = awaited(
        client.list_custom_jobs({"parent": PARENT, "filter": 'state="JOB_STATE_FAILED"'})
    )
    assert list(found.custom_jobs) == [failed]
    for text in ('display_name="job 2"', 'display_name:"JOB 2" AND state="JOB_STATE_SUCCEEDED"'):
        found = awaited(client.list_custom_jobs({"parent": PARENT, "filter": text}))
        assert [job.display_name for job in found.custom_jobs] == ["job 2"], text
    masked = awaited(
        client.list_custom_jobs(
            {"parent": PARENT, "page_size": 1, "read_mask": {"paths": ["display_name", "state"]}}
        )
    )
    assert masked.custom_jobs == [aiplatform_v1.CustomJob(display_name="fails", state=failed.state)]


def test_a_list_has_jobs_of_its_kind_alone(client: Any, create: Any, awaited: Any) -> None:
    create("job")
    other = awaited(
        client.create_batch_prediction_job(
            parent=PARENT, batch_prediction_job=aiplatform_v1.BatchPredictionJob(display_name="b")
        )
    )
    listed = awaited(client.list_batch_prediction_jobs(parent=PARENT)).batch_prediction_jobs
    assert [job.name for job in listed] == [other.name]
    with pytest.raises(exceptions.NotFound):
        awaited(client.get_custom_job(name=other.name.replace("batchPredictionJobs", "customJobs")))


@pytest.mark.case("missing")
def test_a_name_that_nobody_has(client: Any, awaited: Any) -> None:
    for call in (client.get_custom_job, client.cancel_custom_job, client.delete_custom_job):
        with pytest.raises(exceptions.NotFound) as raised:
            awaited(call(name=f"{PARENT}/customJobs/none"))
        assert f"job '{PARENT}/customJobs/none' not found" in raised.value.message
        # ValueError: over REST the client itself sees that it is no job's name.
        with pytest.raises((exceptions.BadRequest, ValueError)):
            awaited(call(name=f"{PARENT}/operations/none"))


@pytest.mark.case("denied")
def test_a_caller_who_may_not(client: Any, create: Any, awaited: Any) -> None:
    job = create("job")
    new = {"parent": PARENT, "custom_job": job_of("job")}
    for call, request in (
        (client.create_custom_job, new),
        (client.get_custom_job, {"name": job.name}),
        (client.get_custom_job, {"name": f"{PARENT}/customJobs/none"}),
        (client.list_custom_jobs, {"parent": PARENT}),
        (client.cancel_custom_job, {"name": job.name}),
        (client.delete_custom_job, {"name": job.name}),
    ):
        with pytest.raises(exceptions.Forbidden) as raised:
            awaited(call(request, metadata=NOBODY))
        assert request.get("name", PARENT) in raised.value.message
    assert len(awaited(client.list_custom_jobs(parent=PARENT)).custom_jobs) == 1


def test_delete(client: Any, create: Any, until: Any, awaited: Any, service: Trainer) -> None:
    running = until(create("waits"), "RUNNING")
    with pytest.raises(exceptions.BadRequest):
        awaited(client.delete_custom_job(name=running.name))
    for _ in range(2):
        service.may_go_on.release()
    done = until(running, "SUCCEEDED")
    deleting = awaited(client.delete_custom_job(name=running.name))
    assert awaited(deleting.result()) == empty_pb2.Empty()
    assert isinstance(deleting.metadata, aiplatform_v1.DeleteOperationMetadata)
    times = deleting.metadata.generic_metadata
    assert times.update_time == times.create_time
    assert times.create_time >= done.end_time
    with pytest.raises(exceptions.NotFound):
        awaited(client.get_custom_job(name=running.name))


def test_a_paused_job_goes_on(client: Any, served: testing.Served, create: Any, until: Any) -> None:
    running = until(create("pauses"), "RUNNING")
    operation = running.name.replace("customJobs", "operations")
    served.client.pause(operation)
    paused = until(running, "PAUSED")
    assert paused.start_time == running.start_time
    assert not paused.end_time
    served.client.resume(operation)
    assert not until(paused, "SUCCEEDED").error.code


def test_a_job_that_takes_too_long_expires(served: testing.Served, create: Any, until: Any) -> None:
    running = until(create("waits"), "RUNNING")
    served.clock.advance(timedelta(hours=2))
    expired = until(running, "EXPIRED")
    assert expired.end_time == expired.update_time
    assert not expired.error.code  # a job has one when it has failed or was cancelled


def test_partial_failures_are_the_jobs_own(client: Any, awaited: Any) -> None:
    job = awaited(
        client.create_batch_prediction_job(
            parent=PARENT, batch_prediction_job=aiplatform_v1.BatchPredictionJob(display_name="b")
        )
    )
    while not job.end_time:
        job = awaited(client.get_batch_prediction_job(name=job.name))
    assert job.state.name == "JOB_STATE_PARTIALLY_SUCCEEDED"
    assert [one.message for one in job.partial_failures] == ["no image 7"]
    assert not job.error.code


def test_a_gateway_in_a_process_of_its_own(served: testing.Served) -> None:
    """It reaches the server through a channel, and learns there which jobs there are."""

    async def listed_by_the_vendor() -> list[str]:
        async with grpc.aio.insecure_channel(served.target) as channel:
            kind = JobKind(SERVICE, aiplatform_v1.CustomJob)
            app = gateway(channel=channel, jobs=[kind], prefix=["/v1beta1", "/v1"])
            async with listening(app, "127.0.0.1:0") as port:
                transport = transports.JobServiceRestTransport(
                    host=f"127.0.0.1:{port}",
                    url_scheme="http",
                    credentials=AnonymousCredentials(),
                )
                client = aiplatform_v1.JobServiceClient(transport=transport)

                def create_and_list() -> list[str]:
                    client.create_custom_job(parent=PARENT, custom_job=job_of("job"))
                    return [job.display_name for job in client.list_custom_jobs(parent=PARENT)]

                return await asyncio.to_thread(create_and_list)

    assert asyncio.run(listed_by_the_vendor()) == ["job"]
