"""Engines keep their contract: the in-process engine, and that of docs/design/engines.md.

The in-process engine keeps keys on each kind of store, for these count their places themselves.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pages import Page

from lro.example.v1 import fleet_service_lro, fleet_service_pb2, fleet_service_pb2_grpc
from lro_grpc import OperationFailedError, testing
from lro_grpc._conformance.engine_keys import EngineKeys
from lro_grpc._runtime.clock import SystemClock
from lro_grpc.conformance import EngineConformance
from lro_grpc.example import FleetService
from lro_grpc.stores import MemoryStore

PAGE = Page("design/engines.md")
PARENT = "projects/p/locations/l"
PATIENCE = timedelta(seconds=60)


PAGES_OWN: dict[str, Any] = {}
"""What the blocks of the page define."""
for block in PAGE.texts("python"):
    exec(block, PAGES_OWN)


class TestInProcess(EngineConformance):
    def make_engine(self) -> None:
        return None


class TestKeysInMemory(EngineKeys):
    def make_engine(self) -> None:
        return None

    def make_store(self, folder: Path) -> MemoryStore:
        return MemoryStore(SystemClock().now)


class TestKeysOnPostgres(EngineKeys):
    @pytest.fixture(autouse=True)
    def _place(self, postgres: str) -> None:
        self.url = postgres

    def make_engine(self) -> None:
        return None

    def make_store(self, folder: Path) -> str:
        return self.url


class TestThatOfThePage(PAGES_OWN["TestQueued"]):  # type: ignore[misc]
    @pytest.fixture
    def fleet(self, tmp_path: Path) -> Any:
        with testing.serve(
            FleetService(tmp_path),
            fleet_service_lro.add_FleetServiceServicer_to_server,
            engine=self.make_engine(),
        ) as served:
            yield served

    def test_it_runs_the_example_fleet(self, fleet: testing.Served) -> None:
        stub = fleet_service_pb2_grpc.FleetServiceStub(fleet.channel)

        def asked(id_: str, sql: str = "CREATE TABLE goods (id INTEGER)") -> Any:
            return fleet_service_pb2.CreateInstanceRequest(
                parent=PARENT,
                instance_id=id_,
                instance=fleet_service_pb2.Instance(schema_sql=sql),
            )

        def listed() -> list[str]:
            request = fleet_service_pb2.ListInstancesRequest(parent=PARENT)
            answer = stub.ListInstances(request)
            return [one.name.rpartition("/")[2] for one in answer.instances]

        def batch(*requests: Any) -> Any:
            request = fleet_service_pb2.BatchCreateInstancesRequest(
                parent=PARENT, requests=requests
            )
            return fleet.client.future(stub.BatchCreateInstances(request))

        fleet.client.future(stub.CreateInstance(asked("one"))).result(PATIENCE)
        batch(asked("two"), asked("three")).result(PATIENCE)
        failed = batch(asked("four"), asked("five", "CREATE TABLE ("))
        assert isinstance(failed.exception(PATIENCE), OperationFailedError)
        assert listed() == ["one", "three", "two"]
