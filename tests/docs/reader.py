"""The stubs and the programs of somebody who reads the pages."""

from __future__ import annotations

import contextlib
import inspect
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from pages import Page

import lro_grpc
from lro_grpc import testing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROTOS = {
    "reports.proto": Page("start/service.md"),
    "counted.proto": Page("learn/metadata.md"),
}
"""The pages that have the protos."""
PLUGINS = ["--python_out=.", "--grpc_python_out=.", "--mypy_grpc_out=.", "--lro-grpc_out=."]
"""All that protoc writes but for the types of the messages."""


def write_protos(folder: Path) -> None:
    """Writes the pages' protos into a folder."""
    for name, page in PROTOS.items():
        (folder / name).write_text(page.files()[name].text)


def make_stubs(folder: Path, types: str = "--pyi_out=.") -> None:
    """Writes all that ``lro protoc`` makes of the protos in a folder."""
    command = [sys.executable, "-m", "lro_grpc._cli", "protoc", *PLUGINS, types]
    protos = sorted(one.name for one in folder.glob("*.proto"))
    subprocess.run([*command, *protos], cwd=folder, check=True, timeout=100)


def defined(page: Page, file: str) -> dict[str, Any]:
    """Returns what a program of a page defines when it is imported."""
    return page.files()[file].run(__name__=Path(file).stem)


class Reports:
    """A service of a page that is served, and its typed client."""

    def __init__(self, served: testing.Served) -> None:
        import reports_lro
        import reports_pb2

        self.served = served
        self.client = reports_lro.ReportServiceClient(served.channel)
        self._request = reports_pb2.BuildReportRequest

    def build(self, page_count: int, **more: Any) -> Any:
        """Starts a report, and returns its future."""
        return self.client.BuildReport(self._request(page_count=page_count), **more)

    def run_client(self, page: Page, file: str, **names: Any) -> dict[str, Any]:
        """Runs a program of a page that calls this server."""
        with calls_to(self.served.target):
            return page.files()[file].run(__name__="__main__", **names)


@contextlib.contextmanager
def serving(service: Any, **options: Any) -> Iterator[Reports]:
    """Serves a ``ReportService`` of a page, made of its class or of one method, in this process."""
    import reports_lro

    if not isinstance(service, type):  # a method, shown without its class
        base = (
            reports_lro.AsyncReportServiceServicer
            if inspect.iscoroutinefunction(service)
            else reports_lro.ReportServiceServicer
        )
        service = type("ReportService", (base,), {"BuildReport": service})
    add = reports_lro.add_ReportServiceServicer_to_server
    with testing.serve(service(), add, **options) as served:
        yield Reports(served)


@contextlib.contextmanager
def calls_to(target: str) -> Iterator[None]:
    """Has programs reach a server at the address that the pages have."""
    connect = grpc.insecure_channel

    def insecure_channel(address: str) -> grpc.Channel:
        assert address == "127.0.0.1:50051"
        return connect(target)

    grpc.insecure_channel = insecure_channel
    try:
        yield
    finally:
        grpc.insecure_channel = connect


def state_of(future: lro_grpc.OperationFuture[Any, Any]) -> str:
    """Returns the state of an operation as the server has it now, without its prefix."""
    future.done()
    name = type(future.metadata).DESCRIPTOR.fields_by_name["state"].enum_type
    return str(name.values_by_number[future.metadata.state].name).removeprefix("JOB_STATE_")


def until(condition: Callable[[], object]) -> None:
    """Returns once a condition holds; pytest's time limit is the end of it."""
    while not condition():
        pass
