"""The options of a store in Postgres, as its URL gives them."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lro_grpc._errors import ConfigurationError

_OF_LIBPQ = frozenset(
    {
        *("dbname", "host", "passfile", "password", "port", "service", "user"),
        *("application_name", "gsslib", "krbsrvname", "target_session_attrs"),
        *("ssl_max_protocol_version", "ssl_min_protocol_version", "sslcert", "sslcrl"),
        *("sslkey", "sslmode", "sslnegotiation", "sslpassword", "sslrootcert"),
    }
)
"""The options that the driver knows, by the names that all programs of Postgres have for it."""

_OWN = frozenset(
    {"connect_timeout", "notices_url", "pgbouncer", "readers", "schema", "statement_timeout"}
)

_MOST_READERS = 100
_MOST_SECONDS = 3600.0
_SCHEMES = ("postgresql", "postgres")

_MOST_NAME_BYTES = 63
"""Postgres cuts longer names off."""

_FILES = ("sslcert", "sslcrl", "sslkey", "sslrootcert")

_PORTS = re.compile(r"[0-9]{1,5}(,[0-9]{1,5})*")

_WRITABLE = ("any", "primary", "read-write")
"""The servers among several, by ``target_session_attrs``, that may be ones to write to."""

_TOLD_APART = (
    "write these characters of a user, a password or a database with a % and their code,"
    " as %40 for @: / ? # [ ] @ : %"
)


@dataclass(frozen=True)
class Options:
    """The options of one store."""

    url: str
    """The URL for the driver: without the options that are this package's own."""
    place: str
    """The server and the database as they may be shown: without a password."""
    schema: str = ""
    """The schema of the tables; empty for the one that the server chooses."""
    readers: int = 2
    """The connections for reads."""
    statement_timeout: float = 5.0
    """The seconds in which the server has to answer a statement."""
    connect_timeout: float = 5.0
    """The seconds in which a connection has to be there."""
    pgbouncer: bool = False
    """Whether a pooler may give each transaction another connection, so that none keeps state."""
    notices_url: str = ""
    """The URL for LISTEN and NOTIFY, which need a connection of their own; empty for ``url``."""
    files: Mapping[str, str] = field(default_factory=dict)
    """The files for TLS, by their options."""

    def of_notices(self) -> Options | None:
        """Returns the options of a direct connection for notices; None if there is none."""
        if self.notices_url:
            return parse(self.notices_url)
        return None if self.pgbouncer else self


def parse(url: str) -> Options:
    """Returns the options that a URL gives.

    Raises:
        ConfigurationError: If it gives one that is unknown, or a value that cannot be.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        hosts = [_host_and_port(one) for one in parts.netloc.rpartition("@")[2].split(",")]
    except ValueError:  # its words may have the password in them
        raise _wrong(f"the URL of a store cannot be read; {_TOLD_APART}") from None
    given = urllib.parse.parse_qsl(parts.query, keep_blank_values=True)
    names = [name for name, _ in given]
    if not _is_told_apart(parts, names):
        raise _wrong(f"the URL of a store cannot be read; {_TOLD_APART}")
    values = dict(given)
    unknown = sorted(values.keys() - _OF_LIBPQ - _OWN)
    if unknown:
        raise _wrong(
            f"{unknown[0]!r} is no option of a Postgres store; its own are"
            f" {', '.join(sorted(_OWN))}, and those of libpq {', '.join(sorted(_OF_LIBPQ))}"
        )
    twice = [name for name in values if names.count(name) > 1]
    if twice:
        advice = "give it once, and write a & in notices_url as %26"
        raise _wrong(f"{twice[0]} is given twice; {advice}")
    if parts.scheme not in _SCHEMES:
        raise _wrong(f"{parts.scheme}: is no URL of Postgres; give postgresql://user@host/database")
    notices_url = values.get("notices_url", "")
    if notices_url:
        parse(notices_url)
    if not _PORTS.fullmatch(values.get("port", "5432")):
        raise _wrong(f"port is {values['port']!r}; give a number")
    target = values.get("target_session_attrs", "any")
    if target not in _WRITABLE:
        raise _wrong(
            f"target_session_attrs is {target!r}; give {', '.join(_WRITABLE[:-1])} or"
            f" {_WRITABLE[-1]}, for a store has to write"
        )
    where = ",".join(
        f"{host or values.get('host') or 'local'}:{port or values.get('port', 5432)}"
        for host, port in hosts
    )
    database = urllib.parse.unquote(parts.path.lstrip("/")) or values.get("dbname")
    schema = values.get("schema", "")
    if '"' in schema or "\0" in schema:
        raise _wrong(f"schema is {schema!r}; give the name of a schema, without quotes")
    if len(schema.encode(errors="surrogatepass")) > _MOST_NAME_BYTES:
        raise _wrong(f"schema is {schema!r}; give a name of {_MOST_NAME_BYTES} bytes at most")
    query = urllib.parse.urlencode([(name, value) for name, value in given if name in _OF_LIBPQ])
    return Options(
        url=parts._replace(query=query).geturl(),
        place=f"{where}{f'/{database}' if database else ''}",
        schema=schema,
        readers=_count(values, "readers", Options.readers),
        statement_timeout=_seconds(values, "statement_timeout", Options.statement_timeout),
        connect_timeout=_seconds(values, "connect_timeout", Options.connect_timeout),
        pgbouncer=_flag(values, "pgbouncer"),
        notices_url=notices_url,
        files={name: values[name] for name in _FILES if name in values},
    )


def _host_and_port(text: str) -> tuple[str, int | None]:
    """Returns one of the hosts of a URL, and its port, if it has one.

    Raises:
        ValueError: If the port is no number of a port.
    """
    parts = urllib.parse.urlsplit(f"//{text}")
    return parts.hostname or "", parts.port


def _is_told_apart(parts: urllib.parse.SplitResult, names: Iterable[str]) -> bool:
    """Returns whether the parts of a URL are what they seem, and none is half a password."""
    user = parts.netloc.rpartition("@")[0]
    elsewhere = (user, parts.path, *names)
    return not (parts.fragment or any("@" in text for text in elsewhere))


def _count(values: Mapping[str, str], name: str, default: int) -> int:
    text = values.get(name, str(default))
    if not re.fullmatch("[0-9]{1,3}", text) or not 1 <= int(text) <= _MOST_READERS:
        raise _wrong(f"{name} is {text!r}; give a whole number of 1 to {_MOST_READERS}")
    return int(text)


def _seconds(values: Mapping[str, str], name: str, default: float) -> float:
    text = values.get(name, str(default))
    try:
        seconds = float(text)
    except ValueError as cause:
        raise _wrong(f"{name} is {text!r}; give seconds") from cause
    if not 0 < seconds <= _MOST_SECONDS:
        raise _wrong(f"{name} is {text!r}; give seconds above 0 and up to {_MOST_SECONDS:.0f}")
    return seconds


def _flag(values: Mapping[str, str], name: str) -> bool:
    text = values.get(name, "0")
    if text not in ("0", "1"):
        raise _wrong(f"{name} is {text!r}; give 0 or 1")
    return text == "1"


def _wrong(why: str) -> ConfigurationError:
    return ConfigurationError(why, reason="STORE_UNUSABLE")
