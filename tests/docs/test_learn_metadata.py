"""docs/learn/metadata.md: its metadata, filled by the handler and by the library."""

from __future__ import annotations

import re

import pytest
from pages import Page
from reader import defined

from lro.v1.operation_metadata_pb2 import OperationMetadata
from lro_grpc import testing

PAGE = Page("learn/metadata.md")

pytestmark = [pytest.mark.codegen, pytest.mark.usefixtures("stubs")]


def test_a_handlers_own_fields_stand_beside_the_librarys() -> None:
    import counted_lro
    from counted_pb2 import CountRowsRequest

    service = defined(PAGE, "counting.py")["CountService"]()
    add = counted_lro.add_CountServiceServicer_to_server
    with testing.serve(service, add) as served:
        future = counted_lro.CountServiceClient(served.channel).CountRows(CountRowsRequest())
        assert future.result().rows == future.metadata.rows_read == 100_000
        assert future.metadata.progress_percent == 100
        assert future.metadata.HasField("end_time")
        (filter_text,) = re.findall(r"`(metadata\..*?)`", PAGE)
        found = served.client.list("-", filter=filter_text)
        assert [one.name for one in found] == [future.name]


def test_the_table_has_every_conventional_field() -> None:
    cells = "".join(re.findall(r"^\| [a-z ]+ \| (.*) \|", PAGE, re.MULTILINE))
    named = set(re.findall(r"`(\w+)`", cells))
    other_names = {"status_message", "requested_cancellation"}
    known = {field.name for field in OperationMetadata.DESCRIPTOR.fields} - {"details"}
    assert named == known | other_names
