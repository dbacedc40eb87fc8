"""Rules of the AIPs for protos with long-running methods: D1 to D7, and S2.

A method that has a reason to break a rule says so in its comment, in a paragraph of its own::

    // lro-grpc: allow D6 because its metadata is that of every other method.

A standard method is known by its resource: ``CreateSecondaryCluster`` is one where there is a
message ``SecondaryCluster`` with a name, and a method with a verb of its own where there is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lro_grpc._codegen.schema import EMPTY, OPERATION, MessageType, Method, OperationInfo, Schema

_OWN_SERVICES = "google.longrunning"
"""The package whose methods return operations that others have started."""
_OWN_METHODS = frozenset({"GetOperation", "WaitOperation"})
"""Those methods, where a service has them itself, as one does that mixes that package in."""

RULES = frozenset({"D1", "D2", "D3", "D4", "D5", "D6", "D7"})
"""The rules that may be allowed."""

_RESOURCE = re.compile(r"(?:Create|Update|Undelete)([A-Z]\w*)")
_DELETE = re.compile(r"Delete([A-Z]\w*)")
_BATCH = re.compile(r"Batch(?:Create|Update|Delete)[A-Z]\w*")
_ANY_DELETE = re.compile(r"(?:Batch)?Delete[A-Z]\w*")
_BATCH_METADATA = re.compile(r"Batch\w*OperationMetadata")

_DIRECTIVE = re.compile(r"^lro-grpc:.*(?:\n(?!lro-grpc:).+)*", re.MULTILINE)
_ALLOWANCE = re.compile(r"lro-grpc: allow (?P<rules>D[1-7](?:, D[1-7])*) because (?P<reason>\S.*)")


@dataclass(frozen=True, order=True, slots=True)
class Violation:
    """A rule that a method breaks."""

    file: str
    line: int
    rule: str
    message: str
    """The mistake, and the way to correct it."""
    may_be_allowed: bool = True

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.rule}: {self.message}"


def violations(
    schema: Schema, files: Iterable[str], *, against: Schema | None = None
) -> list[Violation]:
    """Returns the rules that the methods of some files break, in the order of the files.

    Args:
        schema: Has the files.
        files: Their names.
        against: The protos of the last release; None to leave out D5.
    """
    previous = {method.path: method for method in against.all_methods()} if against else {}
    return [
        violation
        for file in files
        for service in schema.services(file)
        for method in service.methods
        if method.package != _OWN_SERVICES
        for violation in sorted(_not_allowed(schema, method, previous.get(method.path), previous))
    ]


def without_directives(comment: str) -> str:
    """Returns a comment without its directives, for readers of the generated code."""
    return re.sub(r"\n{3,}", "\n\n", _DIRECTIVE.sub("", comment)).strip("\n")


def _not_allowed(
    schema: Schema, method: Method, previous: Method | None, known: object
) -> Iterator[Violation]:
    broken = list(_broken(schema, method, previous))
    allowed = set()
    for directive in _DIRECTIVE.findall(method.comment):
        found = _ALLOWANCE.fullmatch(" ".join(directive.split()))
        if found is None:
            yield _at(
                method,
                "lro-grpc",
                f"{directive.splitlines()[0]!r} is not understood; write"
                " 'lro-grpc: allow D6 because …', with the rule and the reason",
            )
        else:
            allowed |= set(found["rules"].split(", "))
    for rule in sorted(allowed - {one.rule for one in broken}):
        if rule != "D5" or known:  # whether it is broken is known by comparison only
            yield _at(
                method, "lro-grpc", f"it allows {rule}, which it does not break; leave that out"
            )
    for violation in broken:
        if violation.rule not in allowed or not violation.may_be_allowed:
            yield violation


def _broken(schema: Schema, method: Method, previous: Method | None) -> Iterator[Violation]:
    info = method.info
    returns_operation = method.output.full_name == OPERATION
    if info is None and returns_operation and method.name not in _OWN_METHODS:
        yield _at(
            method,
            "D7" if _BATCH.fullmatch(method.name) else "D1",
            "it returns an Operation and does not say of what; add option"
            ' (google.longrunning.operation_info) = {response_type: "…" metadata_type: "…"};',
        )
    if info is None:
        return
    if not returns_operation:
        yield _at(
            method,
            "D1",
            f"it has operation_info and returns {method.output.full_name}; have it return"
            f" {OPERATION}, or leave operation_info out",
            line=info.line,
            may_be_allowed=False,
        )
        return
    if method.streams:
        yield _at(method, "S2", "it streams; an operation is one response", may_be_allowed=False)
    yield from _unnamed(method, info)
    yield from _unseen(schema, method, "response_type", info.response_type, info.response, info)
    yield from _unseen(schema, method, "metadata_type", info.metadata_type, info.metadata, info)
    if info.response is not None:
        yield from _wrong_response(schema, method, info.response, info.line)
    if info.metadata is not None:
        yield from _wrong_metadata(method, info.metadata, info.line)
    if previous is not None and previous.info is not None:
        yield from _changed(method, info, previous.info)


def _unnamed(method: Method, info: OperationInfo) -> Iterator[Violation]:
    missing = [
        f'{field}: "…"' for field in ("response_type", "metadata_type") if not getattr(info, field)
    ]
    if missing:
        rule = "D7" if _BATCH.fullmatch(method.name) else "D1"
        yield _at(method, rule, f"its operation_info lacks {' '.join(missing)}", line=info.line)


def _unseen(
    schema: Schema,
    method: Method,
    field: str,
    name: str,
    message: MessageType | None,
    info: OperationInfo,
) -> Iterator[Violation]:
    if name and message is None:
        yield _at(
            method,
            "D2",
            f"its {field} {name!r} is no message that this file can see; correct the name, or"
            " import the file that declares it",
            line=info.line,
            may_be_allowed=False,
        )
    if message is None:
        return
    if message.file not in schema.imports(method.file):
        yield _at(
            method,
            "D2",
            f"its {field} {name!r} is declared in a file that this one does not import itself;"
            f' add import "{message.file}";',
            line=info.line,
        )
    if message.package != method.package and name.lstrip(".") != message.full_name:
        yield _at(
            method,
            "D2",
            f"its {field} {name!r} is of another package; write {message.full_name!r}",
            line=info.line,
        )


def _wrong_response(
    schema: Schema, method: Method, response: MessageType, line: int
) -> Iterator[Violation]:
    is_empty = response.full_name == EMPTY
    if is_empty and not _ANY_DELETE.fullmatch(method.name):
        yield _at(
            method,
            "D3",
            f"its response_type is {EMPTY}, to which nothing can be added later; declare a"
            f" {method.name}Response",
            line=line,
        )
        return
    name = response.path[-1]
    resource = _resource(schema, method, _RESOURCE)
    deleted = _resource(schema, method, _DELETE)
    if resource and name != resource:
        expected = resource
    elif deleted and not is_empty and name != deleted:
        expected = f"{EMPTY}, or {deleted} if it can be undeleted"
    elif _BATCH.fullmatch(method.name) and not is_empty and name != f"{method.name}Response":
        expected = f"{method.name}Response"
    else:
        return
    yield _at(
        method,
        "D4",
        f"its response_type is {response.full_name}; a standard method has its standard response,"
        f" here {expected}",
        line=line,
    )


def _resource(schema: Schema, method: Method, verb: re.Pattern[str]) -> str | None:
    """Returns the name of the resource of a standard method; None of any other method."""
    found = verb.fullmatch(method.name)
    message = schema.resolve(found[1], method.package) if found else None
    return message.path[-1] if message is not None and message.has_name else None


def _wrong_metadata(method: Method, metadata: MessageType, line: int) -> Iterator[Violation]:
    if metadata.full_name == EMPTY:
        yield _at(
            method,
            "D3",
            f"its metadata_type is {EMPTY}, to which nothing can be added later; declare a"
            f" {method.name}Metadata, or take lro.v1.OperationMetadata",
            line=line,
        )
    elif _BATCH.fullmatch(method.name) and not _BATCH_METADATA.fullmatch(metadata.path[-1]):
        yield _at(
            method,
            "D6",
            f"its metadata_type is {metadata.full_name}; that of a batch is named"
            f" {method.name}OperationMetadata, or Batch…OperationMetadata for several methods",
            line=line,
        )


def _changed(method: Method, info: OperationInfo, previous: OperationInfo) -> Iterator[Violation]:
    for field, now, before in (
        ("response_type", _full(info.response, info.response_type), previous.response),
        ("metadata_type", _full(info.metadata, info.metadata_type), previous.metadata),
    ):
        was = _full(before, getattr(previous, field))
        if was and now != was:
            yield _at(
                method,
                "D5",
                f"its {field} was {was} and is {now} now, which breaks its clients; put it back,"
                " or declare another method",
                line=info.line,
            )


def _full(message: MessageType | None, name: str) -> str:
    return message.full_name if message else name


def _at(
    method: Method,
    rule: str,
    message: str,
    *,
    line: int | None = None,
    may_be_allowed: bool = True,
) -> Violation:
    text = f"{method.name}: {message}"
    return Violation(method.file, method.line if line is None else line, rule, text, may_be_allowed)
