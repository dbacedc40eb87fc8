"""docs/deploy/temporal.md: each of its blocks is a program that runs as it is printed."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pages import Page

BLOCKS = Page("deploy/temporal.md").texts("python")


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_runs_in_an_interpreter_that_has_imported_nothing(block: str) -> None:
    ran = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_page_has_blocks() -> None:
    assert len(BLOCKS) == 1
