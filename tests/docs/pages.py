"""Pages of the documentation: their blocks of code, which tests run where they stand.

A page's test has ``Page("learn/stopping.md")`` in it, by which ``test_blocks.py`` finds it. Two
comments in a page say something of the block below them, and nobody sees them on the site or on
GitHub: ``<!-- file: server.py -->`` is a file of the reader's, ``<!-- shown: … -->`` says why a
block is not run.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

ROOT = Path(__file__).parents[2]
RUN = {"python", "proto", "sql", "diff", "dockerfile", "toml"}
"""The languages of blocks that a test of their page runs."""
PRINTED = {"", "text", "mermaid", "filter", "promql"}
"""Those of what programs print, of drawings, and of what is only ever a part of something."""
_BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>file|shown): (?P<says>[^\n]*) -->\n)?"
    r"^(?P<fence>`{3,})(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=fence) *$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    path: str
    line: int
    """The line of its first line of code."""
    language: str
    text: str
    file: str = ""
    shown: str = ""
    """Why it is not run, if the page says so."""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"

    def compiled(self) -> CodeType:
        """Returns the code, which may await where it stands."""
        code = "\n" * (self.line - 1) + self.text
        return compile(code, str(ROOT / self.path), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

    def run(self, **names: Any) -> dict[str, Any]:
        """Runs it with these names, and returns all that there are then."""
        waiting = self._begin(names)
        if waiting is not None:
            asyncio.run(waiting)
        return names

    async def run_async(self, **names: Any) -> dict[str, Any]:
        """Runs it on this loop with these names, and returns all that there are then."""
        waiting = self._begin(names)
        if waiting is not None:
            await waiting
        return names

    def _begin(self, names: dict[str, Any]) -> Coroutine[Any, Any, Any] | None:
        code = self.compiled()
        names.setdefault("__name__", Path(self.path).stem)
        if code.co_flags & inspect.CO_COROUTINE:
            waiting: Coroutine[Any, Any, Any] = eval(code, names)
            return waiting
        exec(code, names)
        return None


class Page(str):
    """The text of a page, by its path from ``docs/``, or from the root of the project."""

    __slots__ = ("_first_line", "path")

    path: str
    """From the project's root."""

    def __new__(cls, path: str) -> Page:
        found = next(one for one in (f"docs/{path}", path) if (ROOT / one).is_file())
        return cls._of(found, (ROOT / found).read_text(encoding="utf-8"), 1)

    @classmethod
    def _of(cls, path: str, text: str, first_line: int) -> Page:
        page = super().__new__(cls, text)
        page.path, page._first_line = path, first_line
        return page

    def every_block(self) -> list[Block]:
        """Lists all its blocks, those that are only shown, too."""
        found = []
        for match in _BLOCK.finditer(self):
            line = self._first_line + self.count("\n", 0, match.start("text"))
            language = match["info"].partition(" ")[0]
            mark = {match["mark"]: match["says"]} if match["mark"] else {}
            found.append(Block(self.path, line, language, match["text"], **mark))
        return found

    def blocks(self, language: str = "") -> list[Block]:
        """Lists its blocks that are to be run, of one language if it is given."""
        return [
            one
            for one in self.every_block()
            if not one.shown and (not language or one.language == language)
        ]

    def texts(self, language: str) -> list[str]:
        """Lists the texts of its blocks in a language that are to be run."""
        return [one.text for one in self.blocks(language)]

    def files(self) -> dict[str, Block]:
        """Returns the files of the reader's that it shows, by name."""
        return {one.file: one for one in self.every_block() if one.file}

    def section(self, heading: str) -> Page:
        """Returns the part of the page below a heading, up to the next of its level or above."""
        found = re.search(rf"^(#+) {re.escape(heading)}$", self, re.MULTILINE)
        assert found, f"{self.path} has no heading {heading!r}"
        rest = self[found.start() :]
        end = re.search(rf"\n#{{1,{len(found[1])}}} ", without_blocks(rest)[1:])
        before = self.count("\n", 0, found.start())
        return self._of(
            self.path, rest[: end.start() + 1] if end else rest, self._first_line + before
        )

    def run(self, **names: Any) -> dict[str, Any]:
        """Runs its blocks in Python but for its files, one after the other, with the same names."""

        async def run() -> None:
            for block in self.blocks("python"):
                if not block.file:
                    names.update(await block.run_async(**names))

        asyncio.run(run())
        return names


def without_blocks(text: str) -> str:
    """Returns a text of the same length, with blanks where its blocks are."""
    return _BLOCK.sub(lambda block: re.sub(r"[^\n]", " ", block[0]), text)


def every_page() -> list[Page]:
    """Lists the pages of the documentation, and those at the root of the project."""
    paths = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
    return [Page(str(path.relative_to(ROOT))) for path in paths]


def main() -> None:
    """Prints how many blocks the pages have, and what is done about them."""
    pages = every_page()
    kinds = Counter(_kind(block) for page in pages for block in page.every_block())
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    print(f"{len(pages)} pages with {kinds.total()} blocks: {counts}")


def _kind(block: Block) -> str:
    if block.shown:
        return "only shown, with a reason"
    if block.language in RUN:
        return "run by the tests of their pages"
    return (
        "printed or drawn"
        if block.language in PRINTED
        else "checked by the rules of their language"
    )


if __name__ == "__main__":
    main()
