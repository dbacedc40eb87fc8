"""``lro wait`` and ``lro watch``."""

from __future__ import annotations

import json
import re
import signal
from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from foreign_server import launch, serving_foreign
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import empty_pb2
from lro_process import SECONDS, Lro

if TYPE_CHECKING:
    from cli_world import World

OUTCOMES = [("", 0, "SUCCEEDED"), ("fail", 1, "FAILED")]


@pytest.mark.parametrize("command", ["wait", "watch"])
@pytest.mark.parametrize(("schema", "code", "state"), OUTCOMES)
def test_the_exit_code_is_the_outcome(
    world: World, command: str, schema: str, code: int, state: str
) -> None:
    result = world.lro(command, world.create(schema))
    assert (result.returncode, result.stderr) == (code, "")
    assert state in result.stdout


@pytest.mark.parametrize("command", ["wait", "watch"])
def test_a_cancelled_operation_exits_with_3(world: World, command: str) -> None:
    name = world.create("hold")
    world.server.cancel(name)
    assert world.lro(command, name).returncode == 3


@pytest.mark.parametrize("command", ["wait", "watch"])
def test_a_timeout_exits_with_4_and_names_the_operation(world: World, command: str) -> None:
    name = world.create("hold")
    result = world.lro(command, name, "--timeout", "0.2")
    assert result.returncode == 4
    assert result.stderr.startswith(f"lro: {name} is not done after ")
    assert len(result.stderr.splitlines()) == 1
    assert not world.server.get(name).done


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_wait_shows_one_operation(world: World, output: str) -> None:
    name = world.create("fail")
    waited, got = (world.lro(command, name, "-o", output) for command in ("wait", "get"))
    assert waited.returncode == 1
    assert sorted(waited.stdout.splitlines()) == sorted(got.stdout.splitlines())


@pytest.mark.parametrize("command", ["wait", "watch"])
def test_an_operation_that_does_not_exist_is_an_error_at_once(world: World, command: str) -> None:
    result = world.lro(command, "operations/missing")
    assert result.returncode == 1
    assert result.stderr.startswith("lro: NOT_FOUND: ")


def read_until(process: Any, text: str) -> str:
    """Reads lines until one has the text."""
    assert process.stdout is not None
    read = ""
    while text not in (line := process.stdout.readline()):
        assert line, f"it ended before it said {text!r}: {read}"
        read += line
    return read + line


def test_watch_prints_a_line_for_each_change(world: World) -> None:
    name = world.batch()
    with world.lro.started("watch", name) as process:
        begun = read_until(process, "RUNNING  50%  creating two").splitlines()
        world.fleet.may_go_on.set()
        rest, stderr = process.communicate(timeout=SECONDS)
    assert begun[-4:-1] == ["  one  READY", "  two  CREATING", "  three  PENDING_CREATE"]
    assert rest.splitlines()[-1].startswith("FAILED  50%  RESOURCE_EXHAUSTED: no room")
    assert "  one  ROLLED_BACK" in rest.splitlines()
    assert "  two  FAILED  RESOURCE_EXHAUSTED: no room" in rest.splitlines()
    assert (process.returncode, stderr) == (1, "")


def test_watch_as_json_prints_each_state_and_the_last_one_is_done(world: World) -> None:
    name = world.create("hold")
    with world.lro.started("watch", name, "-o", "json") as process:
        first = read_until(process, '"progressPercent": 40').splitlines()
        world.fleet.may_go_on.set()
        rest, _ = process.communicate(timeout=SECONDS)
    states = [json.loads(line) for line in (*first, *rest.splitlines())]
    assert {state["name"] for state in states} == {name}
    assert [state.get("done", False) for state in states] == [False] * (len(states) - 1) + [True]
    assert process.returncode == 0


def test_watch_on_a_terminal_draws_a_bar_and_a_table(world: World) -> None:
    name = world.batch()
    world.fleet.may_go_on.set()
    code, written = world.lro.on_terminal("watch", name)
    assert code == 1
    screen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written).replace("\r", "")
    assert screen.startswith(f"{name}\nbatchCreate\n")
    last = screen[screen.rindex("FAILED  ━") :].splitlines()
    assert re.fullmatch(r"FAILED +[━╸╺]+ +50% +\d:\d\d:\d\d *", last[0])
    assert last[1].strip() == "RESOURCE_EXHAUSTED: no room"
    assert [line.split()[:2] for line in last[2:6]] == [
        ["instance", "state"],
        ["one", "ROLLED_BACK"],
        ["two", "FAILED"],
        ["three", "FAILED"],
    ]


def test_watch_leaves_a_terminal_with_its_cursor_when_it_is_terminated(world: World) -> None:
    """As ``timeout 10 lro watch`` ends it."""
    code, written = world.lro.on_terminal("watch", world.create("hold"), terminated_at="40%")
    assert code == 128 + signal.SIGTERM
    hidden, shown = "\x1b[?25l", "\x1b[?25h"
    assert written.rindex(hidden) < written.rindex(shown)
    assert "Traceback" not in written


@pytest.mark.parametrize("version", ["v1", ""])
def test_watch_shows_an_operation_of_a_server_that_has_only_get(version: str) -> None:
    with serving_foreign(version) as foreign:
        name = foreign.put(launch(done=False))
        with Lro(foreign.target).started("watch", name) as process:
            first = read_until(process, "RUNNING")
            foreign.put(launch())
            rest, stderr = process.communicate(timeout=SECONDS)
    detail = "  60%  fuelling" if version else ""
    assert (first + rest).splitlines() == [f"RUNNING{detail}", f"SUCCEEDED{detail}"]
    assert process.returncode == 0
    assert ("LaunchMetadata is not known here" in stderr) == (not version)


@pytest.mark.parametrize(
    ("arguments", "code", "shown"),
    [
        (["wait"], 1, "FAILED"),
        (["watch"], 1, "FAILED  UNKNOWN: no fuel"),
        (["get", "--as", "vertex_ai"], 0, '"JOB_STATE_FAILED"'),
        (["get", "--as", "deployment_manager"], 0, '"httpErrorStatusCode": 500'),
    ],
)
def test_an_error_without_a_code_is_a_failure(arguments: list[str], code: int, shown: str) -> None:
    failed = operations_pb2.Operation(name="operations/x", done=True, error={"message": "no fuel"})
    with serving_foreign() as foreign:
        result = Lro(foreign.target)(*arguments, foreign.put(failed))
    assert shown in result.stdout
    assert (result.returncode, result.stderr) == (code, "")


@pytest.mark.parametrize("command", ["wait", "watch"])
def test_a_wait_that_says_done_and_no_more_is_not_believed(command: str) -> None:
    with serving_foreign("v1") as foreign:
        name = foreign.put(launch(done=False))
        foreign.wait = operations_pb2.Operation(name=name, done=True, response={})
        asked = foreign.expect(12)  # it is polled
        with Lro(foreign.target).started(command, name) as process:
            assert asked.wait(SECONDS)
            foreign.put(launch())
            stdout, stderr = process.communicate(timeout=SECONDS)
    assert (process.returncode, stderr) == (0, "")
    assert "SUCCEEDED" in stdout


@pytest.mark.parametrize("command", ["wait", "watch"])
def test_poll_asks_by_get_alone(command: str) -> None:
    with serving_foreign("v1") as foreign:
        name = foreign.put(launch(done=False))
        foreign.wait = launch()  # it is not true, and lacks nothing
        asked = foreign.expect(4)
        with Lro(foreign.target).started(command, name, "--poll") as process:
            assert asked.wait(SECONDS)
            foreign.put(launch())
            stdout, stderr = process.communicate(timeout=SECONDS)
        was_asked_to_wait = any(
            isinstance(request, operations_pb2.WaitOperationRequest) for request in foreign.requests
        )
    assert (process.returncode, stderr) == (0, "")
    assert "SUCCEEDED" in stdout
    assert not was_asked_to_wait


def test_a_cancel_that_waits_may_poll() -> None:
    class Operations(operations_pb2_grpc.OperationsServicer):
        is_cancelled = False

        def GetOperation(self, request: Any, context: Any) -> Any:
            error = {"code": 1} if self.is_cancelled else None
            return operations_pb2.Operation(name=request.name, done=self.is_cancelled, error=error)

        def CancelOperation(self, request: Any, context: Any) -> Any:
            self.is_cancelled = True
            return empty_pb2.Empty()

    class Counts(grpc.ServerInterceptor):
        def intercept_service(self, continuation: Any, details: Any) -> Any:
            methods.append(details.method.rpartition("/")[2])
            return continuation(details)

    methods: list[str] = []
    server = grpc.server(futures.ThreadPoolExecutor(2), interceptors=[Counts()])
    operations_pb2_grpc.add_OperationsServicer_to_server(Operations(), server)
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        result = Lro(target)("cancel", "operations/x", "--wait", "--poll")
    finally:
        server.stop(None).wait()
    assert (result.returncode, result.stderr) == (3, "")
    assert "  state      CANCELLED\n" in result.stdout
    called = [one for one in methods if one.endswith("Operation")]
    assert called == ["GetOperation", "CancelOperation", "GetOperation"]


@pytest.mark.parametrize("command", ["wait", "watch"])
def test_ctrl_c_leaves_the_operation_alone_and_says_so(command: str) -> None:
    with serving_foreign() as foreign:
        name = foreign.put(operations_pb2.Operation(name="operations/x"))
        asked = foreign.expect(3)
        with Lro(foreign.target).started(command, name) as process:
            assert asked.wait(SECONDS)  # it is in the middle of polling
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert stderr == (
        "lro: operations/x goes on;"
        " see `lro watch operations/x`, or end it with `lro cancel operations/x`\n"
    )
