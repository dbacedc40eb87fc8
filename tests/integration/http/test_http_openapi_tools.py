"""Others' tools with the document: a client that one generates, requests that one makes up."""

from __future__ import annotations

import asyncio
import collections
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import openapi_tools
from http_harness import PARENT, Fleet, Instance, serving
from pages import Page

import lro_grpc
from lro.example.v1 import fleet_service_lro
from lro_grpc.example import FleetService

(CLIENT,) = Page("dialects/openapi.md").section("A client of it").blocks("python")
IMPORTS = """
from fleet_client import Client
from fleet_client.api.fleet_service import fleet_service_create_instance
from fleet_client.api.operations import operations_cancel_operation, operations_wait_operation
from fleet_client.models import LroExampleV1Instance, OperationsWaitOperationBody
"""
PROGRAM = Path(__file__).with_name("generated_client.py")


class QuickFleet(Fleet):
    """A fleet that makes all instances but one at once."""

    @lro_grpc.method
    async def CreateInstance(self, request: Any, op: Any) -> Any:
        del op
        if request.instance_id == "slow":
            await asyncio.Event().wait()
        return Instance(name=f"{request.parent}/instances/{request.instance_id}")

    def GetInstance(self, request: Any, context: Any) -> Any:
        del context
        return Instance(name=request.name, seed_rows=7)


def test_a_generated_client_starts_waits_and_cancels(tmp_path: Path) -> None:
    with serving("aio", QuickFleet(), plain=True) as http:
        (tmp_path / "openapi.json").write_bytes(http.get("/openapi.json").body)
        generated = openapi_tools.run(
            *("openapi-python-client", "generate", "--path", "openapi.json", "--meta", "none"),
            *("--output-path", "fleet_client"),
            cwd=tmp_path,
        )
        assert generated.returncode == 0, generated.stdout
        # It has everything of the document, and says what it leaves out.
        assert "arning" not in generated.stdout, generated.stdout
        paths = {"PYTHONPATH": "."}
        run = openapi_tools.run(
            "python", str(PROGRAM), str(http.port), cwd=tmp_path, environment=paths
        )
        shown_on_page = CLIENT.text.replace("8080", str(http.port))
        code = f"{IMPORTS}{shown_on_page}\nassert done.done, done"
        page = openapi_tools.run("python", "-c", code, cwd=tmp_path, environment=paths)
    assert page.returncode == 0, page.stderr
    assert run.returncode == 0, run.stderr
    shown = json.loads(run.stdout)
    name = f"{PARENT}/instances/quick"
    assert shown["waited"]["done"]
    assert shown["waited"]["response"]["name"] == name
    assert shown["waited"]["metadata"]["state"] == "JOB_STATE_SUCCEEDED"
    assert shown["instance"] == {"name": name, "seedRows": "7"}
    assert "done" not in shown["running"]
    assert shown["cancelled"]["error"]["code"] == lro_grpc.Code.CANCELLED
    assert len(shown["page"]["operations"]) == 1
    assert shown["page"]["nextPageToken"]
    assert shown["missing"]["error"]["status"] == "NOT_FOUND"


class Answers:
    """Counts the answers of an app, and keeps what was asked where one is 5xx."""

    def __init__(self) -> None:
        self.statuses: collections.Counter[int] = collections.Counter()
        self.failed: list[tuple[int, str, bytes]] = []

    def of(self, app: Any) -> Any:
        async def counted(scope: Any, receive: Any, send: Any) -> None:
            async def count(message: Any) -> None:
                if message["type"] == "http.response.start":
                    status = message["status"]
                    self.statuses[status] += 1
                    if status >= 500:
                        self.failed.append((status, scope["method"], scope["raw_path"]))
                await send(message)

            await app(scope, receive, count)

        return counted


def test_any_request_of_the_document_has_an_answer_of_it(tmp_path: Path) -> None:
    """None is 5xx, and each is what the document says: made by Schemathesis, from a seed."""
    answers = Answers()

    def add(registrar: Any) -> None:
        fleet = FleetService(tmp_path / "fleet")
        fleet_service_lro.add_FleetServiceServicer_to_server(fleet, registrar)

    max_wait = timedelta(milliseconds=100)
    with serving("aio", plain=True, add=add, wrap=answers.of, max_wait=max_wait) as http:
        run = openapi_tools.run(
            *("schemathesis", "run", f"http://127.0.0.1:{http.port}/openapi.json"),
            *("--phases", "fuzzing", "--max-examples", "4", "--seed", "1", "--no-shrink"),
            *(
                "--generation-database",
                "none",
                "--warnings",
                "off",
                "--suppress-health-check",
                "all",
            ),
            *("--checks", ",".join(CHECKS)),
            *("--exclude-path-regex", ":watch$"),  # which may last as long as an operation
            cwd=tmp_path,
        )
    assert answers.failed == []
    assert run.returncode == 0, run.stdout
    assert re.search(r"Tested: +\d{2}", run.stdout), run.stdout
    assert sum(answers.statuses.values()) > 50, answers.statuses


CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
