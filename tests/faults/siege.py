"""Besieges one server with everything at once, and counts what its well-behaved callers notice.

Strangers hold connections half open, send the worst filters and bodies, and cut Waits and make
them again, while a handler blocks the event loop for longer than a lease every now and then. The
promise is that each operation of a well-behaved caller ends in its only attempt.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.longrunning import operations_pb2, operations_pb2_grpc

import lro_grpc
from lro.example.v1 import fleet_service_pb2 as fleet
from lro.example.v1 import fleet_service_pb2_grpc as fleet_grpc

SERVER = Path(__file__).with_name("siege_server.py")
PARENT = "projects/p/locations/global"
BLOCK_EVERY_SECONDS = 20
HALF_OPEN = 3_000
WAITS = 2_000
WAIT_SECONDS = 10.0
"""Each Wait is cut at some moment within this time, and made again."""
BEGIN_SECONDS = 3
"""The well-behaved callers alone, before the memory is looked at for the first time."""
CALM_SECONDS = 15
"""After the siege, before the memory is looked at for the last time."""
STARTS_A_SECOND = 20
WORST_FILTERS = (
    '"' * 58_000,
    '"""' + "\\" * 60_000,
    "(" * 60_000,
    "NOT " * 20_000 + "done",
    "name eq " + "a" * 60_000,
    " OR ".join(["partial_failures:*"] * 2_000),
)
WORST_BODIES = (
    b'{"instanceId":[' + b"1," * 2_000_000 + b"1]}",
    b'{"a":[' + b"{}," * 1_300_000 + b"{}]}",
    b"[" * 4_000_000,
    b'{"schemaSql":"' + b"\\u0041" * 600_000 + b'"}',
)


def well_behaved(target: str, seconds: float, answer: Any) -> None:
    """Starts operations, and gets one, in a process of its own; its own time is not the others'."""
    answer.send(asyncio.run(_well_behaved(target, seconds)))


async def _well_behaved(target: str, seconds: float) -> dict[str, Any]:
    ends: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    gets: list[float] = []
    async with grpc.aio.insecure_channel(target) as channel:
        service = fleet_grpc.FleetServiceStub(channel)
        operations = operations_pb2_grpc.OperationsStub(channel)
        metadata = (("caller", "good"),)
        client = lro_grpc.AsyncOperationsClient(channel, call_metadata=metadata)

        async def start(call: Any, request: Any) -> Any:
            """Starts an operation; gRPC turns calls away while too many wait for the loop."""
            request.request_id = str(uuid.uuid4())
            while True:
                try:
                    return await call(request, metadata=metadata)
                except grpc.aio.AioRpcError as error:
                    if error.code() not in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE):
                        raise
                    calls[f"start {error.code().name}, sent again"] += 1
                    await asyncio.sleep(0.5)

        async def operate(number: int) -> None:
            request = fleet.CreateInstanceRequest(parent=PARENT, instance_id=f"i-{number}")
            try:
                future = client.future(await start(service.CreateInstance, request))
                await ended(future)
                ends[f"done in attempt {future.metadata.attempt}"] += 1
            except (grpc.aio.AioRpcError, lro_grpc.LroError) as error:
                ends[repr(error)] += 1

        async def ended(future: Any) -> None:
            while True:
                try:
                    await future
                except lro_grpc.LroError as error:
                    if await future.done() or error.code is not lro_grpc.Code.CANCELLED:
                        raise
                    calls["wait CANCELLED, made again"] += 1
                else:
                    return

        async def get() -> None:
            began = time.monotonic()
            request = operations_pb2.GetOperationRequest(name=long.name)
            try:
                await operations.GetOperation(request, metadata=metadata)
                calls["get OK"] += 1
            except grpc.aio.AioRpcError as error:
                calls[f"get {error.code().name}"] += 1
            gets.append(time.monotonic() - began)

        long = await start(
            service.TakeSnapshot,
            fleet.TakeSnapshotRequest(name=f"{PARENT}/instances/a", snapshot_id="s"),
        )
        tasks = []
        began = time.monotonic()
        for number in range(int(seconds * STARTS_A_SECOND)):
            tasks.append(asyncio.create_task(operate(number)))
            tasks.append(asyncio.create_task(get()))
            await asyncio.sleep(max(0.0, began + number / STARTS_A_SECOND - time.monotonic()))
        await asyncio.gather(*tasks)
    gets.sort()
    return {
        "ends": dict(ends),
        "calls": dict(calls),
        "median": gets[len(gets) // 2],
        "p95": gets[len(gets) * 95 // 100],
        "longest": gets[-1],
        "over_half_a_second": sum(one > 0.5 for one in gets),
    }


class Siege:
    """The strangers of one server, and the count of the answers that they get."""

    def __init__(self, port: int, http_port: int, end: float) -> None:
        self._port = port
        self._http_port = http_port
        self._end = end
        self._choose = random.Random(1)
        self.answers: Counter[str] = Counter()

    async def lay(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            channels = [
                await stack.enter_async_context(
                    grpc.aio.insecure_channel(
                        f"127.0.0.1:{self._port}", options=[("grpc.use_local_subchannel_pool", 1)]
                    )
                )
                for _ in range(20)
            ]
            service = fleet_grpc.FleetServiceStub(channels[0])
            long = await service.TakeSnapshot(
                fleet.TakeSnapshotRequest(name=f"{PARENT}/instances/b", snapshot_id="s"),
                metadata=(("caller", "waiter"),),
            )
            await asyncio.gather(
                self._block(service),
                self._send_each_second(self._worst_filter),
                self._send_each_second(self._worst_body),
                *(self._hold_half_open() for _ in range(HALF_OPEN)),
                *(
                    self._wait_again_and_again(channels[number % len(channels)], long.name)
                    for number in range(WAITS)
                ),
            )

    @property
    def _goes_on(self) -> bool:
        return time.monotonic() < self._end

    async def _block(self, service: Any) -> None:
        number = 0
        while self._goes_on:
            number += 1
            request = fleet.DeleteInstanceRequest(name=f"{PARENT}/instances/{number}")
            await service.DeleteInstance(request, metadata=(("caller", "clumsy"),))
            self.answers["blocking handlers"] += 1
            await asyncio.sleep(BLOCK_EVERY_SECONDS)

    async def _send_each_second(self, send: Any) -> None:
        sent = []
        while self._goes_on:
            sent.append(asyncio.create_task(send()))
            await asyncio.sleep(1)
        await asyncio.gather(*sent)

    async def _worst_filter(self) -> None:
        worst = self._choose.choice(WORST_FILTERS)
        caller = self._choose.choice(["stranger", "other"])
        quoted = worst.replace("%", "%25").replace('"', "%22").replace(" ", "%20")
        quoted = quoted.replace("\\", "%5C")
        path = self._choose.choice(
            [
                "/deploymentmanager/v2/projects/p/global/operations",
                f"/v1/{PARENT}/operations",
            ]
        )
        head = f"GET {path}?filter={quoted} HTTP/1.1\r\nHost: 127.0.0.1:{self._http_port}\r\n"
        head += f"caller: {caller}\r\nConnection: close\r\n\r\n"
        await self._http("filter", head.encode())
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{self._port}") as channel:
                await operations_pb2_grpc.OperationsStub(channel).ListOperations(
                    operations_pb2.ListOperationsRequest(
                        name=PARENT, filter="partial_failures:*", page_size=1000
                    ),
                    metadata=(("caller", caller),),
                    timeout=30,
                )
            self.answers["grpc filter OK"] += 1
        except grpc.aio.AioRpcError as error:
            self.answers[f"grpc filter {error.code().name}"] += 1

    async def _worst_body(self) -> None:
        worst = self._choose.choice(WORST_BODIES)
        caller = self._choose.choice(["stranger", "other"])
        head = f"POST /v1/{PARENT}/instances HTTP/1.1\r\nHost: 127.0.0.1:{self._http_port}\r\n"
        head += f"caller: {caller}\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(worst)}\r\nConnection: close\r\n\r\n"
        await self._http("body", head.encode() + worst)

    async def _http(self, what: str, request: bytes) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._http_port)
            with contextlib.closing(writer):
                writer.write(request)
                line = await asyncio.wait_for(reader.readline(), 60)
            self.answers[f"{what} {line.decode().strip() or 'closed'}"] += 1
        except (OSError, asyncio.TimeoutError) as error:
            self.answers[f"{what} {type(error).__name__}"] += 1

    async def _hold_half_open(self) -> None:
        await asyncio.sleep(self._choose.uniform(0, 5))
        while self._goes_on:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._http_port)
                with contextlib.closing(writer):
                    writer.write(b"GET /v1/operations HTTP/1.1\r\nHost: a\r\nX-Slow: ")
                    self.answers["half-open connections"] += 1
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(reader.read(100), self._end - time.monotonic())
                        self.answers["half-open connections, closed by the server"] += 1
            except (OSError, ValueError) as error:
                self.answers[f"half-open {type(error).__name__}"] += 1
            await asyncio.sleep(self._choose.uniform(0.5, 5))

    async def _wait_again_and_again(self, channel: grpc.aio.Channel, name: str) -> None:
        wait = operations_pb2_grpc.OperationsStub(channel).WaitOperation
        request = operations_pb2.WaitOperationRequest(name=name)
        while self._goes_on:
            call = wait(request, metadata=(("caller", "waiter"),))
            try:
                await asyncio.wait_for(call, self._choose.uniform(0, WAIT_SECONDS))
            except asyncio.TimeoutError:
                self.answers["Waits cut"] += 1
            except grpc.aio.AioRpcError as error:
                self.answers[f"Waits turned away with {error.code().name}"] += 1
                await asyncio.sleep(0.5)


def _memory(process: int) -> float:
    """Returns the resident memory of a process, in MiB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("it has no VmRSS")


def _processor_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3)
    seconds = parser.parse_args().minutes * 60
    with tempfile.TemporaryDirectory(prefix="siege-") as folder:
        log = Path(folder, "server.log")
        with log.open("wb") as file:
            server = subprocess.Popen(
                [sys.executable, SERVER, folder], stdout=subprocess.PIPE, stderr=file, text=True
            )
        try:
            assert server.stdout is not None
            port, http_port = map(int, server.stdout.readline().split())
            spawning = multiprocessing.get_context("spawn")
            answer, sender = spawning.Pipe(duplex=False)
            good = spawning.Process(
                target=well_behaved, args=(f"127.0.0.1:{port}", seconds, sender), daemon=True
            )
            good.start()
            time.sleep(BEGIN_SECONDS)
            before = _memory(server.pid)
            siege = Siege(port, http_port, time.monotonic() + seconds - 5)
            asyncio.run(siege.lay())
            during = _memory(server.pid)
            noticed = answer.recv() if answer.poll(180) else {"ends": {"no answer": 1}}
            good.join(10)
            time.sleep(CALM_SECONDS)
            after, processor = _memory(server.pid), _processor_seconds(server.pid)
            server.send_signal(signal.SIGTERM)
            status = server.wait(60)
        finally:
            if server.poll() is None:
                server.kill()
        lines = log.read_text(errors="replace").splitlines()
    print("strangers:", json.dumps(dict(sorted(siege.answers.items())), indent=2))
    print("well-behaved:", json.dumps(noticed, indent=2))
    print(
        f"memory: {before:.0f} MiB before, {during:.0f} at the end,"
        f" {after:.0f} after {CALM_SECONDS} s"
    )
    print(f"processor: {processor:.0f} s; log: {len(lines)} lines; exit status {status}")
    print(*lines[-30:], sep="\n")
    return 0 if set(noticed["ends"]) == {"done in attempt 1"} and status == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
