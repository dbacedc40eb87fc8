"""docs/learn/errors.md: what its handler raises is what its caller catches.

The block for old except clauses is run in ``integration/client/test_client_errors.py``.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest
from google.rpc import error_details_pb2
from pages import Page
from reader import defined, serving

import lro_grpc

PAGE = Page("learn/errors.md")

pytestmark = [pytest.mark.codegen, pytest.mark.usefixtures("stubs")]


def test_the_caller_catches_what_the_handler_raises(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(defined(PAGE, "refusing.py")["ReportService"]) as reports:
        reports.run_client(PAGE, "catching.py")
        assert capsys.readouterr().out == "failed: RESOURCE_EXHAUSTED NO_ROOM 5\n"
        error = reports.build(5).exception()
        assert isinstance(error, lro_grpc.OperationFailedError)
        assert error.domain == "reports.v1.ReportService"
        (link,) = (one for one in error.details if isinstance(one, error_details_pb2.Help))
        assert link.links[0].description == "quota"


def test_what_nobody_expected_is_an_incident(caplog: pytest.LogCaptureFixture) -> None:
    async def BuildReport(self: Any, request: Any, op: Any) -> Any:
        raise OSError("the password is 12345")

    with caplog.at_level(logging.ERROR, "lro_grpc"), serving(BuildReport) as reports:
        error = reports.build(5).exception()
    assert isinstance(error, lro_grpc.OperationFailedError)
    assert error.code is lro_grpc.Code.INTERNAL
    assert "12345" not in str(error)
    (record,) = caplog.records
    assert record.__dict__["incident"] in str(error)
    assert "12345" in caplog.text
