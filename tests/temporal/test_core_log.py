"""The log of Temporal's SDK: in Python's log, and not on stderr besides."""

from __future__ import annotations

import logging
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from temporalio.runtime import LogForwardingConfig

from lro_grpc._engine.temporal.core_log import _CoreLog
from lro_grpc._runtime.repeated_lines import PROCESS

AWAY = "gRPC call poll_activity_task_queue retried 5 times"


def entry(target: str, message: str, **fields: str) -> Any:
    """A line as the SDK hands it over."""
    return SimpleNamespace(
        level=logging.WARNING, target=target, message=message, fields=fields, time=0.0
    )


def test_many_lines_are_a_few_and_a_count(caplog: pytest.LogCaptureFixture) -> None:
    forwarding = LogForwardingConfig(_CoreLog())
    lines = [
        entry("temporalio_client::retry", AWAY, error=f"refused {n}\n\x1b[33mWARN")
        for n in range(500)
    ]
    forwarding._on_logs([*lines, entry("temporalio_sdk_core", "another thing")])
    PROCESS.close()
    assert {one.name for one in caplog.records} == {"temporalio"}
    texts = [one.getMessage() for one in caplog.records]
    assert len(texts) == 7
    assert all(text.isprintable() for text in texts)
    assert "another thing" in texts[5]
    assert texts[6].endswith("(495 times more)")


def test_a_level_of_pythons_holds(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "temporalio")
    LogForwardingConfig(_CoreLog())._on_logs([entry("a", AWAY)])
    assert not caplog.records


OWN_RUNTIME = """
from temporalio.runtime import Runtime, TelemetryConfig
from lro_grpc._engine.temporal.core_log import send_to_python

own = Runtime(telemetry=TelemetryConfig())
Runtime.set_default(own)
send_to_python()
assert Runtime.default() is own
"""


def test_a_runtime_of_the_programs_own_is_kept() -> None:
    done = subprocess.run([sys.executable, "-c", OWN_RUNTIME], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
