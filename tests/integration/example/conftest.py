from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fleet_harness import Server, serving

from lro_grpc._example.fleet import Fleet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The directory of the fleet, which makes it itself."""
    return tmp_path / "fleet"


@pytest.fixture
def fleet(data: Path) -> Fleet:
    return Fleet(data)


@pytest.fixture(params=["sync", "aio"])
def kind(request: pytest.FixtureRequest) -> str:
    """``grpc.server`` or ``grpc.aio.server``."""
    kind: str = request.param
    return kind


@pytest.fixture
def server(kind: str, data: Path) -> Iterator[Server]:
    with serving(kind, data) as server:
        yield server
