"""Operations of every kind, each in a state that it stays in."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from google.rpc import error_details_pb2

import lro_grpc
from browser.steered import PARENT, Operation, Steered, Struct, serving

REPLICAS = [f"{PARENT}/instances/orders-replica-{number}" for number in range(1, 7)]


class Zoo:
    """A server that has one operation of each kind, by the names of its attributes."""

    def __init__(self, steered: Steered, release: threading.Event) -> None:
        self.steered = steered
        self.done = steered.finish(6)
        self.failed_batch = steered.start("instances/replicas", "CreateReplicas")
        self.failed_batch.then(_create_replicas)
        self.failed_batch.wait()
        self.failed = steered.start("backups/nightly-2026-11-28", "RestoreBackup")
        self.failed.report(62, "replaying the log")
        self.failed.then(_fail)
        self.failed.wait()
        self.cancelled = steered.start("tables/customers")
        self.cancelled.report(31, "copying 382,695 of 1,234,500 rows")
        self.is_at(self.cancelled, 31)
        steered.served.client.cancel(self.cancelled.name)
        self.cancelled.wait()
        self.paused = steered.start("tables/line_items", "ReindexTable")
        self.paused.report(18, "18 of 96 segments")
        self.is_at(self.paused, 18)
        steered.served.client.pause(self.paused.name)
        self.cancelling = steered.start("tables/shipments")
        self.cancelling.report(74, "copying 913,530 of 1,234,500 rows")
        self.cancelling.then(lambda op: release.wait(60) and None)
        self.is_at(self.cancelling, 74)
        steered.served.client.cancel(self.cancelling.name)
        self.succeeded = steered.start("tables/orders_2026_10")
        self.succeeded.succeed(
            rows=1_234_500, table="orders_2026_10", tiers=["hot", "warm"], ok=True
        )
        self.succeeded.wait()
        self.running = steered.start("backups/nightly-2026-11-29", "RestoreBackup")
        self.running.report(58, "replaying the log: segment 0041 of 0072")
        self.is_at(self.running, 58)
        self.just_begun = steered.start("indexes/orders_by_customer", "ReindexTable")

    def is_at(self, operation: Operation, percent: int) -> None:
        """Returns once an operation has reported that."""
        for update in self.steered.served.client.attach(operation.name).updates():
            if update.progress_percent == percent:
                return


def _create_replicas(op: Any) -> Struct:
    def create(target: str) -> None:
        if target.endswith("-3"):
            raise lro_grpc.LroError(
                "zone eu-west1-b has no capacity for db-n1-standard-16; try eu-west1-c",
                code=lro_grpc.Code.RESOURCE_EXHAUSTED,
                reason="ZONE_EXHAUSTED",
                domain="shop.example.com",
            )

    op.batch(REPLICAS, create=create, delete=lambda target: None, parallelism=2)
    return Struct()


def _fail(op: Any) -> None:
    del op
    raise lro_grpc.LroError(
        "the disk quota of projects/shop is exhausted while segment 0042 is written; free 12 GiB,"
        " or raise the quota",
        code=lro_grpc.Code.RESOURCE_EXHAUSTED,
        reason="DISK_QUOTA",
        domain="shop.example.com",
        metadata={"limit": "500 GiB", "used": "499.7 GiB"},
        details=[
            error_details_pb2.QuotaFailure(
                violations=[{"subject": "projects/shop", "description": "disk: 500 GiB"}]
            ),
            error_details_pb2.Help(
                links=[{"description": "Raise a quota", "url": "https://shop.example.com/quota"}]
            ),
        ],
    )


@contextlib.contextmanager
def open_zoo() -> Iterator[Zoo]:
    """Serves the operations while the context lasts."""
    release = threading.Event()
    with serving() as steered:
        try:
            yield Zoo(steered, release)
        finally:
            release.set()
