"""docs/learn/stopping.md: its handlers end when they are to, and leave nothing."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import re
import subprocess
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pages import Page
from reader import defined, serving, state_of, until

import lro_grpc

PAGE = Page("learn/stopping.md")
LOOKING, TRANSCODING_IN_THREAD = PAGE.section("Work that blocks").blocks("python")
(PAUSING,) = PAGE.section("Pause").blocks("python")
(LIMITED,) = PAGE.section("Time limits").blocks("python")
(TRANSCODING,) = PAGE.section("Processes of a handler's own").blocks("python")

pytestmark = pytest.mark.codegen


class Gate:
    """Where a handler stands until it is let through."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    async def sleep(self, seconds: float) -> None:
        """Stands in for ``asyncio.sleep``: the second page takes for ever."""
        del seconds
        if self.reached.is_set():
            await asyncio.Event().wait()
        self.reached.set()

    def write_page(self, number: int) -> None:
        """Stands in for work that blocks, at the first page."""
        del number
        self.reached.set()
        self.opened.wait()


def test_a_cancelled_report_leaves_no_draft(folder: Path) -> None:
    page, gate = defined(PAGE, "tidying.py"), Gate()
    page["asyncio"] = gate
    with serving(page["ReportService"]) as reports:
        future = reports.build(3)
        until(lambda: list(folder.iterdir()))
        future.cancel()
        with pytest.raises(lro_grpc.OperationCancelledError):
            future.result()
        assert list(folder.iterdir()) == []


def test_a_def_looks_whether_it_is_cancelled(stubs: Path) -> None:
    from reports_pb2 import Report

    gate = Gate()
    names = LOOKING.run(Report=Report, write_page=gate.write_page)
    with serving(names["BuildReport"]) as reports:
        future = reports.build(2)
        gate.reached.wait()
        future.cancel()
        gate.opened.set()
        with pytest.raises(lro_grpc.OperationCancelledError):
            future.result()


def test_a_report_is_paused_and_resumed(stubs: Path) -> None:
    page, gate = defined(Page("learn/progress.md"), "going_on.py"), Gate()

    async def write_page(number: int) -> str:
        gate.reached.set()
        await asyncio.to_thread(gate.opened.wait)
        return f"page {number}"

    page["write_page"] = write_page
    pause, resume = PAUSING.text.splitlines()
    with serving(page["ReportService"]) as reports:
        future = reports.build(2)
        gate.reached.wait()
        exec(pause, {"future": future})
        gate.opened.set()
        until(lambda: state_of(future) == "PAUSED")
        exec(resume, {"future": future})
        assert list(future.result().pages) == ["page 1", "page 2"]


def test_a_report_that_takes_longer_than_it_may_is_expired(stubs: Path) -> None:
    import reports_lro

    begun = threading.Event()

    service = LIMITED.run(lro_grpc=lro_grpc, reports_lro=reports_lro, timedelta=timedelta)[
        "ReportService"
    ]

    @functools.wraps(service.BuildReport)  # with its options
    async def for_ever(self: Any, request: Any, op: Any) -> Any:
        begun.set()
        await asyncio.Event().wait()

    service.BuildReport = for_ever
    with serving(service) as reports:
        future = reports.build(2)
        begun.wait()
        reports.served.clock.advance(timedelta(hours=1))
        with pytest.raises(lro_grpc.OperationFailedError) as caught:
            future.result()
        assert caught.value.code is lro_grpc.Code.DEADLINE_EXCEEDED
        assert state_of(future) == "EXPIRED"


@pytest.mark.parametrize("block", [TRANSCODING_IN_THREAD, TRANSCODING], ids=["def", "async def"])
@pytest.mark.parametrize("end", ["its own", "cancel", "shutdown"])
def test_a_child_ends_with_its_handler(folder: Path, end: str, block: Any) -> None:
    from reports_pb2 import Report

    script = "echo $$ > began; mv began pid; exec " + ("true" if end == "its own" else "sleep 60")
    names = block.run(
        asyncio=asyncio,
        subprocess=subprocess,
        COMMAND=["sh", "-c", script],
        outcome_of=lambda code: Report(pages=[str(code)]),
    )
    (transcode,) = (names[name] for name in names if name.startswith("transcode"))

    def call(self: Any, request: Any, op: Any) -> Any:
        return transcode(request, op)

    async def async_call(self: Any, request: Any, op: Any) -> Any:
        return await transcode(request, op)

    with serving(async_call if inspect.iscoroutinefunction(transcode) else call) as reports:
        future = reports.build(1)
        if end == "its own":
            assert list(future.result().pages) == ["0"]
        until((folder / "pid").exists)
        if end == "cancel":
            future.cancel()
            with pytest.raises(lro_grpc.OperationCancelledError):
                future.result()
    pid = int((folder / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_table_has_every_reason() -> None:
    named = re.findall(r"^\| `([A-Z_]+)` \|", PAGE, re.MULTILINE)
    assert sorted(named) == sorted(reason.name for reason in lro_grpc.StopReason)
