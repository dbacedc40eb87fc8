"""The text of a ``…_lro.py`` module. It declares; the behavior is that of ``lro_grpc.stubs``."""

from __future__ import annotations

import keyword
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from lro_grpc._codegen.rules import without_directives
from lro_grpc._codegen.schema import MessageType, Method, Service

_WIDTH = 100

_RESERVED = (
    "operations",  # of the runtime's clients
    *("Any", "AsyncIterator", "Iterator", "grpc", "lro_grpc", "stubs", "timedelta"),
)
"""Names that no method gets: a type checker looks for the names of types in the class first."""


def output_file(file: str) -> str:
    """Returns the path of the module that is written for a proto."""
    return module_of(file, "_lro").replace(".", "/") + ".py"


def render(file: str, services: Iterable[Service]) -> str:
    """Returns the module for a proto.

    Args:
        file: The proto's name.
        services: Those of its services that have long-running methods.
    """
    chosen = list(services)
    imports = _Imports(file, chosen)
    names = _Names(imports.names)
    parts = [part for one in chosen for part in _Rendering(one, imports, names).parts()]
    parts.insert(0, _head(file, chosen, imports))
    return "\n\n\n".join(part.rstrip("\n") for part in parts) + "\n"


class _Names:
    """A scope of names: each is given once, and is allowed in Python."""

    def __init__(self, taken: Collection[str] = ()) -> None:
        self._taken = set(taken)

    def new(self, wanted: str) -> str:
        """Returns the wanted name, with underscores appended until it is free."""
        while wanted in self._taken or _is_special(wanted):
            wanted += "_"
        self._taken.add(wanted)
        return wanted


class _Imports:
    """The modules of the messages that a file's services name."""

    def __init__(self, file: str, services: Iterable[Service]) -> None:
        used = {
            module_of(message.file, "_pb2")
            for service in services
            for method in service.methods
            for message in (method.request, *(method.operation_types or (method.output,)))
        }
        own = module_of(file, "_pb2")
        modules = sorted(used | {own})
        last = [module.rpartition(".")[2] for module in modules]
        names = _Names()
        self._names = {
            module: names.new(name if last.count(name) == 1 else module.replace(".", "_"))
            for module, name in zip(modules, last, strict=True)
        }
        self._unused = "" if own in used else self._names[own]
        """The file's own module, if it is imported for its descriptor alone."""
        self.has_any = False
        """Whether an annotation is ``Any``."""

    @property
    def names(self) -> Collection[str]:
        """The modules' names in the code."""
        return self._names.values()

    def statements(self) -> list[str]:
        """Returns the import statements."""
        found = []
        together: dict[str, list[str]] = {}
        for module, name in self._names.items():
            package, _, last = module.rpartition(".")
            if _has_special(module):
                continue
            if package and name == last:
                together.setdefault(package, []).append(name)
            else:
                found.append(
                    f"from {package} import {last} as {name}" if package else f"import {name}"
                )
        for package, names in together.items():
            line = f"from {package} import {', '.join(names)}"
            if len(line) > _WIDTH:
                line = "\n".join(
                    [f"from {package} import (", *(f"    {one}," for one in names), ")"]
                )
            found.append(line)
        return [f"{one}  # noqa: F401" if self._unused in one.split() else one for one in found]

    def assignments(self) -> list[str]:
        """Returns assignments for the modules that an import statement cannot name."""
        return [
            f'{name} = importlib.import_module("{module}")'
            for module, name in self._names.items()
            if _has_special(module)
        ]

    def annotation(self, message: MessageType) -> str:
        """Returns a message's class as an annotation names it."""
        if _has_special(".".join((module_of(message.file, "_pb2"), *message.path))):
            self.has_any = True
            return "Any"
        return ".".join((self._name(message), *message.path))

    def expression(self, message: MessageType) -> str:
        """Returns a message's class as code names it."""
        found = self._name(message)
        for part in message.path:
            is_special = _is_special(part)
            found = f'getattr({found}, "{part}")' if is_special else f"{found}.{part}"
        return found

    def _name(self, message: MessageType) -> str:
        return self._names[module_of(message.file, "_pb2")]


@dataclass(frozen=True, slots=True)
class _Mode:
    """The sync or the async mode of generated classes: the words that differ."""

    prefix: str
    """The prefix of the classes' names."""
    define: str
    """The beginning of a method that waits."""
    runs_on: str
    """The word for it in the class's docstring."""


_SYNC = _Mode("", "def", "threads")
_ASYNC = _Mode("Async", "async def", "asyncio")


class _Type:
    """A type as an annotation names it, such as ``Iterator[reports_pb2.Page]``."""

    def __init__(self, name: str, *arguments: str) -> None:
        self._name = name
        self._arguments = arguments

    def lines(self, before: str, after: str) -> list[str]:
        """Returns the lines of an annotation, between the text before and after it."""
        if not self._arguments:
            return [f"{before}{self._name}{after}"]
        return _bracketed(f"{before}{self._name}[", self._arguments, f"]{after}")


class _Rendering:
    """One service's part of a module."""

    def __init__(self, service: Service, imports: _Imports, names: _Names) -> None:
        self._service = service
        self._imports = imports
        self._table = names.new(f"_{service.name}")
        self._clients = {
            mode: names.new(f"{mode.prefix}{service.name}Client") for mode in (_SYNC, _ASYNC)
        }
        self._servicers = {
            mode: names.new(f"{mode.prefix}{service.name}Servicer") for mode in (_SYNC, _ASYNC)
        }
        self._adder = names.new(f"add_{service.name}Servicer_to_server")
        # The prepare hooks get their names first, for the runtime finds them by those.
        long_running = [method for method in service.methods if method.operation_types]
        hooks = [_hook(_public(method.name)) for method in long_running]
        members = _Names((*_RESERVED, *imports.names, *hooks))
        self._names = {method.name: members.new(_public(method.name)) for method in service.methods}

    def parts(self) -> list[str]:
        """Returns the definitions, in the module's order."""
        return [
            self._rpcs(),
            *(self._client(mode) for mode in (_SYNC, _ASYNC)),
            *(self._servicer(mode) for mode in (_SYNC, _ASYNC)),
            self._add(),
        ]

    def _rpcs(self) -> str:
        lines = [f"class {self._table}:", f'    """The methods of {self._service.full_name}."""']
        for method in self._service.methods:
            types = [method.request, *(method.operation_types or [method.output])]
            lines += [
                "",
                f"    {self._names[method.name]} = stubs.{_kind(method)}(",
                f'        "{method.path}",',
                *(f"        {self._imports.expression(one)}," for one in types),
                "    )",
            ]
        return "\n".join(lines)

    def _client(self, mode: _Mode) -> str:
        summary = f"Calls {self._service.full_name}, for {mode.runs_on}."
        base = f"stubs.{mode.prefix}ServiceClient"
        lines = [
            f"class {self._clients[mode]}({base}):",
            *_docstring(summary, self._service.comment, indent=4),
        ]
        for method in self._service.methods:
            lines += ["", *self._call(method, mode)]
        return "\n".join(lines)

    def _call(self, method: Method, mode: _Mode) -> list[str]:
        request = self._imports.annotation(method.request)
        define, argument, argument_type, default = "def", "request", _Type(request), ""
        if method.operation_types:
            define = mode.define
            base_method = "start"
            types = map(self._imports.annotation, method.operation_types)
            answer = _Type(f"lro_grpc.{mode.prefix}OperationFuture", *types)
        else:
            base_method = _shape(method)
            answer = self._answer(method, mode)
        if method.client_streaming:
            argument = "requests"
            argument_type = _Type("Iterator", request)
            if mode is _ASYNC:
                argument_type, default = _Type("stubs.AsyncRequests", request), " = None"
        rpc = f"{self._table}.{self._names[method.name]}"
        awaiting = "await " if define == "async def" else ""
        return [
            f"    {define} {self._names[method.name]}(",
            "        self,",
            *argument_type.lines(f"        {argument}: ", f"{default},"),
            "        *,",
            "        timeout: timedelta | float | None = None,",
            "        metadata: stubs.CallMetadata = (),",
            *answer.lines("    ) -> ", ":"),
            *_docstring(method.comment or f"Calls {method.path}.", indent=8),
            *_call_lines(
                f"        return {awaiting}self._{base_method}",
                rpc,
                argument,
                "timeout",
                "metadata",
            ),
        ]

    def _answer(self, method: Method, mode: _Mode) -> _Type:
        """Returns the type of a plain method's call: the one of gRPC's own stub."""
        request, output = map(self._imports.annotation, (method.request, method.output))
        if mode is _ASYNC:
            return _Type(f"grpc.aio.{_kind(method)}Call", request, output)
        return _Type("stubs.CallIterator", output) if method.server_streaming else _Type(output)

    def _servicer(self, mode: _Mode) -> str:
        summary = f"Serves {self._service.full_name}, on {mode.runs_on}."
        lines = [
            f"class {self._servicers[mode]}(stubs.{mode.prefix}Servicer):",
            *_docstring(summary, self._service.comment, indent=4),
        ]
        for method in self._service.methods:
            lines += ["", *self._serve(method, mode)]
            if method.operation_types:
                lines += ["", *self._prepare(method, mode)]
        return "\n".join(lines)

    def _serve(self, method: Method, mode: _Mode) -> list[str]:
        request = self._imports.annotation(method.request)
        define, argument, argument_type = mode.define, "request", _Type(request)
        if method.operation_types:
            output, metadata = map(self._imports.annotation, method.operation_types)
            operation = _Type(f"lro_grpc.{mode.prefix}OperationContext", metadata)
            context = operation.lines("        op: ", ",")
        else:
            output = self._imports.annotation(method.output)
            context = self._context(mode, request, output)
        answer = _Type(output)
        if method.client_streaming:
            argument, argument_type = "requests", _Type(f"{mode.prefix}Iterator", request)
        if method.server_streaming:
            answer = _Type(f"{mode.prefix}Iterator", output)
            define = "def"  # an async generator is called, and not awaited
        return [
            f"    {define} {self._names[method.name]}(",
            "        self,",
            *argument_type.lines(f"        {argument}: ", ","),
            *context,
            *answer.lines("    ) -> ", ":"),
            *_docstring(method.comment or f"Serves {method.path}.", indent=8),
            "        raise NotImplementedError",
        ]

    def _prepare(self, method: Method, mode: _Mode) -> list[str]:
        request = self._imports.annotation(method.request)
        return [
            f"    {mode.define} {_hook(self._names[method.name])}(",
            "        self,",
            f"        request: {request},",
            f"        context: lro_grpc.{mode.prefix}PrepareContext,",
            "    ) -> lro_grpc.Prepared | None:",
            f'        """Refuses a request of {method.name}, or names its target."""',
            "        return None",
        ]

    def _context(self, mode: _Mode, request: str, output: str) -> list[str]:
        if mode is _SYNC:
            return ["        context: grpc.ServicerContext,"]
        return _Type("grpc.aio.ServicerContext", request, output).lines("        context: ", ",")

    def _add(self) -> str:
        servicer = f"    servicer: {' | '.join(self._servicers.values())},"
        if len(servicer) > _WIDTH:
            servicer = servicer.replace(" | ", "\n    | ")
        return "\n".join(
            [
                f"def {self._adder}(",
                servicer,
                "    server: grpc.Server | grpc.aio.Server,",
                ") -> None:",
                '    """Adds a servicer to the object that ``Operations.attach`` returns."""',
                *_call_lines(
                    "    stubs.add_servicer",
                    "servicer",
                    "server",
                    self._table,
                    *self._servicers.values(),
                ),
            ]
        )


def _head(file: str, services: list[Service], imports: _Imports) -> str:
    streams = any(method.streams for service in services for method in service.methods)
    assignments = imports.assignments()
    statements = imports.statements()
    google = [one for one in statements if one.startswith("from google.")]
    ours = ["import lro_grpc", "from lro_grpc import stubs"]
    ours += [one for one in statements if one not in google]
    blocks = [
        [
            f'"""Typed clients and servicers for {file}.',
            "",
            "Generated by protoc-gen-lro-grpc. Do not edit.",
            '"""',
        ],
        ["from __future__ import annotations"],
        [
            *(["import importlib"] if assignments else []),
            *(["from collections.abc import AsyncIterator, Iterator"] if streams else []),
            "from datetime import timedelta",
            *(["from typing import Any"] if imports.has_any else []),
        ],
        ["import grpc", "import grpc.aio", *sorted(google)],
        sorted(ours, key=lambda one: (one.startswith("from"), one.split()[1::2])),
        assignments,
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _has_special(path: str) -> bool:
    return any(map(_is_special, path.split(".")))


def _is_special(name: str) -> bool:
    """Tells whether code within a class cannot say a name: a keyword, or one that is mangled."""
    return keyword.iskeyword(name) or (name.startswith("__") and not name.endswith("__"))


def _public(name: str) -> str:
    """Returns a method's name in Python, where those of the runtime begin with an underscore."""
    return f"rpc{name}" if name.startswith("_") else name


def _hook(name: str) -> str:
    """Returns the name of a method's prepare hook."""
    return f"prepare_{name}"


def _kind(method: Method) -> str:
    if method.operation_types:
        return "LongRunning"
    return "".join(part.capitalize() for part in _shape(method).split("_"))


def _shape(method: Method) -> str:
    words = {False: "unary", True: "stream"}
    return f"{words[method.client_streaming]}_{words[method.server_streaming]}"


def module_of(file: str, suffix: str) -> str:
    """Returns the module that protoc's Python generator writes for a proto, by its suffix."""
    stem = file.removesuffix(".protodevel").removesuffix(".proto")
    return stem.replace("-", "_").replace("/", ".") + suffix


def _docstring(*paragraphs: str, indent: int) -> list[str]:
    text = "\n\n".join(filter(None, map(without_directives, paragraphs)))
    text = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    text = "".join(map(_visible, text))
    text += " " if text.endswith('"') else ""
    lines = text.split("\n")
    lines = [f'"""{lines[0]}', *lines[1:]]
    lines = [*lines, '"""'] if len(lines) > 1 else [f'{lines[0]}"""']
    return [f"{' ' * indent}{line}" if line else "" for line in lines]


def _visible(character: str) -> str:
    """Returns a character of a docstring, escaped if it would show as another, or as none."""
    if character.isprintable() or character in "\n\t":
        return character
    return character.encode("unicode_escape").decode()


def _call_lines(function: str, *arguments: str) -> list[str]:
    """Returns the lines of a call."""
    return _bracketed(f"{function}(", arguments, ")")


def _bracketed(begin: str, items: tuple[str, ...], end: str) -> list[str]:
    """Returns items in brackets, in as many lines as they take."""
    margin = " " * (len(begin) - len(begin.lstrip()))
    joined = ", ".join(items)
    if len(begin + joined + end) <= _WIDTH:
        return [begin + joined + end]
    inner = [f"{margin}    {joined}"]
    if len(inner[0]) > _WIDTH:
        inner = [f"{margin}    {one}," for one in items]
    return [begin, *inner, f"{margin}{end}"]
