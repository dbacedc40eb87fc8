"""A server in a process of its own that tells of what is done.

``on_done_process.py STORE-URL [hold]``

Prints ``listening PORT``, then ``telling ID ATTEMPT-COUNT NAME`` for each event; with ``hold`` that
goes on for ever.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc.aio

import lro_grpc
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc


class FleetService(fleet_service_pb2_grpc.FleetServiceServicer):
    @lro_grpc.method
    async def CreateInstance(self, request: Any, op: Any) -> Any:
        return fleet_service_pb2.Instance(name=op.name)


async def main(url: str, what: str = "") -> None:
    async def tell(event: lro_grpc.CompletionEvent) -> None:
        print("telling", event.id, event.attempt_count, event.name, flush=True)
        if what == "hold":
            await asyncio.Event().wait()

    operations = lro_grpc.Operations(url, on_done=tell)
    server = grpc.aio.server()
    registrar = operations.attach(server)
    fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(FleetService(), registrar)
    port = server.add_insecure_port("127.0.0.1:0")
    await operations.run(server, ready=lambda: print("listening", port, flush=True))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
