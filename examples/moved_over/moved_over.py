"""A fleet of databases: ``fleet.py ADDRESS OLD-ADDRESS``."""

import os
import sys
import time
from concurrent import futures

import grpc
import lro_grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc


def create(request):
    """Waits until the database is there."""
    while not os.path.exists(request.instance_id):
        time.sleep(0.05)
    return fleet_service_pb2.Instance(name=request.instance_id)


class Operations(operations_pb2_grpc.OperationsServicer):
    def __init__(self, old_address):
        self._old = operations_pb2_grpc.OperationsStub(grpc.insecure_channel(old_address))

    def GetOperation(self, request, context):
        return self._old.GetOperation(request)

    def ListOperations(self, request, context):
        if request.filter:  # the old server would list all that it has
            return operations_pb2.ListOperationsResponse()
        return self._old.ListOperations(request)

    def CancelOperation(self, request, context):
        return self._old.CancelOperation(request)


class FleetService(fleet_service_pb2_grpc.FleetServiceServicer):
    @lro_grpc.method
    def CreateInstance(self, request, op):
        return create(request)


def main(address, old_address):
    server = grpc.server(futures.ThreadPoolExecutor(16))
    operations = lro_grpc.Operations("sqlite:///fleet.db")
    registrar = operations.attach(server, fallback=Operations(old_address))
    fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(FleetService(), registrar)
    server.add_insecure_port(address)
    operations.run(server)


if __name__ == "__main__":
    main(*sys.argv[1:])
