"""The messages that ``lro`` shows though it does not know their types."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest
import yaml
from foreign_server import Fault, Weight, launch, packed, serving_foreign
from google.protobuf import any_pb2
from google.rpc import error_details_pb2
from lro_process import Lro

if TYPE_CHECKING:
    from foreign_server import Foreign

ACME = "type.googleapis.com/acme.jobs.v1"
WEIGHT = "type.googleapis.com/acme.units.v1.Weight"


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_types_of_the_server_are_shown_as_their_fields(version: str) -> None:
    with serving_foreign(version) as foreign:
        result = Lro(foreign.target)("get", foreign.put(launch()), "--output", "json")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {
        "name": "projects/acme/locations/moon/operations/launch-1",
        "metadata": {
            "@type": f"{ACME}.LaunchMetadata",
            "createTime": "2023-11-14T22:13:20Z",
            "progressPercent": 60,
            "statusMessage": "fuelling",
            "verb": "launch",
            "rocket": "R7",
        },
        "done": True,
        "response": {
            "@type": f"{ACME}.Launch",
            "pad": "39A",
            "payload": {"@type": WEIGHT, "kilograms": "5"},
            "weight": {"kilograms": "7"},
        },
    }


def test_the_longrunning_dialect_has_their_fields_too(foreign: Foreign) -> None:
    lro, name = Lro(foreign.target), foreign.put(launch())
    shown = lro("get", name, "--as", "longrunning")
    assert shown.stdout == lro("get", name, "--output", "json").stdout
    assert json.loads(shown.stdout)["response"]["pad"] == "39A"


def test_files_that_come_one_by_one_are_put_together(foreign: Foreign) -> None:
    foreign.is_terse = True
    result = Lro(foreign.target)("get", foreign.put(launch()))
    assert "kilograms: '5'" in result.stdout
    assert foreign.requests.count("reflection") > 1


def test_details_of_an_error_and_messages_packed_twice_are_shown_as_their_fields() -> None:
    operation = launch()
    operation.error.code = 9
    operation.error.details.append(packed(error_details_pb2.ErrorInfo(reason="LEAK")))
    operation.error.details.append(packed(Fault(part="valve")))
    operation.error.details.append(packed(packed(Weight(kilograms=3))))
    with serving_foreign("v1") as foreign:
        result = Lro(foreign.target)("get", foreign.put(operation), "--output", "json")
    assert json.loads(result.stdout)["error"]["details"] == [
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "LEAK"},
        {"@type": f"{ACME}.Fault", "part": "valve"},
        {
            "@type": "type.googleapis.com/google.protobuf.Any",
            "value": {"@type": WEIGHT, "kilograms": "3"},
        },
    ]


def test_conventional_fields_of_the_servers_types_are_found() -> None:
    with serving_foreign("v1") as foreign:
        foreign.put(launch())
        result = Lro(foreign.target)("list", "projects/acme/locations/moon")
    assert result.stdout.splitlines()[1].split("\t") == [
        "projects/acme/locations/moon/operations/launch-1",
        *("SUCCEEDED", "60%", "launch", "-", "2023-11-14T22:13:20+00:00", "fuelling"),
    ]


def test_without_reflection_they_are_shown_as_bytes_and_a_note_says_so() -> None:
    with serving_foreign() as foreign:
        operation = launch()
        lro = Lro(foreign.target)
        shown = lro("get", foreign.put(operation), "--output", "json")
        listed = lro("list", "projects/acme/locations/moon")
        read = lro("get", operation.name)
    assert shown.returncode == listed.returncode == read.returncode == 0
    assert json.loads(shown.stdout)["response"] == {
        "@type": f"{ACME}.Launch",
        "value": base64.b64encode(operation.response.value).decode(),
    }
    assert shown.stderr.splitlines() == [
        f"lro: acme.jobs.v1.{name} is not known here, and the server has no reflection service:"
        " it is shown as bytes"
        for name in ("LaunchMetadata", "Launch")
    ]
    assert listed.stdout.splitlines()[1].split("\t")[1:] == ["SUCCEEDED", *"-----"]
    assert f"{ACME}.Launch" in read.stdout


def test_a_type_that_even_the_server_does_not_know_is_shown_as_bytes() -> None:
    operation = launch()
    operation.response.type_url = "type.googleapis.com/acme.jobs.v1.Lost"
    with serving_foreign("v1") as foreign:
        result = Lro(foreign.target)("get", foreign.put(operation), "--output", "json")
    assert json.loads(result.stdout)["response"]["@type"] == f"{ACME}.Lost"
    assert "Lost is not known here, nor to the server's reflection service" in result.stderr


@pytest.mark.parametrize("packed_type", [f"{ACME}.Launch", "type.googleapis.com/google.rpc.Help"])
def test_bytes_that_are_not_of_their_type_are_shown_as_bytes(packed_type: str) -> None:
    operation = launch()
    operation.response.CopyFrom(any_pb2.Any(type_url=packed_type, value=b"\xff"))
    with serving_foreign("v1") as foreign:
        result = Lro(foreign.target)("get", foreign.put(operation), "--output", "json")
    shown = json.loads(result.stdout)["response"]
    assert shown == {"@type": f"{packed_type} (unreadable)", "value": "/w=="}
    assert "is not one" in result.stderr


def test_an_any_without_a_type_is_shown_as_it_is() -> None:
    operation = launch()
    operation.response.CopyFrom(any_pb2.Any(value=b"x"))
    with serving_foreign() as foreign:
        result = Lro(foreign.target)("get", foreign.put(operation), "--output", "json")
    assert json.loads(result.stdout)["response"] == {"@type": "", "value": "eA=="}


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_a_value_without_a_json_form_is_shown_by_its_bytes(output: str) -> None:
    operation = launch()
    late = any_pb2.Any(type_url="type.googleapis.com/google.protobuf.Timestamp")
    late.value = b"\x08\xff\xff\xff\xff\xff\xff\xff\x7f"
    operation.response.CopyFrom(late)
    with serving_foreign("v1") as foreign:
        name = foreign.put(operation)
        foreign.put(other := launch(2))
        result = Lro(foreign.target)("get", name, "--output", output)
        listed = Lro(foreign.target)("list", "projects/acme/locations/moon", "--output", output)
        watched = Lro(foreign.target)("watch", name, "--output", output)
    assert (result.returncode, result.stderr) == (0, "")
    (shown,) = yaml.safe_load_all(result.stdout)
    assert shown["response"] == {
        "@type": f"{late.type_url} (unreadable)",
        "value": "CP////////9/",
    }
    assert shown["metadata"]["verb"] == "launch"
    assert (listed.returncode, watched.returncode) == (0, 0)
    assert other.name in listed.stdout
    assert "CP////////9/" in listed.stdout
    assert "CP////////9/" in watched.stdout


def test_reflection_is_asked_with_the_same_metadata() -> None:
    with serving_foreign("v1") as foreign:
        name = foreign.put(launch())
        Lro(foreign.target)("get", name, "-H", "authorization=Bearer x", "--output", "json")
        _assert_all_sent(foreign, "authorization", "Bearer x")


def _assert_all_sent(foreign: Foreign, key: str, value: str) -> None:
    assert "reflection" in foreign.requests
    assert {metadata.get(key) for metadata in foreign.metadata} == {value}


def test_reflection_is_not_asked_where_every_type_is_known() -> None:
    operation = launch()
    operation.ClearField("metadata")
    operation.response.Pack(error_details_pb2.ErrorInfo(reason="KNOWN"))
    with serving_foreign("v1") as foreign:
        result = Lro(foreign.target)("get", foreign.put(operation))
        assert "reflection" not in foreign.requests
    assert "reason: KNOWN" in result.stdout


def test_a_reflection_service_that_refuses_is_asked_once() -> None:
    operation = launch()
    operation.error.details.append(packed(Fault(part="valve")))
    with serving_foreign("v1") as foreign:
        foreign.has_secret_types = True
        result = Lro(foreign.target)("get", foreign.put(operation))
        assert foreign.requests.count("reflection") == 1
    assert result.returncode == 0
    assert "the server's reflection service answers PERMISSION_DENIED" in result.stderr
