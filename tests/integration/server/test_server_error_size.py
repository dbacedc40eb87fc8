"""An error of any size and script arrives as the error that it is: headers have their limits."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf import wrappers_pb2
from google.rpc import error_details_pb2
from server_harness import refused, serving

import lro_grpc

Text = wrappers_pb2.StringValue
METHOD = "/errors.v1.Errors/Fail"
TRIES = 5
"""What is above a limit is refused at random."""

TEXTS = {
    "ascii": "x" * 100_000,
    "short enough": "x" * 1000,
    "umlauts": "ä" * 740,
    "kanji": "長" * 740,
    "more kanji": "長" * 2700,
    "emojis": "\U0001f680" * 740,
    "percents": "%" * 3000,
    "lines": "a\n" * 2000,
    "a little": "naïve % €",
}


@pytest.mark.parametrize("stack", ["sync", "aio"])
@pytest.mark.parametrize("how", ["raised", "aborted"])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_refusal_arrives_whatever_its_text(stack: str, how: str, text: str) -> None:
    def prepare(request: Any, context: Any) -> None:
        if how == "aborted":
            context.abort(grpc.StatusCode.ABORTED, text, (("x-more", "y" * 2000),))
        raise lro_grpc.LroError(
            text,
            code=lro_grpc.Code.ABORTED,
            reason="NO",
            metadata={"text": text[:700], "more": "z" * 900},
            details=[error_details_pb2.LocalizedMessage(locale="x", message=text)],
        )

    def configure(operations: lro_grpc.Operations) -> None:
        operations.add_method(
            METHOD, lambda request, op: request, request=Text, response=Text, prepare=prepare
        )

    with serving(stack, configure=configure) as server:
        for _ in range(TRIES):
            failure = refused(lambda: server.start(METHOD, Text()))
            assert failure.code is grpc.StatusCode.ABORTED
            beginning = failure.message.removesuffix("...")
            assert text.startswith(beginning)
            assert len(beginning) >= min(len(text), 100)
            if len(text) < 20:
                assert failure.message == text


@pytest.mark.parametrize("stack", ["sync", "aio"])
def test_trailing_metadata_that_has_no_room_is_left_out(stack: str) -> None:
    """The code and the message come first."""

    def prepare(request: Any, context: Any) -> None:
        large = (("x-large", "y" * 9000), ("x-large-bin", b"z" * 6000), ("x-small", "1"))
        context.abort(grpc.StatusCode.ABORTED, "長" * 740, large)

    def configure(operations: lro_grpc.Operations) -> None:
        operations.add_method(
            METHOD, lambda request, op: request, request=Text, response=Text, prepare=prepare
        )

    with serving(stack, configure=configure) as server:
        for _ in range(TRIES):
            with pytest.raises(grpc.RpcError) as raised:
                server.start(METHOD, Text())
            error: Any = raised.value
            assert error.code() is grpc.StatusCode.ABORTED
            assert dict(error.trailing_metadata()) == {"x-small": "1"}


def test_an_operations_own_error_is_not_cut() -> None:
    """It travels in a message."""
    text = "長" * 3000

    def run(request: Any, op: Any) -> Any:
        raise lro_grpc.LroError(text)

    def configure(operations: lro_grpc.Operations) -> None:
        operations.add_method(METHOD, run, request=Text, response=Text)

    with serving("sync", configure=configure) as server:
        assert server.done(server.start(METHOD, Text()).name).error.message == text


def test_a_line_of_the_log_stays_one(caplog: pytest.LogCaptureFixture) -> None:
    def run(request: Any, op: Any) -> Any:
        raise lro_grpc.LroError("no\nINFO all is well\r\x1b[2J\u202e")

    def configure(operations: lro_grpc.Operations) -> None:
        operations.add_method(METHOD, run, request=Text, response=Text)

    caplog.set_level("DEBUG", "lro_grpc")
    with serving("sync", configure=configure) as server:
        server.done(server.start(METHOD, Text()).name)
    lines = [one.getMessage() for one in caplog.records if one.name.startswith("lro_grpc")]
    assert any("all is well" in line for line in lines)
    assert all(line.isprintable() for line in lines)
