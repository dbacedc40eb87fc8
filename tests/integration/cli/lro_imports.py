"""Imports what ``lro`` does when it is first used: it is used wrongly, once."""

from __future__ import annotations

import contextlib
import io

from lro_grpc._cli.app import app

with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
    app(["get", "operations/x", "--timeout", "0"])
