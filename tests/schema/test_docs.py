"""``docs/generate.py``: what it writes, and what its check finds."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """A copy of the document, to spoil."""
    return Path(shutil.copy(DOCS / "dialects" / "azure_face.md", tmp_path))


def test_check_is_silent_on_what_was_generated(document: Path) -> None:
    run = generate("--check", document)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_what_is_stale_is_reported_and_mended_and_the_rest_left_alone(document: Path) -> None:
    fresh = document.read_text()
    words = "[*] --> notstarted"
    assert fresh.count(words) == 1
    document.write_text(f"Mine.\n{fresh.replace(words, 'gone')}")
    run = generate("--check", document)
    assert run.returncode == 1
    assert "make generate" in run.stderr
    assert generate(document).returncode == 0
    assert document.read_text() == f"Mine.\n{fresh}"


def generate(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, DOCS / "generate.py", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
