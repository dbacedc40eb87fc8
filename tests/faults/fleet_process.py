"""A fleet of files, served by a process that a test may kill at an exact moment of its work.

The last part of an id says what is to be done: ``x-noop`` nothing, ``x-20ms`` a file built in
20 ms, ``x-5steps`` one built line by line with a checkpoint after each, ``x-retry`` nothing, and in
every other attempt only, ``x-fail`` one that cannot be built, ``x-stop`` one that is built until it
is cancelled, ``x-fork`` and ``x-exec`` a child process that would outlive the server, ``x-shot`` a
forked one that is sent SIGTERM in its first moment. Each response follows from its request alone,
and is read from the file that was built. Every run of a handler, a create, a delete, a step or a
child, and every checkpoint that was kept is noted in the file ``runs``.

It reports to its parent on stdout: ``port N`` right before the store is opened, and ``at POINT`` at
each point where it stands still because ``--hold`` (until its parent writes a line to stdin,
whatever happens to the attempt) or ``--pause`` (once, until the attempt is stopped) names it. It
does not outlive its parent, nor two minutes unless ``--lifetime`` says otherwise.

Several of them may share a folder, with a store in ``--store``. An attempt that has lost its lease
notes ``lost`` then, and leaves alone what is the next one's.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import hashlib
import logging
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Generator
from concurrent import futures
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, TypeVar

import grpc
import grpc.aio
from google.protobuf import empty_pb2

import lro_grpc
from lro.example.v1 import fleet_service_pb2 as fleet
from lro.example.v1 import fleet_service_pb2_grpc as fleet_grpc

T = TypeVar("T")
Steps = Generator["str | float | bytes", None, T]
"""Work that stops at points, for seconds, and at checkpoints; it returns the work's result."""

LIFETIME_SECONDS = 120
NAP_SECONDS = 0.004
STEP_SECONDS = 0.005
RETRY_AFTER = timedelta(milliseconds=5)
FOR_EVER = float("inf")
MANY = 1000
"""Attempts, where kills are not to be what ends an operation."""


def fork() -> int | None:
    """Forks a child that is alive for as long as a server may be, and returns its process id."""

    def live() -> None:
        os.close(1)  # for the test reads what the server says until its end
        time.sleep(LIFETIME_SECONDS)

    child = multiprocessing.get_context("fork").Process(target=live)
    child.start()
    return child.pid


def execute() -> int:
    """Runs a program that is alive for as long as a server may be, and returns its process id."""
    command = ["sleep", str(LIFETIME_SECONDS)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, close_fds=False).pid


def shoot() -> int | None:
    """Forks a child as ``fork`` does, which is sent SIGTERM in its first moment."""
    SHOOTING.set()
    try:
        return fork()
    finally:
        SHOOTING.clear()


SHOOTING = threading.Event()
"""Whether a child that is forked now is sent SIGTERM at once."""

# Here, before those of the package: a child's hooks run in the order in which they were registered.
os.register_at_fork(
    after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM) if SHOOTING.is_set() else None
)

CHILDREN: dict[str, Callable[[], int | None]] = {"fork": fork, "shot": shoot, "exec": execute}


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


class Gates:
    """Carries out steps in either stack, and stands still where the test wants it."""

    def __init__(self, hold: list[str], pause: list[str]) -> None:
        self._hold = frozenset(hold)
        self._pause = set(pause)
        self._released = threading.Event()

    def release(self) -> None:
        """Lets go on what is held, and holds nothing any more."""
        self._released.set()

    def walk(self, steps: Steps[T], op: Any) -> T:
        with contextlib.closing(steps):
            while True:
                try:
                    step = next(steps)
                except StopIteration as end:
                    return end.value
                if isinstance(step, bytes):
                    op.checkpoint(step)
                elif isinstance(step, float):
                    self._nap(op, time.monotonic() + step)
                elif step in self._hold:
                    say(f"at {step}")
                    self._released.wait()
                elif step in self._pause:
                    self._pause.remove(step)
                    say(f"at {step}")
                    self._nap(op, FOR_EVER)

    async def walk_async(self, steps: Steps[T], op: Any) -> T:
        with contextlib.closing(steps):
            while True:
                try:
                    step = next(steps)
                except StopIteration as end:
                    return end.value
                if isinstance(step, bytes):
                    await op.checkpoint(step)
                elif isinstance(step, float):
                    await (asyncio.sleep(step) if step < FOR_EVER else asyncio.Event().wait())
                elif step in self._hold:
                    say(f"at {step}")
                    while not self._released.is_set():
                        with contextlib.suppress(asyncio.CancelledError):
                            await asyncio.sleep(NAP_SECONDS)
                elif step in self._pause:
                    self._pause.remove(step)
                    say(f"at {step}")
                    await asyncio.Event().wait()

    @staticmethod
    def _nap(op: Any, until: float) -> None:
        never = threading.Event()
        while time.monotonic() < until:
            op.raise_if_stopped()
            never.wait(NAP_SECONDS)


class Works:
    """What is done on the disk."""

    def __init__(self, folder: Path) -> None:
        self._data = folder / "data"
        self._data.mkdir(exist_ok=True)
        self._runs = os.open(folder / "runs", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, op: Any, what: str) -> None:
        os.write(self._runs, f"{op.name} {op.attempt} {os.getpid()} {what}\n".encode())

    def build(self, op: Any, name: str) -> Steps[tuple[int, str]]:
        """Builds the file of a name; returns its size and digest. Cleans up when it fails."""
        own_id, task = _id_and_task(name)
        if task == "retry" and op.attempt % 2:
            raise lro_grpc.RetryableError("not this time", retry_after=RETRY_AFTER)
        if task in CHILDREN:
            self.note(op, f"child {CHILDREN[task]()}")
        if task in ("noop", "retry", *CHILDREN):
            yield f"creating/{own_id}"
            return 0, ""
        final, partial, *former = self._files(op, own_id)
        for one in former:
            one.unlink(missing_ok=True)
        is_built = False
        try:
            milliseconds = int(task.removesuffix("ms")) if task.endswith("ms") else 0
            with partial.open("wb") as file:
                if task.endswith("steps"):
                    yield from self._build_in_steps(op, name, file)
                else:
                    file.write(f"{name}\n".encode() * (1 + milliseconds))
                file.flush()
                os.fsync(file.fileno())
            yield f"creating/{own_id}"
            yield FOR_EVER if task == "stop" else milliseconds / 1000
            if task == "fail":
                raise _failure(name)  # noqa: TRY301 - it is cleaned up after like any other
            try:
                partial.rename(final)
            except FileNotFoundError as cause:
                raise lro_grpc.RetryableError("a later attempt has begun") from cause
            is_built = True
            yield f"created/{own_id}"
            try:
                content = final.read_bytes()
            except FileNotFoundError as cause:  # it has rolled back, where this one was frozen
                is_built = False
                raise lro_grpc.RetryableError("a later attempt has begun") from cause
        except BaseException:
            partial.unlink(missing_ok=True)
            if op.stop_reason is lro_grpc.StopReason.LEASE_LOST:
                self.note(op, "lost")
            elif is_built:
                final.unlink(missing_ok=True)
            raise
        return len(content), hashlib.sha256(content).hexdigest()

    def _build_in_steps(self, op: Any, name: str, file: IO[bytes]) -> Steps[None]:
        """Writes a line a step, and goes on after the last one that was kept."""
        number = int(_id_and_task(name)[1].removesuffix("steps"))
        kept = int(op.checkpoint_state or b"0")
        file.write(f"{name}\n".encode() * kept)
        for step in range(kept + 1, number + 1):
            self.note(op, f"step {step}")
            yield STEP_SECONDS
            file.write(f"{name}\n".encode())
            yield b"%d" % step
            self.note(op, f"kept {step}")

    def remove(self, op: Any, name: str) -> Steps[None]:
        """Removes the file of a name, and what a cut-off build of it has left."""
        own_id, task = _id_and_task(name)
        yield f"deleting/{own_id}"
        if task.endswith("ms"):
            yield int(task.removesuffix("ms")) / 1000
        for one in self._files(op, own_id):
            one.unlink(missing_ok=True)
        yield f"deleted/{own_id}"

    def create_instance(self, op: Any, name: str) -> Steps[fleet.Instance]:
        self.note(op, f"create {name}")
        size, digest = yield from self.build(op, name)
        return self.instance(name, size, digest)

    def remove_instance(self, op: Any, name: str) -> Steps[None]:
        self.note(op, f"delete {name}")
        yield from self.remove(op, name)

    def take_snapshot(self, op: Any, instance: str, name: str) -> Steps[Any]:
        size, _ = yield from self.build(op, name)
        snapshot = fleet.Snapshot(name=name, instance=instance, size_bytes=size)
        return fleet.TakeSnapshotResponse(snapshot=snapshot)

    def found(self, names: list[str]) -> fleet.BatchCreateInstancesResponse:
        """Returns what stands on the disk, whichever attempt has built it."""
        response = fleet.BatchCreateInstancesResponse()
        for name in names:
            own_id, task = _id_and_task(name)
            content = b"" if task == "noop" else (self._data / own_id).read_bytes()
            digest = hashlib.sha256(content).hexdigest() if content else ""
            response.instances.append(self.instance(name, len(content), digest))
        return response

    @staticmethod
    def instance(name: str, size: int, digest: str) -> fleet.Instance:
        return fleet.Instance(
            name=name, schema_sql=digest, size_bytes=size, state=fleet.Instance.READY
        )

    def _files(self, op: Any, own_id: str) -> list[Path]:
        """The file, and the partial ones of this attempt and of those before it, latest first."""
        partial = [f".{op.id}.{number}.{own_id}.partial" for number in range(op.attempt, 0, -1)]
        return [self._data / name for name in (own_id, *partial)]


def _id_and_task(name: str) -> tuple[str, str]:
    own_id = name.rpartition("/")[2]
    return own_id, own_id.rpartition("-")[2]


def _failure(name: str) -> lro_grpc.LroError:
    return lro_grpc.LroError(
        f"{name} cannot be built",
        code=lro_grpc.Code.INVALID_ARGUMENT,
        reason="CANNOT_BE_BUILT",
        metadata={"name": name},
    )


def _targets(request: fleet.BatchCreateInstancesRequest) -> list[str]:
    return [f"{request.parent}/instances/{one.instance_id}" for one in request.requests]


def _beginning(targets: list[str]) -> Steps[None]:
    """What a handler does before it drives its batch."""
    yield f"beginning/{_id_and_task(targets[0])[0]}"


def _parallelism(request: fleet.BatchCreateInstancesRequest) -> int:
    """The last part of a parent like ``projects/p/locations/x3`` says how many at a time."""
    return int(request.parent.rpartition("x")[2])


class Fleet(fleet_grpc.FleetServiceServicer):
    """Two methods of each stack; a delete may run once only, and has its target for itself."""

    def __init__(self, works: Works, gates: Gates) -> None:
        self._works = works
        self._gates = gates

    @lro_grpc.method(pausable=True, max_attempts=MANY)
    async def CreateInstance(self, request: Any, op: Any) -> Any:
        self._works.note(op, "run")
        name = f"{request.parent}/instances/{request.instance_id}"
        return await self._gates.walk_async(self._works.create_instance(op, name), op)

    @lro_grpc.method(pausable=True, max_attempts=MANY)
    def TakeSnapshot(self, request: Any, op: Any) -> Any:
        self._works.note(op, "run")
        parent = request.name.rpartition("/instances/")[0]
        name = f"{parent}/snapshots/{request.snapshot_id}"
        return self._gates.walk(self._works.take_snapshot(op, request.name, name), op)

    @lro_grpc.method(max_attempts=1, concurrency=1, exclusive=True)
    async def DeleteInstance(self, request: Any, op: Any) -> Any:
        self._works.note(op, "run")
        await self._gates.walk_async(self._works.remove_instance(op, request.name), op)
        return empty_pb2.Empty()

    @DeleteInstance.prepare
    def _prepare_delete(self, request: Any, context: Any) -> lro_grpc.Prepared:
        del context
        return lro_grpc.Prepared(target=request.name)

    @lro_grpc.method(concurrency=100, max_attempts=MANY)
    async def BatchCreateInstances(self, request: Any, op: Any) -> Any:
        self._works.note(op, "run")
        targets = _targets(request)
        await self._gates.walk_async(_beginning(targets), op)
        await op.batch(
            targets,
            create=lambda name: self._gates.walk_async(self._works.create_instance(op, name), op),
            delete=lambda name: self._gates.walk_async(self._works.remove_instance(op, name), op),
            parallelism=_parallelism(request),
        )
        return self._works.found(targets)


class BlockingBatches(Fleet):
    """The same fleet, its batches in a ``def``."""

    @lro_grpc.method(concurrency=100, max_attempts=MANY)
    def BatchCreateInstances(self, request: Any, op: Any) -> Any:
        self._works.note(op, "run")
        targets = _targets(request)
        self._gates.walk(_beginning(targets), op)
        op.batch(
            targets,
            create=lambda name: self._gates.walk(self._works.create_instance(op, name), op),
            delete=lambda name: self._gates.walk(self._works.remove_instance(op, name), op),
            parallelism=_parallelism(request),
        )
        return self._works.found(targets)


async def serve_aio(operations: lro_grpc.Operations, servicer: Fleet, port: int) -> None:
    server = grpc.aio.server()
    fleet_grpc.add_FleetServiceServicer_to_server(servicer, operations.attach(server))
    say(f"port {server.add_insecure_port(f'127.0.0.1:{port}')}")
    await operations.run(server)


def serve_sync(operations: lro_grpc.Operations, servicer: Fleet, port: int) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(16))
    fleet_grpc.add_FleetServiceServicer_to_server(servicer, operations.attach(server))
    say(f"port {server.add_insecure_port(f'127.0.0.1:{port}')}")
    operations.run(server)


def _obey(gates: Gates) -> None:
    """Ends the process at once when the other end of stdin is closed."""
    while os.read(0, 100):
        gates.release()
    os._exit(3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--server", choices=["aio", "sync"], default="aio")
    parser.add_argument("--batch", choices=["async", "def"], default="async")
    parser.add_argument("--store", help="a URL; by default, a file in the folder")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--lifetime", type=float, default=LIFETIME_SECONDS)
    parser.add_argument("--grace", type=float, required=True)
    # By default so long that nothing but a signal wakes the server within a minute.
    parser.add_argument("--lease", type=float, default=180)
    parser.add_argument("--queue", type=int, default=lro_grpc.Limits().queue)
    parser.add_argument("--signals", choices=["main", "other"], default="main")
    parser.add_argument("--hold", action="append", default=[])
    parser.add_argument("--pause", action="append", default=[])
    arguments = parser.parse_args()
    faulthandler.dump_traceback_later(arguments.lifetime, exit=True)
    gates = Gates(arguments.hold, arguments.pause)
    threading.Thread(target=_obey, args=[gates], daemon=True).start()
    if arguments.signals == "other":  # the kernel may choose any thread that does not block them
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # An error only to grpc.aio: that a caller was gone when it was to be answered.
    logging.getLogger("grpc._cython.cygrpc").addFilter(
        lambda record: "ExecuteBatchError" not in record.getMessage()
    )
    # Left behind by asyncpg, where a connect is cancelled in the moment that its socket is made.
    logging.getLogger("asyncio").addFilter(
        lambda record: "unexpected connection_lost() call" not in record.getMessage()
    )
    operations = lro_grpc.Operations(
        arguments.store or f"sqlite:///{arguments.folder / 'operations.db'}",
        grace=timedelta(seconds=arguments.grace),
        lease=timedelta(seconds=arguments.lease),
        sweep=timedelta(seconds=arguments.lease / 3),
        limits=lro_grpc.Limits(queue=arguments.queue),
    )
    kind = Fleet if arguments.batch == "async" else BlockingBatches
    servicer = kind(Works(arguments.folder), gates)
    if arguments.server == "aio":
        asyncio.run(serve_aio(operations, servicer, arguments.port))
    else:
        serve_sync(operations, servicer, arguments.port)


if __name__ == "__main__":
    main()
