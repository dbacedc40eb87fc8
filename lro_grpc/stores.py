"""Stores: where operations are kept, and what a store of one's own is made of.

A server is usually given a store's URL; see :func:`open_url`. A store of one's own implements
:class:`Store`, and proves it with :class:`lro_grpc.conformance.StoreConformance`.
"""

from __future__ import annotations

from lro_grpc._operation.attempts import AttemptRecord, attempts_of, superseded
from lro_grpc._operation.completion import Completion, Settlement, completed, taken
from lro_grpc._operation.events import Claim, Event
from lro_grpc._operation.publication import not_found
from lro_grpc._operation.record import Record
from lro_grpc._stores.forwarding import ForwardingStore
from lro_grpc._stores.memory import MemoryStore
from lro_grpc._stores.notifier import Notifier
from lro_grpc._stores.open_url import open_url
from lro_grpc._stores.refusals import in_progress, name_taken, request_id_reused
from lro_grpc._stores.sqlite.store import SqliteStore
from lro_grpc._stores.store import (
    Change,
    Claimed,
    Count,
    Counts,
    KeyedClaims,
    Leased,
    Listener,
    Now,
    Oldest,
    Order,
    Page,
    Query,
    SharedStore,
    Store,
)

__all__ = [
    "AttemptRecord",
    "Change",
    "Claim",
    "Claimed",
    "Completion",
    "Count",
    "Counts",
    "Event",
    "ForwardingStore",
    "KeyedClaims",
    "Leased",
    "Listener",
    "MemoryStore",
    "Notifier",
    "Now",
    "Oldest",
    "Order",
    "Page",
    "Query",
    "Record",
    "Settlement",
    "SharedStore",
    "SqliteStore",
    "Store",
    "attempts_of",
    "completed",
    "in_progress",
    "name_taken",
    "not_found",
    "open_url",
    "request_id_reused",
    "superseded",
    "taken",
]
