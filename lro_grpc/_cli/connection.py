"""The connection to a server, as options that commands share."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import grpc
import grpc.aio
import typer

DEFAULT_TARGET = "127.0.0.1:50051"

_METADATA_VARIABLE = "LRO_METADATA"
_KEY = re.compile(r"[0-9a-z_.-]+")


def _file(name: str, help_text: str) -> Any:
    variable = f"LRO_{name.upper().replace('-', '_')}"
    return typer.Option(
        f"--{name}", envvar=variable, help=help_text, exists=True, dir_okay=False, readable=True
    )


def _metadata_of_environment() -> list[str]:
    return [line for line in os.environ.get(_METADATA_VARIABLE, "").splitlines() if line]


@dataclass(frozen=True, kw_only=True)
class ConnectionOptions:
    """The address of a server, its TLS and metadata; each field is an option of a command.

    Raises:
        typer.BadParameter: If the values do not make a connection.
    """

    target: Annotated[
        str, typer.Option(envvar="LRO_TARGET", metavar="HOST:PORT", help="The server's address.")
    ] = DEFAULT_TARGET
    tls: Annotated[
        bool,
        typer.Option(
            "--tls", envvar="LRO_TLS", help="Use TLS; so do the four options that follow."
        ),
    ] = False
    ca_cert: Annotated[
        Path | None,
        _file("ca-cert", "The authorities to trust (PEM), instead of the well-known ones."),
    ] = None
    cert: Annotated[
        Path | None,
        _file("cert", "The certificate to show to the server (PEM)."),
    ] = None
    key: Annotated[
        Path | None,
        _file("key", "The private key of --cert (PEM)."),
    ] = None
    server_name: Annotated[
        str | None,
        typer.Option(
            envvar="LRO_SERVER_NAME",
            metavar="NAME",
            help="The name that the server's certificate is for, if it is not the target's.",
        ),
    ] = None
    metadata: Annotated[
        list[str],
        typer.Option(
            "--metadata",
            "-H",
            metavar="KEY=VALUE",
            default_factory=_metadata_of_environment,
            show_default=False,
            help=(
                "Metadata to send with each call; may be repeated. The value of a key that ends"
                f" with -bin is base64. {_METADATA_VARIABLE} has one a line."
            ),
        ),
    ]

    def __post_init__(self) -> None:
        """Checks the values, as far as that needs no server."""
        if not self.target:
            raise typer.BadParameter("give HOST:PORT, not an empty text", param_hint="--target")
        if (self.cert is None) != (self.key is None):
            given, missing = ("--cert", "--key") if self.cert else ("--key", "--cert")
            raise typer.BadParameter(f"needs {missing} beside it", param_hint=given)
        _ = self.call_metadata

    @property
    def is_secure(self) -> bool:
        """Whether TLS is used."""
        return self.tls or any((self.ca_cert, self.cert, self.server_name))

    @property
    def call_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """The metadata of each call, as gRPC wants it."""
        return tuple(map(_pair, self.metadata))

    def channel(self) -> grpc.Channel:
        """Opens a channel; it connects when it is used."""
        if not self.is_secure:
            return grpc.insecure_channel(self.target)
        return grpc.secure_channel(self.target, self._credentials(), options=self._options())

    def aio_channel(self, options: Sequence[tuple[str, Any]] = ()) -> grpc.aio.Channel:
        """Opens a channel on the running event loop; it connects when it is used.

        Args:
            options: Options of the channel, as gRPC has them.
        """
        if not self.is_secure:
            return grpc.aio.insecure_channel(self.target, options)
        options = [*self._options(), *options]
        return grpc.aio.secure_channel(self.target, self._credentials(), options)

    def _credentials(self) -> grpc.ChannelCredentials:
        files = (self.ca_cert, self.key, self.cert)
        return grpc.ssl_channel_credentials(
            *(Path(file).read_bytes() if file else None for file in files)
        )

    def _options(self) -> list[tuple[str, Any]]:
        name = self.server_name
        return [("grpc.ssl_target_name_override", name)] if name else []


def _pair(text: str) -> tuple[str, str | bytes]:
    """Reads ``KEY=VALUE``."""
    key, separator, value = text.partition("=")
    key = key.strip().lower()
    if not separator or not _KEY.fullmatch(key):
        raise _bad_metadata(text, "is not KEY=VALUE with a key of letters, digits, _ . -")
    if key.endswith("-bin"):
        try:
            return key, base64.b64decode(value, validate=True)
        except ValueError as cause:  # it may have characters beyond ASCII
            raise _bad_metadata(text, f"has a value that is not base64: {cause}") from cause
    if not (value.isascii() and value.isprintable()):
        raise _bad_metadata(text, "has a value beyond printable ASCII; use a key that ends -bin")
    return key, value


def _bad_metadata(text: str, why: str) -> typer.BadParameter:
    # The value may be a secret, and the key alone says which option is wrong.
    return typer.BadParameter(f"{text.partition('=')[0]!r} {why}", param_hint="--metadata")
