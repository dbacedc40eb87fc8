"""A program with a client that was generated from the document of the API: ``PORT``.

It starts operations, waits for one and cancels another, and prints what it was answered. It imports
nothing but that client, which is called ``fleet_client``.
"""

from __future__ import annotations

import json
import sys

from fleet_client import Client
from fleet_client.api.fleet_service import (
    fleet_service_create_instance,
    fleet_service_get_instance,
)
from fleet_client.api.operations import (
    operations_cancel_operation,
    operations_get_operation,
    operations_list_operations,
    operations_wait_operation,
)
from fleet_client.models import LroExampleV1Instance, OperationsWaitOperationBody

PARENT = ("p", "l")
WAIT = OperationsWaitOperationBody(timeout="15s")


def start(client: Client, instance_id: str) -> str:
    """Starts the creation of an instance, and returns the operation's id."""
    instance = LroExampleV1Instance(seed_rows="7")
    operation = fleet_service_create_instance.sync(
        *PARENT, client=client, body=instance, instance_id=instance_id
    )
    return operation.name.rpartition("/")[2]


def main() -> None:
    client = Client(base_url=f"http://127.0.0.1:{sys.argv[1]}", raise_on_unexpected_status=True)
    with client:
        quick = start(client, "quick")
        waited = operations_wait_operation.sync(*PARENT, quick, client=client, body=WAIT)
        instance = fleet_service_get_instance.sync(*PARENT, "quick", client=client)
        slow = start(client, "slow")
        running = operations_get_operation.sync(*PARENT, slow, client=client)
        operations_cancel_operation.sync(*PARENT, slow, client=client)
        cancelled = operations_wait_operation.sync(*PARENT, slow, client=client, body=WAIT)
        page = operations_list_operations.sync(*PARENT, client=client, page_size=1)
        missing = operations_get_operation.sync(*PARENT, "none", client=client)
        shown = {
            "waited": waited.to_dict(),
            "instance": instance.to_dict(),
            "running": running.to_dict(),
            "cancelled": cancelled.to_dict(),
            "page": page.to_dict(),
            "missing": missing.to_dict(),
        }
        print(json.dumps(shown))


if __name__ == "__main__":
    main()
