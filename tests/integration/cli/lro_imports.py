"""Imports what ``lro`` does when it is first used: it is used wrongly, once."""

from __future__ import annotations

import contextlib
import importlib
import io
import pkgutil

from lro_grpc._cli import commands
from lro_grpc._cli.app import app

for one in pkgutil.iter_modules(commands.__path__, "lro_grpc._cli.commands."):
    importlib.import_module(one.name)

with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
    app(["get", "operations/x", "--timeout", "0"])
