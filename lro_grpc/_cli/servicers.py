"""Finds the servicers that a command is to serve, or to work for: a user's, or the example's."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from lro_grpc._errors import ConfigurationError

AddServicers = Callable[[Any], object]
"""Adds servicers to a server, or to the registrar that takes its place."""


def load_servicers(service: str) -> AddServicers:
    """Returns the callable that ``MODULE:ATTRIBUTE`` names, of a module in this folder, too.

    Raises:
        ConfigurationError: If there is none.
    """
    module_name, separator, attribute = service.partition(":")
    if not (module_name and separator and attribute):
        raise ConfigurationError(f"{service!r} is not of the form MODULE:ATTRIBUTE")
    try:
        found: Any = import_here(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ModuleNotFoundError, AttributeError) as cause:
        raise ConfigurationError(f"{service}: {cause}") from cause
    if not _takes_a_server(found):
        raise ConfigurationError(
            f"{service} is {found!r}; give a callable (server) -> None that adds servicers"
        )
    add: AddServicers = found
    return add


def import_here(module: str) -> ModuleType:
    """Imports a module, of this folder, too."""
    sys.path.insert(0, os.getcwd())
    return importlib.import_module(module)


def _takes_a_server(found: Any) -> bool:
    """Returns whether it can be called with a server alone, as far as its signature tells."""
    if not callable(found):
        return False
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):  # of a function in C, perhaps; its call will tell
        return True
    try:
        signature.bind(None)
    except TypeError:
        return False
    return True


def example_fleet(folder: Path) -> AddServicers:
    """Returns the callable that adds the example fleet, with its databases in a folder.

    Args:
        folder: The folder; made with the first instance, for its owner alone, if it is missing.
    """
    # Not at the top: it loads the whole server, for which no other command has to wait.
    from lro.example.v1 import fleet_service_lro
    from lro_grpc._example.service import FleetService

    fleet = FleetService(folder)
    return lambda server: fleet_service_lro.add_FleetServiceServicer_to_server(fleet, server)
