"""docs/learn/watching.md: its clients, of a service that is served here."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
from pages import Page
from reader import serving

import lro_grpc

PAGE = Page("learn/watching.md")
(LISTING,) = PAGE.section("Lists").blocks("python")

pytestmark = [pytest.mark.codegen, pytest.mark.usefixtures("stubs")]


async def BuildReport(self: Any, request: Any, op: Any) -> Any:
    from reports_pb2 import Report

    report = Report()
    for number in range(1, request.page_count + 1):
        report.pages.append(f"page {number}")
        op.progress(100 * number / request.page_count, f"page {number}")
    return report


def test_a_future_is_followed_to_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(BuildReport) as reports:
        reports.run_client(PAGE, "following.py")
        (operation,) = reports.served.client.list("-")
    *_, last, done, again = capsys.readouterr().out.splitlines()
    assert last == "JOB_STATE_SUCCEEDED 100 page 5"
    assert done == f"done: {operation.name}"
    assert again == "True True False"


def test_several_are_followed_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(BuildReport) as reports:
        names = reports.run_client(PAGE, "several.py")
    assert sorted(capsys.readouterr().out.splitlines()) == ["1 pages", "9 pages"]
    assert names["done"] == set(names["futures"])


def test_operations_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(BuildReport) as reports:
        reports.build(1).result()
        LISTING.run(client=reports.served.client)
    assert capsys.readouterr().out == ""  # none runs


def test_the_table_has_all_that_a_future_has() -> None:
    table = PAGE.section("Futures").partition("| a future has")[2]
    cells = "".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE))
    named = set(re.findall(r"`(\w+)", cells))
    has = {name for name, _ in inspect.getmembers(lro_grpc.OperationFuture) if name[0] != "_"}
    assert named == has
