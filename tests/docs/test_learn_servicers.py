"""docs/learn/servicers.md: gRPC's own stubs, and none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pages import Page
from reader import calls_to, defined

from lro_grpc import testing

if TYPE_CHECKING:
    import lro_grpc

PAGE = Page("learn/servicers.md")
(ADDING,) = PAGE.section("Without a servicer").blocks("python")

pytestmark = [pytest.mark.codegen, pytest.mark.usefixtures("stubs")]


def call(served: testing.Served, capsys: pytest.CaptureFixture[str]) -> str:
    with calls_to(served.target):
        PAGE.files()["plain_client.py"].run(__name__="__main__")
    return capsys.readouterr().out


def test_grpcs_own_servicer_is_called_by_its_own_stub(capsys: pytest.CaptureFixture[str]) -> None:
    import reports_pb2_grpc

    service = defined(PAGE, "plain_server.py")["ReportService"]()
    add = reports_pb2_grpc.add_ReportServiceServicer_to_server
    with testing.serve(service, add) as served:
        assert call(served, capsys) == "5 pages\n"
        assert [one.name for one in served.client.list("projects/p")]


def test_a_method_needs_no_servicer(capsys: pytest.CaptureFixture[str]) -> None:
    import reports_pb2

    def configure(operations: lro_grpc.Operations) -> None:
        ADDING.run(operations=operations, reports_pb2=reports_pb2)

    with testing.serve(configure=configure) as served:
        assert call(served, capsys) == "1 pages\n"
