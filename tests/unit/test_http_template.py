"""Path templates, against their grammar and a matcher that tries everything."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lro_grpc._errors import ConfigurationError, MalformedRequestError
from lro_grpc._http.routing import Template

OPERATION = Template("/v1/{name=**/operations/*}")
LONG = Template("/v1/{name=**/operations/*/**}")


@pytest.mark.parametrize(
    ("template", "path", "values"),
    [
        ("/v1/{name=**/operations/*}", "/v1/operations/x", {"name": "operations/x"}),
        ("/v1/{name=**/operations/*}", "/v1/a/b/operations/x", {"name": "a/b/operations/x"}),
        ("/v1/{name=**/a/**}", "/v1/a", {"name": "a"}),
        ("/v1/{name=**/a/**}:go", "/v1/b/a/c/d:go", {"name": "b/a/c/d"}),
        ("/v1/{name=**}/operations", "/v1/operations", {"name": ""}),
        ("/v1/{name=**}/operations", "/v1/a/operations", {"name": "a"}),
        ("/v1/{name=**}", "/v1", {"name": ""}),
        ("/v1/{a}/x/{b.c}", "/v1/1/x/2", {"a": "1", "b.c": "2"}),
        ("/v1/{a=x/*}/{b=y/*}:go", "/v1/x/1/y/2:go", {"a": "x/1", "b": "y/2"}),
        ("/v1/*/{a}", "/v1/any/1", {"a": "1"}),
        ("/v1:go", "/v1:go", {}),
        ("/v1/{a}", "/v1/%2F%41", {"a": "/A"}),
        ("/v1/{a=*}", "/v1/b%2fc", {"a": "b/c"}),
        ("/v1/{a=**}", "/v1/b%2Fc/%64%2f", {"a": "b%2Fc/d%2f"}),
        ("/v1/{a=x/*}", "/v1/x/%252F", {"a": "x/%2F"}),
        ("/v1/{a}", "/v1/%3Ago", {"a": ":go"}),
        ("/v1/{a}", "/v1/%E2%82%AC+", {"a": "€+"}),
    ],
)
def test_match(template, path, values):
    assert Template(template).match(path) == values


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("/v1/{a}", "/v1/"),
        ("/v1/{a}", "/v1/x/"),
        ("/v1/{a}", "/v1/x/y"),
        ("/v1/{a}", "/v1//x"),
        ("/v1/{a}", "v1/x"),
        ("/v1/{a}", "/v2/x"),
        ("/v1/{a}", "/%761/x"),
        ("/v1/{a}", "/v1/x:go"),
        ("/v1/{a}", "/v1/x:"),
        ("/v1/{a}:go", "/v1/x"),
        ("/v1/{a}:go", "/v1/x:go:go"),
        ("/v1/{a}:go", "/v1/x%3Ago"),
        ("/v1/{a}:go", "/v1/:go"),
        ("/v1.5/{a}", "/v1x5/y"),
        ("/v1/{name=**/operations/*}", "/v1/operations/"),
        ("/v1/{name=**/operations/*}", "/v1//operations/x"),
    ],
)
def test_no_match(template, path):
    assert Template(template).match(path) is None


@pytest.mark.parametrize("value", ["%", "%2", "%zz", "a%", "%ff", "%c3%28", "%ed%a0%80", "%c0%af"])
@pytest.mark.parametrize("template", ["/v1/{a}", "/v1/{a=**}", "/v1/{a=x/*}"])
def test_a_value_that_is_not_percent_encoded_text(template, value):
    path = "/v1/x/" if "x" in template else "/v1/"
    with pytest.raises(MalformedRequestError, match="percent-encoded UTF-8") as caught:
        Template(template).match(path + value)
    assert caught.value.metadata == {"value": ("x/" if template == "/v1/{a=x/*}" else "") + value}


@pytest.mark.parametrize(
    "text",
    ["", "v1", "/", "/v1/", "//v1", "/v1/{}", "/v1/{a", "/v1/a}", "/v1/{A}", "/v1/{a=}",
     "/v1/{a=b/}", "/v1/{a={b}}", "/v1/{a}{b}", "/v1/{a}/{a}", "/v1/**/{a=**}", "/v1/***",
     "/v1/{a=**}/{b=c/**}", "/v1/{a=**/b/**}/c", "/v1/{a=b/**/c/**}", "/v1/{a=**/b/**/c/**}",
     "/v1/**/b/**", "/v1/{a=**/**}",
     "/v1/x*", "/v1/{a.}", "/v1:", "/v1:a:b", "/v1:a/b", "/v1/{a}:*", "/v1/{a:b}", "/v1/é",
     "/v1/{a} "],
)  # fmt: skip
def test_a_text_that_is_no_template(text):
    with pytest.raises(ConfigurationError, match="path template"):
        Template(text)


SEGMENT = st.text("ab~.%-", min_size=1, max_size=3).map(quote)
LITERAL = st.sampled_from(["a", "b", "operations"])


@st.composite
def templates(draw) -> list[tuple[str, list[str]]]:
    """Draws the parts of a template: field or nothing, and its items."""
    parts = []
    wild = False
    for number in range(draw(st.integers(1, 4))):
        choices = ["*", "a", "b"] if wild else ["*", "a", "b", "**"]
        items = draw(st.lists(st.sampled_from(choices), min_size=1, max_size=3))
        if items.count("**") > 1:
            items = ["*" if one == "**" else one for one in items]
        wild = wild or "**" in items
        field = f"f{number}" if draw(st.booleans()) else ""
        parts.append((field, items if field else items[:1]))
        wild = any("**" in items for _, items in parts)
    return parts


def text_of(parts: list[tuple[str, list[str]]]) -> str:
    return "".join(
        f"/{{{field}={'/'.join(items)}}}" if field else f"/{items[0]}" for field, items in parts
    )


def all_matches(
    parts: list[tuple[str, list[str]]], segments: list[str]
) -> Iterator[dict[str, list[str]]]:
    """Gives each way in which a template can be laid over segments."""
    items = [(field, item) for field, of_part in parts for item in of_part]

    def lay(at: int, left: list[str], values: dict[str, list[str]]) -> Iterator[dict]:
        if at == len(items):
            if not left:
                yield values
            return
        field, item = items[at]
        lengths = range(len(left) + 1) if item == "**" else [1] if left else []
        for length in lengths:
            taken = left[:length]
            if item in ("*", "**") or taken == [item]:
                more = {**values, field: [*values.get(field, []), *taken]}
                yield from lay(at + 1, left[length:], more)

    yield from lay(0, segments, {field: [] for field, _ in parts})


@given(parts=templates(), segments=st.lists(LITERAL, max_size=7))
def test_a_template_matches_what_it_can_be_laid_over(parts, segments):
    expected = [
        {field: "/".join(value) for field, value in one.items() if field}
        for one in all_matches(parts, segments)
    ]
    found = Template(text_of(parts)).match("".join(f"/{one}" for one in segments))
    assert len(expected) <= 1  # one ** at most: there are no two ways
    assert found == (expected[0] if expected else None)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@given(value=TEXT, name=st.lists(TEXT.map(lambda text: text.replace("/", "-")), max_size=4))
def test_what_is_encoded_comes_back(value, name):
    """A name's own slashes separate its segments, and come from nothing else."""
    path = "".join(f"/{quote(one, safe='')}" for one in name)
    template = Template("/v1/{value}/n/{name=**}")
    found = template.match(f"/v1/{quote(value, safe='')}/n{path}")
    assert found == {"value": value, "name": "/".join(name)}


@given(path=st.text(max_size=40))
def test_any_path_matches_or_does_not(path):
    for template in (OPERATION, Template("/{a}"), Template("/{a=**}:go")):
        try:
            found = template.match(path)
        except MalformedRequestError:
            continue
        assert found is None or set(found) == set(template.fields)


@given(segments=st.lists(LITERAL, max_size=7), rest=st.sampled_from(["", "/", "//a", ":go"]))
def test_a_name_may_have_several_segments_for_an_id(segments, rest):
    path = "".join(f"/{one}" for one in segments)
    has_id = "operations" in segments[:-1] and not rest
    assert LONG.match(f"/v1{path}{rest}") == ({"name": path[1:]} if has_id else None)


def test_a_path_with_very_many_segments_is_no_work():
    for template in (OPERATION, LONG):
        for end in ("/", "//", "/:go", "/x:go"):
            assert template.match("/v1" + "/operations" * 30_000 + end) is None
        assert template.match("/v1" + "/a" * 30_000) is None
