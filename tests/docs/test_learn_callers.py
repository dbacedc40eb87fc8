"""docs/learn/callers.md: with its two functions everybody sees what is their own."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pages import Page
from reader import serving

import lro_grpc

PAGE = Page("learn/callers.md")

pytestmark = [pytest.mark.codegen, pytest.mark.usefixtures("folder")]


async def BuildReport(self: Any, request: Any, op: Any) -> Any:
    from reports_pb2 import Report

    return Report(pages=[op.caller])


def test_callers_see_what_is_their_own() -> None:
    page = PAGE.files()["guarded.py"].run()
    guards = {name: page[name] for name in ("identify", "authorize")}
    ada, eve = [("x-user", "ada")], [("x-user", "eve")]
    with serving(BuildReport, **guards) as reports:
        with pytest.raises(lro_grpc.PermissionDeniedError):
            reports.build(1)
        future = reports.build(1, metadata=ada)
        assert list(future.result().pages) == ["ada"]
        hers = reports.served.client.attach(future.name, call_metadata=eve)
        with pytest.raises(lro_grpc.PermissionDeniedError):
            hers.result()
        with pytest.raises(lro_grpc.PermissionDeniedError):
            list(reports.served.client.list("-"))


def test_the_table_has_every_permission() -> None:
    cells = "".join(re.findall(r"^\| (`operations\..*?) \|", PAGE, re.MULTILINE))
    named = {name.rpartition(".")[2] for name in re.findall(r"`([\w.]+)`", cells)}
    known = re.findall(r"``(?:operations)?\.(\w+)``", lro_grpc.Access.__doc__ or "")
    assert named == set(known)
