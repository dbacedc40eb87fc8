"""``lro stats``: the numbers of operations, for people and for programs."""

from __future__ import annotations

import json
import re
import signal
from concurrent import futures
from datetime import datetime, timedelta, timezone
from typing import Any

import grpc
import pytest
import yaml
from cli_world import Fleet, World
from foreign_server import Foreign
from lro_process import SECONDS, Lro
from server_harness import PARENT, serving

from lro.v1 import operation_control_service_pb2_grpc, state_pb2
from lro.v1.operation_summary_pb2 import OperationCount, SummarizeOperationsResponse

METHOD = "lro.example.v1.FleetService/CreateInstance"


def test_a_table_has_a_row_for_each_method(world: World) -> None:
    running = world.create("hold", "one")
    world.server.wait(running, 0.2)
    world.done(world.create())
    world.done(world.create("fail"))
    world.batch()
    for arguments in ([], ["-"], [PARENT]):
        result = world.lro("stats", *arguments)
        assert (result.returncode, result.stderr) == (0, "")
        head, *rows, runs = result.stdout.splitlines()
        assert head.split() == ["method", "RUNNING", "SUCCEEDED", "FAILED"]
        assert [row.split() for row in rows] == [
            ["lro.example.v1.FleetService/BatchCreateInstances", "1", "-", "-"],
            [METHOD, "1", "1", "1"],
        ]
        assert re.fullmatch(rf"runs longest +{running}, for \d+ s", runs)


def test_a_filter_is_passed_on_with_its_times(world: World) -> None:
    world.done(world.create())
    for text in (
        "state = SUCCEEDED",
        "create_time > now-1h",
        f"create_time > now-1h AND method = /{METHOD}",
    ):
        result = world.lro("stats", "--filter", text)
        assert result.stdout.splitlines()[1].split() == [METHOD, "1"], text
    assert world.lro("stats", "--filter", "create_time < now-1h").stdout == "no operations\n"
    assert world.lro("stats", "projects/none").stdout == "no operations\n"


@pytest.mark.parametrize("wrong", [["a b"], ["--filter", "("], ["--filter", "x > now-999999999d"]])
def test_what_is_wrong_is_wrong_usage(world: World, wrong: list[str]) -> None:
    result = world.lro("stats", *wrong)
    assert (result.returncode, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr


def test_json_and_yaml_are_the_answer(world: World) -> None:
    world.done(world.create())
    told = json.loads(world.lro("stats", "-o", "json").stdout)
    state = "JOB_STATE_SUCCEEDED"
    assert told == {
        "counts": [{"method": METHOD, "state": state, "count": "1"}],
        "examinedCount": "1",
    }
    assert yaml.safe_load(world.lro("stats", "-o", "yaml").stdout) == told


def test_a_watch_goes_on_until_it_is_interrupted(world: World) -> None:
    with world.lro.started("stats", "--watch", "-o", "json") as process:
        assert json.loads(process.stdout.readline()) == {}
        world.done(world.create())
        while not (told := json.loads(process.stdout.readline())):
            pass
        assert told["examinedCount"] == "1"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=SECONDS)
    assert (process.returncode, stderr) == (130, "")
    with world.lro.started("stats", "--watch") as process:
        lines = [process.stdout.readline().split() for _ in range(5)]
    assert lines == [
        ["method", "SUCCEEDED"],
        [METHOD, "1"],
        [],
        ["method", "SUCCEEDED"],
        [METHOD, "1"],
    ]


def test_a_watch_on_a_terminal_leaves_its_cursor(world: World) -> None:
    world.done(world.create())
    code, written = world.lro.on_terminal("stats", "--watch", terminated_at="SUCCEEDED")
    assert code == 128 + signal.SIGTERM
    hidden, shown = "\x1b[?25l", "\x1b[?25h"
    assert written.rindex(hidden) < written.rindex(shown)


def test_a_server_without_numbers_is_said_to_have_none(foreign: Foreign) -> None:
    for options in ([], ["-o", "json"], ["--watch"]):
        result = Lro(foreign.target)("stats", *options)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr == "lro: no numbers: this server has no SummarizeOperations\n"


def test_a_refusal_is_one_line() -> None:
    allowed = {"operations.list", "operations.get"}
    with serving("sync", Fleet(), authorize=lambda access: access.permission in allowed) as server:
        result = Lro(server.target)("stats")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("lro: PERMISSION_DENIED: Permission 'operations.summarize'")


class Telling(operation_control_service_pb2_grpc.OperationControlServiceServicer):
    """A server of anyone's, which tells these numbers."""

    def __init__(self, summary: SummarizeOperationsResponse) -> None:
        self.summary = summary

    def SummarizeOperations(self, request: Any, context: Any) -> Any:
        return self.summary


def test_bounds_unknown_states_and_hostile_texts_are_shown() -> None:
    queued: Any = state_pb2.JOB_STATE_QUEUED
    later: Any = 77
    summary = SummarizeOperationsResponse(
        counts=[
            OperationCount(method="a\x1b[31m\nb", state=queued, count=100_000, lower_bound=True),
            OperationCount(method="c", state=later, count=2),
        ],
        oldest_ready_operation="operations/\x1b[31m",
        examined_count=20_000,
    )
    now = datetime.now(timezone.utc)
    summary.oldest_ready_time.FromDatetime(now - timedelta(hours=3))
    summary.oldest_attempt_start_time.seconds = 10**12  # after the year 9999
    summary.earliest_examined_create_time.FromDatetime(datetime(2026, 5, 1, 8, tzinfo=timezone.utc))
    server = grpc.server(futures.ThreadPoolExecutor(1))
    operation_control_service_pb2_grpc.add_OperationControlServiceServicer_to_server(
        Telling(summary), server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        result = Lro(f"127.0.0.1:{port}")("stats")
    finally:
        server.stop(None).wait(SECONDS)
    assert result.returncode == 0
    assert "\x1b" not in result.stdout
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["method", "QUEUED", "77"]
    assert lines[1].split()[-3:] == ["≥", "100,000", "-"]
    assert lines[2].split() == ["c", "-", "2"]
    assert lines[3].startswith("ready longest  operations/")
    assert lines[3].endswith(", for 3 h")
    assert lines[4] == "runs longest   a deleted operation, for -"
    assert lines[5] == "counted        among the newest 20,000, since 2026-05-01 08:00:00 UTC"
