"""Tools that read an API's document, in a virtual environment of their own, or why there is none.

One of them needs an older release of what ``lro`` is made with. ``make test`` makes the
environment; in a run of pytest alone, tests that need it are skipped where it is missing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / ".venv-openapi"
PROGRAMS = FOLDER / ("Scripts" if sys.platform == "win32" else "bin")

HELP = """\
The tools that read the API's document are missing; one of these helps:
  make .venv-openapi/tools.stamp        makes .venv-openapi
  make test/tests/integration/http/     makes it, and runs the tests
"""


def run(
    tool: str, *arguments: str, cwd: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a tool to its end; fails, or skips the test, if there is none.

    Args:
        tool: Its name, or ``python`` for the Python that has it.
        *arguments: What it is given.
        cwd: Where it runs, and keeps what it wants to.
        environment: More variables of its environment.
    """
    if not (FOLDER / "tools.stamp").is_file():
        if os.environ.get("LRO_REQUIRE_OPENAPI", "") not in ("", "0"):
            pytest.fail(HELP, pytrace=False)
        pytest.skip(HELP)
    return subprocess.run(
        [str(PROGRAMS / tool), *arguments],
        cwd=cwd,
        env={"PATH": str(PROGRAMS), "HOME": str(cwd), "NO_COLOR": "1", **(environment or {})},
        capture_output=True,
        text=True,
        timeout=100,
    )
