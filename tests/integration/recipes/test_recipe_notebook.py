"""The recipe for Jupyter: its cells run in a kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pages import Page
from programs import SECONDS, first_service

nbclient: Any = pytest.importorskip("nbclient")
v4: Any = pytest.importorskip("nbformat.v4")

JUPYTER = Page("recipes/jupyter.md")

pytestmark = pytest.mark.codegen


def notebook(*cells: str) -> Any:
    return v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells])


def printed(cell: Any) -> str:
    return "".join(one.text for one in cell.outputs if one.output_type == "stream")


def test_a_notebook_starts_watches_and_finds_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = first_service(tmp_path)
    start, watch, again = map(folder.as_here, JUPYTER.texts("python"))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    resources = {"metadata": {"path": str(tmp_path)}}
    how: Any = {"timeout": SECONDS, "kernel_name": "python3", "resources": resources}
    with folder.started("python server.py"):
        first = notebook(start, watch, again)
        nbclient.NotebookClient(first, **how).execute()
        name = printed(first.cells[0]).strip()
        # After a restart of the kernel the name is all that is left.
        preparing = start.partition("future = ")[0]
        second = notebook(preparing, again.replace("future.name", repr(name)))
        nbclient.NotebookClient(second, **how).execute()
        third = notebook("import asyncio\nasyncio.run(asyncio.sleep(0))")
        with pytest.raises(nbclient.exceptions.CellExecutionError, match="RuntimeError"):
            nbclient.NotebookClient(third, **how).execute()
    assert printed(first.cells[1]).splitlines()[-1].startswith("page 5, written by")
    shown = [one for one in first.cells[1].outputs if one.output_type == "display_data"]
    assert len(shown) >= 1
    assert printed(first.cells[2]) == printed(second.cells[1]) == "5 pages\n"
