"""A server of quick operations, for drills of several that share a store.

It prints a line once it answers calls. An instance takes 20 to 60 ms, eight of them at a time; the
tenant who has it is the first part of its id.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
from datetime import timedelta
from typing import Any

import grpc.aio

import lro_grpc
from lro.example.v1 import fleet_service_pb2 as fleet
from lro.example.v1 import fleet_service_pb2_grpc as fleet_grpc
from lro_grpc.events import Webhook

METHOD = "/lro.example.v1.FleetService/CreateInstance"
SLOTS = 8
PER_KEY = 3
SECONDS = (0.02, 0.06)


def fleet_of(*, keys: bool) -> fleet_grpc.FleetServiceServicer:
    """Returns the fleet without databases; with keys, a tenant has so many places alone."""

    class Fleet(fleet_grpc.FleetServiceServicer):
        @lro_grpc.method(concurrency=SLOTS, concurrency_per_key=PER_KEY if keys else None)
        async def CreateInstance(self, request: Any, op: Any) -> Any:
            await asyncio.sleep(random.uniform(*SECONDS))
            return fleet.Instance(name=request.instance_id)

        @CreateInstance.prepare
        def prepare(self, request: Any, context: Any) -> lro_grpc.Prepared:
            tenant = request.instance_id.partition("-")[0]
            return lro_grpc.Prepared(concurrency_key=tenant if keys else "")

    return Fleet()


async def serve(options: argparse.Namespace) -> None:
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    operations = lro_grpc.Operations(
        options.store,
        lease=timedelta(seconds=options.lease),
        limits=lro_grpc.Limits(queue=100_000, per_caller=1.0),
        grace=timedelta(seconds=2),
        on_done=Webhook(options.receiver, secrets=[options.secret]) if options.receiver else None,
    )
    server = grpc.aio.server()
    servicer = fleet_of(keys=options.keys)
    fleet_grpc.add_FleetServiceServicer_to_server(servicer, operations.attach(server))
    server.add_insecure_port(f"127.0.0.1:{options.port}")
    await operations.run(server, ready=lambda: print("serving", flush=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    parser.add_argument("port")
    parser.add_argument("--lease", type=float, default=3.0, help="in seconds")
    parser.add_argument("--keys", action="store_true", help="each tenant has so many places alone")
    parser.add_argument("--receiver", help="the URL that is told of what is done")
    parser.add_argument("--secret", help="that of the receiver")
    asyncio.run(serve(parser.parse_args()))
    return 0
