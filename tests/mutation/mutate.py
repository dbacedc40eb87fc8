"""Changes the package where it could be wrong, and counts the changes that a test sees.

``make mutate``, or ``python tests/mutation/mutate.py MODULE…``. Mutants are drawn in turn from the
modules until the time is up, and each is put to the tests that run its line: the quick ones first,
until one fails. What survives them is put to the others that run its module. The checkout is never
changed: each worker has a copy of it.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import os
import py_compile
import queue
import random
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import judged
from mutants import Mutant, mutants
from recording import Recording, record
from running import exit_code

ROOT = Path(__file__).parents[2]
SURVIVORS = ROOT / "build" / "mutation" / "survivors.txt"

MODULES = (
    "paging.py",
    "_client/plan.py",
    "_client/watcher.py",
    "_dialects/*.py",
    "_engine/attempt.py",
    "_engine/batch.py",
    "_engine/completer.py",
    "_engine/inprocess.py",
    "_engine/leases.py",
    "_engine/maintenance.py",
    "_filtering/*.py",
    "_http/routing.py",
    "_operation/events.py",
    "_operation/record.py",
    "_operation/states.py",
    "_server/access.py",
    "_server/guarded_store.py",
    "_server/limits.py",
    "_server/services/start.py",
    "_stores/notifier.py",
    "_stores/sqlite/commit.py",
    "_stores/sqlite/store.py",
    "_stores/sqlite/writer.py",
)
"""The modules that carry promises: these, unless others are named."""

KILLED_AT_LEAST = 0.95
"""The share of the mutants that are not equivalent."""

OF_A_LINE = 2
"""The most mutants of one line."""

FIRST_TESTS = 40
"""The quick tests of a line that are run first: most mutants go no further."""

LINE_SECONDS, MODULE_SECONDS = 25.0, 45.0
"""The time of the tests of a line, and of the others of its module, when they were recorded."""

TEST_SECONDS = 12
REPORTED_EACH = 10
LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", "build", "dist", "__pycache__", ".*_cache")


def main() -> int:
    """Runs mutants; returns 1 if too many of them survive."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="a path or a pattern")
    parser.add_argument("--seconds", type=float, default=3600, help="the time for all of them")
    parser.add_argument("--each", type=int, default=20, help="the most mutants of a module")
    parser.add_argument("--seed", type=int, help="of an earlier run, to draw the same mutants")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="the survivors of the last run only")
    parser.add_argument(
        "--stale", action="store_true", help="choose by the recording of other files"
    )
    arguments = parser.parse_args()
    seed = secrets.randbelow(10**6) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    modules = {path: mutants(path, text) for path, text in _texts(arguments.modules)}
    if arguments.again:
        last = judged.read(SURVIVORS)
        drawn = [one for some in modules.values() for one in some if judged.key(one) in last]
    else:
        drawn = draw(modules, arguments.each, random.Random(seed))
    with copies(arguments.workers) as trees:
        recording = record(ROOT, trees[0], _environment(trees[0]), stale=arguments.stale)
        print(f"{len(drawn)} mutants, for {arguments.seconds:.0f} s at most", flush=True)
        results = run(drawn, trees, recording, time.monotonic() + arguments.seconds)
    code = report(modules, results)
    if len(results) < len(drawn):
        print(f"{len(drawn) - len(results)} of {len(drawn)} were not reached in the time")
    return code


def _texts(patterns: Sequence[str]) -> Iterator[tuple[str, str]]:
    for pattern in patterns or [f"lro_grpc/{one}" for one in MODULES]:
        paths = sorted(ROOT.glob(pattern))
        if not paths:
            raise SystemExit(f"there is no module {pattern}")
        for path in paths:
            yield str(path.relative_to(ROOT)), path.read_text()


def draw(modules: dict[str, list[Mutant]], each: int, chance: random.Random) -> list[Mutant]:
    """Draws mutants from the modules in turn, no more than two of a line."""
    drawn: list[list[Mutant]] = []
    for path, some in modules.items():
        text = (ROOT / path).read_text()
        lines: Counter[int] = Counter()
        of_module = []
        for one in chance.sample(some, len(some)):
            if len(of_module) == each:
                break
            if lines[one.line] < OF_A_LINE and one.compiles(text):
                lines[one.line] += 1
                of_module.append(one)
        drawn.append(of_module)
    return [some[turn] for turn in range(each) for some in drawn if turn < len(some)]


@contextlib.contextmanager
def copies(count: int) -> Iterator[list[Path]]:
    """Copies the checkout, to memory where there is some; the copies are removed at the end."""
    memory = "/dev/shm"
    folder = tempfile.mkdtemp(prefix="lro-mutate-", dir=memory if os.path.isdir(memory) else None)
    try:
        trees = [Path(folder, str(number)) for number in range(count)]
        for tree in trees:
            shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
            # By its hash: a mutant may be as long as its module, and made in the same second.
            mode = py_compile.PycInvalidationMode.CHECKED_HASH
            compileall.compile_dir(tree / "lro_grpc", quiet=1, invalidation_mode=mode)
            Path(tree, "tmp").mkdir()
        yield trees
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _environment(tree: Path) -> dict[str, str]:
    paths = os.pathsep.join([str(tree), str(tree / "generated")])
    return {**os.environ, "PYTHONPATH": paths, "TMPDIR": str(tree / "tmp")}


def run(
    drawn: Sequence[Mutant], trees: Sequence[Path], recording: Recording, end: float
) -> dict[Mutant, str]:
    """Runs mutants until the end; returns which were killed, have survived, or are judged."""
    known = judged.read()
    free: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for tree in trees:
        free.put(tree)

    def result(mutant: Mutant) -> str | None:
        if time.monotonic() > end:
            return None
        if judged.key(mutant) in known:
            return known[judged.key(mutant)].partition(":")[0]
        tree = free.get()
        try:
            killer = killed_by(mutant, tree, recording)
        finally:
            free.put(tree)
        if killer is None:
            print(f"survived, {mutant.path}:{mutant.line} ({mutant.change})", flush=True)
            print(f"  - {mutant.old}\n  + {mutant.new}", flush=True)
        return "survived" if killer is None else "killed"

    results: dict[Mutant, str] = {}
    with ThreadPoolExecutor(len(trees)) as workers:
        try:
            for mutant, one in zip(drawn, workers.map(result, drawn), strict=True):
                if one is not None:
                    results[mutant] = one
                    if len(results) % REPORTED_EACH == 0:
                        print(f"{len(results)} of {len(drawn)}", flush=True)
        except KeyboardInterrupt:
            workers.shutdown(cancel_futures=True)
    return results


def killed_by(mutant: Mutant, tree: Path, recording: Recording) -> str | None:
    """Returns the last words of the tests that saw a mutant; None if none did."""
    path = tree / mutant.path
    original = path.read_text()
    of_module = recording.tests(mutant.path)
    of_line = recording.tests(mutant.path, mutant.line) or of_module
    of_others = [one for one in of_module if one not in {*of_line}]
    path.write_text(mutant.applied(original))
    try:
        for some, seconds in (
            (of_line[:FIRST_TESTS], LINE_SECONDS),
            (of_line[FIRST_TESTS:], LINE_SECONDS),
            (of_others, MODULE_SECONDS),
        ):
            tests = recording.within(seconds, some)
            killer = failure(tests, tree, 60 + 3 * recording.seconds(tests)) if tests else None
            if killer is not None:
                return killer
        return None
    finally:
        path.write_text(original)


def failure(tests: Sequence[str], tree: Path, limit: float) -> str | None:
    """Runs tests; returns the last words of what failed first, or None if all have passed."""
    listed = tree / "tmp" / "tests.txt"
    listed.write_text("\n".join(tests))
    arguments = [f"@{listed}", "-x", "-q", "--tb=line", "-p", "no:cacheprovider"]
    arguments += [f"--timeout={TEST_SECONDS}", "--hypothesis-profile=ci"]
    output = tree / "tmp" / "output.txt"
    code = exit_code(arguments, tree, _environment(tree), output, limit)
    if code is None:
        return "no end"
    said = output.read_text(errors="replace")
    if code == 4 and "not found: " in said:  # its parameters come of the mutant
        return failure(sorted({one.partition("::")[0] for one in tests}), tree, limit)
    return said[-1000:] if code else None


def report(modules: dict[str, list[Mutant]], results: dict[Mutant, str]) -> int:
    """Prints the table and the survivors; returns 1 if too many mutants survive."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for mutant, one in results.items():
        counts[mutant.path][one] += 1
    kinds = ("killed", *judged.JUDGEMENTS, "survived")
    print(f"\n| module | possible | run | {' | '.join(kinds)} |\n|---|" + "---|" * (2 + len(kinds)))
    for path, some in modules.items():
        print(_row(path, len(some), counts[path], kinds))
    total = Counter(results.values())
    print(_row("all", sum(map(len, modules.values())), total, kinds))
    survivors = [one for one, result in results.items() if result == "survived"]
    SURVIVORS.parent.mkdir(parents=True, exist_ok=True)
    SURVIVORS.write_text("\n".join(judged.entry(one, "new") for one in survivors))
    for one in survivors:
        print(f"\n{one.path}:{one.line}\n- {one.old}\n+ {one.new}")
    not_equivalent = len(results) - total["equivalent"]
    share = total["killed"] / not_equivalent if not_equivalent else 1.0
    print(f"\n{share:.1%} of {not_equivalent} mutants that are not equivalent were killed")
    return 0 if share >= KILLED_AT_LEAST else 1


def _row(name: str, possible: int, counts: Counter[str], kinds: Iterable[str]) -> str:
    cells = [name, possible, sum(counts.values()), *(counts[kind] for kind in kinds)]
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    sys.exit(main())
