"""The package as it was, is, and may be next: one folder each, for server processes to run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from killable import Site

ROOT = Path(__file__).parents[2]
PARTS = ("lro_grpc", "generated")

PINNED = "tests/contract/test_postgres_migrations.py"
"""Since this file is there, a migration stays as it is: tables from before are no release's."""

SCHEMA = "lro_grpc/_stores/{}/schema.py"

LAST_FIELD = "    operation: Annotated[bytes, "
FIELD = '    of_next: Annotated[str, Field(FREE)] = ""\n    """A field of the next release."""\n'

POSTGRES_MIGRATION = """
_ADD = f"ALTER TABLE {_OPERATIONS} ADD COLUMN of_next {_TEXT}"
MIGRATIONS = (*MIGRATIONS, ((_ADD,), MIGRATIONS[-1][1]))
VERSION = len(MIGRATIONS)
"""
SQLITE_UPGRADE = """
_ADD = "ALTER TABLE operations ADD COLUMN of_next TEXT NOT NULL DEFAULT ''"
_UPGRADES = {**_UPGRADES, _VERSION: (_ADD,)}
_VERSION += 1
"""


class Release(NamedTuple):
    """A folder with a package."""

    folder: Path

    @property
    def _environment(self) -> list[str]:
        path = os.pathsep.join(str(self.folder / part) for part in ("", "generated"))
        return ["env", f"PYTHONPATH={path}"]

    def site(self, folder: Path) -> Site:
        """Returns a site whose servers are of this release."""
        return Site(folder, self._environment)

    def check(self) -> None:
        """Checks that a server would import this package, and no other one."""
        code = "import lro_grpc; print(lro_grpc.__file__)"
        done = subprocess.run(
            [*self._environment, sys.executable, "-c", code],
            cwd=self.folder,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert Path(done.stdout.strip()).is_relative_to(self.folder), done.stdout


def former(folder: Path) -> Release:
    """Takes the last release out of the history.

    It is that of the last tag; without one, the commit since which migrations stay as they are. A
    test is skipped that needs it where there is no history: in a shallow clone, or without git.
    """
    if not (ROOT / ".git").exists() or git("rev-parse", "--is-shallow-repository") == "true":
        pytest.skip("there is no history to take the last release of: git fetch --unshallow --tags")
    tags = git("tag", "--merged", "HEAD", "--no-contains", "HEAD", "--sort=-creatordate")
    commits = tags or git("log", "--diff-filter=A", "--format=%H", "--", PINNED)
    assert commits, f"neither a tag is in the history nor the commit that has added {PINNED}"
    command = ["git", "-C", str(ROOT), "archive", commits.split()[0], *PARTS]
    archive = subprocess.run(command, check=True, capture_output=True, timeout=60)
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True, timeout=60)
    return Release(folder)


def git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", ROOT, *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, f"this needs a git clone with its history: {done.stderr}"
    return done.stdout.strip()


def this(folder: Path) -> Release:
    """Copies the package as it is."""
    for part in PARTS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, folder / part, ignore=ignored)
    return Release(folder)


def following(folder: Path) -> Release:
    """Makes the next release of this one: records have one more field, and tables its column."""
    release = this(folder)
    record = folder / "lro_grpc" / "_operation" / "record.py"
    before, last, after = record.read_text().partition(LAST_FIELD)
    assert last, f"{record} has no line {LAST_FIELD!r} any more"
    record.write_text(before + FIELD + last + after)
    for store, more in (("postgres", POSTGRES_MIGRATION), ("sqlite", SQLITE_UPGRADE)):
        with (folder / SCHEMA.format(store)).open("a") as file:
            file.write(more)
    return release
