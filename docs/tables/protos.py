"""The tables of the schema: each service, message and enum of ``protos/``, by its comments.

The protos are read as ``buf format`` writes them: one declaration a line, its comment above it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tables.markdown import table

PROTOS = Path(__file__).resolve().parents[2] / "protos"
KINDS = {"service": "method", "message": "field", "enum": "value"}
_FIELD = re.compile(r"(?:(repeated|optional) )?([\w.]+|map<[^>]+>) (\w+) = -?\d+")
_RPC = re.compile(r"rpc (\w+)\((?:stream )?([\w.]+)\) returns \((stream )?([\w.]+)\)")
_VALUE = re.compile(r"(\w+) = -?\d+")


@dataclass
class Declared:
    """A service, a message or an enum."""

    kind: str
    name: str
    comment: str
    members: list[list[str]] = field(default_factory=list)


def declared(proto: str) -> list[Declared]:
    """Lists what a file declares, messages within others too."""
    found: list[Declared] = []
    within: list[Declared | None] = []  # by brace and bracket; None is what declares nothing
    comment: list[str] = []
    for line in map(str.strip, proto.splitlines()):
        if line.startswith("//"):
            comment.append(line.removeprefix("//").strip())
            continue
        around = within[-1] if within else None
        if begun := re.match(r"(service|message|enum|oneof) (\w+) \{", line):
            name = f"{around.name}.{begun[2]}" if around else begun[2]
            made = around if begun[1] == "oneof" else Declared(begun[1], name, _said(comment))
            within.append(made)
            if made and made is not around:
                found.append(made)
        else:
            if around and (member := _member(around.kind, line, _said(comment))):
                around.members.append(member)
            depth = sum(map(line.count, "{[")) - sum(map(line.count, "}]"))
            within.extend([None] * depth)
            del within[len(within) + min(depth, 0) :]
        if line:
            comment = []
    return found


def _member(kind: str, line: str, says: str) -> list[str]:
    if found := _RPC.match(line):
        return [f"`{found[1]}`", f"`{found[3] or ''}{found[4]}`", says]
    if kind == "message" and (found := _FIELD.match(line)):
        repeated = "repeated " if found[1] == "repeated" else ""
        return [f"`{found[3]}`", f"`{repeated}{found[2]}`", says]
    if kind == "enum" and (found := _VALUE.match(line)):
        return [f"`{found[1]}`", says]
    return []


def _said(comment: list[str]) -> str:
    """Returns the first paragraph of a comment, without what is for linters."""
    text = " ".join(comment).partition("(--")[0]
    first = " ".join("\n".join(comment).partition("\n\n")[0].split())
    text = first if len(first) < len(text) else text.strip()
    return re.sub(r" See https://google\.aip\.dev/\d+\.", "", text).replace("|", r"\|")


def schema() -> str:
    """Returns a part for each file of ``lro.v1``, with a table for each thing that it declares."""
    parts = []
    for path in sorted(PROTOS.glob("lro/v1/*.proto")):
        name = path.relative_to(PROTOS)
        parts.append(f"## {path.stem.replace('_', ' ').capitalize()}")
        parts.append(f"[`{name}`](../../protos/{name})")
        for one in declared(path.read_text(encoding="utf-8")):
            parts += [f"### `{one.name}`", one.comment]
            types = (
                [] if one.kind == "enum" else ["answers with" if one.kind == "service" else "type"]
            )
            if one.members:
                parts.append(table([KINDS[one.kind], *types, "meaning"], one.members))
    return "\n\n".join(filter(None, parts))


BLOCKS: Mapping[str, Callable[[], str]] = {"schema": schema}
"""The blocks on the schema, by name."""
