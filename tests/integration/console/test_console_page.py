"""docs/deploy/console.md: what it shows is run, and its options are those of the command."""

from __future__ import annotations

import asyncio
import re
import textwrap
from typing import Any

import grpc.aio
import httpx
import pytest
from console_harness import SECONDS
from pages import Page
from typer.testing import CliRunner

import lro_grpc
from lro_grpc._cli.app import app as command

PAGE = Page("deploy/console.md")
(BLOCK,) = PAGE.texts("python")
APPS = [line.partition("#")[0].strip() for line in BLOCK.splitlines() if line.startswith("app = ")]


@pytest.mark.parametrize(("made", "path"), [*zip(APPS, ["/", "/", "/console/"], strict=True)])
def test_the_console_beside_a_server(made: str, path: str) -> None:
    """By each of its ways to make the app, with the other lines of the block as they are."""
    others = [line for line in BLOCK.splitlines() if not line.startswith("app = ")]
    imports = [line for line in others if line.startswith("from ")]
    (serving,) = [line for line in others if line.startswith("async with ")]
    listening = serving.replace("8080", "0").replace("):", ") as port:")
    code = [*imports, made, listening, "    listened.set_result(port)", "    " + others[-1].strip()]

    async def serve() -> int:
        server = grpc.aio.server()
        operations = lro_grpc.Operations("memory:")
        operations.attach(server)
        port = server.add_insecure_port("127.0.0.1:0")
        source = textwrap.indent("\n".join(code).replace("50051", str(port)), "    ")
        names: dict[str, Any] = {}
        exec(f"async def run(operations, server, listened):\n{source}", names)
        listened: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        running = asyncio.create_task(names["run"](operations, server, listened))
        async with httpx.AsyncClient(timeout=SECONDS) as browser:
            page = await browser.get(f"http://127.0.0.1:{await listened}{path}")
            while page.status_code == 503:  # the server has yet to start
                page = await browser.get(page.url)
        await operations.stop(lambda: server.stop(1))
        await running
        return page.status_code

    assert asyncio.run(serve()) == 200


def test_the_options_that_it_names_are_the_commands_own() -> None:
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(command, ["console", "--help"]).output
    served = CliRunner(env={"COLUMNS": "200"}).invoke(command, ["serve", "--help"]).output
    named = set(re.findall(r"`[^`\n]*?(--[a-z-]+)", PAGE)) - {"--help"}
    assert "--sign-in" in named
    assert {one for one in named if one not in shown + served} == set()
