"""Pages of operations that mean harm: nothing raises, nothing is markup, all is bounded."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from google.longrunning import operations_pb2
from google.protobuf import any_pb2
from google.protobuf.message import Message
from hostile import ODD, descriptions, messages, nested, operations, texts, wide_struct
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sample_operations import NOW, PARENT

from lro.v1.operation_description_pb2 import DescribeOperationResponse
from lro_grpc import _anys
from lro_grpc._console import markup
from lro_grpc._console.form import FORMS, form_of, request_form
from lro_grpc._console.list_page import list_page
from lro_grpc._console.operation_page import operation_page
from lro_grpc._console.rendering import Frame, render
from lro_grpc._console.row import row_of

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

FRAME = Frame(target="127.0.0.1:50051", now=NOW)
PAGE_BYTES = 512 * 1024

unhurried = settings(
    max_examples=50,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # it is large: to shrink it takes minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

VOID = frozenset({"meta", "link", "input", "br", "img", "option"})
TAGS = frozenset(
    (
        *("html", "head", "body", "title", "meta", "link", "script", "svg", "defs", "symbol"),
        *("circle", "path", "rect", "use", "a", "header", "span", "button", "p", "main", "nav"),
        *("div", "section", "h1", "h2", "bdi", "b", "small", "ol", "ul", "li", "time", "progress"),
        *("dl", "dt", "dd", "details", "summary", "pre", "em", "table", "thead", "tbody", "tr"),
        *("th", "td", "aside", "code", "form", "label", "input", "datalist", "option", "kbd"),
        *("dialog", "caption"),
    )
)


class Page(HTMLParser):
    """A page as a browser reads it: it fails at a tag or an attribute that no template has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        names = [name for name, _ in attrs]
        assert not [name for name in names if name.startswith("on") or name == "style"]
        assert len(set(names)) == len(names)
        given = dict(attrs)
        for name in ("href", "action", "data-part", "data-form"):
            assert str(given.get(name, "/")).startswith(("/", "#", "https://"))
        if tag == "script":
            assert str(given["src"]).startswith("/static/")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open and tag not in ("html", "body"):
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            assert not data.strip()
        self.text.append(data)


def seen(page: str) -> str:
    """Returns the text of a page, after a look at its tags and its bytes."""
    assert len(page.encode()) <= PAGE_BYTES
    text = "".join(Page(page).text)
    unseen = [one for one in set(text) - {"\n"} if not one.isprintable()]
    assert unseen == []
    return text


@unhurried
@given(operations())
def test_a_row_is_shown(operation: operations_pb2.Operation) -> None:
    row = row_of(operation, _anys.unpack)
    page = list_page([row], parent=PARENT, actions=("cancel",))
    seen(render("rows_part.html", FRAME, page=page))


@unhurried
@given(operations())
def test_a_page_is_shown(operation: operations_pb2.Operation) -> None:
    page = operation_page(operation, _anys.unpack, target="server:443")
    seen(render("body.html", FRAME, page=page, refusal=None))


@unhurried
@given(descriptions())
def test_a_description_is_shown(description: DescribeOperationResponse) -> None:
    page = operation_page(
        description.operation, _anys.unpack, target="server:443", description=description
    )
    seen(render("body.html", FRAME, page=page, refusal=None))


PART = Frame(target="x", now=NOW, is_part=True)


@unhurried
@given(operations(), st.sampled_from(FORMS))
def test_a_form_is_shown(operation: operations_pb2.Operation, name: str) -> None:
    seen(render("form.html", PART, form=form_of(operation, name, _anys.unpack)))


@unhurried
@given(st.none() | messages())
def test_a_request_is_shown(request: any_pb2.Any | None) -> None:
    description = DescribeOperationResponse(request=request)
    seen(render("form.html", PART, form=request_form(description, _anys.unpack)))


def test_a_page_that_is_full_stays_within_its_bytes() -> None:
    """Sixty large details, a long batch, and names of the most bytes that an address takes."""
    one = wide_struct(20_000)
    description = DescribeOperationResponse()
    operation = description.operation
    operation.name = "operations/" + "&" * 650  # each is %26 in an address, and &amp; in a field
    operation.done = True
    operation.error.message = "<" * 100_000
    operation.error.details.extend([one] * 60)
    own = description.metadata
    own.target = own.verb = own.status_detail = own.api_version = "<" * 100_000
    own.attempt = own.progress_percent = 7
    for number in range(1_000):
        target = f"{'<' * 300}{number}"
        own.batch_create_instances_metadata.instance_targets.append(target)
        status = own.batch_create_instances_metadata.instance_statuses[target]
        status.state = 5  # type: ignore[assignment]
        status.error.message = "<" * 5_000
    description.method = description.caller = description.exclusive_target = "<" * 5_000
    description.actions.extend([1, 2, 3, 4, 5, 6])  # type: ignore[list-item]
    for number in range(60):
        attempt = description.attempts.add(number=number, worker="<" * 5_000, outcome=2)  # type: ignore[arg-type]
        attempt.error.code = 8
        attempt.error.message = "<" * 5_000
    operation.metadata.CopyFrom(_anys.pack(own))
    page = operation_page(operation, _anys.unpack, target="server:443", description=description)
    seen(render("body.html", FRAME, page=page, refusal=None))


def test_a_page_opens_so_many_bytes_of_messages() -> None:
    """To make JSON of them takes seconds, though the page has no place for it."""
    opened: list[int] = []

    def unpack(packed: any_pb2.Any) -> Message | None:
        opened.append(len(packed.value))
        return _anys.unpack(packed)

    one = wide_struct(20_000)
    operation = operations_pb2.Operation(name="operations/x", done=True)
    operation.error.details.extend([one] * 20)
    page = operation_page(operation, unpack, target="server:443")
    assert len(one.value) <= sum(opened) <= 2 * 1024 * 1024
    assert page.error is not None
    assert page.error.details[0].json is not None
    assert page.error.details[-1].note.endswith("the JSON file has all of it")


def test_any_in_any_ends() -> None:
    """150 of them, one in another."""
    operation = operations_pb2.Operation(name="operations/x", done=True, response=nested(150))
    page = operation_page(operation, _anys.unpack, target="server:443")
    assert page.blocks[0].json is not None


@unhurried
@given(texts, st.integers(0, 500))
def test_what_is_cut_is_short_and_seen(text: str, most: int) -> None:
    shown = markup.cut(text, most)
    assert shown.isprintable()
    assert len(shown) <= most + 30


@given(st.text(st.sampled_from(ODD + "abc ")) | st.text())
def test_a_text_that_hides_nothing_stays_as_it_is(text: str) -> None:
    shown = markup.visible(text)
    assert markup.visible(shown) == shown
    if not set(text) & set(ODD) and text.isprintable():
        assert shown == text


@unhurried
@given(texts, st.integers(0, 20))
def test_the_halves_of_a_name_are_the_whole(text: str, tail: int) -> None:
    assert "".join(markup.middle(text, tail)) == markup.cut(text)
