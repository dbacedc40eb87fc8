"""The example fleet, slow enough to be watched; it says which process does the work."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from lro.example.v1 import fleet_service_lro
from lro_grpc.example import FleetService

FOLDER = "LRO_DEMO_FOLDER"
"""The variable of the environment that says where the fleet's databases are."""

STEP_SECONDS = 1.0


class SlowWork:
    """The context of an operation whose progress names the process, and takes its time."""

    def __init__(self, op: Any) -> None:
        self._op = op

    def __getattr__(self, name: str) -> Any:
        return getattr(self._op, name)

    def progress(self, percent: float | None = None, detail: str | None = None) -> None:
        """Reports the process in place of the detail."""
        del detail
        self._op.progress(percent, str(os.getpid()))
        time.sleep(STEP_SECONDS)


class SlowFleet(FleetService):
    """The example fleet, slow enough to be watched."""

    def CreateInstance(self, request: Any, op: Any) -> Any:
        """Builds a database."""
        return super().CreateInstance(request, SlowWork(op))  # type: ignore[arg-type]


def add(server: Any) -> None:
    """Adds the fleet to a server: ``lro serve slow_fleet:add``."""
    fleet = SlowFleet(Path(os.environ[FOLDER]))
    fleet_service_lro.add_FleetServiceServicer_to_server(fleet, server)
