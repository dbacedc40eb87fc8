"""The engine on a real Temporal server keeps the contract of an engine, in both of its ways."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from lro_grpc.conformance import EngineConformance
from lro_grpc.engines import Temporal


class OnTemporal(EngineConformance):
    standalone: bool
    bounds_keys = False

    @pytest.fixture(autouse=True)
    def _servers(self, temporal: str, postgres: str) -> None:
        self.address, self.url = temporal, postgres
        self.queue = f"lro-test-{secrets.token_hex(6)}"

    def make_store(self, folder: Path) -> str:
        return self.url

    def make_engine(self) -> Temporal:
        return Temporal(self.address, task_queue=self.queue, standalone=self.standalone)


class TestActivity(OnTemporal):
    standalone = True


class TestWorkflow(OnTemporal):
    standalone = False
