"""Renders pages: the templates, and what they know of the page that they are in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined

from lro_grpc._console import markup, texts
from lro_grpc._console.actions import ACTIONS
from lro_grpc._console.assets import ASSETS
from lro_grpc._console.looks import look_of

_TEMPLATES = Environment(
    loader=PackageLoader("lro_grpc._console"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_TEMPLATES.globals.update(
    actions=ACTIONS,
    cut=markup.cut,
    iso=texts.iso,
    look_of=look_of,
    middle=markup.middle,
    took=texts.took,
    utc=texts.utc,
    visible=markup.visible,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """All that a template knows of its page beside what it shows."""

    target: str
    """The server that is shown."""
    now: datetime
    prefix: str = ""
    """The path below which the console is mounted, without a slash at its end."""
    read_only: bool = False
    sign_in: str = ""
    """The name of the header that a form asks for; empty if there is no form."""
    signed_in: bool = False
    is_part: bool = False
    """Whether a page asks for a part of itself, by script."""

    def url(self, path: str = "", **query: object) -> str:
        """Returns an address of the console.

        Args:
            path: It, below the prefix, such as ``operation``.
            **query: The query; what is empty is left out, and a list has its name repeated.
        """
        return _with_query(f"{self.prefix}/{path}", query)

    def static(self, name: str) -> str:
        """Returns the address of a static file, which changes with its content."""
        return f"{self.prefix}/static/{name}?v={ASSETS[name].digest}"


def _with_query(path: str, query: Mapping[str, object]) -> str:
    given = {name: value for name, value in query.items() if value not in ("", None, (), [])}
    return f"{path}?{urlencode(given, doseq=True, safe='/')}" if given else path


def render(template: str, frame: Frame, /, **values: Any) -> str:
    """Returns a page, or a part of one.

    Args:
        template: The file below ``templates/``.
        frame: The page's frame.
        **values: What it shows.
    """
    return _TEMPLATES.get_template(template).render(frame=frame, **values)
