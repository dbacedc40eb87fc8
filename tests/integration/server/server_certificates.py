"""Certificates for 127.0.0.1, of an authority that lives as long as its test."""

from __future__ import annotations

import datetime
import ipaddress
from typing import TYPE_CHECKING

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

_DAY = datetime.timedelta(days=1)


class Authority:
    """Signs the certificates of servers and their clients.

    Args:
        trusts: Whose servers its clients trust; its own unless given.
    """

    def __init__(self, trusts: Authority | None = None) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._signed("authority", self._key, is_authority=True)
        self._trusted: bytes = trusts._trusted if trusts else _pem(self._certificate)

    def server(self, *, asks: bool = True) -> grpc.ServerCredentials:
        """Returns the credentials of a server, which asks its clients for theirs or does not."""
        return grpc.ssl_server_credentials(
            [self._identity("server")],
            root_certificates=_pem(self._certificate) if asks else None,
            require_client_auth=asks,
        )

    def client(self, name: str) -> grpc.ChannelCredentials:
        """Returns the credentials of a client of that common name."""
        key, certificate = self._identity(name)
        return grpc.ssl_channel_credentials(self._trusted, key, certificate)

    def client_files(self, folder: Path, name: str) -> tuple[Path, Path, Path]:
        """Writes what ``client`` is made of: whom it trusts, its certificate and its key."""
        key, certificate = self._identity(name)
        files = (folder / f"{name}-ca.pem", folder / f"{name}.pem", folder / f"{name}-key.pem")
        for file, pem in zip(files, (self._trusted, certificate, key), strict=True):
            file.write_bytes(pem)
        return files

    def _identity(self, name: str) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return pem, _pem(self._signed(name, key))

    def _signed(
        self, name: str, key: ec.EllipticCurvePrivateKey, *, is_authority: bool = False
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.timezone.utc)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + _DAY)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                critical=False,
            )
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .sign(self._key, hashes.SHA256())
        )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
