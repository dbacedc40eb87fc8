"""The code of docs/learn/handlers.md, as it stands there."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from pages import Page
from server_harness import Instance, fleet, metadata_of, response_of

import lro_grpc

PAGE = Page("learn/handlers.md")
FUNCTIONS = {"def": "transcode_in_thread", "async def": "transcode"}


def defined_on_the_page(command: list[str]) -> dict[str, Any]:
    """Returns what the page's Python code defines."""
    names: dict[str, Any] = {
        "asyncio": asyncio,
        "subprocess": subprocess,
        "time": time,
        "COMMAND": command,
        "outcome_of": lambda code: Instance(seed_rows=code),
    }
    for code in PAGE.texts("python"):
        exec(code, names)
    return names


@pytest.mark.parametrize("end", ["its own", "cancel", "shutdown"])
def test_a_child_ends_with_its_handler(
    serve: Any, handler_keyword: str, file_url: str, tmp_path: Path, end: str
) -> None:
    script = f"echo $$ > {tmp_path}/began; mv {tmp_path}/began {tmp_path}/pid; exec "
    command = ["sh", "-c", script + ("true" if end == "its own" else "sleep 60")]
    run = defined_on_the_page(command)[FUNCTIONS[handler_keyword]]

    def call(self: Any, request: Any, op: Any) -> Any:
        return run(request, op)

    async def async_call(self: Any, request: Any, op: Any) -> Any:
        return await run(request, op)

    handler = call if handler_keyword == "def" else async_call
    server = serve(fleet("CreateInstance", handler), store=file_url)
    name = server.create().name
    if end == "its own":
        assert server.done(name).HasField("response")
    pid = child_of(tmp_path)
    if end == "cancel":
        server.cancel(name)
        assert server.done(name).error.code == lro_grpc.Code.CANCELLED
    server.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def child_of(folder: Path) -> int:
    """Returns the number of the child, once it has begun."""
    pid = folder / "pid"
    while not pid.exists():
        pass
    return int(pid.read_text())


def test_a_handler_and_other_code_start_operations(serve: Any) -> None:
    names = defined_on_the_page([])
    render, publish = "/reports.v1.Reports/Render", "/reports.v1.Reports/Publish"

    def configure(operations: lro_grpc.Operations) -> None:
        for method, run in {render: lambda request, op: request, publish: names["publish"]}.items():
            operations.add_method(method, run, request=Instance, response=Instance)

    server = serve(configure=configure)
    done = server.done(server.start(publish, Instance(name="daily")).name)
    detail = metadata_of(done).status_detail
    assert response_of(server.done(detail.removeprefix("started "))) == Instance(name="daily")
    nightly = asyncio.run(names["render_nightly"](server.operations, Instance(name="nightly")))
    assert response_of(server.done(nightly.name)) == Instance(name="nightly")
