"""Writes the tables and diagrams of the pages, or fails if they are stale.

They stand between ``<!-- generated: NAME -->`` and ``<!-- generated: end -->``; the text around
them is written by hand. What is written is read from the code, by the modules of ``tables/``. The
list by which ``lro`` completes names is written, too.
"""

# ruff: noqa: T201  (a command prints)

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tables import command, constants, dialects, errors, growth, metrics, options, protos

DOCS = Path(__file__).resolve().parent
BLOCKS: Mapping[str, Callable[[], str]] = {
    **command.BLOCKS,
    **constants.BLOCKS,
    **dialects.BLOCKS,
    **errors.BLOCKS,
    **growth.BLOCKS,
    **metrics.BLOCKS,
    **options.BLOCKS,
    **protos.BLOCKS,
}
"""The blocks that a page may have, by name."""
_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- generated: end -->)", re.DOTALL)


def main() -> int:
    """Runs the command line and returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, and fail on a difference")
    parser.add_argument("pages", nargs="*", type=Path, help="the pages to write; all by default")
    arguments = parser.parse_args()
    fresh = {page: _with_blocks(page) for page in arguments.pages or sorted(DOCS.rglob("*.md"))}
    if not arguments.pages:
        fresh |= {file: make() for file, make in command.FILES.items()}
    stale = {file: text for file, text in fresh.items() if not _is(file, text)}
    for file, text in stale.items():
        if arguments.check:
            print(f"{file} is stale: run `make generate` and commit it", file=sys.stderr)
        else:
            file.write_text(text, encoding="utf-8")
    return int(arguments.check and bool(stale))


def _with_blocks(page: Path) -> str:
    """Returns a page with its blocks as the code has them."""
    present = page.read_text(encoding="utf-8")
    return _BLOCK.sub(lambda found: f"{found[1]}\n{BLOCKS[found[2]]()}\n\n{found[3]}", present)


def _is(file: Path, text: str) -> bool:
    return file.exists() and file.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
