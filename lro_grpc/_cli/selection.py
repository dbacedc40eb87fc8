"""Operations that a command changes: those it is given by name, or all that match a filter.

A filter may match what nobody has thought of. So the command shows what it has found, up to its
limit, and changes it once a person has said yes, or with ``--yes``. Nobody is asked where stdin is
no terminal: what stands there may be meant for something else.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
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
from lro_grpc._inspection.summary import Summary
from lro_grpc._wire.plain_text import one_line

SHOWN = 20
"""The most names that a question shows."""


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
            raise typer.BadParameter("give the names of operations, or --filter")
        if self.filter is not None and not self.filter.strip():  # as of a variable that is not set
            raise typer.BadParameter("an empty filter would match all; say what is to match")

    def for_each(
        self,
        server: ConnectedServer,
        one: Callable[[str], Exit],
        *,
        among: str,
        question: Callable[[Sequence[Summary]], str],
    ) -> Exit:
        """Deals with every operation; with those of a filter once a person has agreed.

        Args:
            server: The server.
            one: Deals with one, by its name.
            among: A filter of those that the command can deal with at all.
            question: Makes the question of the operations that the filter has found; empty if
                nobody need be asked.

        Returns:
            The highest exit code.
        """
        if self.filter is None:
            return for_each(server, self.names, one)
        # What a person has typed comes last: one that ends early is then refused as it is, and not
        # completed by what stands behind it.
        wanted = f"{among} AND {self.filter}"
        found = server.client.list(
            self.parent,
            filter=wanted,
            page_size=min(self.limit + 1, 500),
            timeout=self.timeout or RPC_TIMEOUT,
        )
        operations = list(islice(found, self.limit + 1))
        chosen = operations[: self.limit]
        if not chosen:
            print_message(f"no operation matches {wanted}")
            return Exit.SUCCEEDED
        if len(operations) > self.limit:
            print_message(f"more than {self.limit} match; these are the first {self.limit}")
        asked = question([printable_summary(each, server.types) for each in chosen])
        if asked and (refused := self.ask(asked, otherwise="nothing was done")):
            return refused
        return for_each_found(server, [each.name for each in chosen], one)

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


def lines_of(found: Sequence[Summary]) -> str:
    """Returns a line for each of the first operations, and how many more there are."""
    lines = [f"{one_line(one.name)}  {one.state}" for one in found[:SHOWN]]
    if len(found) > SHOWN:
        lines.append(f"and {len(found) - SHOWN} more")
    return "\n".join(lines)
