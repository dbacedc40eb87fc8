"""Paths of OpenAPI: those that a path template stands for, as far as OpenAPI can say them.

A parameter of OpenAPI is one segment. So ``{name=projects/*/instances/*}`` becomes
``projects/{project}/instances/{instance}``; and ``**``, at the beginning of a name or a parent, as
the routes of operations have it, becomes one path for each parent that this API's operations have.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from lro_grpc._http.routing import Template

_LOCATION = ("projects", "*", "locations", "*")
"""The parent of operations, as a path template has it; see ``names.parent_of``."""

_OF_PARENTS = ("name", "parent")
"""The variables that begin with a parent if they begin with ``**``."""


class Place(NamedTuple):
    """A path of OpenAPI."""

    path: str
    parameters: Sequence[str]
    """The names of its parameters, in their order."""

    @property
    def shape(self) -> str:
        """The path without the names: two of one shape are one to OpenAPI."""
        shape = self.path
        for name in self.parameters:
            shape = shape.replace(f"{{{name}}}", "{}", 1)
        return shape


def parents_of(templates: Collection[Template]) -> Sequence[Sequence[str]]:
    """Returns the segments of the parents that operations have which are started at such paths."""
    items = [tuple(items) for template in templates for _, items in template.parts]
    has_location = any(one[: len(_LOCATION)] == _LOCATION for one in items)
    return (_LOCATION, ()) if has_location else ((),)


def places(template: Template, parents: Sequence[Sequence[str]]) -> Iterator[Place]:
    """Yields the paths that a template stands for.

    Args:
        template: The template.
        parents: The segments of each parent that operations have.
    """
    has_parent = any(field in _OF_PARENTS and items[0] == "**" for field, items in template.parts)
    for parent in parents if has_parent else ((),):
        path = ""
        names: list[str] = []
        for field, items in template.parts:
            segments = list(items)
            if field in _OF_PARENTS and items[0] == "**":
                segments[:1] = parent
            for number, item in enumerate(segments):
                if item not in ("*", "**"):
                    path += f"/{item}"
                    continue
                literal = path.rpartition("/")[2] if number or not field else ""
                is_named = literal and "{" not in literal
                name = _unique(singular(literal) if is_named else field or "segment", names)
                names.append(name)
                path += f"/{{{name}}}"
        if path:  # a verb has to follow something
            yield Place(f"{path}{template.verb}", names)


def singular(collection: str) -> str:
    """Returns the name of one in a collection, in lower case, such as ``custom_job``."""
    word = "".join(f"_{one.lower()}" if one.isupper() else one for one in collection).strip("_")
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word.removesuffix("s") if not word.endswith("ss") else word


def _unique(name: str, taken: Collection[str]) -> str:
    name = "".join(one if one.isalnum() else "_" for one in name)
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    return found
