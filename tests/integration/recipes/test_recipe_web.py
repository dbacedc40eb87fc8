"""The recipes for pages and web frameworks: their programs serve, and are asked over HTTP."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pages import Page
from programs import SECONDS, first_service, with_pages_of

import lro_grpc
from lro_grpc.http import gateway

PROGRESS = Page("recipes/progress-page.md")
SIGNED_IN = Page("recipes/authentication.md")
FASTAPI = Page("recipes/fastapi.md")
DJANGO = Page("recipes/django.md")

pytestmark = pytest.mark.codegen

JSON = {"Content-Type": "application/json"}


def events(url: str, **how: Any) -> Iterator[dict[str, Any]]:
    """Yields the states that an EventSource would get."""
    with httpx.stream("GET", url, timeout=SECONDS, **how) as stream:
        assert stream.status_code == 200, stream.read()
        for line in stream.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


# recipes/progress-page.md


def test_the_page_starts_a_report_and_gets_its_progress(tmp_path: Path) -> None:
    folder = first_service(tmp_path, PROGRESS)
    with folder.started("python page.py"):
        folder.answers(folder.url)
        page = httpx.get(folder.url).text
        assert re.search(r"fetch\(\"(.*?)\", \{method: \"POST\"", page).group(1) == "/v1/reports"  # type: ignore[union-attr]
        body = {"pageCount": 3, "requestId": "8a7c6be1-4b4b-4f3e-9a3c-0d3f3a5a9f10"}
        start = httpx.post(f"{folder.url}/v1/reports", json=body).json()
        assert httpx.post(f"{folder.url}/v1/reports", json=body).json()["name"] == start["name"]
        states = list(events(f"{folder.url}/v1/{start['name']}:watch"))
    percents = [state["metadata"].get("progressPercent", 0) for state in states]
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert len(states[-1]["response"]["pages"]) == 3


# recipes/authentication.md


def test_each_caller_sees_its_own_operations(tmp_path: Path) -> None:
    folder = first_service(tmp_path, SIGNED_IN)
    with folder.started("python signed_in.py"):
        folder.answers(folder.url)
        (shell, *_) = [block for block in SIGNED_IN.blocks("sh") if "curl" in block.text]
        curled = folder.run(shell.text)
        assert '"pages"' in curled
        assert "PERMISSION_DENIED" in curled
        assert "SUCCEEDED" in curled  # lro get, by gRPC
        assert httpx.get(f"{folder.url}/v1/operations/op-x").status_code == 401
        eve = {"Authorization": "Bearer token-of-eve"}
        assert httpx.get(f"{folder.url}/v1/operations/op-x", headers=eve).status_code == 403
        with httpx.Client(base_url=folder.url) as browser:
            refused = browser.post("/sign-in", headers={"Authorization": "Bearer no"})
            assert refused.status_code == 401
            ada = {"Authorization": "Bearer token-of-ada"}
            signed_in = browser.post("/sign-in", headers=ada)
            assert signed_in.status_code == 204
            assert "HttpOnly" in signed_in.headers["set-cookie"]
            assert "SameSite=strict" in signed_in.headers["set-cookie"]
            name = browser.post("/v1/reports", json={"pageCount": 1}).json()["name"]
            states = list(events(f"{folder.url}/v1/{name}:watch", cookies=browser.cookies))
            assert states[-1]["done"]
            assert browser.get(f"/v1/{name}", headers=eve).status_code == 403
            elsewhere = {"Origin": "https://page.example", **JSON}
            assert browser.post(f"/v1/{name}:cancel", headers=elsewhere).status_code == 403


# recipes/fastapi.md


def command_of(page: Page, word: str) -> str:
    """Returns the command of a page that begins with a word."""
    (found,) = [
        line
        for block in page.blocks("sh")
        for line in block.text.splitlines()
        if line.startswith(word)
    ]
    return found


def test_a_fastapi_app_runs_operations_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    folder = first_service(tmp_path, FASTAPI)
    command = command_of(FASTAPI, "uvicorn")
    key = {"Idempotency-Key": "7"}
    with folder.started(command) as program:
        folder.answers(folder.url)
        started = httpx.post(f"{folder.url}/reports", json={"pages": 300}, headers=key)
        assert started.status_code == 202
        location = started.headers["location"]
        again = httpx.post(f"{folder.url}/reports", json={"pages": 300}, headers=key)
        assert again.headers["location"] == location
        other = httpx.post(f"{folder.url}/reports", json={"pages": 3}, headers=key)
        assert other.status_code == 409
        assert httpx.post(f"{folder.url}/reports", json={"pages": 0}).status_code == 422
        watching = events(f"{folder.url}{location}:watch")
        while not next(watching)["metadata"].get("progressPercent"):
            pass
        program.process.send_signal(
            signal.SIGTERM
        )  # in the middle of a watch, which must not hold it
        program.process.wait(SECONDS)
    with folder.started(command):
        folder.answers(folder.url)
        found = httpx.get(f"{folder.url}{location}").json()
        while found["metadata"].get("attempt", 0) < 2:
            found = httpx.get(f"{folder.url}{location}").json()
        assert found["metadata"]["progressPercent"] > 0
        cancelled = httpx.post(f"{folder.url}{location}:cancel", json={})
        assert cancelled.status_code == 200
        assert list(events(f"{folder.url}{location}:watch"))[-1]["error"]["code"] == 1


def test_the_gateway_has_its_documentation_where_fastapi_leaves_its_own_out() -> None:
    (row,) = [line for line in FASTAPI.splitlines() if "docs_url" in line]
    cure = re.findall(r"`([^`]*)`", row)
    made = {"operations": lro_grpc.Operations("memory:"), "lifespan": None}

    async def ask() -> tuple[str, str]:
        app = eval(cure[2], {"FastAPI": FastAPI, **made})
        app.mount("/", eval(cure[3], {"gateway": gateway, **made}))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            described = (await client.get("/openapi.json")).json()
            return "".join(described["paths"]), (await client.get("/docs")).text

    paths, docs = asyncio.run(ask())
    assert ":watch" in paths
    assert "cdn" not in docs  # as it is in FastAPI's page


# recipes/django.md


def test_a_django_site_finds_its_operations_though_all_is_restarted(tmp_path: Path) -> None:
    folder = first_service(tmp_path, DJANGO)
    with folder.started(command_of(DJANGO, "gunicorn")) as gunicorn:
        folder.answers(folder.url)
        with httpx.Client(base_url=folder.url, timeout=SECONDS) as browser:
            form = browser.get("/").text
            fields = dict(re.findall(r'name="(\w+)" value="(.*?)"', form))
            assert (
                browser.post("/reports/", data={**fields, "csrfmiddlewaretoken": ""}).status_code
                == 403
            )
            unavailable = browser.post("/reports/", data=fields)
            assert (unavailable.status_code, unavailable.headers["retry-after"]) == (503, "5")
            with_pages_of(folder, 60)
            with folder.started("python server.py", end=signal.SIGKILL):
                page = started(browser, fields)
                assert started(browser, fields) == page
                assert browser.get(page).json()["done"] is False
                gunicorn.process.send_signal(signal.SIGHUP)
            assert browser.get(page).status_code == 503  # the server is away
            with_pages_of(folder, 0.1)
            with folder.started("python server.py"):
                while not (shown := browser.get(page).json()).get("done"):
                    time.sleep(0.05)
                assert len(shown["pages"]) == 5
                assert browser.get("/operations/op-x").status_code == 404


def started(browser: httpx.Client, fields: dict[str, str]) -> str:
    while (answer := browser.post("/reports/", data=fields)).status_code == 503:
        pass
    assert answer.status_code == 302
    return answer.headers["location"]
