"""The life of a server: run, drain, restart, and one process at a time on a file."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import signal
import socket
import subprocess
import threading
from concurrent import futures
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from forked import ForkServer
from google.longrunning import operations_pb2_grpc
from server_harness import (
    PARENT,
    SECONDS,
    Gate,
    Held,
    Instance,
    async_handler,
    defined_with,
    error_info,
    errors_logged,
    fleet,
    in_thread,
    metadata_of,
    refused,
    response_of,
    wait_request,
)

import lro_grpc
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc
from lro.v1 import state_pb2
from lro_grpc._runtime.clock import SystemClock
from lro_grpc.engines import InProcess, Workbench
from lro_grpc.stores import ForwardingStore, MemoryStore
from lro_grpc.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Serve = Any


SCRIPT = Path(__file__).with_name("fleet_process.py")
STUBBORN = Path(__file__).with_name("stubborn_process.py")
FORKS = {
    script: ForkServer(
        f"{script}:run",
        # What it would import when it is first used.
        "grpc._server",
        "lro_grpc._engine.inprocess",
        "lro_grpc._server.operations",
        "lro_grpc._stores.open_url",
        "lro_grpc._stores.sqlite.store",
        options=["-W", "error"],
    )
    for script in (SCRIPT, STUBBORN)
}


class Process:
    """A ``fleet_process.py`` that runs, and a client of it."""

    def __init__(self, *arguments: str, script: Path = SCRIPT) -> None:
        pipe = subprocess.PIPE
        self.process = FORKS[script].start(
            list(arguments),
            os.environ,
            Path.cwd(),
            (pipe, pipe, pipe),
            leads_group=True,  # as a service manager starts it
        )
        self.channel: Any = contextlib.ExitStack()

    def listening(self) -> Process:
        """Returns itself, once it serves."""
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.reported('listening')}")
        self.fleet = fleet_service_pb2_grpc.FleetServiceStub(self.channel)
        self.lro = operations_pb2_grpc.OperationsStub(self.channel)
        return self

    def reported(self, word: str) -> str:
        """Returns the rest of the next line, which begins with this word."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith(word), (line, self.process.stderr and self.process.stderr.read())
        return line.removeprefix(word).strip()

    def drained(self) -> None:
        """Reads up to the last line; what is given back may begin once more before the drain."""
        while (line := self.reported("")).startswith("began"):
            pass
        assert line == "drained"

    def go_on(self) -> None:
        """Lets go on what is held."""
        assert self.process.stdin is not None
        self.process.stdin.write("go on\n")
        self.process.stdin.flush()

    def create(self, **fields: Any) -> Any:
        request = fleet_service_pb2.CreateInstanceRequest(parent=PARENT, **fields)
        return self.fleet.CreateInstance(request, timeout=SECONDS, wait_for_ready=True)

    def ended(self) -> tuple[int, str]:
        """Returns the exit code and what was written to stderr."""
        _, errors = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, errors


@pytest.fixture
def spawn() -> Iterator[Any]:
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, script: Path = SCRIPT) -> Process:
            process = Process(*arguments, script=script)
            stack.callback(lambda: process.channel.close())
            stack.callback(process.process.communicate)
            stack.callback(process.process.kill)
            return process

        yield start


# Run and drain


@pytest.mark.parametrize("kind", ["swallows", "children", "blocks"])
def test_a_handler_that_never_ends_does_not_keep_the_process(
    stack: str, file_url: str, spawn: Any, serve: Serve, kind: str
) -> None:
    """It ends after the grace, and the next process takes the operation over."""
    process = spawn(stack, file_url, kind, script=STUBBORN).listening()
    name = process.create(instance_id="i").name
    assert process.reported("began") == f"{name} 1"
    process.process.send_signal(signal.SIGTERM)
    assert process.reported("drained") == ""
    code, errors = process.ended()
    assert code == 0
    assert "Traceback" not in errors
    assert "was destroyed" not in errors

    async def run(self: Any, request: Any, op: Any) -> Any:
        return Instance(name=request.instance_id, seed_rows=op.attempt)

    again = serve(fleet("CreateInstance", run), store=file_url)
    assert again.operations.recovered == 1
    assert response_of(again.done(name)) == Instance(name="i", seed_rows=2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_drains_the_server(
    stack: str, file_url: str, spawn: Any, serve: Serve, number: signal.Signals
) -> None:
    """Every Wait is answered, the running operation is given back and runs again at once."""
    process = spawn(stack, file_url).listening()
    name = process.create(instance_id="i").name
    assert process.reported("began") == f"{name} 1"
    waiting = process.lro.WaitOperation.future(wait_request(name, 600), timeout=SECONDS)
    process.lro.WaitOperation(wait_request(name, 0), timeout=SECONDS)  # the first is in by then
    process.process.send_signal(number)

    latest = waiting.result(SECONDS)  # the latest state, not an error
    assert latest.name == name
    assert not latest.done
    assert metadata_of(latest).state == state_pb2.JOB_STATE_RUNNING
    assert process.reported("drained") == ""
    code, errors = process.ended()
    assert (code, errors) == (0, "")

    async def run(self: Any, request: Any, op: Any) -> Any:
        return Instance(name=request.instance_id, seed_rows=op.attempt)

    again = serve(fleet("CreateInstance", run), store=file_url)
    assert again.operations.recovered == 0  # it was given back, not taken
    done = again.done(name)
    assert response_of(done) == Instance(name="i", seed_rows=2)
    assert metadata_of(done).attempt == 2
    assert metadata_of(done).start_time == metadata_of(latest).start_time


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_ends_a_start_that_waits_for_the_database(
    stack: str, spawn: Any, number: signal.Signals
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as database:
        database.settimeout(SECONDS)
        address = f"127.0.0.1:{database.getsockname()[1]}"
        process = spawn(stack, f"postgresql://u@{address}/db?connect_timeout=3600")
        connection, _ = database.accept()
        with connection:
            assert connection.recv(1)  # the first request of the driver, which is never answered
            process.process.send_signal(number)
            assert process.reported("drained") == ""
            assert process.ended() == (0, "")


def test_the_longest_grace_can_be_waited_for(stack: str, spawn: Any) -> None:
    """No thread of Python's can wait for more than 292 years."""
    longest = timedelta(days=365_000)
    process = spawn(stack, "memory:", "nothing", "0", str(longest.total_seconds())).listening()
    name = process.create(instance_id="i").name
    assert process.reported("began") == f"{name} 1"
    process.process.send_signal(signal.SIGTERM)
    assert process.reported("drained") == ""
    assert process.ended() == (0, "")


def check_given_back(serve: Serve, file_url: str, names: dict[str, str]) -> None:
    """Has the next process end the operations of these instances, each in its second attempt."""

    async def run(self: Any, request: Any, op: Any) -> Any:
        return Instance(name=request.instance_id, seed_rows=op.attempt)

    again = serve(fleet("CreateInstance", run), store=file_url)
    assert again.operations.recovered == 0
    for instance, name in names.items():
        assert response_of(again.done(name)) == Instance(name=instance, seed_rows=2)


@pytest.mark.parametrize(
    ("stack", "draining"), [("sync", "hold"), ("aio", "hold-async")], indirect=["stack"]
)
def test_a_drain_is_announced_before_anything_is_refused(
    stack: str, file_url: str, spawn: Any, serve: Serve, draining: str
) -> None:
    """Until ``draining`` has returned, the server serves; a second SIGTERM changes nothing then."""
    process = spawn(stack, file_url, draining).listening()
    name = process.create(instance_id="i").name
    assert process.reported("began") == f"{name} 1"
    waiting = process.lro.WaitOperation.future(wait_request(name, 600), timeout=SECONDS)
    process.process.send_signal(signal.SIGTERM)
    assert process.reported("draining") == ""
    late = process.create(instance_id="late").name
    assert process.reported("began") == f"{late} 1"
    assert not waiting.done()
    process.process.send_signal(signal.SIGTERM)
    process.lro.WaitOperation(wait_request(name, 0), timeout=SECONDS)
    assert not waiting.done()
    process.go_on()
    assert not waiting.result(SECONDS).done
    assert process.reported("drained") == ""
    assert process.ended() == (0, "")
    check_given_back(serve, file_url, {"i": name, "late": late})


@pytest.mark.parametrize(
    ("stack", "draining"), [("sync", "hold"), ("aio", "hold-async")], indirect=["stack"]
)
def test_a_lame_duck_serves_until_ctrl_c(
    stack: str, file_url: str, spawn: Any, serve: Serve, draining: str
) -> None:
    """Nothing is refused or answered early, however many SIGTERM come."""
    process = spawn(stack, file_url, draining, "3600").listening()
    name = process.create(instance_id="i").name
    assert process.reported("began") == f"{name} 1"
    waiting = process.lro.WaitOperation.future(wait_request(name, 600), timeout=SECONDS)
    process.lro.WaitOperation(wait_request(name, 0), timeout=SECONDS)
    process.process.send_signal(signal.SIGTERM)
    assert process.reported("draining") == ""
    process.process.send_signal(signal.SIGTERM)
    process.go_on()
    late = process.create(instance_id="late").name
    assert process.reported("began") == f"{late} 1"
    assert not waiting.done()
    process.process.send_signal(signal.SIGINT)
    assert not waiting.result(SECONDS).done
    assert process.reported("drained") == ""
    assert process.ended() == (0, "")
    check_given_back(serve, file_url, {"i": name, "late": late})


def test_the_log_says_that_a_lame_duck_serves_and_when_it_drains(
    stack: str, caplog: pytest.LogCaptureFixture
) -> None:
    operations = lro_grpc.Operations("memory:")
    caplog.set_level(logging.INFO, "lro_grpc")

    def kill(number: int) -> Callable[[], None]:
        return lambda: signal.raise_signal(number)

    def run(server: Any) -> Any:
        operations.attach(server)
        return operations.run(
            server,
            ready=kill(signal.SIGTERM),
            draining=kill(signal.SIGINT),  # heard when the lame duck has begun
            lame_duck=timedelta(hours=1),
        )

    async def run_aio() -> None:
        await run(grpc.aio.server())

    if stack == "aio":
        asyncio.run(run_aio())
    else:
        run(grpc.server(futures.ThreadPoolExecutor(2)))
    wanted = [
        "SIGTERM received",
        "a lame duck: goes on to serve for 3600 s, then drains",
        "draining",
    ]
    assert [one for one in caplog.messages if one in wanted] == wanted


def test_a_lame_duck_is_not_said_to_be_serving(stack: str, file_url: str, spawn: Any) -> None:
    process = spawn(stack, file_url, "health", "3600").listening()
    process.process.send_signal(signal.SIGTERM)
    assert process.reported("draining") == "is_serving: False"
    process.process.send_signal(signal.SIGINT)
    assert process.reported("drained") == ""


def test_operations_are_serving_from_their_start_to_their_stop(serve: Serve, held: Held) -> None:
    assert not lro_grpc.Operations("memory:").is_serving
    server = serve(held.servicer())
    assert server.operations.is_serving
    server.close()
    assert not server.operations.is_serving


def test_a_lame_duck_drains_when_its_time_is_over(stack: str, file_url: str, spawn: Any) -> None:
    process = spawn(stack, file_url, "print", "0.5").listening()
    process.process.send_signal(signal.SIGTERM)
    assert process.reported("draining") == ""
    assert process.reported("drained") == ""
    assert process.ended() == (0, "")


def test_one_more_sigterm_does_not_cut_the_drain_short(
    stack: str, file_url: str, spawn: Any, serve: Serve
) -> None:
    """A launcher may pass on one that all its group has had."""
    process = spawn(stack, file_url).listening()
    name = process.create(instance_id="unwinds").name
    assert process.reported("began") == f"{name} 1"
    process.process.send_signal(signal.SIGTERM)
    assert process.reported("unwinding") == ""
    for _ in range(3):
        process.process.send_signal(signal.SIGTERM)
    process.go_on()
    assert process.reported("drained") == ""
    assert process.ended() == (0, "")

    async def run(self: Any, request: Any, op: Any) -> Any:
        return Instance(seed_rows=op.attempt)

    again = serve(fleet("CreateInstance", run), store=file_url)
    assert again.operations.recovered == 0  # it was given back
    assert response_of(again.done(name)).seed_rows == 2


def test_ctrl_c_cuts_the_drain_short(stack: str, file_url: str, spawn: Any) -> None:
    process = spawn(stack, file_url).listening()
    name = process.create(instance_id="unwinds").name
    assert process.reported("began") == f"{name} 1"
    process.process.send_signal(signal.SIGINT)
    assert process.reported("unwinding") == ""
    process.process.send_signal(signal.SIGINT)
    process.go_on()
    code, errors = process.ended()
    assert code != 0
    assert errors.strip().endswith("KeyboardInterrupt")


def test_a_drain_whose_store_has_lost_its_file_leaves_nothing_that_goes_on(
    stack: str, tmp_path: Path, spawn: Any
) -> None:
    file = tmp_path / "o.db"
    process = spawn(stack, f"sqlite:///{file}", "print", "3600").listening()
    name = process.create(instance_id="i").name
    assert process.reported("began") == f"{name} 1"
    process.process.send_signal(signal.SIGTERM)
    assert process.reported("draining") == ""
    file.unlink()
    with pytest.raises(grpc.RpcError) as raised:
        process.create(instance_id="late")
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert process.lro.WaitOperation(wait_request(name, 0), timeout=SECONDS).name == name
    process.process.send_signal(signal.SIGINT)
    assert process.reported("drained") == ""
    code, errors = process.ended()
    assert code == 0
    assert "is gone" in errors
    assert "is closed" not in errors
    assert "was destroyed" not in errors


@pytest.mark.parametrize("wrong", [timedelta(seconds=-1), None, "5s"])
def test_a_lame_duck_that_is_no_time_is_refused(file_url: str, wrong: Any) -> None:
    operations = lro_grpc.Operations(file_url)
    server = grpc.server(futures.ThreadPoolExecutor(2))
    with pytest.raises(lro_grpc.ConfigurationError, match="lame_duck is"):
        operations.run(operations.attach(server), lame_duck=wrong)


def test_a_draining_that_fails_is_raised_and_the_server_drains_all_the_same(
    stack: str, file_url: str, spawn: Any, serve: Serve
) -> None:
    process = spawn(stack, file_url, "raise").listening()
    name = process.create(instance_id="i").name
    assert process.reported("began") == f"{name} 1"
    waiting = process.lro.WaitOperation.future(wait_request(name, 600), timeout=SECONDS)
    process.lro.WaitOperation(wait_request(name, 0), timeout=SECONDS)
    process.process.send_signal(signal.SIGTERM)
    assert process.reported("draining") == ""
    assert not waiting.result(SECONDS).done
    code, errors = process.ended()
    assert code == 1
    assert errors.strip().endswith("RuntimeError: the load balancer does not answer")

    async def run(self: Any, request: Any, op: Any) -> Any:
        return Instance(seed_rows=op.attempt)

    again = serve(fleet("CreateInstance", run), store=file_url)
    assert again.operations.recovered == 0  # it was given back
    assert response_of(again.done(name)).seed_rows == 2


@pytest.mark.parametrize("option", ["ready", "draining"])
def test_a_grpc_server_cannot_await_a_coroutine(file_url: str, option: str) -> None:
    async def tell() -> None: ...

    operations = lro_grpc.Operations(file_url)
    server = grpc.server(futures.ThreadPoolExecutor(1))
    with pytest.raises(lro_grpc.ConfigurationError, match=f"{option} is a coroutine function"):
        operations.run(operations.attach(server), **{option: tell})  # type: ignore[call-overload]


def test_a_grpc_aio_server_awaits_what_is_ready(file_url: str) -> None:
    async def main() -> bool:
        operations = lro_grpc.Operations(file_url)
        server = grpc.aio.server()
        operations.attach(server)
        server.add_insecure_port("127.0.0.1:0")

        async def ready() -> None:
            await asyncio.sleep(0)
            told.append(operations.is_serving)
            await server.stop(None)

        told: list[bool] = []
        await asyncio.wait_for(operations.run(server, ready=ready), SECONDS)
        return told == [True]

    assert in_thread(lambda: asyncio.run(main())).result(2 * SECONDS)


def test_an_exit_in_a_prepare_ends_neither_the_call_nor_the_server(stack: str, spawn: Any) -> None:
    """It is a slip of the handler, not a decision about the process."""
    process = spawn(stack, "memory:").listening()
    failure = refused(lambda: process.create(instance_id="exit"))
    assert failure.code is grpc.StatusCode.INTERNAL
    assert failure.info.reason == "UNEXPECTED"
    assert process.create(instance_id="i").name
    process.process.send_signal(signal.SIGTERM)
    code, _ = process.ended()
    assert code == 0


def test_a_keyboard_interrupt_of_the_services_own_ends_only_what_has_raised_it(
    stack: str, file_url: str, spawn: Any
) -> None:
    """Ctrl-C is a signal, and the server's handler of it raises nothing."""
    process = spawn(stack, file_url).listening()
    name = process.create(instance_id="interrupt").name
    assert process.reported("began") == f"{name} 1"
    ended = process.lro.WaitOperation(wait_request(name, 5), timeout=SECONDS)
    assert error_info(ended.error).reason == "UNEXPECTED"
    failure = refused(lambda: process.create(instance_id="interrupt-prepare"))
    assert failure.info.reason == "UNEXPECTED"
    name = process.create(instance_id="i").name
    assert process.reported("began") == f"{name} 1"
    process.process.send_signal(signal.SIGINT)
    assert process.reported("drained") == ""
    assert process.ended()[0] == 0


def test_ctrl_c_where_python_raises_it_ends_the_program_and_no_operation(
    file_url: str, spawn: Any, serve: Serve
) -> None:
    process = spawn("own-loop", file_url).listening()
    name = process.create(instance_id="ctrl-c").name
    assert process.reported("began") == f"{name} 1"
    _, errors = process.ended()
    assert errors.strip().endswith("KeyboardInterrupt")

    async def run(self: Any, request: Any, op: Any) -> Any:
        return Instance(seed_rows=op.attempt)

    again = serve(fleet("CreateInstance", run), store=file_url)
    assert response_of(again.done(name)).seed_rows == 2


CALLS_WITH_CHILDREN = {
    "def": lambda process: process.fleet.BatchCreateInstances(
        fleet_service_pb2.BatchCreateInstancesRequest(parent=PARENT)
    ),
    "async def": lambda process: process.create(instance_id="child"),
    "batch": lambda process: process.create(instance_id="child-of-batch"),
}


@pytest.mark.parametrize("call", CALLS_WITH_CHILDREN)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_to_all_processes_of_the_group_fails_no_operation(
    stack: str, file_url: str, spawn: Any, serve: Serve, number: signal.Signals, call: str
) -> None:
    """As systemd, ``timeout`` and a terminal send it: a handler's child may end first."""
    for attempt in range(1, 6):
        process = spawn(stack, file_url)
        if attempt == 1:
            name = CALLS_WITH_CHILDREN[call](process.listening()).name
        else:
            process.reported("")  # it listens, before or after the attempt begins
        process.reported("")
        os.killpg(process.process.pid, number)
        process.drained()
        assert process.ended()[0] == 0

    async def run(self: Any, request: Any, op: Any) -> Any:
        if call == "batch":
            await op.batch(["one"], create=made, delete=made)
        return RESPONSES[method]

    async def made(target: str) -> None: ...

    method = "BatchCreateInstances" if call == "def" else "CreateInstance"
    done = serve(fleet(method, run), store=file_url).done(name)
    assert done.HasField("response"), done
    assert metadata_of(done).attempt >= 6  # what is given back may begin once more before the drain


RESPONSES = {
    "BatchCreateInstances": fleet_service_pb2.BatchCreateInstancesResponse(),
    "CreateInstance": Instance(),
}


@pytest.mark.parametrize(
    ("stack", "draining"), [("sync", "hold"), ("aio", "hold-async")], indirect=["stack"]
)
def test_a_handler_sees_the_signal_before_anything_is_drained(
    stack: str, file_url: str, spawn: Any, draining: str
) -> None:
    process = spawn(stack, file_url, draining).listening()
    request = fleet_service_pb2.DeleteInstanceRequest(name=f"{PARENT}/instances/i")
    name = process.fleet.DeleteInstance(request).name
    assert process.reported("began") == f"{name} 1"
    process.process.send_signal(signal.SIGTERM)
    lines = sorted(process.reported("") for _ in range(3))
    assert lines == [f"began {name} 2", "draining", "stopped SHUTDOWN"]
    process.go_on()
    assert process.reported("stopped") == "SHUTDOWN"
    assert process.reported("drained") == ""


def test_after_a_kill_the_operation_is_taken_over_at_once(
    stack: str, file_url: str, spawn: Any, serve: Serve
) -> None:
    """The lock on the file proves that its former owner is gone (R6)."""
    process = spawn(stack, file_url).listening()
    name = process.create().name
    assert process.reported("began") == f"{name} 1"
    process.process.kill()
    process.process.wait(SECONDS)

    async def run(self: Any, request: Any, op: Any) -> Any:
        return Instance(seed_rows=op.attempt)

    again = serve(fleet("CreateInstance", run), store=file_url)
    assert again.operations.recovered == 1
    assert response_of(again.done(name)).seed_rows == 2


@async_handler
def test_a_second_process_on_the_file_is_refused(
    serve: Serve, held: Held, file_url: str, stack: str, spawn: Any
) -> None:
    first = serve(held.servicer(), store=file_url)
    name = first.create().name
    held.next()
    second = spawn(stack, file_url)
    code, errors = second.ended()
    assert code == 1
    last = errors.strip().splitlines()[-1]
    assert "ConfigurationError" in last
    assert "in use by another process" in last
    assert file_url.removeprefix("sqlite:///") in last
    held.gate.open()
    assert first.done(name).HasField("response")  # nothing has happened to the first one


@async_handler
def test_a_second_server_in_the_same_process_is_refused_and_leaves_nothing(
    serve: Serve, held: Held, file_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = serve(held.servicer(), store=file_url)
    name = first.create().name
    held.next()
    with pytest.raises(lro_grpc.ConfigurationError) as raised:
        serve(held.servicer(), store=file_url)
    assert raised.value.reason == "STORE_IN_USE"
    assert "stop the other one" in raised.value.message
    held.gate.open()
    first.done(name)
    first.stop()
    assert serve(held.servicer(), store=file_url).get(name).done
    assert errors_logged(caplog) == []


def test_a_refused_start_leaves_no_thread_behind(file_url: str) -> None:
    holder = lro_grpc.Operations(file_url)
    holder.start_sync()
    before = set(threading.enumerate())
    refused_one = lro_grpc.Operations(file_url)
    with pytest.raises(lro_grpc.ConfigurationError):
        refused_one.start_sync()
    left = set(threading.enumerate()) - before
    holder.stop_sync(lambda: None)
    assert left == set()


def test_a_server_that_cannot_be_stopped_keeps_no_file(stack: str, file_url: str) -> None:
    before = set(threading.enumerate())

    async def fail() -> None:
        raise ZeroDivisionError

    async def main(operations: lro_grpc.Operations) -> None:
        await operations.start()
        await operations.stop(fail)

    def main_sync(operations: lro_grpc.Operations) -> None:
        operations.start_sync()
        operations.stop_sync(lambda: 1 / 0)

    failed = lro_grpc.Operations(file_url)
    with pytest.raises(ZeroDivisionError):
        main_sync(failed) if stack == "sync" else asyncio.run(main(failed))
    assert not failed.is_serving
    again = lro_grpc.Operations(file_url)
    again.start_sync()
    again.stop_sync(lambda: None)
    for thread in set(threading.enumerate()) - before:
        thread.join(SECONDS)  # its work is over; it may take a moment to end
        assert not thread.is_alive(), thread


def test_operations_start_once(stack: str, file_url: str) -> None:
    """A second start would run them twice, or end those that run."""
    operations = lro_grpc.Operations(file_url)
    already = pytest.raises(lro_grpc.ConfigurationError, match="have started already")

    async def nothing() -> None: ...

    async def main() -> None:
        await operations.start()
        with already:
            await operations.start()
        with already:
            await operations.run(grpc.aio.server())
        assert operations.is_serving
        await operations.stop(nothing)
        with already:
            await operations.start()

    if stack == "aio":
        asyncio.run(main())
    else:
        before = set(threading.enumerate())
        operations.start_sync()
        with already:
            operations.start_sync()
        with already:
            operations.run(grpc.server(futures.ThreadPoolExecutor(1)))
        assert operations.is_serving
        operations.stop_sync(lambda: None)
        with already:
            operations.start_sync()
        assert set(threading.enumerate()) <= before
    again = lro_grpc.Operations(file_url)  # the file is free
    again.start_sync()
    again.stop_sync(lambda: None)


def test_of_operations_that_do_not_run_only_the_server_is_stopped(file_url: str) -> None:
    before = set(threading.enumerate())
    stopped: list[int] = []
    operations = lro_grpc.Operations(file_url)
    operations.stop_sync(lambda: stopped.append(1))
    operations.start_sync()
    operations.stop_sync(lambda: stopped.append(2))
    operations.stop_sync(lambda: stopped.append(3))
    assert stopped == [1, 2, 3]
    assert set(threading.enumerate()) <= before

    async def stop() -> None:
        stopped.append(4)

    asyncio.run(operations.stop(stop))
    assert stopped == [1, 2, 3, 4]


# Run in a thread, where Python allows no signal handlers


def test_run_ends_when_its_server_is_stopped(stack: str, file_url: str) -> None:
    """Whoever embeds the server stops it; run then winds the operations up and returns."""
    operations = lro_grpc.Operations(file_url)
    started: futures.Future[Any] = futures.Future()

    def prepare(server: Any) -> Any:
        registrar = operations.attach(server)
        fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(
            fleet_service_pb2_grpc.FleetServiceServicer(), registrar
        )
        return registrar

    if stack == "sync":
        server = grpc.server(futures.ThreadPoolExecutor(4))
        registrar = prepare(server)
        port = server.add_insecure_port("127.0.0.1:0")
        running = in_thread(lambda: operations.run(registrar))
        stop: Any = lambda: server.stop(0).wait(SECONDS)  # noqa: E731
    else:

        async def main() -> None:
            server = grpc.aio.server()
            registrar = prepare(server)
            port = server.add_insecure_port("127.0.0.1:0")
            started.set_result((port, server, asyncio.get_running_loop()))
            await operations.run(registrar)

        running = in_thread(lambda: asyncio.run(main()))
        port, aio_server, loop = started.result(SECONDS)
        stop = lambda: asyncio.run_coroutine_threadsafe(aio_server.stop(0), loop)  # noqa: E731

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = operations_pb2_grpc.OperationsStub(channel)
        with pytest.raises(grpc.RpcError) as raised:
            stub.WaitOperation(
                wait_request("operations/x", 0), timeout=SECONDS, wait_for_ready=True
            )
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND
        assert not running.done()
        stop()
        assert running.result(SECONDS) is None
    again = lro_grpc.Operations(file_url)  # the file is free
    again.start_sync()
    again.stop_sync(lambda: None)


def test_a_run_that_is_cancelled_leaves_no_task_behind(file_url: str) -> None:
    async def main() -> set[asyncio.Task[Any]]:
        before = asyncio.all_tasks()
        operations = lro_grpc.Operations(file_url)
        server = grpc.aio.server()
        operations.attach(server)
        server.add_insecure_port("127.0.0.1:0")
        ready = asyncio.Event()
        running = asyncio.create_task(operations.run(server, ready=ready.set))
        await ready.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert running.cancelled()
        return asyncio.all_tasks() - before

    assert in_thread(lambda: asyncio.run(main())).result(SECONDS) == set()


# Stop and start again on the same file


def test_stopping_gives_a_running_async_operation_back(
    serve: Serve, file_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    held = Held("async def")
    first = serve(held.servicer(), store=file_url)
    name = first.create(instance_id="i").name
    assert held.next() == name
    first.stop()

    held.gate.open()
    second = serve(held.servicer(), store=file_url)
    assert second.operations.recovered == 0
    assert response_of(second.done(name)) == Instance(name=f"{PARENT}/instances/i", seed_rows=2)
    assert errors_logged(caplog) == []


def test_stopping_gives_a_def_back_that_looks_whether_it_has_to_stop(
    serve: Serve, file_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    held = Held("def")
    first = serve(held.servicer(), store=file_url)
    name = first.create(instance_id="i").name
    assert held.next() == name
    first.stop()

    held.gate.open()
    second = serve(held.servicer(), store=file_url)
    assert second.operations.recovered == 0
    assert response_of(second.done(name)).seed_rows == 2
    assert errors_logged(caplog) == []


def test_a_thread_that_goes_on_regardless_keeps_its_operation_until_the_next_start(
    serve: Serve, gate: Any, file_url: str
) -> None:
    """Its late outcome is dropped: the second attempt has the operation (R5)."""
    began = threading.Event()
    returned = threading.Event()

    def stubborn(self: Any, request: Any, op: Any) -> Any:
        began.set()
        gate.block()
        op.progress(99, "still there")
        returned.set()
        return Instance(name="too late")

    first = serve(fleet("CreateInstance", stubborn), store=file_url, grace=0.1)
    name = first.create().name
    assert began.wait(SECONDS)
    first.stop()

    async def run(self: Any, request: Any, op: Any) -> Any:
        return Instance(name="in time", seed_rows=op.attempt)

    second = serve(fleet("CreateInstance", run), store=file_url)
    assert second.operations.recovered == 1
    done = second.done(name)
    assert response_of(done) == Instance(name="in time", seed_rows=2)
    gate.open()
    assert returned.wait(SECONDS)
    assert second.get(name) == done


def test_what_waits_for_its_turn_runs_after_the_restart(serve: Serve, file_url: str) -> None:
    held = Held("async def")
    first = serve(held.servicer(concurrency=1), store=file_url)
    names = [first.create(instance_id=f"i{n}").name for n in range(3)]
    assert held.next() == names[0]
    first.stop()
    held.gate.open()
    second = serve(held.servicer(concurrency=1), store=file_url)
    attempts = [response_of(second.done(name)).seed_rows for name in names]
    assert attempts == [2, 1, 1]


def test_a_checkpoint_is_gone_on_from_after_a_restart(
    serve: Serve, handler_keyword: str, gate: Gate, file_url: str
) -> None:
    """A ``def`` and an ``async def`` alike; drained as often as it comes, it loses nothing."""
    began: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def run(self: Any, request: Any, op: Any) -> Any:
        so_far = op.checkpoint_state or b""
        op.checkpoint(so_far + b"%d" % op.attempt)
        began.put(so_far)
        gate.pass_by(op)
        return Instance(name=op.checkpoint_state.decode())

    async def run_async(self: Any, request: Any, op: Any) -> Any:
        so_far = op.checkpoint_state or b""
        await op.checkpoint(so_far + b"%d" % op.attempt)
        began.put(so_far)
        await gate.pass_by_async()
        return Instance(name=op.checkpoint_state.decode())

    servicer = fleet(
        "CreateInstance", run if handler_keyword == "def" else run_async, max_attempts=1
    )
    server = serve(servicer, store=file_url)
    name = server.create().name
    for so_far in (b"", b"1", b"12"):
        assert began.get(timeout=SECONDS) == so_far
        server.stop()
        server = serve(servicer, store=file_url)
        assert server.operations.recovered == 0
    assert began.get(timeout=SECONDS) == b"123"
    gate.open()
    done = server.done(name)
    assert response_of(done).name == "1234"
    assert metadata_of(done).attempt == 4


def test_a_paused_operation_stays_paused_over_a_restart(serve: Serve, file_url: str) -> None:
    held = Held("async def")
    first = serve(held.servicer(concurrency=1, pausable=True), store=file_url)
    running, paused = first.create().name, first.create().name
    held.next()
    first.pause(paused)
    first.pause(running)  # requested; it has no checkpoint yet
    first.stop()

    second = serve(held.servicer(concurrency=1, pausable=True), store=file_url)
    for name in (running, paused):
        assert metadata_of(second.get(name)).state == state_pb2.JOB_STATE_PAUSED
        assert not metadata_of(second.get(name)).pause_requested
    assert held.began.empty()
    held.gate.open()
    second.resume(paused)
    assert response_of(second.done(paused)).seed_rows == 1
    second.resume(running)
    assert response_of(second.done(running)).seed_rows == 2


def test_what_waits_to_be_tried_again_does_so_after_the_restart(
    serve: Serve, handler_keyword: str, file_url: str
) -> None:
    """Its failed attempts count on, and the pause it was given holds."""
    clock = ManualClock()
    pause = timedelta(hours=1)

    def run(self: Any, request: Any, op: Any) -> Any:
        if op.attempt == 1:
            raise lro_grpc.RetryableError("not now", retry_after=pause)
        raise lro_grpc.RetryableError("never", retry_after=pause)

    servicer = fleet("CreateInstance", defined_with(handler_keyword, run), max_attempts=2)
    first = serve(servicer, store=file_url, clock=clock)
    name = first.create().name
    while metadata_of(first.get(name)).state != state_pb2.JOB_STATE_QUEUED or not (
        metadata_of(first.get(name)).attempt
    ):
        pass
    first.stop()
    second = serve(servicer, store=file_url, clock=clock, lease=timedelta(days=1))
    assert second.operations.recovered == 0
    assert not second.wait(name, 0.1).done
    waiting = second.waiting(name)
    while not waiting.done():
        clock.advance(pause / 100)
        second.get(name)
    assert waiting.result().error.message == "never"
    assert metadata_of(waiting.result()).attempt == 2


def test_a_stop_answers_every_wait_with_the_latest_state(serve: Serve) -> None:
    held = Held("async def")
    server = serve(held.servicer(), max_waiters=8)
    name = server.create().name
    held.next()
    waiting = [server.waiting(name, 600) for _ in range(8)]
    server.get(name)
    server.stop()
    answers = [one.result(SECONDS) for one in waiting]
    assert {answer.name for answer in answers} == {name}
    assert not any(answer.done for answer in answers)


def test_a_cancel_that_was_acknowledged_holds_across_a_restart(
    serve: Serve, gate: Any, file_url: str
) -> None:
    """Durable at once: the handler of the next process never starts (R7)."""
    began = threading.Event()

    def stubborn(self: Any, request: Any, op: Any) -> Any:
        began.set()
        gate.block()
        return Instance()

    first = serve(fleet("CreateInstance", stubborn), store=file_url, grace=0.1)
    name = first.create().name
    assert began.wait(SECONDS)
    first.cancel(name)
    first.stop()
    ran: list[str] = []

    async def run(self: Any, request: Any, op: Any) -> Any:
        ran.append(op.name)
        return Instance()

    second = serve(fleet("CreateInstance", run), store=file_url)
    assert second.done(name).error.code == 1
    assert ran == []


class StoreThatCannotCount(ForwardingStore):
    async def waiting_methods(self) -> Any:
        raise lro_grpc.UnavailableError("the disk is away")


def test_a_start_that_fails_leaves_nothing_that_goes_on() -> None:
    async def start() -> None:
        store = StoreThatCannotCount(MemoryStore(SystemClock().now))
        with pytest.raises(lro_grpc.UnavailableError, match="the disk is away"):
            await lro_grpc.Operations(store).start()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(start())


class UnfortunateEngine(InProcess):
    """An engine whose start does not come to its end, or whose stop fails."""

    def __init__(self, fault: str, workbench: Workbench) -> None:
        super().__init__(workbench)
        self.fault = fault
        self.has_begun = asyncio.Event()

    async def start(self) -> int:
        recovered = await super().start()
        self.has_begun.set()
        if self.fault == "start":
            await asyncio.Event().wait()
        return recovered

    async def stop(self, grace: timedelta) -> None:
        await super().stop(grace)
        if self.fault == "stop":
            raise ZeroDivisionError


class Unfortunate:
    """The options of such an engine."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.made: asyncio.Future[UnfortunateEngine] = asyncio.get_running_loop().create_future()

    def make_engine(self, workbench: Workbench, *_: Any, serves: bool) -> UnfortunateEngine:
        engine = UnfortunateEngine(self.fault, workbench)
        self.made.set_result(engine)
        return engine


def test_a_start_that_is_cancelled_leaves_nothing_of_its_engine_behind() -> None:
    async def start() -> None:
        options = Unfortunate("start")
        starting = asyncio.create_task(lro_grpc.Operations("memory:", engine=options).start())
        await (await options.made).has_begun.wait()
        starting.cancel()
        await asyncio.wait({starting})
        assert starting.cancelled()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(start())


def test_an_engine_that_cannot_be_stopped_keeps_no_file(file_url: str) -> None:
    async def stop_server() -> None:
        pass

    async def main() -> None:
        operations = lro_grpc.Operations(file_url, engine=Unfortunate("stop"))
        await operations.start()
        with pytest.raises(ZeroDivisionError):
            await operations.stop(stop_server)
        again = lro_grpc.Operations(file_url)
        await again.start()
        await again.stop(stop_server)

    asyncio.run(main())


class StoreThatTakesItsTime(ForwardingStore):
    async def waiting_methods(self) -> Any:
        await asyncio.sleep(0)
        return await super().waiting_methods()

    async def close(self) -> None:
        await asyncio.sleep(0)
        await super().close()


def test_a_start_whose_event_loop_has_ended_is_closed_without_a_word() -> None:
    async def start() -> None:
        store = StoreThatTakesItsTime(MemoryStore(SystemClock().now))
        starting = lro_grpc.Operations(store).start()
        starting.send(None)  # it waits for the store
        starting.close()

    asyncio.run(start())
