"""A fleet of databases: ``fleet.py ADDRESS``."""

import os
import sys
import threading
import time
import uuid
from concurrent import futures

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import empty_pb2
from google.rpc import code_pb2
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc


def create(request):
    """Waits until the database is there."""
    while not os.path.exists(request.instance_id):
        time.sleep(0.05)
    return fleet_service_pb2.Instance(name=request.instance_id)


class Operations(operations_pb2_grpc.OperationsServicer):
    def __init__(self):
        self.operations = {}

    def GetOperation(self, request, context):
        if request.name not in self.operations:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no {request.name}")
        return self.operations[request.name]

    def ListOperations(self, request, context):
        everything = list(self.operations.values())
        found = [one for one in everything if one.name.startswith(f"{request.name}/")]
        return operations_pb2.ListOperationsResponse(operations=found)

    def CancelOperation(self, request, context):
        operation = self.GetOperation(request, context)
        if not operation.done:
            operation.error.code = code_pb2.CANCELLED
            operation.done = True
        return empty_pb2.Empty()


class FleetService(fleet_service_pb2_grpc.FleetServiceServicer):
    def __init__(self, operations):
        self._operations = operations

    def CreateInstance(self, request, context):
        name = f"{request.parent}/operations/{uuid.uuid4()}"
        operation = self._operations.operations[name] = operations_pb2.Operation(name=name)
        threading.Thread(target=self._run, args=(request, operation), daemon=True).start()
        return operation

    def _run(self, request, operation):
        instance = create(request)
        if not operation.done:
            operation.response.Pack(instance)
            operation.done = True


def main(address):
    server = grpc.server(futures.ThreadPoolExecutor(16))
    operations = Operations()
    operations_pb2_grpc.add_OperationsServicer_to_server(operations, server)
    fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(FleetService(operations), server)
    server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main(*sys.argv[1:])
