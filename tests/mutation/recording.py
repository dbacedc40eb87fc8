"""Chooses the tests of a line: those that have run it, when all tests were run once."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import coverage

FOLDERS = (
    "tests/integration/server",
    "tests/unit",
    "tests/contract",
    "tests/interop",
    "tests/integration/client",
    "tests/integration/engine",
    "tests/integration/http",
)
"""The tests that are chosen from: they call the package in their own process, and quickly. Those
that take the longest come first."""

AT_ONCE = 2
"""The folders that are recorded at a time."""

SECONDS = 600
"""The time for a folder; what comes later in it is not chosen."""

HERE = Path(__file__).parent
SETTINGS = "[run]\ncore = ctrace\nrelative_files = true\nsource = lro_grpc\n"


class Recording:
    """The lines that each test runs, and the seconds that it takes.

    Args:
        root: The checkout.
        folders: Where the recordings of the folders are.
    """

    def __init__(self, root: Path, folders: Iterable[Path]) -> None:
        self._root = root
        self._seconds: dict[str, float] = {}
        self._data: dict[Path, coverage.CoverageData] = {}
        for folder in folders:
            self._seconds |= json.loads((folder / "times.json").read_text())
            data = self._data[folder] = coverage.CoverageData(str(folder / "coverage.db"))
            data.read()
        self._lines: dict[str, defaultdict[int, set[str]]] = {}

    def tests(self, path: str, line: int | None = None) -> list[str]:
        """Returns the tests that run a line, or any line of a module; the quick ones first."""
        if path not in self._lines:
            lines = self._lines[path] = defaultdict(set)
            for folder, data in self._data.items():
                now = _lines_now(folder / path, self._root / path)
                for number, tests in data.contexts_by_lineno(path).items():
                    lines[now.get(number, 0)].update(tests)
        lines = self._lines[path]
        chosen = set().union(*lines.values()) if line is None else lines[line]
        return sorted(chosen & {*self._seconds}, key=lambda one: (self._seconds[one], one))

    def seconds(self, tests: Iterable[str]) -> float:
        """Returns the time that some tests took."""
        return sum(self._seconds[one] for one in tests)

    def within(self, seconds: float, tests: Sequence[str]) -> list[str]:
        """Returns as many of the tests as take that time, the files with quick ones first."""
        files: defaultdict[str, list[str]] = defaultdict(list)
        for one in tests:
            seconds -= self._seconds[one]
            if seconds < 0:
                break
            files[one.partition("::")[0]].append(one)
        in_turn = sorted(files.values(), key=self.seconds)
        return [one for some in in_turn for one in some]


def record(root: Path, tree: Path, environment: dict[str, str], *, stale: bool) -> Recording:
    """Runs the tests once, but for the folders of which that has been done.

    Args:
        root: The checkout, whose ``build`` keeps the recordings.
        tree: A copy of it, in which the tests are run.
        environment: Of the tests.
        stale: Whether a recording of other files will do.
    """
    settings = tree / "tmp" / "coverage.ini"
    settings.write_text(SETTINGS)
    package = _digest(root / "lro_grpc")
    folders = {tests: root / "build" / "mutation" / tests.replace("/", "-") for tests in FOLDERS}
    keys = {tests: package + _digest(root / tests) for tests in FOLDERS}

    def is_kept(tests: str) -> bool:
        kept = folders[tests] / "key"
        return kept.exists() and (stale or kept.read_text() == keys[tests])

    def record_one(tests: str) -> None:
        folder = folders[tests]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        begin = time.monotonic()
        _run(tests, folder, tree, settings, environment)
        (folder / "key").write_text(keys[tests])
        print(f"  {tests} took {time.monotonic() - begin:.0f} s", flush=True)

    missing = [tests for tests in FOLDERS if not is_kept(tests)]
    if missing:
        print(
            f"recording which lines are run by the tests of {len(missing)} folders; this is done"
            " once, takes minutes, and does not count for the time",
            flush=True,
        )
    with ThreadPoolExecutor(AT_ONCE) as workers:
        list(workers.map(record_one, missing))
    return Recording(root, folders.values())


def _run(tests: str, folder: Path, tree: Path, settings: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "coverage", "run", f"--rcfile={settings}"]
    command += [f"--data-file={folder / 'coverage.db'}", "-m", "pytest", tests, "-q", "--tb=short"]
    command += ["-p", "recorder", "-p", "no:cacheprovider", "--hypothesis-profile=ci"]
    command += [f"--session-timeout={SECONDS}"]
    paths = os.pathsep.join([environment["PYTHONPATH"], str(HERE)])
    times = str(folder / "times.json")
    with (folder / "output.txt").open("w") as output:
        process = subprocess.run(
            command,
            cwd=tree,
            env={**environment, "PYTHONPATH": paths, "LRO_MUTATION_TIMES": times},
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    shutil.copytree(tree / "lro_grpc", folder / "lro_grpc")
    if process.returncode not in (0, 1):  # a test that fails is not chosen
        raise SystemExit(f"{tests} could not be run; see {folder / 'output.txt'}")


def _lines_now(recorded: Path, module: Path) -> dict[int, int]:
    """Returns where the lines of a module are that has been changed since."""
    if not recorded.exists():
        return {}
    then, now = recorded.read_text().splitlines(), module.read_text().splitlines()
    blocks = difflib.SequenceMatcher(None, then, now, autojunk=False).get_matching_blocks()
    return {one.a + at + 1: one.b + at + 1 for one in blocks for at in range(one.size)}


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
