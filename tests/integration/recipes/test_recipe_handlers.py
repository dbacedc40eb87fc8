"""The recipes about handlers: their programs run, are cancelled, killed and started again."""

from __future__ import annotations

import asyncio
import http.server
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import Int64Value, StringValue
from pages import Page
from programs import SECONDS, Folder, until

import lro_grpc
from lro_grpc import OperationsClient, testing

WRAP = Page("recipes/child-process.md")
DOWNLOAD = Page("recipes/download.md")
GATHER = Page("recipes/fan-out.md")
UNDO = Page("recipes/undo.md")


@contextmanager
def client_of(folder: Folder) -> Iterator[OperationsClient]:
    with grpc.insecure_channel(folder.lro_target) as channel:
        grpc.channel_ready_future(channel).result(SECONDS)
        yield OperationsClient(channel)


def running(text: str) -> str:
    """Returns the processes whose commands have a text."""
    found = subprocess.run(["pgrep", "-af", text], capture_output=True, text=True, check=False)
    return found.stdout


# recipes/child-process.md


@pytest.mark.parametrize("stop", ["cancel", "SIGTERM"])
def test_a_child_process_ends_with_its_attempt(tmp_path: Path, stop: str) -> None:
    folder = Folder(tmp_path, WRAP)
    count = 1000 + os.getpid()  # by which the child is found
    with folder.started(f"python wrap.py {count}") as program, client_of(folder) as client:
        name = program.line()
        for update in client.attach(name).updates(timeout=SECONDS):
            if update.status_detail:
                break
        assert f"seq {count}" in running(f"seq {count}")
        if stop == "cancel":
            folder.run(f"lro cancel --wait {name} || test $? = 3")
    assert running(f"sh -c for n in .*seq {count}") == ""
    assert list(tmp_path.glob("op-*")) == []
    if stop == "SIGTERM":
        with folder.started(f"python wrap.py {count}") as program, client_of(folder) as client:
            assert program.line() == name
            assert client.attach(name).cancel()


def test_a_child_process_of_a_killed_server_writes_where_nobody_reads(tmp_path: Path) -> None:
    folder = Folder(tmp_path, WRAP)
    with folder.started("python wrap.py 12", end=signal.SIGKILL) as program:
        name = program.line()
        with client_of(folder) as client:
            until(client, name, 20)
    with folder.started("python wrap.py 12") as program, client_of(folder) as client:
        assert program.line() == name
        made = client.attach(name, response=StringValue).result(timeout=SECONDS)
    assert (tmp_path / made.value).read_text() == "".join(f"{n}\n" for n in range(1, 13))
    killed = made.value.replace(".txt", ".1")
    assert {path.name for path in tmp_path.glob("op-*")} == {made.value, killed}


# recipes/download.md

CONTENT = bytes(range(256)) * 4096


class Site:
    """A site whose file comes half, once, and is replaced when a test says so."""

    def __init__(self) -> None:
        self.content, self.ranges = CONTENT, list[str]()
        self.statuses: list[int] = []
        self.breaks = 1
        self.hang = threading.Event()
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                etag = f'"{hash(site.content)}"'
                asked = self.headers.get("Range", "")
                site.ranges.append(asked)
                found = re.fullmatch(r"bytes=(\d+)-", asked)
                resumed = found and self.headers.get("If-Range") == etag
                begin = int(found[1]) if found and resumed else 0
                status = site.statuses.pop(0) if site.statuses else 206 if resumed else 200
                self.send_response(status)
                self.send_header("ETag", etag)
                body = site.content[begin:] if status < 300 else b""
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if site.breaks and body:
                    site.breaks -= 1
                    self.wfile.write(body[: len(body) // 2])
                    self.wfile.flush()
                    site.hang.wait(SECONDS)
                    self.close_connection = True
                else:
                    self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/large.iso"


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    serving = threading.Thread(target=site.server.serve_forever, daemon=True)
    serving.start()
    yield site
    site.hang.set()
    site.server.shutdown()
    site.server.server_close()


@pytest.mark.parametrize("meanwhile", ["nothing", "the file is replaced"])
def test_a_download_goes_on_after_a_kill(tmp_path: Path, site: Site, meanwhile: str) -> None:
    folder = Folder(tmp_path, DOWNLOAD)
    with folder.started(f"python download.py {site.url}", end=signal.SIGKILL) as program:
        name = program.line()
        with client_of(folder) as client:
            until(client, name, 40)
    if meanwhile != "nothing":
        site.content = CONTENT[::-1]
    with folder.started(f"python download.py {site.url}") as program, client_of(folder) as client:
        assert program.line() == name
        assert client.attach(name, response=Int64Value).result(timeout=SECONDS).value == len(
            CONTENT
        )
    (made,) = tmp_path.glob("*.bin")
    assert made.read_bytes() == site.content
    assert list(tmp_path.glob("*.part")) == []
    assert site.ranges == ["", f"bytes={len(CONTENT) // 2 - 1}-"]


def test_a_download_goes_on_after_its_connection_has_broken(tmp_path: Path, site: Site) -> None:
    site.hang.set()
    site.statuses = [503]
    folder = Folder(tmp_path, DOWNLOAD)
    with folder.started(f"python download.py {site.url}") as program, client_of(folder) as client:
        client.attach(program.line()).result(timeout=SECONDS)
    (made,) = tmp_path.glob("*.bin")
    assert made.read_bytes() == CONTENT
    assert site.ranges == ["", "", f"bytes={len(CONTENT) // 2 - 1}-"]


def test_a_download_that_was_killed_at_its_end_is_not_made_again(
    tmp_path: Path, site: Site
) -> None:
    site.breaks = 0
    folder = Folder(tmp_path, DOWNLOAD)
    program_file = tmp_path / "download.py"
    text = program_file.read_text()
    program_file.write_text(text.replace("os.replace(part", "os.kill(os.getpid(), 9), (part"))
    with folder.started(f"python download.py {site.url}", end=signal.SIGKILL) as program:
        name = program.line()
        program.process.wait(SECONDS)
    program_file.write_text(text)
    with folder.started(f"python download.py {site.url}") as program, client_of(folder) as client:
        client.attach(name).result(timeout=SECONDS)
    (made,) = tmp_path.glob("*.bin")
    assert made.read_bytes() == CONTENT
    assert site.ranges == ["", f"bytes={len(CONTENT) - 1}-"]


def test_a_download_of_what_is_not_there_fails_at_once(tmp_path: Path, site: Site) -> None:
    site.statuses = [404]
    folder = Folder(tmp_path, DOWNLOAD)
    with folder.started(f"python download.py {site.url}") as program, client_of(folder) as client:
        failed = client.attach(program.line()).exception(timeout=SECONDS)
    assert isinstance(failed, lro_grpc.OperationFailedError)
    assert failed.message.endswith("answers 404")
    assert site.ranges == [""]


# recipes/fan-out.md


def test_pages_are_rendered_once_though_the_server_is_killed(tmp_path: Path) -> None:
    folder = Folder(tmp_path, GATHER)
    with folder.started("python gather.py 4", end=signal.SIGKILL) as program:
        name = program.line()
        with client_of(folder) as client:
            while len(list(client.list("operations"))) < 5:
                pass
    with folder.started("python gather.py 4") as program, client_of(folder) as client:
        assert program.line() == name
        book = client.attach(name, response=StringValue).result(timeout=SECONDS).value
        assert len(list(client.list("operations"))) == 5
    assert re.sub(r"\d$", "n", book, flags=re.MULTILINE).splitlines() == [
        f"page {n}, by attempt n" for n in range(1, 5)
    ]


def test_a_cancel_of_the_book_cancels_its_pages(tmp_path: Path) -> None:
    folder = Folder(tmp_path, GATHER)
    program_file = tmp_path / "gather.py"
    program_file.write_text(program_file.read_text().replace("sleep(1)", "sleep(60)"))
    with folder.started("python gather.py 5") as program, client_of(folder) as client:
        name = program.line()
        while len(list(client.list("operations"))) < 6:
            pass
        folder.run(f"lro cancel --wait {name} || test $? = 3")
        for page in client.list("operations"):
            client.attach(page.name).exception(timeout=SECONDS)
        assert {one.error.code for one in client.list("operations")} == {lro_grpc.Code.CANCELLED}


# recipes/undo.md


@pytest.mark.parametrize("killed", [False, True])
def test_a_cancel_takes_the_nodes_back(tmp_path: Path, killed: bool) -> None:
    folder = Folder(tmp_path, UNDO)
    if killed:
        with folder.started("python undo.py 60", end=signal.SIGKILL) as program:
            name = program.line()
            while len(list(tmp_path.glob("*.node-*"))) < 2:
                pass
    with folder.started("python undo.py 60") as program:
        name = program.line()
        while len(list(tmp_path.glob("*.node-*"))) < 2:
            pass
        folder.run(f"lro cancel --wait {name} || test $? = 3")
        assert list(tmp_path.glob("*.node-*")) == []


def test_a_drain_takes_nothing_back(tmp_path: Path) -> None:
    folder = Folder(tmp_path, UNDO)
    with folder.started("python undo.py 60") as program:
        program.line()
        while len(list(tmp_path.glob("*.node-*"))) < 1:
            pass
    assert list(tmp_path.glob("*.node-1")) != []


@pytest.mark.parametrize("how", ["cancel", "crash and cancel", "crash"])
def test_without_a_batch_a_checkpoint_gets_the_cancel_an_attempt(how: str) -> None:
    begun, torn_down = threading.Event(), list[str]()

    async def build(id_: str) -> None:
        if begun.is_set() and how == "crash":
            return
        begun.set()
        await asyncio.Event().wait()

    async def tear_down(id_: str) -> None:
        torn_down.append(id_)

    given = {"lro_grpc": lro_grpc, "StringValue": StringValue}
    section = UNDO.section("Without a batch")
    handler = section.run(**given, build=build, tear_down=tear_down)["create_cluster"]
    method = "/recipes.v1.Clusters/CreateCluster"

    def configure(operations: lro_grpc.Operations) -> None:
        operations.add_method(method, handler, request=StringValue, response=StringValue)

    with testing.serve(configure=configure) as served:
        name = served.operations.start_operation_sync(method, StringValue()).name
        assert begun.wait(SECONDS)
        future = served.client.attach(name, response=StringValue)
        if "crash" in how:
            served.restart()
        if "cancel" in how:
            future.cancel()
            with pytest.raises(lro_grpc.OperationCancelledError):
                future.result(timeout=SECONDS)
            assert torn_down != []
            assert {*torn_down} == {name.rpartition("/")[2]}
        else:
            assert future.result(timeout=SECONDS).value == name.rpartition("/")[2]
            assert torn_down == []
