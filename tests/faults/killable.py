"""Server processes to kill, and what can be seen of them from outside."""

from __future__ import annotations

import collections
import contextlib
import functools
import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import grpc
from forked import ForkServer
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import any_pb2, duration_pb2, empty_pb2
from google.rpc import error_details_pb2, status_pb2

from lro.example.v1 import fleet_service_pb2 as fleet
from lro.example.v1 import fleet_service_pb2_grpc as fleet_grpc
from lro.v1 import operation_control_service_pb2 as control
from lro.v1 import operation_control_service_pb2_grpc as control_grpc
from lro.v1 import operation_metadata_pb2
from lro_grpc._stores.sqlite.file_lock import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from google.protobuf.message import Message

    from lro.v1 import batch_create_instances_pb2

SCRIPT = Path(__file__).with_name("fleet_process.py")
_FORKS = ForkServer(
    f"{SCRIPT}:main",
    # What it would import when it is first used.
    "grpc._server",
    "lro_grpc._engine.inprocess",
    "lro_grpc._server.operations",
    "lro_grpc._stores.open_url",
    "lro_grpc._stores.postgres.store",
    "lro_grpc._stores.sqlite.store",
)
GRACE_SECONDS = 12
"""The time that a server waits for what it stops, unless the test says otherwise."""
PATIENCE_SECONDS = 30
"""For what happens within milliseconds, however busy the machine is."""
AT_ONCE_SECONDS = 12
"""The same, where it must not be the end of a lease of 15 seconds that makes it happen."""
CHANNEL_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own for each client
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.lb_policy_name", "round_robin"),  # each call goes to the next of several servers
)


class Client:
    """Calls one server, or several in turn.

    Args:
        port: Where it listens, or something between it and the caller.
        patience: For how long a call may go without an answer, in seconds.
        others: Where others with the same store listen.
    """

    def __init__(
        self, port: str, patience: float = PATIENCE_SECONDS, others: Iterable[str] = ()
    ) -> None:
        places = ",".join(f"127.0.0.1:{one}" for one in (port, *others))
        self._channel = grpc.insecure_channel(f"ipv4:{places}", CHANNEL_OPTIONS)
        self._patience = patience
        self.fleet = fleet_grpc.FleetServiceStub(self._channel)
        self.operations = operations_pb2_grpc.OperationsStub(self._channel)
        self.control = control_grpc.OperationControlServiceStub(self._channel)
        self._get_bytes = self._channel.unary_unary(
            "/google.longrunning.Operations/GetOperation",
            request_serializer=operations_pb2.GetOperationRequest.SerializeToString,
        )

    def until_serving(self) -> None:
        """Returns when the server answers calls."""
        grpc.channel_ready_future(self._channel).result(PATIENCE_SECONDS)

    def start(self, request: Message) -> str:
        """Starts an operation, and returns its name."""
        return self.started(request).name

    def started(self, request: Message) -> operations_pb2.Operation:
        """Starts an operation, and returns the answer."""
        return self.starting(request).result()

    def starting(self, request: Message) -> grpc.Future:
        """Returns the call that starts an operation."""
        method = type(request).__name__.removesuffix("Request")
        return getattr(self.fleet, method).future(request, timeout=self._patience)

    def get_bytes(self, name: str) -> bytes:
        """Returns what Get answers with, as it came over the wire."""
        return self.getting_bytes(name).result()

    def getting_bytes(self, name: str) -> grpc.Future:
        """Returns the call that gets an operation's bytes."""
        request = operations_pb2.GetOperationRequest(name=name)
        return self._get_bytes.future(request, timeout=self._patience)

    def get(self, name: str) -> operations_pb2.Operation:
        return operations_pb2.Operation.FromString(self.get_bytes(name))

    def get_when(
        self, name: str, true: Callable[[operations_pb2.Operation], bool]
    ) -> operations_pb2.Operation:
        """Returns an operation as soon as something is true of it."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not true(operation := self.get(name)):
            assert time.monotonic() < end, f"{name} stays as it is: {seen(operation)}"
        return operation

    def wait(self, name: str) -> operations_pb2.Operation:
        """Returns an operation when it is done."""
        operation = self.wait_for(name, AT_ONCE_SECONDS)
        assert operation.done, f"{name} is still not done: {seen(operation)}"
        return operation

    def wait_for(self, name: str, seconds: float) -> operations_pb2.Operation:
        """Returns an operation when it is done or the time is over."""
        timeout = duration_pb2.Duration()
        timeout.FromNanoseconds(int(seconds * 1e9))
        request = operations_pb2.WaitOperationRequest(name=name, timeout=timeout)
        return self.operations.WaitOperation(request, timeout=seconds + self._patience)

    def waiting(self, name: str) -> grpc.Future:
        """Returns a call that waits for an operation, and is at the server."""
        request = operations_pb2.WaitOperationRequest(name=name)
        call = self.operations.WaitOperation.future(request, timeout=PATIENCE_SECONDS)
        self.wait_for(name, 0)
        return call

    def cancel(self, name: str) -> None:
        self.cancelling(name).result()

    def cancelling(self, name: str) -> grpc.Future:
        """Returns the call that cancels an operation."""
        request = operations_pb2.CancelOperationRequest(name=name)
        return self.operations.CancelOperation.future(request, timeout=self._patience)

    def delete(self, name: str) -> None:
        request = operations_pb2.DeleteOperationRequest(name=name)
        self.operations.DeleteOperation(request, timeout=self._patience)

    def pause(self, name: str) -> None:
        request = control.PauseOperationRequest(name=name)
        self.control.PauseOperation(request, timeout=self._patience)

    def resume(self, name: str) -> None:
        request = control.ResumeOperationRequest(name=name)
        self.control.ResumeOperation(request, timeout=self._patience)

    def page(
        self, parent: str, size: int, token: str = ""
    ) -> operations_pb2.ListOperationsResponse:
        request = operations_pb2.ListOperationsRequest(
            name=parent, page_size=size, page_token=token
        )
        return self.operations.ListOperations(request, timeout=self._patience)

    def walk(self, parent: str) -> list[operations_pb2.Operation]:
        """Returns all operations of a parent, page by page."""
        found, token = [], None
        while token != "":
            page = self.page(parent, 1000, token or "")
            found += page.operations
            token = page.next_page_token
        return found

    def hang_up(self) -> None:
        """Closes the connection; calls that are under way end as CANCELLED."""
        self._channel.close()


class Server(Client):
    """One server process: from the moment it opens its store until it ends.

    Args:
        folder: Where its store is.
        log: The file that it logs to.
        start: Starts the process, with that file to write errors to.
    """

    def __init__(self, folder: Path, log: Path, start: Callable[[IO[bytes]], Any]) -> None:
        self._log = log
        self._store = folder / "operations.db"
        self._points: set[str] = set()
        self._changed = threading.Condition()
        self._port = ""
        self._ended = False
        with log.open("ab") as file:
            self._process = start(file)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        try:
            self._until(lambda: self._port, "its port")
        except BaseException:
            self.close()
            raise
        super().__init__(self._port)

    @property
    def process(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def port(self) -> str:
        """Where it listens."""
        return self._port

    def reach(self, *points: str) -> None:
        """Returns when the work stands still at all of these points."""
        self._until(lambda: self._points.issuperset(points), f"{sorted(points)}")

    def said(self, text: str) -> str:
        """Returns its log, once it has this text."""
        end = time.monotonic() + PATIENCE_SECONDS
        while text not in (log := self._log.read_text(errors="replace")):
            assert time.monotonic() < end, f"it never said {text!r}\n{self._last_words()}"
            threading.Event().wait(0.05)
        return log

    def release(self) -> None:
        """Lets go on what is held."""
        self._process.stdin.write("go on\n")
        self._process.stdin.flush()

    def until_store_closed(self) -> None:
        """Returns when another process could open the store."""
        end = time.monotonic() + PATIENCE_SECONDS
        lock = FileLock(self._store)
        while True:
            with contextlib.suppress(BlockingIOError):
                lock.acquire()
                lock.release()
                return
            assert time.monotonic() < end, f"the store stays locked\n{self._last_words()}"

    def kill(self) -> None:
        """Kills the process as ``kill -9`` does."""
        self._process.kill()
        status = self._process.wait(PATIENCE_SECONDS)
        assert status == -signal.SIGKILL, f"it had ended by itself: {status}\n{self._last_words()}"

    def freeze(self) -> None:
        """Stops the process in the middle of whatever it does, until it is thawed."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets the process go on, as if no time had passed."""
        self._process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Asks the process to end."""
        self._process.terminate()

    def until_ended(self, seconds: float) -> None:
        """Returns when the process has ended in good order."""
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it goes on after {seconds} s\n{self._last_words()}") from None
        assert status == 0, f"it ended with {status}\n{self._last_words()}"

    def until_gone(self) -> None:
        """Returns when the process has ended, in whatever order."""
        self._process.wait(PATIENCE_SECONDS)

    def drain(self, seconds: float = GRACE_SECONDS - 2) -> None:
        """Asks the process to end, which takes much less than the grace when all goes well.

        Under load, calls that still come in may use up gRPC's grace: give more time there.
        """
        self.terminate()
        self.until_ended(seconds)

    def close(self) -> None:
        """Ends what is still there of the process; may be called again."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        self._process.stdin.close()
        self._process.stdout.close()
        if self._port:
            self.hang_up()

    def _read(self) -> None:
        for line in self._process.stdout:
            word, _, value = line.rstrip("\n").partition(" ")
            with self._changed:
                if word == "port":
                    self._port = value
                else:
                    self._points.add(value)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _until(self, true: Callable[[], object], what: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or true(), PATIENCE_SECONDS)
            assert true(), (
                f"the server did not get to {what}; it was at {sorted(self._points)}"
                f"\n{self._last_words()}"
            )

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]


class Run(NamedTuple):
    """Something that a server has begun."""

    attempt: int
    process: int
    what: str
    """``run`` for the handler, or ``create NAME`` or ``delete NAME``."""


class Site:
    """A folder with one store, for one server process after another.

    Args:
        folder: The folder.
        prefix: What runs a server's command, which is a fork of a process without.
    """

    def __init__(self, folder: Path, prefix: Iterable[str] = ()) -> None:
        self.folder = folder
        self._prefix = list(prefix)
        self.store = folder / "operations.db"
        self._log = folder / "server.log"
        self._servers: list[Server] = []

    def begin(self, *, hold: Iterable[str] = (), pause: Iterable[str] = (), **how: Any) -> Server:
        """Returns a server that is about to open the store."""
        how.setdefault("grace", GRACE_SECONDS)
        options = [f"--{option}={value}" for option, value in how.items()]
        options += [f"--hold={point}" for point in hold]
        options += [f"--pause={point}" for point in pause]
        start = functools.partial(self._start, [str(self.folder), *options])
        server = Server(self.folder, self._log, start)
        self._servers.append(server)
        return server

    def _start(self, arguments: list[str], log: IO[bytes]) -> Any:
        pipe = subprocess.PIPE
        if not self._prefix:
            return _FORKS.start(arguments, os.environ, Path.cwd(), (pipe, pipe, log))
        command = [*self._prefix, sys.executable, str(SCRIPT), *arguments]
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, encoding="utf-8")

    def serve(self, **how: Any) -> Server:
        """Returns a server that answers calls."""
        server = self.begin(**how)
        server.until_serving()
        return server

    def files(self) -> set[str]:
        """The names of all files that the work has left."""
        return {path.name for path in (self.folder / "data").iterdir()}

    def content(self, own_id: str) -> bytes:
        return (self.folder / "data" / own_id).read_bytes()

    def runs(self) -> dict[str, list[Run]]:
        """What was begun for each operation, in order."""
        runs = collections.defaultdict(list)
        for line in (self.folder / "runs").read_text().splitlines():
            name, attempt, process, what = line.split(" ", 3)
            runs[name].append(Run(int(attempt), int(process), what))
        return runs

    def attempts(self, name: str) -> list[int]:
        """The attempts in which an operation's handler was called, in order."""
        return [run.attempt for run in self.runs()[name] if run.what == "run"]

    def integrity(self) -> str:
        """What SQLite says of the file when nobody serves it."""
        connection = sqlite3.connect(self.store)
        try:
            return "\n".join(text for (text,) in connection.execute("PRAGMA integrity_check"))
        finally:
            connection.close()

    def close(self) -> None:
        for server in self._servers:
            server.close()

    def check_log(self) -> None:
        """Fails if a server has met what it did not expect."""
        errors = self.errors()
        assert not errors, "\n".join([*errors, "", "the log ends:", self.log()[-3000:]])

    def errors(self) -> list[str]:
        """The lines of the log that nobody wants to see."""
        unwanted = ("ERROR", "CRITICAL", "Traceback", "Fatal Python error")
        return [line for line in self.log().splitlines() if line.startswith(unwanted)]

    def log(self) -> str:
        """What the servers have logged."""
        return self._log.read_text(errors="replace")


def seen(operation: operations_pb2.Operation) -> operation_metadata_pb2.OperationMetadata:
    """The metadata of an operation."""
    metadata = operation_metadata_pb2.OperationMetadata()
    assert operation.metadata.Unpack(metadata)
    return metadata


def statuses(
    operation: operations_pb2.Operation,
) -> list[batch_create_instances_pb2.BatchCreateInstanceStatus]:
    """The status of each target of a batch, in the order of the request."""
    batch = seen(operation).batch_create_instances_metadata
    return [batch.instance_statuses[target] for target in batch.instance_targets]


def states(operation: operations_pb2.Operation) -> list[str]:
    """The names of the states of a batch's targets."""
    return [one.State.Name(one.state) for one in statuses(operation)]


def create(parent: str, own_id: str, **more: Any) -> fleet.CreateInstanceRequest:
    return fleet.CreateInstanceRequest(parent=parent, instance_id=own_id, **more)


def snapshot(parent: str, own_id: str, **more: Any) -> fleet.TakeSnapshotRequest:
    name = f"{parent}/instances/source"
    return fleet.TakeSnapshotRequest(name=name, snapshot_id=own_id, **more)


def delete(parent: str, own_id: str, **more: Any) -> fleet.DeleteInstanceRequest:
    return fleet.DeleteInstanceRequest(name=f"{parent}/instances/{own_id}", **more)


def batch(parent: str, own_ids: Iterable[str], **more: Any) -> fleet.BatchCreateInstancesRequest:
    requests = [fleet.CreateInstanceRequest(instance_id=own_id) for own_id in own_ids]
    return fleet.BatchCreateInstancesRequest(parent=parent, requests=requests, **more)


def names_of(request: Message) -> list[str]:
    """The names of what an operation builds or deletes."""
    if isinstance(request, fleet.DeleteInstanceRequest):
        return [request.name]
    if isinstance(request, fleet.TakeSnapshotRequest):
        return [f"{request.name.rpartition('/instances/')[0]}/snapshots/{request.snapshot_id}"]
    if isinstance(request, fleet.BatchCreateInstancesRequest):
        return [f"{request.parent}/instances/{one.instance_id}" for one in request.requests]
    return [f"{request.parent}/instances/{request.instance_id}"]


def id_of(name: str) -> str:
    """The last part of a name: the name of the file that is built."""
    return name.rpartition("/")[2]


def expected_content(name: str) -> bytes:
    """What the file of a name has in it once it is built; nothing for one without a file."""
    task = name.rpartition("-")[2]
    if task in ("noop", "retry"):
        return b""
    if task.endswith("steps"):
        return f"{name}\n".encode() * int(task.removesuffix("steps"))
    return f"{name}\n".encode() * (1 + int(task.removesuffix("ms")))


def expected(request: Message) -> Message | None:
    """What has to come of a request: its response, or the Status that it fails with.

    None stands for a request that goes on until it is cancelled.
    """
    if isinstance(request, fleet.DeleteInstanceRequest):
        return empty_pb2.Empty()
    names = names_of(request)
    for name in names:
        if name.endswith("-fail"):
            return expected_failure(name)
        if name.endswith("-stop"):
            return None
    if isinstance(request, fleet.TakeSnapshotRequest):
        size = len(expected_content(names[0]))
        taken = fleet.Snapshot(name=names[0], instance=request.name, size_bytes=size)
        return fleet.TakeSnapshotResponse(snapshot=taken)
    built = [_instance(name) for name in names]
    if isinstance(request, fleet.BatchCreateInstancesRequest):
        return fleet.BatchCreateInstancesResponse(instances=built)
    return built[0]


def expected_failure(name: str) -> status_pb2.Status:
    info = any_pb2.Any()
    info.Pack(
        error_details_pb2.ErrorInfo(
            reason="CANNOT_BE_BUILT",
            domain="lro.example.v1.FleetService",
            metadata={"name": name},
        )
    )
    return status_pb2.Status(code=3, message=f"{name} cannot be built", details=[info])


def _instance(name: str) -> fleet.Instance:
    content = expected_content(name)
    return fleet.Instance(
        name=name,
        schema_sql=hashlib.sha256(content).hexdigest() if content else "",
        size_bytes=len(content),
        state=fleet.Instance.READY,
    )


def outcome(operation: operations_pb2.Operation) -> Message | None:
    """What has come of an operation: its response, its error, or None while it is not done."""
    if operation.HasField("error"):
        return operation.error
    if not operation.HasField("response"):
        return None
    kinds = (
        fleet.Instance,
        fleet.BatchCreateInstancesResponse,
        fleet.TakeSnapshotResponse,
        empty_pb2.Empty,
    )
    kind = next(kind for kind in kinds if operation.response.Is(kind.DESCRIPTOR))
    return kind.FromString(operation.response.value)


def reason(status: status_pb2.Status) -> str:
    """The reason in an error's ErrorInfo."""
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Unpack(info):
            return info.reason
    return ""
