"""Temporal by TLS, with an API key: as clusters have it, and Temporal Cloud."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import pytest
from delivered import answer_of, operations, serving
from secured import secured
from server_certificates import Authority
from temporalio.service import TLSConfig

from lro_grpc._engine.temporal.connection import connect
from lro_grpc.engines import Temporal

KEY = "the key"
AUTHORITY, STRANGER = Authority(), Authority()


def tls(folder: Path, authority: Authority, *, shows_itself: bool = True) -> TLSConfig:
    """Returns the options of a client that trusts the servers of an authority."""
    ca, certificate, key = (one.read_bytes() for one in authority.client_files(folder, "worker"))
    if not shows_itself:
        return TLSConfig(server_root_ca_cert=ca)
    return TLSConfig(server_root_ca_cert=ca, client_cert=certificate, client_private_key=key)


async def test_operations_are_delivered_by_tls(temporal: str, tmp_path: Path) -> None:
    """Each side shows the other its certificate."""
    queue = f"lro-test-{secrets.token_hex(6)}"
    async with secured(temporal, KEY, AUTHORITY.server()) as address:
        options = {"tls": tls(tmp_path, AUTHORITY), "api_key": KEY}
        made = operations(f"sqlite:///{tmp_path}/db", address, queue, **options)
        async with serving(made) as caller:
            assert answer_of(await caller.done(await caller.start()))[1] == 1


async def test_an_authority_of_the_environment_is_trusted(
    temporal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for the commands, whose ``--temporal-tls`` takes no file."""
    ca, *_ = AUTHORITY.client_files(tmp_path, "worker")
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    async with secured(temporal, KEY, AUTHORITY.server(asks=False)) as address:
        assert await connect(Temporal(address, tls=True, api_key=KEY))


WRONG = {
    "another authority": (
        lambda folder: {"tls": tls(folder, STRANGER), "api_key": KEY},
        "its certificate is not of an authority that tls= trusts",
    ),
    "authorities of the system": (
        lambda folder: {"tls": True, "api_key": KEY},
        "its certificate is not of an authority that tls= trusts",
    ),
    "no certificate of its own": (
        lambda folder: {"tls": tls(folder, AUTHORITY, shows_itself=False), "api_key": KEY},
        "it ends the connection; it may want TLS by tls=, or a certificate of this process",
    ),
    "no TLS": (
        lambda folder: {},
        "it ends the connection; it may want TLS by tls=, or a certificate of this process",
    ),
    "another key": (
        lambda folder: {"tls": tls(folder, AUTHORITY), "api_key": "another"},
        "it does not know the api_key",
    ),
    "no key": (lambda folder: {"tls": tls(folder, AUTHORITY)}, "it does not know the api_key"),
    "another namespace": (
        lambda folder: {"tls": tls(folder, AUTHORITY), "api_key": KEY, "namespace": "nowhere"},
        "Namespace nowhere is not found.",
    ),
}


@pytest.mark.parametrize(("make_options", "reason"), WRONG.values(), ids=WRONG)
async def test_what_is_wrong_with_the_connection_is_said_in_one_sentence(
    temporal: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, make_options: Any, reason: str
) -> None:
    """And operations wait."""

    def said() -> list[str]:
        return [one for one in caplog.messages if one.startswith("Temporal")]

    async with secured(temporal, KEY, AUTHORITY.server()) as address:
        made = operations("memory:", address, "lro-test", **make_options(tmp_path))
        async with serving(made) as caller:
            name = await caller.start()
            while not said():
                assert await caller.state(name) == "QUEUED"
        assert said() == [
            f"Temporal cannot be used at {address}; operations wait in the store, trying again: "
            + reason
        ]
