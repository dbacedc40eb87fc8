"""The disk under the store fails: it is full, or answers with an I/O error.

Full is a small file system in the server's own mount namespace; the I/O error comes from a limit on
the size of the server's files, set and taken away from outside.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import grpc
import pytest
from google.rpc import status_pb2
from killable import (
    PATIENCE_SECONDS,
    Server,
    Site,
    batch,
    create,
    expected,
    outcome,
    reason,
    seen,
    snapshot,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PARENT = "projects/p/locations/x1"
DISK_BYTES = 1 << 23
LIMIT_BYTES = 1 << 16
"""More than the server's log has, less than the store's journal after a few operations."""

MOUNT = 'mount -t tmpfs -o size="$0" tmpfs "$1" && shift && exec "$@"'
OWN_DISK = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", MOUNT, str(DISK_BYTES))


class Disk(Protocol):
    """Where a server keeps its store."""

    def fail(self) -> None: ...

    def recover(self) -> None: ...

    def files(self) -> set[str]:
        """What handlers have built."""
        ...


class FullDisk:
    def __init__(self, server: Server, folder: Path) -> None:
        self._folder = Path(f"/proc/{server.process}/root{folder}")
        self._ballast = self._folder / "ballast"

    def fail(self) -> None:
        room = os.statvfs(self._folder)
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize)

    def recover(self) -> None:
        self._ballast.unlink()

    def files(self) -> set[str]:
        return {path.name for path in (self._folder / "data").iterdir()}


class BrokenDisk:
    def __init__(self, server: Server, site: Site) -> None:
        self._process = server.process
        self.files = site.files

    def fail(self) -> None:
        self._limit(LIMIT_BYTES)

    def recover(self) -> None:
        self._limit(resource.RLIM_INFINITY)

    def _limit(self, size: int) -> None:
        resource.prlimit(self._process, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.fixture(params=["full", "broken"])
def serve(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[..., tuple[Server, Disk]]]:
    """Starts a server on a disk that can fail."""
    is_full = request.param == "full"
    if is_full and not _may_mount(tmp_path):
        pytest.skip("this system lets nobody mount a file system of their own")
    site = Site(tmp_path, prefix=(*OWN_DISK, str(tmp_path)) if is_full else ())

    def serve(**how: Any) -> tuple[Server, Disk]:
        server = site.serve(**how)
        return server, FullDisk(server, tmp_path) if is_full else BrokenDisk(server, site)

    try:
        yield serve
    finally:
        site.close()
    site.check_log()


def _may_mount(folder: Path) -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*OWN_DISK, str(folder), "true"], capture_output=True).returncode == 0


@pytest.mark.parametrize("stack", ["aio", "sync"])
def test_a_disk_that_fails_loses_nothing_and_stops_no_handler(
    serve: Callable[..., tuple[Server, Disk]], stack: str
) -> None:
    running = [
        create(PARENT, "a-5ms"),
        snapshot(PARENT, "d-5ms"),
        batch(PARENT, ["b1-noop", "b2-5ms", "b3-noop"]),
    ]
    server, disk = serve(server=stack, hold=[f"creating/{one}-5ms" for one in ("a", "d", "b2")])
    started = [server.start(create(PARENT, f"n{n}-noop")) for n in range(20)]
    ended = {name: server.wait(name) for name in started}
    held = {server.start(request): request for request in running}
    server.reach("creating/a-5ms", "creating/d-5ms", "creating/b2-5ms")

    disk.fail()
    acknowledged, refused = _start_until_refused(server)
    assert reason(refused) == "STORE_UNAVAILABLE"
    for name in held:
        assert reason(_refused(lambda name=name: server.cancel(name))) == "STORE_UNAVAILABLE"
    assert {name: server.get(name) for name in ended} == ended
    server.release()
    _until(lambda: disk.files() >= {"a-5ms", "d-5ms", "b2-5ms"})
    assert not any(server.get(name).done for name in held)
    assert reason(_refused(lambda: server.start(create(PARENT, "x-noop")))) == "STORE_UNAVAILABLE"
    disk.recover()

    for name, request in held.items():
        operation = server.wait(name)
        assert outcome(operation) == expected(request)
        assert seen(operation).attempt == 1
    assert {name: server.get(name) for name in ended} == ended
    for name in acknowledged:
        assert server.wait(name).HasField("response")
    again = server.start(create(PARENT, "y-noop"))
    assert server.wait(again).HasField("response")
    listed = {operation.name for operation in server.walk(PARENT)}
    assert listed == {*ended, *held, *acknowledged, again}
    server.drain()


def _start_until_refused(server: Server) -> tuple[list[str], status_pb2.Status]:
    """Starts operations until the disk has no place for another one."""
    started: list[str] = []
    while True:
        assert len(started) < 1000, "the disk has failed, and everything was stored"
        request = create(PARENT, f"w{len(started)}-noop")
        try:
            started.append(server.start(request))
        except grpc.RpcError as error:
            return started, _status(error)


def _refused(call: Callable[[], object]) -> status_pb2.Status:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return _status(raised.value)


def _status(error: Any) -> status_pb2.Status:
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    return status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < end


@pytest.mark.parametrize("stack", ["aio", "sync"])
def test_a_server_killed_while_its_disk_fails_has_lost_nothing_acknowledged(
    site: Site, stack: str
) -> None:
    server = site.serve(server=stack, hold=["creating/held-5ms"])
    disk = BrokenDisk(server, site)
    ended = {server.start(create(PARENT, f"n{n}-noop")) for n in range(20)}
    for name in ended:
        server.wait(name)
    held = server.start(create(PARENT, "held-5ms"))
    server.reach("creating/held-5ms")
    disk.fail()
    acknowledged, _ = _start_until_refused(server)
    server.kill()

    server = site.serve(server=stack)

    for name in (*ended, *acknowledged, held):
        assert server.wait(name).HasField("response")
    assert {one.name for one in server.walk(PARENT)} == {*ended, *acknowledged, held}
    assert site.attempts(held) == [1, 2]
    server.drain()
    assert site.integrity() == "ok"
