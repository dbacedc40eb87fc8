"""A server to besiege: quick operations that have one attempt, and one that blocks its loop."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc.aio

import lro_grpc
from lro.example.v1 import fleet_service_pb2 as fleet
from lro.example.v1 import fleet_service_pb2_grpc as fleet_grpc
from lro_grpc._http.gateway import gateway
from lro_grpc._http.listening import listening

LEASE = timedelta(seconds=3)
BLOCKED_SECONDS = 4.0
"""More than a lease."""


class Fleet(fleet_grpc.FleetServiceServicer):
    """The fleet without databases."""

    @lro_grpc.method(max_attempts=1, concurrency=200)
    async def CreateInstance(self, request: Any, op: Any) -> Any:
        await asyncio.sleep(0.5)
        return fleet.Instance(name=request.instance_id)

    @lro_grpc.method(concurrency=4_000)
    async def TakeSnapshot(self, request: Any, op: Any) -> Any:
        await asyncio.Event().wait()

    @lro_grpc.method(max_attempts=1)
    async def DeleteInstance(self, request: Any, op: Any) -> None:
        time.sleep(BLOCKED_SECONDS)  # noqa: ASYNC251 - it is the fault


def identify(context: Any) -> str:
    return str(dict(context.invocation_metadata()).get("caller", ""))


def authorize(access: lro_grpc.Access) -> bool:
    return access.caller != "stranger"


async def main(folder: Path) -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    operations = lro_grpc.Operations(
        f"sqlite:///{folder / 'operations.db'}",
        lease=LEASE,
        grace=timedelta(seconds=2),
        identify=identify,
        authorize=authorize,
    )
    fleet_grpc.add_FleetServiceServicer_to_server(Fleet(), operations.attach(server))
    port = server.add_insecure_port("127.0.0.1:0")
    async with listening(gateway(operations), "127.0.0.1:0") as http_port:
        await operations.run(server, ready=lambda: print(port, http_port, flush=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(main(parser.parse_args().folder))
