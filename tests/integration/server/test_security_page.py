"""docs/deploy on security and limits: what they show is run, against real servers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from pages import Page
from server_certificates import Authority
from server_harness import Instance, fleet, refused, serving

import lro_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from server_harness import Client, Server

CREDENTIALS, BY_CERTIFICATE, BY_TOKEN, ALLOWED = Page("deploy/security.md").blocks("python")
(LIMITS,) = Page("deploy/limits.md").blocks("python")
DENIED, UNAUTHENTICATED = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED


class InvalidTokenError(Exception):
    """What a library raises for a token that is none."""


def verified(token: str) -> dict[str, str]:
    """Checks a token, as a library would."""
    if not token.startswith("token-of-"):
        raise InvalidTokenError
    return {"sub": token.removeprefix("token-of-")}


@pytest.fixture(params=["sync", "aio"])
def server(request: Any, tmp_path: Path, monkeypatch: Any) -> Iterator[Server]:
    """A server with mutual TLS and the page's ``authorize``, for the callers of a certificate."""
    monkeypatch.chdir(tmp_path)
    identify = BY_CERTIFICATE.run()["identify"]
    authorize = ALLOWED.run(lro_grpc=lro_grpc, identify=identify)["authorize"]
    authority = Authority()
    credentials = (authority.server(), authority.client("ann"))
    servicer = fleet("CreateInstance", lambda self, request, op: Instance())
    with serving(
        request.param, servicer, identify=identify, authorize=authorize, tls=credentials
    ) as running:
        running.bob = running.client(credentials=authority.client("bob"))  # type: ignore[attr-defined]
        running.ada = running.client(credentials=authority.client("ada"))  # type: ignore[attr-defined]
        yield running


def test_callers_have_their_own_operations_and_admins_all(server: Any) -> None:
    name = server.create().name
    bob: Client = server.bob
    assert server.get(name).name == name
    assert refused(lambda: bob.get(name)).code is DENIED
    assert refused(lambda: bob.list()).code is DENIED
    assert refused(lambda: server.list()).code is DENIED
    assert server.ada.get(name).name == name
    assert name in server.ada.names()


def test_a_token_names_the_caller(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    library = {"verified": verified, "InvalidTokenError": InvalidTokenError}
    identify = BY_TOKEN.run(lro_grpc=lro_grpc, **library)["identify"]
    callers: list[str] = []

    def run(self: Any, request: Any, op: Any) -> Any:
        callers.append(op.caller)
        return Instance()

    with serving("sync", fleet("CreateInstance", run), identify=identify) as server:
        ann = server.client(("authorization", "Bearer token-of-ann"))
        ann.done(ann.create().name)
        assert callers == ["ann"]
        stranger = server.client(("authorization", "Bearer of no name"))
        assert refused(stranger.create).code is UNAUTHENTICATED


def test_the_credentials_are_those_of_a_server_that_asks(tmp_path: Path, monkeypatch: Any) -> None:
    authority = Authority()
    trusted, certificate, key = authority.client_files(tmp_path, "server")
    monkeypatch.chdir(tmp_path)
    for name, file in (("server.key", key), ("server.pem", certificate), ("clients.pem", trusted)):
        (tmp_path / name).write_bytes(file.read_bytes())
    added: dict[str, Any] = {}

    class Server:
        @staticmethod
        def add_secure_port(address: str, credentials: grpc.ServerCredentials) -> None:
            added[address] = credentials

    names = CREDENTIALS.run(grpc=grpc, Path=Path, server=Server)
    assert added == {"0.0.0.0:50051": names["credentials"]}
    servicer = fleet("CreateInstance", lambda self, request, op: Instance())
    tls = (names["credentials"], authority.client("ann"))
    with serving("sync", servicer, tls=tls) as running:
        assert running.create().name


def test_the_limits_are_limits(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    names = LIMITS.run(lro_grpc=lro_grpc, identify=lambda context: "")
    assert isinstance(names["operations"], lro_grpc.Operations)
    assert names["limits"].queue_per_caller == 100
