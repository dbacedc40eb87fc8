"""The lowest versions that the package allows can load the stubs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("package", "stubs", "need"),
    [
        ("protobuf", "*_pb2.py", r"^# Protobuf Python Version: ([\d.]+)$"),
        ("grpcio", "*_pb2_grpc.py", r"^GRPC_GENERATED_VERSION = '([\d.]+)'$"),
    ],
)
def test_the_floor_is_not_below_what_the_stubs_need(package: str, stubs: str, need: str) -> None:
    texts = [path.read_text() for path in (ROOT / "generated").rglob(stubs)]
    needed = [version for text in texts for version in re.findall(need, text, re.MULTILINE)]
    assert 0 < len(texts) == len(needed), "a stub does not say which version it needs"
    assert max(map(numbers, needed)) <= floor(package)


def floor(package: str) -> tuple[int, ...]:
    """Reads the lowest version that pyproject.toml allows of a package."""
    project = (ROOT / "pyproject.toml").read_text()
    found = re.search(rf'^  "{package}>=([\d.]+),', project, re.MULTILINE)
    assert found, f"pyproject.toml has no floor for {package}"
    return numbers(found[1])


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
