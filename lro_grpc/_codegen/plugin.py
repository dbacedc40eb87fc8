"""``protoc-gen-lro-grpc``: the protoc plugin that writes typed clients and servicers.

It needs nothing but protobuf and googleapis-common-protos, and loads nothing of this project but
its neighbours here, so that ``protos/generate.py`` can run it before there are any stubs.
"""

# ruff: noqa: T201  (a command prints)

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.compiler import plugin_pb2
from google.protobuf.message import DecodeError

from lro_grpc._codegen.refusals import uncompilable, unnameable, unreadable
from lro_grpc._codegen.render import output_file, render
from lro_grpc._codegen.rules import RULES, violations
from lro_grpc._codegen.schema import IncompleteError, Schema

_HELP = """\
A protoc plugin. For each proto with long-running methods (those with
google.longrunning.operation_info) it writes <file>_lro.py: typed clients, whose
long-running methods return futures, and typed servicers to derive a service from.

  lro protoc --python_out=. --pyi_out=. --lro-grpc_out=. reports.proto

or with any protoc, or in buf.gen.yaml:

  plugins:
    - local: protoc-gen-lro-grpc
      out: .

options (--lro-grpc_opt=OPTION, or opt: in buf.gen.yaml):
  against=FILE  a descriptor set of the last release, made with
                protoc --include_imports --descriptor_set_out=FILE;
                a changed response_type or metadata_type is an error (D5)
  allow=D4,D6   for protos that cannot be edited, such as a vendor's: what breaks
                one of these rules is a warning, and no error

It refuses protos that break a rule of the AIPs for such methods (D1 to D7), and
says where and what to do. A method with a reason to break one says so in its
comment, in a paragraph of its own:

  // lro-grpc: allow D6 because its metadata is that of every other method.
"""


class OptionError(Exception):
    """The plugin's options are wrong."""


class RefusedProtosError(Exception):
    """Nothing is written for the protos.

    Args:
        lines: Its heading, and a line for each reason.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        super().__init__("\n".join(lines))


def main() -> int:
    """Reads a request from stdin and writes the response to stdout, as protoc wants it.

    Returns:
        The exit code. It is 0 for wrong protos, too: their errors are in the response.
    """
    parser = argparse.ArgumentParser(
        prog="protoc-gen-lro-grpc",
        usage="protoc --lro-grpc_out=DIRECTORY [--lro-grpc_opt=OPTION] PROTO…",
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    if sys.stdin.isatty():
        print("protoc runs this, with a request on stdin; try --help", file=sys.stderr)
        return 2
    try:
        request = plugin_pb2.CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    except DecodeError as error:
        print(f"stdin is no request of protoc ({error}); try --help", file=sys.stderr)
        return 2
    sys.stdout.buffer.write(respond(request).SerializeToString(deterministic=True))
    return 0


@dataclass(frozen=True, slots=True)
class PluginOptions:
    """The plugin's options."""

    against: Schema | None = None
    """The protos of the last release."""
    allow: frozenset[str] = frozenset()
    """The rules of which a violation is a warning."""


def respond(request: plugin_pb2.CodeGeneratorRequest) -> plugin_pb2.CodeGeneratorResponse:
    """Returns the modules for the protos of a request, or their errors; warnings go to stderr."""
    response = plugin_pb2.CodeGeneratorResponse(
        supported_features=(
            plugin_pb2.CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
            | plugin_pb2.CodeGeneratorResponse.FEATURE_SUPPORTS_EDITIONS
        ),
        minimum_edition=descriptor_pb2.EDITION_PROTO2,
        maximum_edition=descriptor_pb2.EDITION_2024,
    )
    try:
        modules = _modules(request, _options(request.parameter))
    except (IncompleteError, OptionError, RefusedProtosError) as error:
        response.error = str(error)
        return response
    for file, text in modules.items():
        response.file.add(name=output_file(file), content=text)
    return response


def _modules(request: plugin_pb2.CodeGeneratorRequest, options: PluginOptions) -> dict[str, str]:
    """Returns the texts of the modules for the protos of a request.

    Raises:
        RefusedProtosError: If there is none for one of them.
    """
    chosen = frozenset(request.file_to_generate)
    _refuse(text for one in request.proto_file if one.name in chosen for text in unreadable(one))
    schema = Schema(request.proto_file)
    errors = []
    for one in violations(schema, request.file_to_generate, against=options.against):
        if one.rule in options.allow and one.may_be_allowed:
            print(f"{one} (a warning: allowed)", file=sys.stderr)
        else:
            errors.append(str(one))
    if errors:
        raise RefusedProtosError(["the protos break rules for long-running methods", *errors])
    services = {
        file: [service for service in schema.services(file) if service.is_long_running]
        for file in request.file_to_generate
    }
    services = {file: found for file, found in services.items() if found}
    _refuse(text for file, found in services.items() for text in unnameable(file, found))
    modules = {file: render(file, found) for file, found in services.items()}
    _refuse(text for file, module in modules.items() for text in uncompilable(file, module))
    return modules


def _refuse(reasons: Iterable[str]) -> None:
    """Refuses the protos if there is a reason to."""
    found = list(reasons)
    if found:
        raise RefusedProtosError(["no Python can be written for the protos", *found])


def _options(parameter: str) -> PluginOptions:
    """Reads the options, which protoc joins with commas; so are the rules of ``allow``."""
    found = PluginOptions()
    name = ""
    for part in filter(None, parameter.split(",")):
        start, equals, value = part.partition("=")
        if equals:
            name = start
        else:
            value = part
        match name:
            case "against" if equals and value:
                found = replace(found, against=_read(Path(value)))
            case "allow" if value in RULES:
                found = replace(found, allow=found.allow | {value})
            case "allow":
                raise OptionError(
                    f"allow={value}: {value!r} is none of the rules {', '.join(sorted(RULES))}"
                )
            case _:
                raise OptionError(
                    f"the option {part!r} is not known; there are against=FILE and allow=RULE,…"
                )
    return found


def _read(path: Path) -> Schema:
    try:
        files = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file
    except (OSError, DecodeError) as cause:
        raise OptionError(
            f"against={path} cannot be read: {cause}; write it with protoc --descriptor_set_out"
        ) from cause
    missing = {name for file in files for name in file.dependency} - {file.name for file in files}
    if missing:
        raise OptionError(
            f"against={path} lacks {', '.join(sorted(missing))}; write it with --include_imports"
        )
    return Schema(files)


if __name__ == "__main__":
    sys.exit(main())
