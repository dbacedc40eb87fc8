"""The text of a ``…_lro.py``: declarations alone, for what they do is in ``lro_grpc.stubs``."""

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
"""Names that no method has: a type checker looks for those of types in the class first."""


def output_file(file: str) -> str:
    """Returns the path of the module that is written for a proto."""
    return _module_of(file, "_lro").replace(".", "/") + ".py"


def render(file: str, services: Iterable[Service]) -> str:
    """Returns the module for a proto.

    Args:
        file: The proto's name.
        services: Those of its services that have long-running methods.
    """
    chosen = list(services)
    imports = _Imports(file, chosen)
    names = _Names()
    parts = [_head(file, chosen, imports)]
    for service in chosen:
        parts += _Rendering(service, imports, names).parts()
    return "\n\n\n".join(part.rstrip("\n") for part in parts) + "\n"


class _Names:
    """Gives each thing a name of its own, that Python allows."""

    def __init__(self, taken: Collection[str] = ()) -> None:
        self._taken = set(taken)

    def new(self, wanted: str) -> str:
        """Returns a name: the one that is wanted, or with underscores behind it."""
        while wanted in self._taken or keyword.iskeyword(wanted):
            wanted += "_"
        self._taken.add(wanted)
        return wanted


class _Imports:
    """The modules of the messages that a file's services name."""

    def __init__(self, file: str, services: Iterable[Service]) -> None:
        used = {
            _module_of(message.file, "_pb2")
            for service in services
            for method in service.methods
            for message in (method.request, *(method.operation_types or (method.output,)))
        }
        own = _module_of(file, "_pb2")
        modules = sorted(used | {own})
        last = [module.rpartition(".")[2] for module in modules]
        names = _Names()
        self._names = {
            module: names.new(name if last.count(name) == 1 else module.replace(".", "_"))
            for module, name in zip(modules, last, strict=True)
        }
        self._unused = "" if own in used else self._names[own]
        """The file's own module, if only its descriptor has to be there."""

    @property
    def names(self) -> Collection[str]:
        """What the modules are called."""
        return self._names.values()

    def statements(self) -> list[str]:
        """Returns the import statements."""
        found = []
        together: dict[str, list[str]] = {}
        for module, name in self._names.items():
            package, _, last = module.rpartition(".")
            if _has_keyword(module):
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
        """Returns what takes the place of statements that Python would not understand."""
        return [
            f'{name} = importlib.import_module("{module}")'
            for module, name in self._names.items()
            if _has_keyword(module)
        ]

    def annotation(self, message: MessageType) -> str:
        """Returns what a message's class is called in an annotation."""
        if _has_keyword(".".join((_module_of(message.file, "_pb2"), *message.path))):
            return "Any"
        return ".".join((self._name(message), *message.path))

    def expression(self, message: MessageType) -> str:
        """Returns what a message's class is called in code."""
        found = self._name(message)
        for part in message.path:
            is_keyword = keyword.iskeyword(part)
            found = f'getattr({found}, "{part}")' if is_keyword else f"{found}.{part}"
        return found

    def _name(self, message: MessageType) -> str:
        return self._names[_module_of(message.file, "_pb2")]


@dataclass(frozen=True, slots=True)
class _Stack:
    """What differs between threads and asyncio."""

    prefix: str
    """Of the classes' names."""
    define: str
    """Begins the definition of what waits."""
    where: str
    """Says what the class is for."""


_SYNC = _Stack("", "def", "threads")
_ASYNC = _Stack("Async", "async def", "asyncio")


class _Type:
    """A type as an annotation names it, such as ``Iterator[reports_pb2.Page]``."""

    def __init__(self, name: str, *arguments: str) -> None:
        self._name = name
        self._arguments = arguments

    def lines(self, before: str, after: str) -> list[str]:
        """Returns the lines of an annotation, with what stands around it."""
        if not self._arguments:
            return [f"{before}{self._name}{after}"]
        return _broken(f"{before}{self._name}[", self._arguments, f"]{after}")


class _Rendering:
    """One service's part of a module."""

    def __init__(self, service: Service, imports: _Imports, names: _Names) -> None:
        self._service = service
        self._imports = imports
        self._table = names.new(f"_{service.name}")
        self._clients = {
            stack: names.new(f"{stack.prefix}{service.name}Client") for stack in (_SYNC, _ASYNC)
        }
        self._servicers = {
            stack: names.new(f"{stack.prefix}{service.name}Servicer") for stack in (_SYNC, _ASYNC)
        }
        self._adder = names.new(f"add_{service.name}Servicer_to_server")
        # The hooks come first: the runtime finds them by the name of their method.
        long_running = [method for method in service.methods if method.operation_types]
        hooks = [_hook(_public(method.name)) for method in long_running]
        members = _Names((*_RESERVED, *imports.names, *hooks))
        self._names = {method.name: members.new(_public(method.name)) for method in service.methods}

    def parts(self) -> list[str]:
        """Returns the definitions, in the module's order."""
        return [
            self._rpcs(),
            *(self._client(stack) for stack in (_SYNC, _ASYNC)),
            *(self._servicer(stack) for stack in (_SYNC, _ASYNC)),
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

    def _client(self, stack: _Stack) -> str:
        about = f"Calls {self._service.full_name}, for {stack.where}."
        base = f"stubs.{stack.prefix}ServiceClient"
        lines = [
            f"class {self._clients[stack]}({base}):",
            *_docstring(about, self._service.comment, indent=4),
        ]
        for method in self._service.methods:
            lines += ["", *self._call(method, stack)]
        return "\n".join(lines)

    def _call(self, method: Method, stack: _Stack) -> list[str]:
        request = self._imports.annotation(method.request)
        define, argument, taken, default = "def", "request", _Type(request), ""
        if method.operation_types:
            define = stack.define
            how = "start"
            types = map(self._imports.annotation, method.operation_types)
            answer = _Type(f"lro_grpc.{stack.prefix}OperationFuture", *types)
        else:
            how = _shape(method)
            answer = self._answer(method, stack)
        if method.client_streaming:
            argument = "requests"
            taken = _Type("Iterator", request)
            if stack is _ASYNC:
                taken, default = _Type("stubs.AsyncRequests", request), " = None"
        rpc = f"{self._table}.{self._names[method.name]}"
        awaiting = "await " if define == "async def" else ""
        return [
            f"    {define} {self._names[method.name]}(",
            "        self,",
            *taken.lines(f"        {argument}: ", f"{default},"),
            "        *,",
            "        timeout: timedelta | None = None,",
            "        metadata: stubs.CallMetadata = (),",
            *answer.lines("    ) -> ", ":"),
            *_docstring(method.comment or f"Calls {method.path}.", indent=8),
            *_called(f"        return {awaiting}self._{how}", rpc, argument, "timeout", "metadata"),
        ]

    def _answer(self, method: Method, stack: _Stack) -> _Type:
        """Returns what a call of a plain method gives: the same as that of gRPC's own stub."""
        request, output = map(self._imports.annotation, (method.request, method.output))
        if stack is _ASYNC:
            return _Type(f"grpc.aio.{_kind(method)}Call", request, output)
        return _Type("stubs.CallIterator", output) if method.server_streaming else _Type(output)

    def _servicer(self, stack: _Stack) -> str:
        about = f"Serves {self._service.full_name}, on {stack.where}."
        lines = [
            f"class {self._servicers[stack]}(stubs.{stack.prefix}Servicer):",
            *_docstring(about, self._service.comment, indent=4),
        ]
        for method in self._service.methods:
            lines += ["", *self._serve(method, stack)]
            if method.operation_types:
                lines += ["", *self._prepare(method, stack)]
        return "\n".join(lines)

    def _serve(self, method: Method, stack: _Stack) -> list[str]:
        request = self._imports.annotation(method.request)
        define, argument, taken = stack.define, "request", _Type(request)
        if method.operation_types:
            output, metadata = map(self._imports.annotation, method.operation_types)
            operation = _Type(f"lro_grpc.{stack.prefix}OperationContext", metadata)
            context = operation.lines("        op: ", ",")
        else:
            output = self._imports.annotation(method.output)
            context = self._context(stack, request, output)
        answer = _Type(output)
        if method.client_streaming:
            argument, taken = "requests", _Type(f"{stack.prefix}Iterator", request)
        if method.server_streaming:
            answer = _Type(f"{stack.prefix}Iterator", output)
            define = "def"  # an async generator is called, and not awaited
        return [
            f"    {define} {self._names[method.name]}(",
            "        self,",
            *taken.lines(f"        {argument}: ", ","),
            *context,
            *answer.lines("    ) -> ", ":"),
            *_docstring(method.comment or f"Serves {method.path}.", indent=8),
            "        raise NotImplementedError",
        ]

    def _prepare(self, method: Method, stack: _Stack) -> list[str]:
        request = self._imports.annotation(method.request)
        return [
            f"    {stack.define} {_hook(self._names[method.name])}(",
            "        self,",
            f"        request: {request},",
            *self._context(stack, request, "Any"),
            "    ) -> lro_grpc.Prepared | None:",
            f'        """Refuses a request of {method.name}, or names what it is about."""',
            "        return None",
        ]

    def _context(self, stack: _Stack, request: str, output: str) -> list[str]:
        if stack is _SYNC:
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
                '    """Adds a servicer to what ``Operations.attach`` has returned."""',
                *_called(
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
            "from typing import Any",
        ],
        ["import grpc", "import grpc.aio", *sorted(google)],
        sorted(ours, key=lambda one: (one.startswith("from"), one.split()[1::2])),
        assignments,
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _has_keyword(path: str) -> bool:
    return any(map(keyword.iskeyword, path.split(".")))


def _public(name: str) -> str:
    """Returns what a method is called; names with an underscore in front are the runtime's own."""
    return f"rpc{name}" if name.startswith("_") else name


def _hook(name: str) -> str:
    """Returns the name of what prepares a method."""
    return f"prepare_{name}"


def _kind(method: Method) -> str:
    if method.operation_types:
        return "LongRunning"
    return "".join(part.capitalize() for part in _shape(method).split("_"))


def _shape(method: Method) -> str:
    words = {False: "unary", True: "stream"}
    return f"{words[method.client_streaming]}_{words[method.server_streaming]}"


def _module_of(file: str, suffix: str) -> str:
    """Returns the module that protoc's Python generator writes for a proto, by its suffix."""
    stem = file.removesuffix(".protodevel").removesuffix(".proto")
    return stem.replace("-", "_").replace("/", ".") + suffix


def _docstring(*paragraphs: str, indent: int) -> list[str]:
    text = "\n\n".join(filter(None, map(without_directives, paragraphs)))
    text = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    text += " " if text.endswith('"') else ""
    lines = text.split("\n")
    lines = [f'"""{lines[0]}', *lines[1:]]
    lines = [*lines, '"""'] if len(lines) > 1 else [f'{lines[0]}"""']
    return [f"{' ' * indent}{line}" if line else "" for line in lines]


def _called(function: str, *arguments: str) -> list[str]:
    """Returns the lines of a call."""
    return _broken(f"{function}(", arguments, ")")


def _broken(begin: str, items: tuple[str, ...], end: str) -> list[str]:
    """Returns what stands in brackets, in as many lines as it takes."""
    margin = " " * (len(begin) - len(begin.lstrip()))
    joined = ", ".join(items)
    if len(begin + joined + end) <= _WIDTH:
        return [begin + joined + end]
    inner = [f"{margin}    {joined}"]
    if len(inner[0]) > _WIDTH:
        inner = [f"{margin}    {one}," for one in items]
    return [begin, *inner, f"{margin}{end}"]
