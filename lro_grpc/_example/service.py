"""The fleet as a gRPC service: four long-running methods and two plain ones."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import grpc
from google.protobuf import empty_pb2

import lro_grpc
from lro.example.v1 import fleet_service_lro, fleet_service_pb2
from lro.v1.operation_metadata_pb2 import OperationMetadata
from lro_grpc import paging
from lro_grpc._example import names
from lro_grpc._example.fleet import Fleet
from lro_grpc._example.names import Name


class FleetService(fleet_service_lro.FleetServiceServicer):
    """Manages a fleet of SQLite databases, on a ``grpc.server`` or a ``grpc.aio.server``.

    Its methods are ``def``, because they block on files. Those with an operation context do the
    work, which may take long; the ``prepare_…`` ones refuse a request that is wrong from the start.

    Args:
        data: The directory of the databases; made with the first one.
    """

    def __init__(self, data: Path) -> None:
        self._fleet = Fleet(data)
        self._page_tokens = paging.PageTokens(os.urandom(32))  # a restart makes them void

    def CreateInstance(
        self,
        request: fleet_service_pb2.CreateInstanceRequest,
        op: lro_grpc.OperationContext[OperationMetadata],
    ) -> fleet_service_pb2.Instance:
        """Builds a database; a later attempt begins anew, or finds it finished."""
        return self._fleet.create(names.instance_name(op.target), request.instance, op)

    def prepare_CreateInstance(
        self, request: fleet_service_pb2.CreateInstanceRequest, context: grpc.ServicerContext
    ) -> lro_grpc.Prepared:
        """Refuses a malformed request, a name that is taken, and a full fleet."""
        del context
        names.check_parent(request.parent)
        name = _name_of(request, request.parent)
        self._fleet.check_new(name)
        return lro_grpc.Prepared(target=str(name))

    def BatchCreateInstances(
        self,
        request: fleet_service_pb2.BatchCreateInstancesRequest,
        op: lro_grpc.OperationContext[OperationMetadata],
    ) -> fleet_service_pb2.BatchCreateInstancesResponse:
        """Builds several databases, all or none."""
        wanted = {str(name): one.instance for name, one in _names_of(request).items()}
        targets = list(wanted)

        def create(target: str) -> None:
            name = names.instance_name(target)
            share = _Share(op, name, targets.index(target), len(targets))
            self._fleet.create(name, wanted[target], share)

        def delete(target: str) -> None:
            self._fleet.undo(names.instance_name(target), op)

        op.batch(targets, create=create, delete=delete)
        made = (self._fleet.find(names.instance_name(target)) for target in targets)
        return fleet_service_pb2.BatchCreateInstancesResponse(
            instances=[instance for instance in made if instance]  # one may be deleted by now
        )

    def prepare_BatchCreateInstances(
        self, request: fleet_service_pb2.BatchCreateInstancesRequest, context: grpc.ServicerContext
    ) -> lro_grpc.Prepared:
        """Refuses a batch if any of its requests is to be refused."""
        del context
        wanted = _names_of(request)
        self._fleet.check_new(*wanted)
        return lro_grpc.Prepared(target=request.parent, batch_targets=[*map(str, wanted)])

    def TakeSnapshot(
        self,
        request: fleet_service_pb2.TakeSnapshotRequest,
        op: lro_grpc.OperationContext[OperationMetadata],
    ) -> fleet_service_pb2.TakeSnapshotResponse:
        """Copies a database that may be in use."""
        source, name = _snapshot_names(request)
        snapshot = self._fleet.snapshot(source, name, op)
        return fleet_service_pb2.TakeSnapshotResponse(snapshot=snapshot)

    def prepare_TakeSnapshot(
        self, request: fleet_service_pb2.TakeSnapshotRequest, context: grpc.ServicerContext
    ) -> lro_grpc.Prepared:
        """Refuses an instance that is not READY, a name that is taken, and a full fleet."""
        del context
        source, name = _snapshot_names(request)
        self._fleet.check_new_snapshot(source, name)
        return lro_grpc.Prepared(target=str(source))

    def DeleteInstance(
        self,
        request: fleet_service_pb2.DeleteInstanceRequest,
        op: lro_grpc.OperationContext[OperationMetadata],
    ) -> empty_pb2.Empty:
        """Deletes a database; if an earlier attempt has deleted it, that is no error."""
        del op
        self._fleet.delete(names.instance_name(request.name))
        return empty_pb2.Empty()

    def prepare_DeleteInstance(
        self, request: fleet_service_pb2.DeleteInstanceRequest, context: grpc.ServicerContext
    ) -> lro_grpc.Prepared:
        """Refuses an instance that does not exist."""
        del context
        instance = self._fleet.get(names.instance_name(request.name))
        return lro_grpc.Prepared(target=instance.name)

    def GetInstance(
        self, request: fleet_service_pb2.GetInstanceRequest, context: grpc.ServicerContext
    ) -> fleet_service_pb2.Instance:
        """Returns an instance, usable or not."""
        del context
        return self._fleet.get(names.instance_name(request.name))

    def ListInstances(
        self, request: fleet_service_pb2.ListInstancesRequest, context: grpc.ServicerContext
    ) -> fleet_service_pb2.ListInstancesResponse:
        """Returns a page of a location's instances."""
        del context
        names.check_parent(request.parent)
        size = paging.page_size(request.page_size)
        after = ""
        if request.page_token:
            after = self._page_tokens.read(request.page_token, request.parent).decode()
        page = fleet_service_pb2.ListInstancesResponse()
        found, last = self._fleet.page(request.parent, after=after, size=size)
        page.instances.extend(found)
        if last:
            page.next_page_token = self._page_tokens.make(last.encode(), request.parent)
        return page


@dataclass(frozen=True, slots=True)
class _Share:
    """The work on one instance of a batch: its progress is a share of the batch's."""

    op: lro_grpc.OperationContext[OperationMetadata]
    name: Name
    index: int
    count: int

    @property
    def id(self) -> str:
        return self.op.id

    @property
    def attempt(self) -> int:
        return self.op.attempt

    @property
    def stop_reason(self) -> lro_grpc.StopReason | None:
        return self.op.stop_reason

    def raise_if_stopped(self) -> None:
        self.op.raise_if_stopped()

    def progress(self, percent: float | None = None, detail: str | None = None) -> None:
        share = (100 * self.index + (percent or 0)) / self.count
        self.op.progress(share, f"{self.name.id}: {detail}")


def _name_of(
    request: fleet_service_pb2.CreateInstanceRequest, parent: str, where: str = ""
) -> Name:
    """Returns the name that an instance is to have, its request checked as far as it goes alone."""
    if not request.HasField("instance"):
        raise names.invalid(f"{where}instance", "", "an Instance, though it may be empty")
    rows = request.instance.seed_rows
    if rows < 0:
        raise names.invalid(f"{where}instance.seed_rows", rows, "0 or a positive number")
    return names.new_name(parent, "instances", request.instance_id, f"{where}instance_id")


def _names_of(
    batch: fleet_service_pb2.BatchCreateInstancesRequest,
) -> dict[Name, fleet_service_pb2.CreateInstanceRequest]:
    """Returns the requests of a batch by the names that the instances are to have, in order."""
    names.check_parent(batch.parent)
    if not batch.requests:
        raise names.invalid("requests", "", "one request at least")
    found: dict[Name, fleet_service_pb2.CreateInstanceRequest] = {}
    for index, request in enumerate(batch.requests):
        where = f"requests[{index}]."
        if request.parent not in ("", batch.parent):
            raise names.invalid(f"{where}parent", request.parent, f"nothing or {batch.parent!r}")
        if request.request_id or request.validate_only:
            field = "request_id" if request.request_id else "validate_only"
            raise names.invalid(f"{where}{field}", getattr(request, field), "it unset in a batch")
        name = _name_of(request, batch.parent, where)
        if name in found:
            raise names.invalid(
                f"{where}instance_id", name.id, "an id that is not in the batch yet"
            )
        found[name] = request
    return found


def _snapshot_names(request: fleet_service_pb2.TakeSnapshotRequest) -> tuple[Name, Name]:
    source = names.instance_name(request.name)
    name = names.new_name(source.parent, "snapshots", request.snapshot_id, "snapshot_id")
    return source, name
