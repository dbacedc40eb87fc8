"""The fleet: instances and snapshots as directories, without a word of gRPC.

A resource is a directory, and its state is the directory's name; one rename moves it on, so that
the state is right after any crash::

    instances/.{operation}-{n}.orders.partial/    CREATING, by the operation's n-th attempt
    instances/orders/                             READY
    instances/.{random}.orders.deleting/          DELETING

A directory holds the database, ``data.db``, and ``resource.json``: the resource as it was
requested, and the operation that makes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from google.protobuf import json_format
from google.protobuf.message import Message

from lro.example.v1 import fleet_service_pb2
from lro_grpc import Code, LroError
from lro_grpc._example import database
from lro_grpc._example.database import Work
from lro_grpc._example.names import Name

QUOTA = 8 << 30
"""The most bytes that the files of a fleet may have together."""

_DATABASE = "data.db"
_RECORD = "resource.json"

_Instance = fleet_service_pb2.Instance
_STATES = {"": _Instance.READY, ".partial": _Instance.CREATING, ".deleting": _Instance.DELETING}
"""The states by the suffixes of the directories' names."""


class Fleet:
    """The instances and snapshots in one directory.

    A long-running method can be called again after a crash, with the same ``work.id``: it continues
    from the files that it finds, and ends as if it had not been interrupted.

    Args:
        data: The directory; made with the first instance.
        quota: The most bytes that the files in it may have together.
    """

    def __init__(self, data: Path, *, quota: int = QUOTA) -> None:
        self._data = data
        self._quota = quota

    def get(self, name: Name) -> _Instance:
        """Returns an instance, usable or not.

        Raises:
            LroError: NOT_FOUND.
        """
        instance = self.find(name)
        if instance is None:
            raise LroError(
                f"there is no instance {name}; create it, or list what is there",
                code=Code.NOT_FOUND,
                reason="INSTANCE_NOT_FOUND",
                metadata={"name": str(name)},
            )
        return instance

    def find(self, name: Name) -> _Instance | None:
        """Returns an instance, usable or not; None if there is none."""
        return self._read(name, self._unfinished(name))

    def page(self, parent: str, *, after: str, size: int) -> tuple[list[_Instance], str]:
        """Returns some instances of a location, in the order of their ids.

        Args:
            parent: The location.
            after: The id after which to begin; empty for the first.
            size: The most instances to return.

        Returns:
            The instances, and the id after which the next page begins; empty if there is none.
        """
        folder = self._data.joinpath(*parent.split("/"), "instances")
        unfinished = _unfinished(folder)
        finished = {one.name for one in _directories(folder) if "." not in one.name}
        ids = sorted(one for one in finished.union(unfinished) if one > after)
        names = [Name(parent, "instances", one) for one in ids[:size]]
        found = [self._read(name, unfinished.get(name.id, [])) for name in names]
        last = names[-1].id if len(ids) > size else ""
        return [instance for instance in found if instance is not None], last

    def check_new(self, *names: Name) -> None:
        """Checks that instances can be created.

        Raises:
            LroError: ALREADY_EXISTS or RESOURCE_EXHAUSTED.
        """
        for name in names:
            if self.find(name) is not None:
                raise _taken(name)
        self._check_room(names[0], 1)

    def check_new_snapshot(self, source: Name, name: Name) -> None:
        """Checks that a snapshot can be taken.

        Raises:
            LroError: NOT_FOUND, FAILED_PRECONDITION, ALREADY_EXISTS or RESOURCE_EXHAUSTED.
        """
        instance = self._get_ready(source)
        if self._path(name).exists():
            raise _taken(name)
        self._check_room(name, instance.size_bytes)

    def create(self, name: Name, wanted: _Instance, work: Work) -> _Instance:
        """Builds an instance.

        Args:
            name: Its name.
            wanted: Its schema and number of rows.
            work: The work, which its progress is reported to.

        Raises:
            LroError: ALREADY_EXISTS if the name is taken by now; or as ``database.build`` does.
        """
        instance = _Instance(
            name=str(name), schema_sql=wanted.schema_sql, seed_rows=wanted.seed_rows
        )
        instance.create_time.GetCurrentTime()

        def fill(directory: Path) -> None:
            _write_record(directory, instance, work)
            room = max(0, self._quota - self._used())
            database.build(directory / _DATABASE, instance, max_bytes=room, work=work)

        self._make(name, fill, work)
        return self.get(name)

    def snapshot(self, source: Name, name: Name, work: Work) -> fleet_service_pb2.Snapshot:
        """Copies an instance.

        Args:
            source: The instance.
            name: The snapshot's name.
            work: The work, which its progress is reported to.

        Raises:
            LroError: ALREADY_EXISTS if the name is taken by now, NOT_FOUND if the instance is gone.
        """
        snapshot = fleet_service_pb2.Snapshot(name=str(name), instance=str(source))

        def fill(directory: Path) -> None:
            self._get_ready(source)
            database.copy(self._path(source) / _DATABASE, directory / _DATABASE, work)
            snapshot.create_time.GetCurrentTime()
            snapshot.size_bytes = (directory / _DATABASE).stat().st_size
            _write_record(directory, snapshot, work)

        self._make(name, fill, work)
        _, resource = _read_record(self._path(name))
        return json_format.ParseDict(resource, fleet_service_pb2.Snapshot())

    def delete(self, name: Name) -> None:
        """Deletes an instance in any state, if it exists.

        A build that goes on is cut off: it finds that its directory is gone, and fails.
        """
        self._discard_unfinished(name)
        _discard(self._path(name), name)

    def undo(self, name: Name, work: Work) -> None:
        """Removes the instance that ``create`` has made, finished or not, in any attempt."""
        self._discard_unfinished(name, of=work)
        path = self._path(name)
        if _made_by(path) == work.id:
            _discard(path, name)

    def _make(self, name: Name, fill: Callable[[Path], None], work: Work) -> None:
        """Makes a resource's directory once, and in one step: filled aside, then renamed."""
        if self._is_made(name, work):
            return
        self._discard_unfinished(name, of=work)
        path = self._path(name)
        partial = path.with_name(f".{work.id}-{work.attempt}.{name.id}.partial")
        make_folders(partial.parent)
        partial.mkdir(mode=0o700)
        try:
            fill(partial)
            _sync(partial / _DATABASE)
            _sync(partial)
            partial.rename(path)  # replaces nothing: a directory with files in it is in the way
        except OSError as cause:
            if not self._is_made(name, work):  # by another attempt, or for another operation
                raise cause if partial.exists() else _deleted_meanwhile(name) from cause
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        for folder in path.parents:
            _sync(folder)
            if folder == self._data:
                break
        self._discard_unfinished(name)  # any other build of it has lost

    def _is_made(self, name: Name, work: Work) -> bool:
        """Returns whether an attempt at this work has finished the resource.

        Raises:
            LroError: ALREADY_EXISTS, if another work has.
        """
        maker = _made_by(self._path(name))
        if maker not in (None, work.id):
            raise _taken(name)
        return maker is not None

    def _discard_unfinished(self, name: Name, *, of: Work | None = None) -> None:
        prefix = f".{of.id}-" if of else "."
        for directory in self._unfinished(name):
            if directory.name.startswith(prefix):
                _discard(directory, name)

    def _path(self, name: Name) -> Path:
        return name.under(self._data)

    def _unfinished(self, name: Name) -> list[Path]:
        return _unfinished(self._path(name).parent).get(name.id, [])

    def _read(self, name: Name, unfinished: list[Path]) -> _Instance | None:
        """Returns an instance: the finished one, or one that was unfinished a moment ago.

        The finished one comes first, so that an instance that is finished meanwhile is not missed.
        """
        with contextlib.suppress(FileNotFoundError):
            return _read_instance(self._path(name))
        if not unfinished:
            return None
        directory = min(unfinished, key=_state_of)
        try:
            return _read_instance(directory)
        except FileNotFoundError:  # it has only just begun, or is about to end
            return _Instance(name=str(name), state=_state_of(directory))

    def _get_ready(self, name: Name) -> _Instance:
        instance = self.get(name)
        if instance.state != _Instance.READY:
            state = _Instance.State.Name(instance.state)
            raise LroError(
                f"{name} is {state}; wait until it is READY",
                code=Code.FAILED_PRECONDITION,
                reason="INSTANCE_NOT_READY",
                metadata={"name": str(name), "state": state},
            )
        return instance

    def _check_room(self, name: Name, needed: int) -> None:
        if self._used() + needed > self._quota:
            raise database.out_of_room(str(name))

    def _used(self) -> int:
        used = 0
        for folder, _, files in os.walk(self._data):
            for file in files:
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    used += os.path.getsize(os.path.join(folder, file))
        return used


def make_folders(path: Path) -> None:
    """Makes the folders of a path that are missing, for their owner alone."""
    for folder in reversed([path, *path.parents]):
        if not folder.is_dir():
            folder.mkdir(mode=0o700, exist_ok=True)


def _taken(name: Name) -> LroError:
    return LroError(
        f"there is already a {name}; choose another id, or delete it first",
        code=Code.ALREADY_EXISTS,
        reason="NAME_TAKEN",
        metadata={"name": str(name)},
    )


def _deleted_meanwhile(name: Name) -> LroError:
    return LroError(
        f"{name} was deleted while it was built; create it again if it is still wanted",
        code=Code.ABORTED,
        reason="DELETED_MEANWHILE",
        metadata={"name": str(name)},
    )


def _unfinished(folder: Path) -> dict[str, list[Path]]:
    """Returns the directories of resources that are created or deleted now, by their ids."""
    found: dict[str, list[Path]] = {}
    for directory in _directories(folder):
        if directory.suffix and directory.suffix in _STATES:
            resource_id = directory.stem.rpartition(".")[2]
            found.setdefault(resource_id, []).append(directory)
    return found


def _directories(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _discard(directory: Path, name: Name) -> None:
    """Removes a directory, if it exists; renames it first, so that no reader sees half of it."""
    doomed = directory.with_name(f".{uuid.uuid4().hex}.{name.id}.deleting")
    with contextlib.suppress(FileNotFoundError):  # gone, or someone else is removing it
        directory.rename(doomed)
        shutil.rmtree(doomed)
        _sync(doomed.parent)


def _write_record(directory: Path, resource: Message, work: Work) -> None:
    record = {"operation": work.id, "resource": json_format.MessageToDict(resource)}
    scratch = directory / f"{_RECORD}.new"
    database.make_private(scratch)
    scratch.write_text(json.dumps(record, indent=2), encoding="utf-8")
    _sync(scratch)
    scratch.replace(directory / _RECORD)


def _read_record(directory: Path) -> tuple[str, dict[str, object]]:
    record = json.loads((directory / _RECORD).read_text(encoding="utf-8"))
    return record["operation"], record["resource"]


def _made_by(directory: Path) -> str | None:
    """Returns the operation that has made a directory; None if there is no directory."""
    try:
        return _read_record(directory)[0]
    except FileNotFoundError:
        return None


def _read_instance(directory: Path) -> _Instance:
    _, resource = _read_record(directory)
    instance = json_format.ParseDict(resource, _Instance())
    instance.state = _state_of(directory)
    if instance.state == _Instance.READY:
        instance.size_bytes = (directory / _DATABASE).stat().st_size
    return instance


def _state_of(directory: Path) -> _Instance.State.ValueType:
    return _STATES[directory.suffix]


def _sync(path: Path) -> None:
    """Makes a file, or the names in a directory, outlast a power failure."""
    if os.name == "nt":  # it cannot open a directory
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
