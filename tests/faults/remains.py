"""Traces that operations leave on the disk once they have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from killable import expected_content, id_of, names_of, seen, states

from lro.example.v1 import fleet_service_pb2 as fleet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from google.longrunning import operations_pb2
    from google.protobuf.message import Message
    from killable import Site

CANCELLED = 1


def disorder(
    site: Site, ended: Iterable[tuple[Message, operations_pb2.Operation]], *, overlapping: bool
) -> Iterator[str]:
    """Says what is missing and what was left behind, of requests and what has come of them.

    Args:
        site: Where they were carried out.
        ended: The requests, and how their operations have ended.
        overlapping: Whether an attempt may have gone on for a moment beside the next one, as it
            does when its process was frozen: it may leave behind what that one has cleaned up.
    """
    files = site.files()
    built = {file for file in files if file[0] != "."}
    partial = {file.split(".")[3] for file in files - built}
    left = built | partial
    for request, operation in ended:
        if isinstance(request, fleet.DeleteInstanceRequest):
            continue
        for name in names_of(request):
            own_id = id_of(name)
            if operation.HasField("response"):
                content = site.content(own_id) if own_id in built else b""
                if content != expected_content(name) or own_id in partial:
                    yield f"{operation.name} succeeded without building {name}"
            elif overlapping and seen(operation).attempt > 1:
                continue
            elif own_id in left and _must_clean_up(request, operation):
                yield f"{operation.name} failed and left {name} behind"
        ends = {"READY"} if operation.HasField("response") else {"ROLLED_BACK", "FAILED"}
        if not ends.issuperset(states(operation)):
            yield f"{operation.name} has ended with {states(operation)}"


def _must_clean_up(request: Message, operation: operations_pb2.Operation) -> bool:
    """A batch always must; of the others those that were not cut off by a cancel."""
    is_batch = isinstance(request, fleet.BatchCreateInstancesRequest)
    return is_batch or operation.error.code != CANCELLED
