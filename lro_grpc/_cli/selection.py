"""Operations that a command changes: those it is given by name, or all that match a filter.

A filter may match what nobody has thought of. So the command shows what it has found, up to its
limit, and changes it once a person has said yes, or with ``--yes``. Nobody is asked where stdin is
no terminal: what stands there may be meant for something else.

Of what a filter finds, however much that is, only the names are kept, and the lines that are shown.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice

import typer

from lro_grpc._cli.connected_server import ConnectedServer
from lro_grpc._cli.exit_codes import Exit
from lro_grpc._cli.names import for_each, for_each_found
from lro_grpc._cli.output import print_message
from lro_grpc._cli.terminal_text import printable_summary
from lro_grpc._client.plan import RPC_TIMEOUT
from lro_grpc._filtering.parser import hint_at_operators
from lro_grpc._inspection.summary import Summary
from lro_grpc._wire.plain_text import one_line

SHOWN = 20
"""The most names that a question shows; and the most warnings."""

MOST_FOUND = 10_000
"""The most operations that a command takes of those that a filter finds."""

_PAGE_SIZE = 500


class Question:
    """A question about the operations that a filter finds, of which it keeps a few lines.

    Args:
        sentence: It asks; ``{}`` stands for the number of the operations.
        note: A line before it; empty for none.
        warn: Returns a line to warn of one of them; empty for none.
    """

    def __init__(
        self, sentence: str, *, note: str = "", warn: Callable[[Summary], str] = lambda _: ""
    ) -> None:
        self._sentence = sentence
        self._note = note
        self._warn = warn
        self._found = _Lines("and {} more")
        self._warnings = _Lines("and {} more are warned of")

    def add(self, one: Summary) -> None:
        """Adds an operation that was found."""
        self._found.add(f"{one_line(one.name)}  {one.state}")
        if warning := self._warn(one):
            self._warnings.add(warning)

    def __str__(self) -> str:
        """Returns its lines, the last of which asks."""
        asked = self._sentence.format(self._found.number)
        lines = (*self._found, *self._warnings, self._note, asked)
        return "\n".join(filter(None, lines))


class _Lines:
    """The first of some lines, and the number of all.

    Args:
        rest: The line in the place of the others; ``{}`` stands for their number.
    """

    def __init__(self, rest: str) -> None:
        self.number = 0
        self._rest = rest
        self._first: list[str] = []

    def add(self, line: str) -> None:
        self.number += 1
        if self.number <= SHOWN:
            self._first.append(line)

    def __iter__(self) -> Iterator[str]:
        yield from self._first
        if self.number > SHOWN:
            yield self._rest.format(self.number - SHOWN)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The operations that a command line selects.

    Attributes:
        names: Their names; none with a filter.
        filter: The filter; None without one.
        parent: The parent of what the filter finds.
        limit: The most operations that the filter finds.
        yes: Whether nobody is to be asked.
        timeout: How long each call may take.

    Raises:
        typer.BadParameter: If there are neither names nor a filter, or both, or an empty filter.
    """

    names: Sequence[str]
    filter: str | None
    parent: str
    limit: int
    yes: bool
    timeout: timedelta | None

    def __post_init__(self) -> None:
        if bool(self.names) == (self.filter is not None):
            excess = ", not both" if self.names else ""
            raise typer.BadParameter(f"give the names of operations, or --filter{excess}")
        if self.filter is not None and not self.filter.strip():  # as of a variable that is not set
            raise typer.BadParameter("an empty filter would match all; say what is to match")

    def for_each(
        self,
        server: ConnectedServer,
        one: Callable[[str], Exit],
        *,
        among: str,
        question: Question | None,
    ) -> Exit:
        """Deals with every operation; with those of a filter once a person has agreed.

        Args:
            server: The server.
            one: Deals with one, by its name.
            among: A filter of those that the command can deal with at all.
            question: The question; None if nobody need be asked.

        Returns:
            The highest exit code.
        """
        if self.filter is None:
            return for_each(server, self.names, one)
        # What a person has typed comes last: one that ends early is then refused as it is, and not
        # completed by what stands behind it.
        wanted = f"{among} AND {self.filter}"
        pager = server.client.list(
            self.parent,
            filter=wanted,
            page_size=min(self.limit + 1, _PAGE_SIZE),
            timeout=self.timeout or RPC_TIMEOUT,
        )
        found = iter(pager)
        names: list[str] = []
        for each in islice(found, self.limit):
            names.append(each.name)
            if question is not None:
                question.add(printable_summary(each, server.types))
        if not names:
            hint = hint_at_operators(self.filter)
            print_message("; ".join(filter(None, (f"no operation matches {wanted}", hint))))
            return Exit.SUCCEEDED
        if next(found, None) is not None:
            print_message(f"more than {self.limit} match; these are the first {self.limit}")
        if question is not None and (
            refused := self.ask(str(question), otherwise="nothing was done")
        ):
            return refused
        return for_each_found(server, names, one)

    def ask(self, question: str, *, otherwise: str) -> Exit:
        """Asks a person at the terminal.

        Args:
            question: Lines, the last of which asks.
            otherwise: Is printed unless the answer is yes.

        Returns:
            SUCCEEDED for a yes, USAGE if there is no terminal to ask at.
        """
        if self.yes:
            return Exit.SUCCEEDED
        if sys.stdin is None or not sys.stdin.isatty():
            asked = question.splitlines()[-1]
            print_message(f"{asked} Nobody can answer, for stdin is no terminal; give --yes")
            return Exit.USAGE
        print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() in ("y", "yes"):
            return Exit.SUCCEEDED
        print_message(otherwise)
        return Exit.FAILED
