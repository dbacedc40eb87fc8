"""The page of OpenAPI; the client that it shows is run with others' tools, in integration/http."""

from __future__ import annotations

import asyncio
import pathlib
import re
from types import SimpleNamespace
from typing import Any

import grpc.aio
import pytest
from google.protobuf import descriptor_pb2
from http_harness import Fleet, serving
from pages import Page

import lro_grpc
from lro.example.v1 import fleet_service_pb2_grpc
from lro_grpc._http import about, docs_page
from lro_grpc._http.openapi import MOST_BYTES
from lro_grpc.http import gateway

PAGE = Page("dialects/openapi.md")
(COMMENTS,) = PAGE.section("What is in it").blocks("python")
BESIDE, BEHIND = PAGE.section("Plain methods").blocks("python")


def test_comments_are_given_as_bytes(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = descriptor_pb2.FileDescriptorSet(file=[{"name": "reports.proto"}])
    (tmp_path / "reports.binpb").write_bytes(described.SerializeToString())
    monkeypatch.chdir(tmp_path)
    operations = lro_grpc.Operations("memory:")
    assert COMMENTS.run(gateway=gateway, operations=operations, pathlib=pathlib)["app"]


def test_plain_methods_have_a_channel() -> None:
    async def make() -> None:
        operations = lro_grpc.Operations("memory:")
        server = grpc.aio.server()
        add = fleet_service_pb2_grpc.add_FleetServiceServicer_to_server
        add(Fleet(), operations.attach(server))
        async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
            stand_in = SimpleNamespace(aio=SimpleNamespace(insecure_channel=lambda at: channel))
            beside: dict[str, Any] = {"gateway": gateway, "operations": operations}
            assert BESIDE.run(**beside, grpc=stand_in)["app"]
            assert BEHIND.run(gateway=gateway, channel=channel)["app"]

    asyncio.run(make())


def test_the_page_names_what_there_is() -> None:
    paths = re.findall(r"`GET (/[\w.]*)`", PAGE)
    assert paths == [about.OPENAPI, docs_page.DOCS, "/"]
    assert docs_page.VERSION in PAGE.section("The page")
    assert f"has {MOST_BYTES // 2**20} MiB at most" in PAGE
    with serving("aio", Fleet(), options={"docs": True}) as http:
        assert [http.get(path).status for path in paths] == [200, 200, 200]
