"""The stubs that the programs of the pages import."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from reader import make_stubs, write_protos

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the pages' stubs, from which they can be imported."""
    folder = tmp_path_factory.mktemp("stubs")
    write_protos(folder)
    make_stubs(folder)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture
def folder(stubs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, in which a page's services leave their files."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
