"""The three flows of ARCHITECTURE.md go through the files that it names, in its order."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SECTION = (ROOT / "ARCHITECTURE.md").read_text().split("\n## Three flows\n")[1].split("\n## ")[0]
FLOWS = {
    title: re.findall(r"^\d+\. `(.*?)`", body, re.MULTILINE)
    for title, body in re.findall(
        r"^### (.*?)\n(.*?)(?=^### |\Z)", SECTION, re.MULTILINE | re.DOTALL
    )
}


@pytest.fixture(scope="module")
def traced() -> dict[str, list[str]]:
    script = Path(__file__).with_name("traced_flows.py")
    run = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=100, check=False
    )
    assert run.returncode == 0, run.stderr
    flows: dict[str, list[str]] = json.loads(run.stdout)
    return flows


def test_there_are_three() -> None:
    assert len(FLOWS) == 3
    assert all(FLOWS.values())


@pytest.mark.parametrize("title", FLOWS)
def test_a_flow_goes_through_the_files_in_this_order(
    title: str, traced: dict[str, list[str]]
) -> None:
    calls = iter(traced[title])
    missing = [file for file in FLOWS[title] if file not in calls]
    assert missing == [], f"not called, or not in this order; called were {traced[title]}"
