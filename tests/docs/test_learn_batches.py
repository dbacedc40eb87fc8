"""docs/learn/batches.md: all of a report's pages, or none."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import Page
from reader import defined, serving

import lro_grpc

PAGE = Page("learn/batches.md")

pytestmark = pytest.mark.codegen


def test_all_pages_are_made_and_shown(folder: Path) -> None:
    with serving(defined(PAGE, "pages.py")["ReportService"]) as reports:
        future = reports.build(4)
        shown = future.metadata.batch_create_instances_metadata.instance_statuses
        assert sorted(shown) == [f"page-{number}" for number in range(1, 5)]
        assert sorted(future.result().pages) == sorted(one.name for one in folder.iterdir())


def test_none_is_left_if_one_fails(folder: Path) -> None:
    with serving(defined(PAGE, "pages.py")["ReportService"]) as reports:
        future = reports.build(13)
        with pytest.raises(lro_grpc.OperationFailedError, match="nobody wants page 13") as caught:
            future.result()
        assert caught.value.code is lro_grpc.Code.OUT_OF_RANGE
        assert list(folder.iterdir()) == []
