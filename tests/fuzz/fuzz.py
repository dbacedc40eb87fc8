"""Fuzzes the parsers of strangers' bytes: ``make fuzz``, or ``python tests/fuzz/fuzz.py TARGET…``.

Each target has an equal share of the time, in a process of its own, until it fails once. The input
that fails is kept in ``kept/``: ``tests/unit/test_kept_inputs.py`` gives it to the target whenever
the tests run, and so it stays there when the mistake is mended.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from target import KEPT, TARGETS, Target

HERE = Path(__file__).parent
ARTIFACTS = ("crash-*", "timeout-*", "oom-*", "slow-unit-*", "leak-*")


def load() -> Mapping[str, Target]:
    """Returns all targets."""
    for module in sorted(HERE.glob("fuzz_*.py")):
        if module.stem != "fuzz_one":
            importlib.import_module(module.stem)
    return TARGETS


def main() -> int:
    """Fuzzes, and returns 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all of them unless given")
    parser.add_argument("--seconds", type=int, default=1200, help="the time for all of them")
    parser.add_argument("--seed", type=int, help="of an earlier run, to repeat it")
    arguments = parser.parse_args()
    targets = load()
    unknown = sorted({*arguments.targets} - {*targets})
    if unknown:
        parser.error(f"there is no target {', '.join(unknown)}; there are {', '.join(targets)}")
    chosen = [targets[name] for name in arguments.targets or targets]
    seed = arguments.seed or secrets.randbelow(2**31 - 1) + 1
    share = max(arguments.seconds // len(chosen), 1)
    print(f"seed {seed}, {share} s for each of {len(chosen)} targets", flush=True)
    found = 0
    for one in chosen:
        tried, inputs, report = fuzzed(one, share, seed)
        kept = [keep(one, data) for data in inputs]
        found += len(kept)
        counts = f"tried {tried:>9,}  found {len(kept)}  kept {len(one.kept)}"
        print(f"{one.name:26} {counts}", flush=True)
        for path in kept:
            print(f"{report}\nfound: {path.relative_to(HERE.parents[1])}", flush=True)
    return 1 if found else 0


def fuzzed(one: Target, seconds: int, seed: int) -> tuple[int, list[bytes], str]:
    """Returns how many inputs were tried, those that failed, and the last words of the process."""
    with tempfile.TemporaryDirectory(prefix="lro-fuzz-") as folder:
        corpus, findings = Path(folder, "corpus"), Path(folder, "findings")
        corpus.mkdir()
        findings.mkdir()
        command = [sys.executable, str(HERE / "fuzz_one.py")]
        process = subprocess.run(
            [*command, one.name, str(corpus), str(findings), str(seconds), str(seed)],
            env={**os.environ, "PYTHONHASHSEED": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        said = process.stdout.decode(errors="replace")
        inputs = [path.read_bytes() for kind in ARTIFACTS for path in findings.glob(kind)]
    tried = re.search(r"number_of_executed_units: +([0-9]+)", said)
    if tried is None or (process.returncode and not inputs):
        raise SystemExit(f"{one.name} could not be fuzzed:\n{said[-3000:]}")
    return int(tried[1]), inputs, said[-3000:]


def keep(one: Target, data: bytes) -> Path:
    """Writes an input to the folder of its target."""
    path = KEPT / one.name / hashlib.sha256(data).hexdigest()[:16]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


if __name__ == "__main__":
    sys.exit(main())
