"""docs/learn/starts.md: refused, started once, one at a time, later, by others."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from pages import Page
from reader import defined, serving, state_of

import lro_grpc
from lro_grpc import testing

PAGE = Page("learn/starts.md")
(TWICE,) = PAGE.section("Sent twice, started once").blocks("python")
PUBLISHING, NIGHTLY = PAGE.section("Operations that start others").blocks("python")

pytestmark = [pytest.mark.codegen, pytest.mark.usefixtures("stubs")]


def service() -> Any:
    return defined(PAGE, "preparing.py")["ReportService"]


def test_what_cannot_be_right_is_refused_and_not_stored() -> None:
    with serving(service()) as reports:
        with pytest.raises(lro_grpc.InvalidArgumentError, match="page_count is 0"):
            reports.build(0)
        assert list(reports.served.client.list("-")) == []
        future = reports.build(2)
        assert list(future.result().pages)[1] == "projects/p/locations/l/reports/daily, page 2"
        assert future.describe().labels == {"size": "short"}


def test_a_long_report_waits_and_has_its_target_alone() -> None:
    clock = testing.ManualClock(datetime.now(timezone.utc))
    with serving(service(), clock=clock) as reports:
        long = reports.build(1001)
        assert state_of(long) == "QUEUED"
        assert long.describe().priority == -5
        with pytest.raises(lro_grpc.OperationInProgressError, match=long.name):
            reports.build(1)
        clock.advance(timedelta(hours=1, minutes=1))
        assert len(long.result().pages) == 1001


def test_what_is_sent_twice_is_started_once() -> None:
    from reports_pb2 import BuildReportRequest

    with serving(service()) as reports:
        names = TWICE.run(reports=reports.client, BuildReportRequest=BuildReportRequest, uuid=uuid)
        assert names["again"].result() == names["first"].result()


def test_a_handler_and_other_code_start_operations() -> None:
    from reports_pb2 import Report

    publish = PUBLISHING.run()["publish"]
    render_nightly = NIGHTLY.run()["render_nightly"]

    def configure(operations: lro_grpc.Operations) -> None:
        methods = {"Render": lambda request, op: request, "Publish": publish}
        for name, run in methods.items():
            method = f"/reports.v1.Reports/{name}"
            operations.add_method(method, run, request=Report, response=Report)

    async def main() -> None:
        async with testing.serve_async(configure=configure) as served:
            operations, daily = served.operations, Report(pages=["daily"])
            started = await operations.start_operation("/reports.v1.Reports/Publish", daily)
            future = served.client.attach(started.name, response=Report)
            assert await future == daily
            name = future.metadata.status_detail.removeprefix("started ")
            assert await served.client.attach(name, response=Report) == daily
            nightly = await render_nightly(operations, daily)
            assert await served.client.attach(nightly.name, response=Report) == daily

    asyncio.run(main())


def test_the_tables_have_every_option() -> None:
    prepared = set(re.findall(r"`(\w+)`", "\n".join(rows("Refuse at the start"))))
    assert {one.name for one in dataclasses.fields(lro_grpc.Prepared)} <= prepared
    options = set(re.findall(r"`(\w+)=", "\n".join(rows("Options of a method"))))
    assert options == {one.name for one in dataclasses.fields(lro_grpc.MethodOptions)}


def rows(heading: str) -> list[str]:
    """Returns the first cells of the table below a heading."""
    return re.findall(r"^\| (.*?) \|", PAGE.section(heading), re.MULTILINE)
