"""A run of the tests in random order says how to repeat it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
AGAIN = re.compile(r"^The same order again: (--random-order-bucket=\w+) (--random-order-seed=\w+)$")


def collected(*options: str) -> tuple[list[str], list[str]]:
    """Returns the tests of a file in their order, and what a quiet run says of it."""
    some = "tests/unit/test_names.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--collect-only"]
    run = subprocess.run(
        [*command, *options, some], cwd=ROOT, env=dict(os.environ), capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr
    lines = run.stdout.splitlines()
    said = [again for line in lines if (again := AGAIN.match(line))]
    return [line for line in lines if "::" in line], [*said[0].groups()] if said else []


def test_a_quiet_run_says_how_to_have_its_order_again() -> None:
    usual, nothing = collected()
    assert nothing == []
    order, options = collected("--random-order-bucket=global")
    assert order != usual
    assert sorted(order) == sorted(usual)
    assert collected(*options) == (order, options)
