"""Clients that ping while a Wait is silent, drilled ten times as fast; and many calls at once."""

from __future__ import annotations

import re
import threading
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from pages import Page
from server_harness import SECONDS, Held, serving, wait_request

import lro_grpc

TEN_TIMES_AS_FAST = [
    (name, value // 10 if "ping_interval" in name else value)
    for name, value in lro_grpc.SERVER_OPTIONS
]

PINGING = [
    ("grpc.keepalive_time_ms", 1_000),  # a Go client pings every 10 seconds, if it is told to
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]

WAIT_SECONDS = 6
"""A server that does not like the pings ends the connection at the fifth."""

BURST = 2_000
"""gRPC by itself ends calls of those beyond 1,000: the more of them wait, the more it ends."""


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


def test_calls_that_come_all_at_once_are_all_answered() -> None:
    """As those of a replica that is gone: more than gRPC lets wait to be begun by itself."""
    is_open = threading.Event()

    def identify(_: Any) -> str:
        is_open.wait(SECONDS)  # the event loop is at it, and begins no other call
        return ""

    with (
        serving("aio", identify=identify, options=lro_grpc.SERVER_OPTIONS) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stub = operations_pb2_grpc.OperationsStub(channel)
        request = operations_pb2.GetOperationRequest(name="operations/none")
        calls = [stub.GetOperation.future(request, timeout=SECONDS) for _ in range(BURST)]
        is_open.set()
        assert {call.code() for call in calls} == {grpc.StatusCode.NOT_FOUND}


def test_the_page_has_the_options() -> None:
    page = Page("deploy/serving.md")
    rows = re.findall(r"^\| `(grpc\.\S+)` \| (\d+) \|", page, re.MULTILINE)
    assert [(name, int(value)) for name, value in rows] == [*lro_grpc.SERVER_OPTIONS]
