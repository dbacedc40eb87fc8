"""A service moves over from operations of its own, while its callers wait for both kinds.

$ python move.py
the old server has begun the operation …
asked for it, the new server asks the old one: it is not done
the new server has begun the operation op-…
the new server is killed with signal 9, and started again
the old operation is done: made shop-1
the new operation is done: made shop-2
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import grpc

import lro_grpc
from lro.example.v1.fleet_service_lro import FleetServiceClient
from lro.example.v1.fleet_service_pb2 import CreateInstanceRequest, Instance

HERE = Path(__file__).parent
PARENT = "projects/p/locations/l"


def serve(program: str, *addresses: str, cwd: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, HERE / program, *addresses], cwd=cwd)


def move(folder: Path) -> None:
    """Has an operation begun by each server; each is done once its file is there."""
    old_address, new_address = (f"unix:{folder}/{name}" for name in ("old", "new"))
    first, second = (str(folder / name) for name in ("shop-1", "shop-2"))

    old = serve("by_hand.py", old_address, cwd=folder)
    with grpc.insecure_channel(old_address) as channel:
        fleet = FleetServiceClient(channel, wait_for_ready=True)
        name = fleet.CreateInstance(CreateInstanceRequest(parent=PARENT, instance_id=first)).name
    print("the old server has begun the operation", name.rpartition("/")[2])

    new = serve("moved_over.py", new_address, old_address, cwd=folder)
    with grpc.insecure_channel(new_address) as channel:
        fleet = FleetServiceClient(channel, wait_for_ready=True)
        future = fleet.CreateInstance(CreateInstanceRequest(parent=PARENT, instance_id=second))
        former = lro_grpc.OperationsClient(channel).attach(name, response=Instance)
        state = "done" if former.done() else "not done"
        print("asked for it, the new server asks the old one: it is", state)
        print("the new server has begun the operation", future.name.rpartition("/")[2])

        new.kill()
        print(f"the new server is killed with signal {-new.wait()}, and started again")
        new = serve("moved_over.py", new_address, old_address, cwd=folder)
        Path(first).touch()
        print("the old operation is done: made", Path(former.result().name).name)
        Path(second).touch()
        print("the new operation is done: made", Path(future.result().name).name)

    for server in (new, old):
        server.terminate()
        server.wait()


with tempfile.TemporaryDirectory() as folder:
    move(Path(folder))
