"""docs/migrate/import.md: its program moves operations to another server, and its lines, too."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from old_operations import PARENT, old_operations
from pages import Page
from server_harness import serving

PAGE = Page("migrate/import.md")


def test_the_program_imports_what_a_server_lists(tmp_path: Path) -> None:
    (program,) = PAGE.texts("python")
    (tmp_path / "import_fleet.py").write_text(program)
    (command,) = re.findall(r"^python (import_fleet.py .*)$", PAGE, re.MULTILINE)
    script, address, parent, store = command.split()
    assert (address, parent, store) == ("127.0.0.1:50050", PARENT, "sqlite:///fleet.db")

    def imported(target: str) -> str:
        arguments = [script, target, parent, store]
        return subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout

    def fill(operations: Any) -> None:
        operations.import_operations_sync(old_operations(250))

    with serving("sync", configure=fill, store=f"sqlite:///{tmp_path}/old.db") as old:
        names = old.names()
        assert imported(old.target) == "Imported(stored=250, skipped=0, left_out=0)\n"
        assert imported(old.target) == "Imported(stored=0, skipped=250, left_out=0)\n"
    with serving("sync", store=f"sqlite:///{tmp_path}/fleet.db") as new:
        assert new.names() == names


def test_the_lines_that_it_shows_are_read(tmp_path: Path) -> None:
    (lines,) = re.findall(r"```text\n(\{.*?)```", PAGE, re.DOTALL)
    lines = lines.replace(",\n ", ", ").replace("fleet.v1.Instance", "lro.example.v1.Instance")
    (tmp_path / "old.jsonl").write_text(lines)
    command = [sys.executable, "-m", "lro_grpc._cli", "db", "import", "old.jsonl"]
    types = ["--types", "lro.example.v1.fleet_service_pb2"]
    run = subprocess.run(
        [*command, *types], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert (run.stdout, run.stderr) == (
        "operations.db: 2 operations imported, 0 there already\n",
        "",
    )
