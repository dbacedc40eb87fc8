"""docs/dialects/messages-and-jobs.md: its batch and its job, with the vendors' own SDKs."""

from __future__ import annotations

import pytest
from fleet import PARENT
from pages import Page
from vendor_clients import serving

import lro_grpc

alloydb_v1 = pytest.importorskip("google.cloud.alloydb_v1")
aiplatform_v1 = pytest.importorskip("google.cloud.aiplatform_v1")
alloydb = pytest.importorskip("google.cloud.alloydb_v1.services.alloy_db_admin.transports")
aiplatform = pytest.importorskip("google.cloud.aiplatform_v1.services.job_service.transports")

pytestmark = pytest.mark.vendors

PAGE = Page("dialects/messages-and-jobs.md")


def as_the_page_has_it(operations: lro_grpc.Operations) -> None:
    PAGE.run(operations=operations)


def test_the_pages_batch_and_job() -> None:
    with serving(as_the_page_has_it) as served:
        admin = alloydb_v1.AlloyDBAdminClient(
            transport=alloydb.AlloyDBAdminGrpcTransport(channel=served.channel)
        )
        cluster = f"{PARENT}/clusters/c"
        creations = [{"parent": cluster, "instance_id": one} for one in ("a", "b")]
        lro = admin.batch_create_instances(
            {"parent": cluster, "requests": {"create_instance_requests": creations}}
        )
        assert served.client.wait(lro.operation.name).done
        names = [f"{cluster}/instances/{one}" for one in ("a", "b")]
        assert [one.name for one in lro.result().instances] == names
        batch = lro.metadata.batch_create_instances_metadata
        assert [batch.instance_statuses[name].state.name for name in names] == ["READY", "READY"]

        jobs = aiplatform_v1.JobServiceClient(
            transport=aiplatform.JobServiceGrpcTransport(channel=served.channel)
        )
        created = jobs.create_custom_job(parent=PARENT, custom_job={"display_name": "j"})
        assert served.client.wait(created.name.replace("customJobs", "operations")).done
        done = jobs.get_custom_job(name=created.name)
        assert done.state.name == "JOB_STATE_SUCCEEDED"
        assert done.web_access_uris["log"].startswith("https://logs.example.com/op-")
        assert [job.name for job in jobs.list_custom_jobs(parent=PARENT)] == [created.name]
