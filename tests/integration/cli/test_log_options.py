"""``--log-format`` and ``--log-level``: the lines that ``lro serve`` writes to stderr."""

from __future__ import annotations

import json
import logging
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import grpc
import pytest
from test_serve import create, run, run_anew

from lro_grpc import OperationsClient
from lro_grpc._cli.log_lines import LogFormat, LogLevel, TextLines, configure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECONDS = 60
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
FORGED = "2026-01-01T00:00:00.000000Z ERROR lro_grpc: forged"
METHOD = "/lro.example.v1.FleetService/CreateInstance"

SERVICE = """
import lro_grpc
from lro.example.v1 import fleet_service_pb2_grpc

class Fleet(fleet_service_pb2_grpc.FleetServiceServicer):
    @lro_grpc.method()
    async def CreateInstance(self, request, op):
        text = request.instance.schema_sql
        op.log.warning("asked for %s", text, extra={"time": text, "found": float("nan"), "of": op})
        raise ValueError(text)

def add(server):
    fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(Fleet(), server)
"""


def logged(folder: Path, *options: str, text: str) -> tuple[str, str]:
    """The name of an operation that fails, and all that its server has written to stderr."""
    (folder / "service.py").write_text(SERVICE)
    command = ["serve", "service:add", "--store", "memory:", "--listen", "127.0.0.1:0", *options]
    with subprocess.Popen(
        [sys.executable, "-m", "lro_grpc._cli", *command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        target = process.stdout.readline().split()[-1]
        with grpc.insecure_channel(target) as channel:
            operation = create(channel, "one", schema_sql=text)
            error = OperationsClient(channel).future(operation, response=None).exception(SECONDS)
        assert error is not None
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=SECONDS)
    return operation.name, stderr


def test_json_is_one_object_a_line_whatever_strangers_say(tmp_path: Path) -> None:
    options = ("--log-format", "json", "--log-level", "info")
    name, stderr = logged(tmp_path, *options, text=f"x\n{FORGED}\x1b[31m\u2028")
    lines = [json.loads(line, parse_constant=pytest.fail) for line in stderr.split("\n")[:-1]]
    assert all(re.fullmatch(TIME, line["time"]) for line in lines)
    assert all({"level", "logger", "message", "pid"} <= line.keys() for line in lines)
    fields = {"operation": name, "attempt": 1, "method": METHOD}
    (own,) = (line for line in lines if line["logger"] == "lro_grpc.handler")
    assert fields.items() <= own.items()
    assert own["level"] == "WARNING"
    assert own["message"] == f"asked for x\n{FORGED}\x1b[31m\u2028"
    assert own["found"] == "nan"
    assert "OperationContext" in own["of"]
    (failed,) = (line for line in lines if "incident" in line)
    assert fields.items() <= failed.items()
    assert failed["level"] == "ERROR"
    assert failed["exception"].startswith("Traceback")
    assert FORGED in failed["exception"]
    assert "SIGTERM received" in {line["message"] for line in lines}


def test_in_text_no_line_but_the_logs_own_begins_with_a_time(tmp_path: Path) -> None:
    name, stderr = logged(tmp_path, "--log-format", "text", text=f"x\n{FORGED}\x1b[31m")
    lines = stderr.splitlines()
    heads = [line for line in lines if not line.startswith("    ")]
    assert all(re.match(rf"{TIME} (WARNING|ERROR) [\w.]+: ", head) for head in heads)
    assert not any(line.startswith(FORGED) or "\x1b" in line for line in lines)
    handlers = (
        rf"{TIME} WARNING lro_grpc\.handler: {name}: asked for x\\n{re.escape(FORGED)}\\x1b.*"
    )
    assert any(re.fullmatch(handlers, head) for head in heads)
    assert any(re.search(f"{METHOD} in {name} raised unexpectedly", head) for head in heads)
    assert f"    {FORGED}\\x1b[31m" in lines


def test_a_level_alone_is_of_text(tmp_path: Path) -> None:
    _, stderr = logged(tmp_path, "--log-level", "CRITICAL", text="x")
    assert stderr == ""


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("--log-level", "loud", "'debug', 'info', 'warning', 'error', 'critical'"),
        ("--log-format", "xml", "'text', 'json'"),
    ],
)
@pytest.mark.parametrize("command", ["serve", "work"])
def test_a_value_that_there_is_not_is_refused_with_those_that_there_are(
    tmp_path: Path, command: str, option: str, value: str, allowed: str
) -> None:
    done = run(command, "a:b", "--store", "memory:", option, value, cwd=tmp_path)
    assert done.returncode == 2
    said = " ".join(done.stderr.replace("│", "").split())
    assert f"Invalid value for '{option}'" in said
    assert f"{value!r} is not one of {allowed}" in said


def test_json_without_its_package_prints_the_pip_line(tmp_path: Path) -> None:
    (tmp_path / "pythonjsonlogger.py").write_text("raise ModuleNotFoundError(name='x')")
    done = run_anew("serve", "--log-format", "json", "--listen", "127.0.0.1:0", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "lro: --log-format json needs python-json-logger: pip install 'lro-grpc[cli]'\n"
    )


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """The log of this process, which is as it was afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield logging.getLogger("test.lines")
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def test_a_level_is_that_of_all_loggers(log: logging.Logger) -> None:
    configure(None, LogLevel.ERROR)
    assert not log.isEnabledFor(logging.WARNING)
    configure(LogFormat.TEXT, None)
    assert log.isEnabledFor(logging.WARNING)
    assert not log.isEnabledFor(logging.INFO)


def test_without_an_option_the_log_is_left_alone(log: logging.Logger) -> None:
    before = logging.getLogger().handlers[:]
    configure(None, None)
    assert logging.getLogger().handlers == before


def test_json_has_no_message_with_colours_in_it(log: logging.Logger) -> None:
    configure(LogFormat.JSON, None)
    (lines,) = logging.getLogger().handlers
    extra = {"color_message": "\x1b[36mserved\x1b[0m", "size": 1}  # as uvicorn's records have it
    record = log.makeRecord("x", logging.INFO, "f", 1, "served", (), None, extra=extra)
    shown = json.loads(lines.format(record))
    assert (shown["message"], shown["size"]) == ("served", 1)
    assert "color_message" not in shown


def test_a_stack_is_indented_as_a_traceback_is(log: logging.Logger) -> None:
    record = log.makeRecord("x", logging.WARNING, "f", 1, "stands", (), None, sinfo="a\nb\rc")
    head, *below = TextLines().format(record).split("\n")
    assert head.endswith(" WARNING x: stands")
    assert below == ["    a", "    b", "    c"]
