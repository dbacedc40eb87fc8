"""The certificates with which ``lro serve`` listens."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from lro_grpc._errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class ServeTls:
    """What makes a server's TLS.

    Raises:
        ConfigurationError: If the files do not go together.
    """

    cert: Path | None = None
    """The server's certificate, and those between it and its authority (PEM)."""
    key: Path | None = None
    """The certificate's private key (PEM)."""
    client_ca: Path | None = None
    """The authorities of the clients (PEM): a client without a certificate is refused."""

    def __post_init__(self) -> None:
        """Checks what gRPC would not tell before the first client comes."""
        if (self.cert is None) != (self.key is None):
            raise ConfigurationError("TLS needs both --tls-cert and --tls-key; give the other one")
        if self.client_ca is not None and self.cert is None:
            raise ConfigurationError("--tls-client-ca needs --tls-cert and --tls-key")
        if self.cert is None:
            return
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.cert, self.key)
        except ssl.SSLError as cause:
            raise ConfigurationError(
                f"{self.cert} and {self.key} are not a certificate and its key in PEM: {cause}"
            ) from cause
        try:
            context.load_verify_locations(self.client_ca or self.cert)
        except ssl.SSLError as cause:
            raise ConfigurationError(
                f"{self.client_ca} is no certificate in PEM: {cause}"
            ) from cause

    def credentials(self) -> grpc.ServerCredentials | None:
        """Returns what gRPC needs; None without TLS."""
        if self.cert is None or self.key is None:
            return None
        authorities = self.client_ca.read_bytes() if self.client_ca else None
        return grpc.ssl_server_credentials(
            [(self.key.read_bytes(), self.cert.read_bytes())],
            root_certificates=authorities,
            require_client_auth=authorities is not None,
        )
