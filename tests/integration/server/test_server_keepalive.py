"""Clients that ping while a Wait is silent: drilled ten times as fast as they do in earnest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from server_harness import SECONDS, Held, serving, wait_request

import lro_grpc

TEN_TIMES_AS_FAST = [
    (name, value // 10 if "ping_interval" in name else value)
    for name, value in lro_grpc.KEEPALIVE_OPTIONS
]

PINGING = [
    ("grpc.keepalive_time_ms", 1_000),  # a Go client pings every 10 seconds, if it is told to
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]

WAIT_SECONDS = 6
"""A server that does not like the pings ends the connection at the fifth."""


def wait_while_pinging(stack: str, options: Any) -> operations_pb2.Operation:
    """Returns the answer of a Wait that is silent while its client pings."""
    held = Held("async def")
    with serving(stack, held.servicer(), options=options) as server:
        name = server.create().name
        held.next()
        with grpc.insecure_channel(server.target, options=PINGING) as channel:
            stub = operations_pb2_grpc.OperationsStub(channel)
            try:
                return stub.WaitOperation(wait_request(name, WAIT_SECONDS), timeout=SECONDS)
            finally:
                held.gate.open()


def test_a_client_that_pings_keeps_its_wait(stack: str) -> None:
    assert not wait_while_pinging(stack, TEN_TIMES_AS_FAST).done


def test_without_the_options_it_loses_the_connection() -> None:
    """The drill is sharp."""
    with pytest.raises(grpc.RpcError) as raised:
        wait_while_pinging("aio", ())
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "Too many pings" in raised.value.details()


def test_the_page_has_the_options() -> None:
    page = (Path(__file__).parents[3] / "docs" / "serving.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(grpc\.\S+)` \| (\d+) \|", page, re.MULTILINE)
    assert [(name, int(value)) for name, value in rows] == [*lro_grpc.KEEPALIVE_OPTIONS]
