"""Records which test runs which line: a plugin of pytest, for a process under coverage.

Coverage's own contexts end where a test's function first waits; these last from the first fixture
of a test to its last one, whatever loop or thread its work is on.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import coverage
import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Recorder(Path(os.environ["LRO_MUTATION_TIMES"])))


class _Recorder:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._seconds: dict[str, float] = {}
        self._not_passed: set[str] = set()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        measured = coverage.Coverage.current()
        if measured is not None:
            measured.switch_context(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        seconds = self._seconds.get(report.nodeid, 0.0)
        self._seconds[report.nodeid] = seconds + report.duration
        if not report.passed:
            self._not_passed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        passed = self._seconds.items() - {(name, self._seconds[name]) for name in self._not_passed}
        self._path.write_text(json.dumps(dict(passed)))
