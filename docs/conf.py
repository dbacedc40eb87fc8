"""The site: Sphinx reads the pages that people read on GitHub, with nothing in them for Sphinx.

The source folder is the repository, so that a relative link is the same in both. What a page lacks
is added here: the toctree of a shelf is made of the links of its ``index.md``, the API of a module
of the names in its table, and a drawing of its Mermaid.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import os.path
import re
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mmdr
from docutils import nodes
from docutils.parsers.rst import Directive
from pygments.lexers.special import TextLexer

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]

project = "lro-grpc"
author = "the authors of lro-grpc"
project_copyright = "the authors of lro-grpc. Apache-2.0"
version = release = importlib.metadata.version("lro-grpc")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "examples/**.md",
    "benchmarks/results/*.md",
    "tests/README.md",
    "*.md",
]
exclude_patterns = [".*", "build", "dist"]

myst_enable_extensions = ["alert", "gfm_autolink", "strikethrough"]
myst_heading_anchors = 4
myst_fence_as_directive = {"mermaid"}
suppress_warnings = ["myst.header"]  # README.md begins with a picture, as GitHub shows it

autodoc_class_signature = "mixed"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
toc_object_entries = False  # a table of the names is at the top; this takes as long as all else
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = f"lro-grpc {version}"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1f5fbf", "color-brand-content": "#1f5fbf"},
    "dark_css_variables": {"color-brand-primary": "#8ab4f8", "color-brand-content": "#8ab4f8"},
}
pygments_style = "friendly"
pygments_dark_style = "github-dark"
copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True

_LINK = re.compile(r"\]\(([^)\s#]+\.md)(?:#[^)]*)?\)")
_MODULE = re.compile(r"^## `(lro_grpc[\w.]*)`$", re.MULTILINE)
_WORD = re.compile(r"\w+")
_NAMES = re.compile(r"^\| (`\w+`(?:, `\w+`)*) \|", re.MULTILINE)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_directive("mermaid", Mermaid)
    app.add_lexer("filter", TextLexer)
    app.connect("source-read", _complete)
    app.connect("build-finished", _lead_in)


def _complete(app: Sphinx, docname: str, source: list[str]) -> None:
    """Adds to a page what Sphinx needs of it."""
    del app
    if docname.endswith("/index"):
        source[0] += _toctree(docname, source[0])
    elif docname.startswith("docs/reference/"):
        source[0] = _with_api(source[0])
    elif not docname.startswith("docs/") and docname not in _LISTED:
        source[0] = f"---\norphan: true\n---\n\n{source[0]}"


_LISTED = {
    "ARCHITECTURE",
    "CONTRIBUTING",
    "CHANGELOG",
    "SECURITY",
    "benchmarks/results/latest",
    "docs/design/benchmarks/index",
}
"""What the shelf on the design lists, although it stands elsewhere in the repository."""


def _toctree(docname: str, text: str) -> str:
    """Returns a toctree of what a shelf's page links to: its own pages, in the order of the text.

    The first page of all lists the shelves.
    """
    folder = os.path.dirname(docname)
    found = [os.path.normpath(f"{folder}/{link}")[:-3] for link in _LINK.findall(text)]
    if docname == root_doc:
        listed = [one for one in found if one.endswith("/index")]
    else:
        own = [one for one in found if os.path.dirname(one) == folder]
        listed = [*own, *(one for one in found if one in _LISTED and folder == "docs/design")]
    entries = "\n".join(f"/{one}" for one in dict.fromkeys(listed))
    return f"\n\n```{{toctree}}\n:hidden:\n\n{entries}\n```\n"


# The API.


_NOT_OURS = "Call, Iterator, Protocol, ServicerContext, int, tuple"
"""Bases whose members are documented elsewhere."""


def _with_api(text: str) -> str:
    """Returns a page of the reference with all that its tables name, from the docstrings."""
    before, *parts = _MODULE.split(text)
    sections = (_section(*both) for both in zip(parts[::2], parts[1::2], strict=True))
    return before + "".join(sections)


def _section(module: str, text: str) -> str:
    """Returns the part of a page on one module: its tables with links, then what they name."""

    def linked(row: re.Match[str]) -> str:
        links = (f"{{py:obj}}`{name} <{module}.{name}>`" for name in _WORD.findall(row[1]))
        return f"| {', '.join(links)} |"

    names = [name for cell in _NAMES.findall(text) for name in _WORD.findall(cell)]
    documented = "".join(_documented(module, name) for name in names)
    return f"## `{module}`{_NAMES.sub(linked, text)}\n{documented}\n"


def _documented(module: str, name: str) -> str:
    found: Any = getattr(__import__(module, fromlist=[name]), name)
    options = ""
    if inspect.isclass(found) and issubclass(found, BaseException):
        kind, options = "exception", "   :members:\n   :show-inheritance:\n"
    elif inspect.isclass(found):
        kind, options = "class", f"   :members:\n   :inherited-members: {_NOT_OURS}\n"
    else:
        kind = "function" if inspect.isroutine(found) else "data"
    return f"\n```{{eval-rst}}\n.. auto{kind}:: {module}.{name}\n{options}```\n"


# Drawings.


class Mermaid(Directive):
    """A drawing for each of light and dark, made when the site is."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Called by docutils."""
        env = self.state.document.settings.env
        code = "\n".join(self.content)
        folder = Path(env.app.outdir) / "_images"
        folder.mkdir(exist_ok=True)
        return [self._drawn(code, env.docname, folder, theme) for theme in ("light", "dark")]

    def _drawn(self, code: str, docname: str, folder: Path, theme: str) -> nodes.Node:
        settings = {"light": "neutral", "dark": "dark"}[theme]
        svg = mmdr.render(f'%%{{init: {{"theme": "{settings}"}}}}%%\n{code}').svg()
        name = f"{sha256(code.encode()).hexdigest()[:12]}-{theme}.svg"
        (folder / name).write_text(svg, encoding="utf-8")
        kind = "states" if code.startswith("stateDiagram") else "calls"
        path = f"{'../' * docname.count('/')}_images/{name}"
        html = f'<p><img class="diagram only-{theme}" src="{path}" alt="A diagram of {kind}"></p>'
        return nodes.raw("", html, format="html")


def _lead_in(app: Sphinx, problem: Exception | None) -> None:
    """Has the address of the site itself lead to its first page."""
    if problem is None and app.builder.format == "html":
        page = f'<!doctype html><meta http-equiv="refresh" content="0; url={root_doc}.html">\n'
        (Path(app.outdir) / "index.html").write_text(page, encoding="utf-8")
