"""The README's examples of vendors' messages and of jobs, with the vendors' own SDKs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fleet import PARENT
from vendor_clients import serving

import lro_grpc

alloydb_v1 = pytest.importorskip("google.cloud.alloydb_v1")
aiplatform_v1 = pytest.importorskip("google.cloud.aiplatform_v1")
alloydb = pytest.importorskip("google.cloud.alloydb_v1.services.alloy_db_admin.transports")
aiplatform = pytest.importorskip("google.cloud.aiplatform_v1.services.job_service.transports")

pytestmark = pytest.mark.vendors

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def as_the_readme_has_it(operations: lro_grpc.Operations) -> None:
    section = README.split("A vendor's own messages, and jobs\n")[1].split("\n## ")[0]
    for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
        exec(block, {"operations": operations})


def test_the_readmes_batch_and_job() -> None:
    with serving(as_the_readme_has_it) as served:
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
