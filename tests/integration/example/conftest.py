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
    """Where the fleet is; it makes the directory itself."""
    return tmp_path / "fleet"


@pytest.fixture
def fleet(data: Path) -> Fleet:
    return Fleet(data)


@pytest.fixture(params=["sync", "aio"])
def stack(request: pytest.FixtureRequest) -> str:
    """``grpc.server`` or ``grpc.aio.server``."""
    stack: str = request.param
    return stack


@pytest.fixture
def server(stack: str, data: Path) -> Iterator[Server]:
    with serving(stack, data) as server:
        yield server
