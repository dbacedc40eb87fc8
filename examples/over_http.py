"""Over HTTP: a method starts at the path of its annotation, and JSON tells how its operation is.

$ pip install 'lro-grpc[http]'
$ python over_http.py
POST /v1/projects/p/locations/l/instances?instanceId=shop
  name: projects/p/locations/l/operations/op-…
GET /v1/projects/p/locations/l/operations/op-…:wait
  done: True
  response: {'@type': 'type.googleapis.com/lro.example.v1.Instance', 'name': 'projects/…/shop'}
"""

import json
import urllib.request
from concurrent import futures
from typing import Any

import grpc

import lro_grpc
from lro.example.v1 import fleet_service_lro
from lro.example.v1.fleet_service_pb2 import CreateInstanceRequest, Instance
from lro.v1.operation_metadata_pb2 import OperationMetadata
from lro_grpc.http import gateway, listening_in_thread

Op = lro_grpc.OperationContext[OperationMetadata]


class FleetService(fleet_service_lro.FleetServiceServicer):
    def CreateInstance(self, request: CreateInstanceRequest, op: Op) -> Instance:
        return Instance(name=f"{request.parent}/instances/{request.instance_id}")


def call(port: int, method: str, path: str, body: bytes | None = None) -> Any:
    """Makes a call as any HTTP client does."""
    print(method, path)
    url, headers = f"http://127.0.0.1:{port}{path}", {"Content-Type": "application/json"}
    with urllib.request.urlopen(
        urllib.request.Request(url, body, headers, method=method)
    ) as answer:
        return json.load(answer)


def main() -> None:
    server = grpc.server(futures.ThreadPoolExecutor())  # for gRPC beside it: server.start()
    operations = lro_grpc.Operations("memory:")
    fleet_service_lro.add_FleetServiceServicer_to_server(FleetService(), operations.attach(server))
    operations.start_sync()
    with listening_in_thread(gateway(operations), "127.0.0.1:0") as port:
        location = "/v1/projects/p/locations/l"
        operation = call(port, "POST", f"{location}/instances?instanceId=shop", body=b"{}")
        print("  name:", operation["name"])
        operation = call(port, "GET", f"/v1/{operation['name']}:wait")
        print("  done:", operation["done"])
        print("  response:", operation["response"])
    operations.stop_sync(lambda: server.stop(grace=1))


main()
