"""Names, path templates, page tokens, and the header that routes a call."""

from __future__ import annotations

import urllib.parse

from google.api import http_pb2
from google.longrunning import operations_pb2
from target import lines_of, target, text_of

from lro_grpc import paging
from lro_grpc._errors import (
    ConfigurationError,
    InvalidNameError,
    InvalidPageTokenError,
    MalformedRequestError,
    to_status,
)
from lro_grpc._http.routing import Route, Router, Template
from lro_grpc._operation import names
from lro_grpc._wire import request_params

NAME = "projects/p/locations/l/operations/op-1"


@target(
    NAME, "operations/op-1", "a/operations/operations/b", words=["operations", "/", "..", "%2F"]
)
def operation_name(data: bytes) -> None:
    text = text_of(data)
    names.parent_of([text])
    try:
        parent, operation_id = names.split(text)
    except InvalidNameError as error:
        to_status(error)
        return
    assert names.operation_name(parent, operation_id) == text
    if parent:
        names.check_parent(parent)
    assert all(part not in ("", ".", "..") for part in text.split("/"))
    assert text.isascii()
    assert text.isprintable()


@target(
    f"/v1/{{name=**/operations/*}}:wait\n/v1/{NAME}:wait",
    "/v1/{parent=projects/*}/{a.b_c}/x\n/v1/projects/p%2Fq/%C3%A9/x",
    "/v1/{name=operations}\n/v1/operations",
    words=["{", "}", "=", "*", "**", "/", ":", "{a}", "{b=**}", "%2F", "%2f", "%00", "\n"],
)
def path_template(data: bytes) -> None:
    text, path = lines_of(data, 2)
    try:
        template = Template(text)
    except ConfigurationError as error:
        to_status(error)
        return
    router = Router([Route("GET", template, respond)])
    try:
        found = router.find("GET", path)
        values = template.match(path)
    except MalformedRequestError as error:
        to_status(error)
        return
    assert (found is None) == (values is None)
    if values is None:
        return
    assert list(values) == template.fields
    made = text
    for field, value in values.items():
        begin = made.index(f"{{{field}")
        end = made.index("}", begin) + 1
        made = f"{made[:begin]}{urllib.parse.quote(value, safe='/%')}{made[end:]}"
    if "%" not in path:
        again = template.match(made.replace("%", "%25") if "%" in text else made)
        assert again is None or list(again) == template.fields


async def respond(*_: object) -> None:
    raise AssertionError("nothing is sent")


TOKENS = paging.PageTokens(b"a key of the server's own")
POSITION = b"\0\0\0\0\0\0\1\2"
GENUINE = TOKENS.make(POSITION, "projects/p", "done = true", "False")
OTHER = TOKENS.make(POSITION, "projects/q", "", "False")


@target(GENUINE, OTHER, f"{GENUINE}=", GENUINE.rstrip("="), words=["=", "-", "_", "+", "/", "\n"])
def page_token(data: bytes) -> None:
    for token in (text_of(data), data.decode("latin-1"), changed(data)):
        try:
            position = TOKENS.read(token, "projects/p", "done = true", "False")
        except InvalidPageTokenError as error:
            to_status(error)
            assert token != GENUINE
        else:
            assert token == GENUINE
            assert position == POSITION


def changed(data: bytes) -> str:
    """The genuine token, with the characters at the places changed that the input says."""
    token = bytearray(GENUINE.encode())
    for place, bits in zip(data[::2], data[1::2], strict=False):
        token[place % len(token)] ^= bits & 0x7F
    return token.decode("latin-1")


@target(
    f"name\n{NAME}",
    "parent\nprojects/ä ö&=%\n",
    words=["\n", "/", "&", "=", "%", "\0"],
)
def routing_header(data: bytes) -> None:
    key, value = lines_of(data, 2)
    ((header, encoded),) = request_params.header({key: value})
    assert header == "x-goog-request-params"
    assert encoded.isascii()
    assert encoded.isprintable()
    assert " " not in encoded
    pairs = [part.split("=", 1) for part in encoded.split("&")]
    assert [[urllib.parse.unquote(one) for one in pair] for pair in pairs] == [[key, value]]
    request = operations_pb2.GetOperationRequest(name=value)
    for _, one in request_params.header_for("/google.longrunning.Operations/GetOperation", request):
        assert one.isascii()
        assert one.isprintable()


PATHS = (
    "{name=projects/*/locations/*/operations/*}",
    "{name=projects/*/**}",
    "projects/*/{routing_id=instances/*}/**",
    "{database=**}",
)


@target(
    *(f"{path}\n{NAME}" for path in PATHS), words=["{", "}", "*", "**", "=", "/", "\n"], most=2048
)
def routing_rule(data: bytes) -> None:
    """The template is the service's own, and still no text of it may hang or crash a client."""
    template, value = lines_of(data, 2)
    rule = http_pb2.HttpRule(get=template)
    for parameter in (
        *request_params._implicit(rule),
        *request_params._explicit([_Parameter("name", template)]),
    ):
        found = parameter.pattern.fullmatch(value)
        assert found is None or found[1] in value


class _Parameter:
    def __init__(self, field: str, path_template: str) -> None:
        self.field = field
        self.path_template = path_template
