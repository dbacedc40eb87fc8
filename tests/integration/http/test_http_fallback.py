"""A fallback servicer's operations, over HTTP."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import empty_pb2
from http_harness import serving

PARENT = "projects/p/locations/l"
NAMES = [f"{PARENT}/operations/old-{number}" for number in range(3)]


class Old(operations_pb2_grpc.OperationsServicer):
    """A servicer with operations of its own."""

    def __init__(self) -> None:
        self.operations = {name: operations_pb2.Operation(name=name) for name in NAMES}

    def GetOperation(self, request: Any, context: Any) -> Any:
        if request.name not in self.operations:
            context.abort(grpc.StatusCode.NOT_FOUND, "not in the dictionary")
        return self.operations[request.name]

    async def CancelOperation(self, request: Any, context: Any) -> Any:
        self.operations[request.name].done = True
        return empty_pb2.Empty()

    def ListOperations(self, request: Any, context: Any) -> Any:
        return operations_pb2.ListOperationsResponse(operations=self.operations.values())


@pytest.mark.parametrize("where", ["aio", "sync", "channel"])
def test_they_are_got_listed_and_cancelled(where: str) -> None:
    with serving(where, attach={"fallback": Old()}) as http:
        assert http.get(f"/v1/{NAMES[0]}").ok == {"name": NAMES[0]}
        assert http.post(f"/v1/{NAMES[0]}:cancel", {}).ok == {}
        assert http.get(f"/v1/{NAMES[0]}").ok == {"name": NAMES[0], "done": True}
        listed = http.get(f"/v1/{PARENT}/operations").ok["operations"]
        assert [one["name"] for one in listed] == NAMES
        reply = http.get(f"/v1/{PARENT}/operations/no-such")
        assert (reply.status, reply.json["error"]["message"]) == (404, "not in the dictionary")
        assert http.post(f"/v1/{NAMES[0]}:pause", {}).status == 404
