"""The options of a service that cannot be: each is refused at once, by its name and its value."""

from __future__ import annotations

import math
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import empty_pb2

import lro_grpc
from lro_grpc.engines import Temporal
from lro_grpc.http import gateway

METHOD = "/options.v1.Service/Run"


async def retries(error: Exception) -> bool:
    return True


def refusal(call: Any) -> str:
    with pytest.raises(lro_grpc.ConfigurationError) as raised:
        call()
    return raised.value.message


@pytest.mark.parametrize(
    "option", ["lease", "sweep", "retention", "watch_resend", "max_wait", "grace", "poll_after"]
)
@pytest.mark.parametrize(
    "value", [timedelta(seconds=-1), timedelta.max, -1, 1e12, "10s", math.nan, math.inf, True]
)
def test_a_time_that_cannot_be_is_refused(option: str, value: Any) -> None:
    message = refusal(lambda: lro_grpc.Operations("memory:", **{option: value}))
    assert message.startswith(f"{option} is {value!r}; give a timedelta")


@pytest.mark.parametrize(
    "option", ["lease", "sweep", "retention", "watch_resend", "max_wait", "grace", "poll_after"]
)
@pytest.mark.parametrize("value", [10, 0.5])
def test_a_time_may_be_given_in_seconds(option: str, value: Any) -> None:
    lro_grpc.Operations("memory:", **{option: value})


@pytest.mark.parametrize("option", ["timeout", "progress_timeout", "retention"])
def test_a_time_of_a_method_may_be_given_in_seconds(option: str) -> None:
    options: Any = {option: 1.5}
    assert getattr(lro_grpc.MethodOptions(**options), option) == timedelta(seconds=1.5)
    for wrong in (-1, 0, math.nan, True, "1"):
        message = refusal(lambda wrong=wrong: lro_grpc.MethodOptions(**{option: wrong}))
        assert message.startswith(f"{option} is {wrong!r}; give a timedelta, or seconds")


def test_the_time_after_which_to_retry_may_be_given_in_seconds() -> None:
    assert lro_grpc.RetryableError("m", retry_after=2.5).retry_after == timedelta(seconds=2.5)
    assert lro_grpc.RetryableError("m", retry_after=0).retry_after == timedelta(0)
    for wrong in (-1, math.nan, math.inf, True, "1"):
        with pytest.raises((TypeError, ValueError), match="retry_after is"):
            lro_grpc.RetryableError("m", retry_after=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "option", ["lease", "sweep", "retention", "watch_resend", "max_wait", "grace"]
)
def test_a_time_that_is_needed_is_not_left_out_as_none(option: str) -> None:
    options: Any = {option: None}
    message = refusal(lambda: lro_grpc.Operations("memory:", **options))
    assert message.startswith(f"{option} is None; give a timedelta")


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("identify", "ann", "a function"),
        ("authorize", True, "a function"),
        ("new_id", "op-1", "a function"),
        ("error_domain", b"fleet.example.com", "a text"),
        ("limits", {"queue": 5}, "a Limits"),
        ("limits", 5, "a Limits"),
    ],
)
def test_an_option_of_another_type_is_refused(option: str, value: Any, wanted: str) -> None:
    message = refusal(lambda: lro_grpc.Operations("memory:", **{option: value}))
    assert message == f"{option} is {value!r}; give {wanted}"


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("namespace", 7, "give a text"),
        ("task_queue", 7, "give a function"),
        ("api_key", b"secret", "give a text"),
        ("max_task_queue_activities_per_second", 0, "give a number above 0"),
        ("standalone", "no", "give True or False"),
        ("runs_handlers", 1, "give True or False"),
    ],
)
def test_an_option_of_temporal_that_cannot_be_is_refused(
    option: str, value: Any, wanted: str
) -> None:
    message = refusal(lambda: Temporal("localhost:7233", **{option: value}))
    assert message == f"{option} is {value!r}; {wanted}"


@pytest.mark.parametrize(
    "address", ["", "nonsense", ":7233", "localhost:", "localhost:http", "localhost:0", "h:65536"]
)
def test_an_address_of_temporal_without_host_or_port_is_refused(address: str) -> None:
    message = refusal(lambda: Temporal(address))
    assert message == f"address is {address!r}; give HOST:PORT, such as 'localhost:7233'"


def test_an_engine_that_is_none_is_refused() -> None:
    message = refusal(lambda: lro_grpc.Operations("memory:", engine="localhost:7233"))  # type: ignore[arg-type]
    assert message == "engine is 'localhost:7233'; give a lro_grpc.engines.Temporal"


def test_the_engine_on_temporal_says_what_it_needs() -> None:
    """And its options can be made without that."""
    script = """
import asyncio, sys
sys.modules["temporalio"] = None
import lro_grpc
from lro_grpc.engines import Temporal
operations = lro_grpc.Operations("memory:", engine=Temporal("localhost:7233"))
try:
    asyncio.run(operations.start())
except lro_grpc.ConfigurationError as error:
    print(error.message)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    wanted = "the engine on Temporal needs temporalio: pip install 'lro-grpc[temporal]'"
    assert (run.stdout.strip(), run.stderr) == (wanted, "")


def test_the_api_key_of_temporal_is_not_shown() -> None:
    assert "secret" not in repr(Temporal("localhost:7233", api_key="secret"))


@pytest.mark.parametrize("store", [Path("operations.db"), None, 5, b"memory:"], ids=repr)
def test_a_store_that_is_none_is_refused(store: Any) -> None:
    message = refusal(lambda: lro_grpc.Operations(store))
    assert message == f"store is {store!r}; give a store, or the URL of one"


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("concurrency", True, "a whole number of 1"),
        ("concurrency", math.nan, "a whole number of 1"),
        ("concurrency", 2**40, "a whole number of 1"),
        ("max_attempts", None, "a whole number of 1"),
        ("max_attempts", "3", "a whole number of 1"),
        ("exclusive", "False", "True or False"),
        ("exclusive", 1, "True or False"),
        ("pausable", "no", "True or False"),
        ("pausable", None, "True or False"),
        ("retry", True, "a function"),
        ("backoff", timedelta(seconds=1), "a Backoff"),
        ("backoff", None, "a Backoff"),
        ("verb", 5, "a text"),
        ("api_version", 1, "a text"),
    ],
)
def test_an_option_of_a_method_that_cannot_be_is_refused(
    option: str, value: Any, wanted: str
) -> None:
    for decorator in (lro_grpc.MethodOptions, lro_grpc.method):
        message = refusal(lambda: decorator(**{option: value}))  # noqa: B023 - called at once
        assert message.startswith(f"{option} is {value!r}; give {wanted}")


def test_a_predicate_that_nobody_awaits_is_refused() -> None:
    options: Any = {"retry": retries}
    message = refusal(lambda: lro_grpc.MethodOptions(**options))
    assert message == "retry is a coroutine function; give a plain one"


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"handler": None}, f"the handler of {METHOD}"),
        ({"prepare": "check"}, f"the prepare of {METHOD}"),
        ({"options": {"exclusive": True}}, "options"),
        ({"method": None}, "None is not of the form"),
    ],
    ids=repr,
)
def test_a_method_that_cannot_be_served_is_refused(wrong: Any, what: str) -> None:
    options: dict[str, Any] = {
        "method": METHOD,
        "handler": retries,
        "request": empty_pb2.Empty,
        "response": empty_pb2.Empty,
    }
    operations = lro_grpc.Operations("memory:")
    assert what in refusal(lambda: operations.add_method(**{**options, **wrong}))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_body", 0),
        ("max_body", "4 MiB"),
        ("max_values", None),
        ("max_values", True),
        ("max_bodies", -1),
        ("body_timeout", None),
        ("body_timeout", "30"),
        ("body_timeout", timedelta(0)),
    ],
)
def test_an_option_of_the_gateway_that_cannot_be_is_refused(option: str, value: Any) -> None:
    options: dict[str, Any] = {option: value}
    message = refusal(lambda: gateway(lro_grpc.Operations("memory:"), **options))
    assert message.startswith(f"{option} is {value!r}; give a ")
