"""The recipes for services: their tests, interceptors, jobs."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from pages import Page
from programs import Folder, first_service

TESTING = Page("recipes/testing.md")
INTERCEPTORS = Page("recipes/interceptors.md")
JOBS = Page("recipes/jobs.md")

pytestmark = pytest.mark.codegen


# recipes/testing.md


def test_the_tests_of_a_reader_pass(tmp_path: Path) -> None:
    folder = first_service(tmp_path, TESTING)
    (command,) = TESTING.texts("sh")
    said = folder.run(f"{command.strip()} -q -p no:cacheprovider")
    assert "3 passed" in said
    assert "3 passed" in folder.run("pytest test_ends.py -q -p no:cacheprovider")


# recipes/interceptors.md


def test_interceptors_refuse_and_note(tmp_path: Path) -> None:
    folder = first_service(tmp_path, INTERCEPTORS)
    (tmp_path / "call.py").write_text(
        "import sys, grpc, lro_grpc, reports_lro\n"
        "from reports_pb2 import BuildReportRequest\n"
        f"with grpc.insecure_channel('{folder.lro_target}') as channel:\n"
        "    reports = reports_lro.ReportServiceClient(channel, wait_for_ready=True)\n"
        "    try:\n"
        "        future = reports.BuildReport(BuildReportRequest(page_count=int(sys.argv[1])))\n"
        "        print(future.name, len(future.result().pages))\n"
        "    except lro_grpc.InvalidArgumentError as error:\n"
        "        print(error.message)\n"
    )
    with (tmp_path / "audit").open("w+") as audit:
        with folder.started("python guarded.py", stderr=audit):
            assert folder.run("python call.py 0") == "page_count is 0; give 1 to 1000\n"
            name, pages = folder.run("python call.py 1").split()
        audit.seek(0)
        entries = [json.loads(line) for line in audit]
    assert pages == "1"
    starts = [one for one in entries if one["method"].endswith("/BuildReport")]
    assert [(one["operation"], one["code"]) for one in starts] == [
        ("", "INVALID_ARGUMENT"),
        (name, "OK"),
    ]
    shown = [json.loads(line) for line in INTERCEPTORS.texts("text")[0].splitlines()]
    assert [one.keys() for one in shown] == [one.keys() for one in starts]


# recipes/jobs.md


def test_jobs_are_created_and_listed(tmp_path: Path) -> None:
    folder = Folder(tmp_path, JOBS)
    build, call = JOBS.texts("sh")
    protoc, serve = build.splitlines()
    folder.run(protoc)
    program = tmp_path / "jobs.py"
    program.write_text(program.read_text().replace("sleep(1)", "sleep(0.1)"))
    with folder.started(serve):
        folder.answers(folder.url)
        said = folder.run(call)
        jobs = f"{folder.url}/v1/projects/p/locations/l/reportJobs"
        while "endTime" not in (job := httpx.get(jobs).json()["reportJobs"][0]):
            pass
    assert "JOB_STATE_QUEUED" in said
    assert (job["state"], job["pages"]) == (
        "JOB_STATE_SUCCEEDED",
        [f"page {n}" for n in range(1, 6)],
    )
    assert job["name"].replace("/reportJobs/", "/operations/") in said
