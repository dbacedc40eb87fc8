"""docs/learn/progress.md: what its handlers show, and where they go on."""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from pages import Page
from reader import defined, serving, state_of, until

import lro_grpc

PAGE = Page("learn/progress.md")
(SHOWING,) = PAGE.section("Progress").blocks("python")
(PARTIAL,) = PAGE.section("Parts that failed").blocks("python")

pytestmark = pytest.mark.codegen


async def write_page(number: int) -> str:
    if number == 2:
        raise OSError("the printer is out of paper")
    return f"page {number}"


def test_progress_is_seen(stubs: Path) -> None:
    from reports_pb2 import Report

    async def write_any(number: int) -> None:
        del number

    names = SHOWING.run(Report=Report, write_page=write_any)
    with serving(names["BuildReport"]) as reports:
        future = reports.build(3)
        last = list(future.updates())[-1]
        assert (last.progress_percent, last.status_detail) == (100, "page 3 of 3")


@pytest.mark.parametrize("end", ["pause", "crash"])
def test_a_report_goes_on_from_its_checkpoint(stubs: Path, end: str) -> None:
    page = defined(PAGE, "going_on.py")
    at_page_3, goes_on = threading.Event(), threading.Event()
    written: list[int] = []

    async def write_page(number: int) -> str:
        written.append(number)
        if written == [1, 2, 3]:
            at_page_3.set()
            await (asyncio.to_thread(goes_on.wait) if end == "pause" else asyncio.Event().wait())
        return f"page {number}"

    page["write_page"] = write_page
    with serving(page["ReportService"]) as reports:
        future = reports.build(4)
        at_page_3.wait()
        if end == "pause":
            future.pause()
            goes_on.set()
            until(lambda: state_of(future) == "PAUSED")
            assert written == [1, 2, 3]
            future.resume()
        else:
            reports.served.restart()
        assert list(future.result().pages) == [f"page {number}" for number in range(1, 5)]
        assert written == ([1, 2, 3, 4] if end == "pause" else [1, 2, 3, 3, 4])
        assert future.metadata.attempt == 2


def test_a_report_that_lacks_a_page_has_partly_succeeded(stubs: Path) -> None:
    from reports_pb2 import Report

    names = PARTIAL.run(Report=Report, write_page=write_page, lro_grpc=lro_grpc)
    with serving(names["BuildReport"]) as reports:
        future = reports.build(3)
        assert list(future.result().pages) == ["page 1", "page 3"]
        assert state_of(future) == "PARTIALLY_SUCCEEDED"
        (failure,) = future.metadata.partial_failures
        assert failure.message == "the printer is out of paper"


def test_the_table_has_all_that_op_has() -> None:
    named = set(re.findall(r"`op\.(\w+)", PAGE.section("What `op` has")))
    kinds: list[Any] = [lro_grpc.OperationContext, lro_grpc.AsyncOperationContext]
    has = {name for kind in kinds for name, _ in inspect.getmembers(kind) if name[0] != "_"}
    assert named == has
