"""The tables of the command ``lro``: what it can do, and the options of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from lro_grpc._cli import listed as listed_names
from lro_grpc._cli.app import app
from lro_grpc._cli.loaded_later import loaded
from tables.markdown import table


def commands() -> Iterator[tuple[str, Any]]:
    """Lists the commands by what one types, those below ``db`` too."""
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            for inner, one in command.commands.items():
                yield f"{name} {inner}", loaded(one)
        else:
            yield name, loaded(command)


def overview() -> str:
    """Returns the table of all commands."""
    return table(
        ["command", "does"],
        ([f"`{_usage(name, command)}`", _help(command.help)] for name, command in commands()),
    )


def _usage(name: str, command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    return " ".join(["lro", name, *(_argument(one) for one in arguments)])


def _argument(one: Any) -> str:
    shown = (one.metavar or one.name.upper()).strip("[]").rstrip(".…")
    shown += "…" if one.nargs == -1 else ""
    return shown if one.required else f"[{shown}]"


def options() -> str:
    """Returns a table of options for each command, under its name."""
    shared = _shared()
    parts = ["### Options of more than one command", _table(shared.values())]
    for name, command in commands():
        own = [one for one in _options(command) if _key(one) not in shared]
        if own:
            parts += [f"### `lro {name}`", _table(own)]
    return "\n\n".join(parts)


def _shared() -> dict[str, Any]:
    """Returns the options that at least three commands have in the same words."""
    seen: dict[str, list[Any]] = {}
    for _, command in commands():
        for one in _options(command):
            seen.setdefault(_key(one), []).append(one)
    return {key: found[0] for key, found in seen.items() if len(found) > 2}


def _key(one: Any) -> str:
    return f"{one.opts} {one.help}"


def _options(command: Any) -> list[Any]:
    return [one for one in command.params if one.param_type_name == "option" and not one.hidden]


def _table(options: Any) -> str:
    rows = []
    for one in options:
        names = ", ".join(f"`{name}`" for name in (*one.opts, *one.secondary_opts))
        variable = f" Or `{one.envvar}`." if isinstance(one.envvar, str) else ""
        rows.append([names, _help(one.help) + variable])
    return table(["option", "meaning"], rows)


def listed() -> str:
    """Returns the list by which ``lro`` completes names of commands and options; see there."""
    return json.dumps(_listed(typer.main.get_command(app)), indent=1) + "\n"


def _listed(command: Any) -> dict[str, Any]:
    if hasattr(command, "commands"):
        inner = {name: _listed(one) for name, one in command.commands.items()}
        return {"help": command.help, "commands": inner}
    alone = loaded(command)
    params = alone.get_params(alone.context_class(alone))
    return {
        "help": command.short_help,
        "options": [
            {
                "names": [*one.opts, *one.secondary_opts],
                "help": " ".join(one.help.split()),
                "many": one.multiple,
            }
            for one in params
            if one.param_type_name == "option" and not one.hidden
        ],
    }


def _help(text: str | None) -> str:
    shown = " ".join((text or "").split())
    return shown.replace("|", r"\|").replace("<", r"\<").replace("*", r"\*").replace("_", r"\_")


BLOCKS: Mapping[str, Callable[[], str]] = {"commands": overview, "command_options": options}
"""The blocks on the command, by name."""

FILES: Mapping[Path, Callable[[], str]] = {listed_names.LIST: listed}
"""The files of the package that are written, too."""
