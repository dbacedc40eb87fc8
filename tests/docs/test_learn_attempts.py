"""docs/learn/attempts.md: its services do twice what is done once."""

from __future__ import annotations

import http.server
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from pages import Page
from reader import defined, serving

import lro_grpc

PAGE = Page("learn/attempts.md")
(GUARDED,) = PAGE.section("Leases").blocks("sql")
(RENAMED,) = PAGE.section("Releases").blocks("python")

pytestmark = pytest.mark.codegen


def test_a_report_is_published_once_though_its_first_attempt_is_killed(folder: Path) -> None:
    page = defined(PAGE, "publishing.py")
    written, goes_on = threading.Event(), threading.Event()

    class StandingStill(type(Path())):  # type: ignore[misc]
        def rename(self, target: Any) -> Any:
            if not written.is_set():
                written.set()
                goes_on.wait()
                raise OSError("its process is gone")
            return super().rename(target)

    page["Path"] = StandingStill
    with serving(page["ReportService"]) as reports:
        future = reports.build(3)
        written.wait()
        reports.served.restart()
        assert list(future.result().pages) == ["page 1", "page 2", "page 3"]
        goes_on.set()
        assert future.metadata.attempt == 2
        assert [one.name for one in folder.iterdir()] == [f"{future.name.rpartition('/')[2]}.txt"]


def test_an_archive_that_is_away_for_a_while_is_asked_again(folder: Path) -> None:
    page = defined(PAGE, "retrying.py")
    asked = []

    class Archive(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if len(asked) == 1:
                return  # without an answer
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"one\ntwo\nthree")

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Archive) as archive:
        thread = threading.Thread(target=archive.serve_forever)
        thread.start()
        page["ARCHIVE"] = page["ARCHIVE"].replace("8000", str(archive.server_port))
        with serving(page["ReportService"]) as reports:
            future = reports.build(2)
            while not future.done():
                reports.served.clock.advance(0.5)
            assert list(future.result().pages) == ["one", "two"]
            assert future.metadata.attempt == 2
        archive.shutdown()
        thread.join()


def test_an_older_attempt_changes_no_row() -> None:
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE reports (id, pages, attempt)")
        database.execute("INSERT INTO reports VALUES ('op-1', 0, 1)")
        changed = [
            database.execute(
                GUARDED.text, {"pages": 9, "attempt": attempt, "op_id": "op-1"}
            ).rowcount
            for attempt in (2, 1, 2)
        ]
    database.close()
    assert changed == [1, 0, 1]


def test_a_method_goes_on_with_the_operations_of_its_former_name(stubs: Path) -> None:
    import reports_lro

    names = RENAMED.run(lro_grpc=lro_grpc, reports_lro=reports_lro)
    with serving(names["ReportService"]) as reports:
        assert "reports.v1.ReportService" in reports.served.operations.services
