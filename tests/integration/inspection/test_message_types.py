"""The types of a server's messages, by its reflection service, sync and on ``grpc.aio``."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from foreign_server import Fault, Launch, Weight, launch, packed, serving_foreign
from google.protobuf import any_pb2, descriptor_pb2
from google.rpc import error_details_pb2

from lro_grpc._inspection.message_types import AsyncMessageTypes, MessageTypes
from lro_grpc._inspection.reflection import AsyncReflection, Reflection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

NO_SERVICE = "is not known here, and the server has no reflection service: it is shown as bytes"


class Inspector:
    """Opens messages with one ``MessageTypes``, or the async twin of it."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self.target = ""
        self.metadata: tuple[tuple[str, str], ...] = ()
        self.notes: list[str] = []

    def unpack(self, *messages: any_pb2.Any) -> list[Message | None]:
        """Returns the messages inside, all opened at a time where that is possible."""
        return self._run("unpack", messages)

    def to_dict(self, *messages: Message) -> list[dict[str, Any]]:
        return self._run("to_dict", messages)

    def _run(self, method: str, messages: tuple[Message, ...]) -> list[Any]:
        if self._kind == "async":
            return asyncio.run(self._run_async(method, messages))
        with grpc.insecure_channel(self.target) as channel:
            types = MessageTypes(Reflection(channel, self.metadata), self.notes.append)
            return [getattr(types, method)(message) for message in messages]

    async def _run_async(self, method: str, messages: tuple[Message, ...]) -> list[Any]:
        async with grpc.aio.insecure_channel(self.target) as channel:
            types = AsyncMessageTypes(AsyncReflection(channel, self.metadata), self.notes.append)
            return await asyncio.gather(*(getattr(types, method)(one) for one in messages))


@pytest.fixture(params=["sync", "async"])
def inspector(request: pytest.FixtureRequest) -> Iterator[Inspector]:
    return Inspector(request.param)


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_a_type_of_the_server_is_found(inspector: Inspector, version: str) -> None:
    with serving_foreign(version) as foreign:
        inspector.target = foreign.target
        (found,) = inspector.unpack(packed(Launch(pad="39A", weight=Weight(kilograms=7))))
    assert found is not None
    assert (found.pad, found.weight.kilograms) == ("39A", 7)
    assert inspector.notes == []


def test_its_imports_are_fetched_one_by_one_where_the_server_sends_them_so(
    inspector: Inspector,
) -> None:
    with serving_foreign("v1") as foreign:
        foreign.is_terse = True
        inspector.target = foreign.target
        (shown,) = inspector.to_dict(launch())
        assert foreign.requests.count("reflection") == 2  # protobuf's own are here
    assert shown["response"]["payload"]["kilograms"] == "5"


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_types_that_are_looked_up_at_the_same_time_are_all_found(
    inspector: Inspector, version: str
) -> None:
    with serving_foreign(version) as foreign:
        foreign.is_terse = True
        inspector.target = foreign.target
        messages = [Launch(), Fault(part="valve"), Weight(kilograms=3), Launch(pad="39A")]
        found = inspector.unpack(*map(packed, messages))
    assert [one and type(one).DESCRIPTOR.full_name for one in found] == [
        message.DESCRIPTOR.full_name for message in messages
    ]
    assert inspector.notes == []


def test_a_known_type_is_not_asked_for(inspector: Inspector) -> None:
    known = error_details_pb2.ErrorInfo(reason="KNOWN")
    with serving_foreign("v1") as foreign:
        inspector.target = foreign.target
        assert inspector.unpack(packed(known)) == [known]
        assert foreign.requests == []


def test_without_reflection_a_note_says_once_that_a_type_is_unknown(inspector: Inspector) -> None:
    with serving_foreign() as foreign:
        inspector.target = foreign.target
        found = inspector.unpack(packed(Fault()), packed(Fault(part="valve")))
    assert found == [None, None]
    assert inspector.notes == [f"acme.jobs.v1.Fault {NO_SERVICE}"]


def test_a_server_without_reflection_is_asked_twice_and_never_again(inspector: Inspector) -> None:
    with serving_foreign() as foreign:
        inspector.target = foreign.target
        shown = inspector.to_dict(launch())
    assert shown[0]["response"]["value"]
    assert inspector.notes == [
        f"acme.jobs.v1.{name} {NO_SERVICE}" for name in ("LaunchMetadata", "Launch")
    ]


def test_a_refusal_is_noted_with_its_code(inspector: Inspector) -> None:
    with serving_foreign("v1") as foreign:
        foreign.has_secret_types = True
        inspector.target = foreign.target
        assert inspector.unpack(packed(Fault())) == [None]
    assert "the server's reflection service answers PERMISSION_DENIED" in inspector.notes[0]


def test_bytes_that_are_not_of_their_type_are_noted(inspector: Inspector) -> None:
    with serving_foreign("v1") as foreign:
        inspector.target = foreign.target
        broken = any_pb2.Any(type_url="type.googleapis.com/acme.jobs.v1.Fault", value=b"\xff")
        assert inspector.unpack(broken) == [None]
    assert inspector.notes == [
        "what is sent as a acme.jobs.v1.Fault is not one: it is shown as bytes"
    ]


# Servers with files that no protoc has seen.

HOSTILE = any_pb2.Any(type_url="type.googleapis.com/hostile.M", value=b"\x01")


def file(name: str, *imports: str, package: str = "") -> descriptor_pb2.FileDescriptorProto:
    found = descriptor_pb2.FileDescriptorProto(
        name=name, package=package or name, syntax="proto3", dependency=imports
    )
    found.message_type.add(name="M")
    return found


def unknown(inspector: Inspector, *files: descriptor_pb2.FileDescriptorProto | bytes) -> str:
    """The note on a type that such a server's files do not explain."""
    sent = [one if isinstance(one, bytes) else one.SerializeToString() for one in files]
    with serving_foreign("v1") as foreign:
        foreign.answer = lambda request: sent
        inspector.target = foreign.target
        assert inspector.unpack(HOSTILE) == [None]
    (note,) = inspector.notes
    return note


def test_files_that_import_each_other_in_a_circle_make_no_type(inspector: Inspector) -> None:
    unknown(inspector, file("hostile", "b"), file("b", "c"), file("c", "hostile"))


def test_a_file_that_imports_itself_makes_no_type(inspector: Inspector) -> None:
    unknown(inspector, file("hostile", "hostile"))


def test_files_that_contradict_each_other_make_no_type(
    inspector: Inspector, recwarn: pytest.WarningsRecorder
) -> None:
    unknown(inspector, file("a", package="hostile.M"), file("hostile", "a", package="hostile"))
    assert not recwarn


def test_names_that_are_no_text_make_no_type(inspector: Inspector) -> None:
    data = file("hostile", "import").SerializeToString()
    unknown(
        inspector,
        *(data.replace(name, b"\xff" * len(name)) for name in (b"hostile", b"import", b"M")),
    )


@pytest.mark.parametrize("most", [1, 3000])
def test_files_without_an_end_are_fetched_to_a_bound(inspector: Inspector, most: int) -> None:
    """Each imports another one, or as many as fit."""

    def answer(request: Any) -> list[bytes]:
        place = int(request.file_by_filename.rpartition("/")[2] or 0)
        imports = (f"hostile/{place + one}" for one in range(1, most + 1))
        return [file(request.file_by_filename or "hostile", *imports).SerializeToString()]

    with serving_foreign("v1") as foreign:
        foreign.answer = answer
        inspector.target = foreign.target
        other = any_pb2.Any(type_url="type.googleapis.com/hostile.Other")
        assert inspector.unpack(HOSTILE, other, HOSTILE) == [None] * 3
        assert len(foreign.requests) <= 1002
    assert "more files than it can be made of" in inspector.notes[0]


def test_files_without_a_bound_to_their_size_are_fetched_to_one(inspector: Inspector) -> None:
    padding = descriptor_pb2.FileDescriptorProto()
    padding.options.java_package = "x" * 3_000_000

    def answer(request: Any) -> list[bytes]:
        sent = file(f"hostile/{len(foreign.requests)}", f"hostile/{len(foreign.requests) + 1}")
        sent.MergeFrom(padding)
        return [sent.SerializeToString()]

    with serving_foreign("v1") as foreign:
        foreign.answer = answer
        inspector.target = foreign.target
        assert inspector.unpack(HOSTILE) == [None]
        assert len(foreign.requests) < 10


FIELD = descriptor_pb2.FieldDescriptorProto


@pytest.mark.parametrize(
    "name", ["Any", "Duration", "FieldMask", "ListValue", "Struct", "Timestamp", "Value"]
)
def test_a_server_has_no_types_of_its_own_for_those_with_a_json_of_their_own(
    inspector: Inspector, name: str
) -> None:
    theirs = file("google/protobuf/theirs.proto", package="google.protobuf")
    message = theirs.message_type[0]
    message.name = name
    for number, field in enumerate(("type_url", "value", "seconds", "fields", "paths"), start=1):
        message.field.add(
            name=field, number=number, type=FIELD.TYPE_INT32, label=FIELD.LABEL_OPTIONAL
        )
    hostile = file("hostile", theirs.name)
    hostile.message_type[0].field.add(
        name="x",
        number=1,
        type=FIELD.TYPE_MESSAGE,
        type_name=f".google.protobuf.{name}",
        label=FIELD.LABEL_OPTIONAL,
    )
    sent = [one.SerializeToString() for one in (hostile, theirs)]
    packed = any_pb2.Any(type_url=HOSTILE.type_url, value=b"\x0a\x02\x08\x01")
    with serving_foreign("v1") as foreign:
        foreign.answer = lambda request: sent
        inspector.target = foreign.target
        assert inspector.to_dict(packed) == [{"@type": packed.type_url, "value": "CgIIAQ=="}]


def test_a_map_whose_fields_have_other_names_makes_no_type(inspector: Inspector) -> None:
    hostile = file("hostile")
    entry = hostile.message_type[0].nested_type.add(name="XEntry")
    entry.options.map_entry = True
    for number, field in enumerate(("k", "v"), start=1):
        entry.field.add(
            name=field, number=number, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL
        )
    hostile.message_type[0].field.add(
        name="x",
        number=1,
        type=FIELD.TYPE_MESSAGE,
        type_name=".hostile.M.XEntry",
        label=FIELD.LABEL_REPEATED,
    )
    unknown(inspector, hostile)
    filled = any_pb2.Any(type_url=HOSTILE.type_url, value=b"\x0a\x03\x0a\x01a")
    with serving_foreign("v1") as foreign:
        foreign.answer = lambda request: [hostile.SerializeToString()]
        inspector.target = foreign.target
        assert inspector.to_dict(filled) == [{"@type": filled.type_url, "value": "CgMKAWE="}]


def test_a_server_that_takes_its_time_is_not_asked_for_ever(
    inspector: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lro_grpc._inspection.reflection._MOST_SECONDS", 0.5)

    def answer(request: Any) -> list[bytes]:
        threading.Event().wait(0.1)
        place = len(foreign.requests)
        return [file(request.file_by_filename or "hostile", f"hostile/{place}").SerializeToString()]

    with serving_foreign("v1") as foreign:
        foreign.answer = answer
        inspector.target = foreign.target
        assert inspector.unpack(HOSTILE) == [None]
        assert len(foreign.requests) <= 6
    assert "the server's reflection service answers DEADLINE_EXCEEDED" in inspector.notes[0]


def test_each_call_has_the_metadata(inspector: Inspector) -> None:
    with serving_foreign("v1") as foreign:
        inspector.target = foreign.target
        inspector.metadata = (("authorization", "Bearer x"),)
        inspector.unpack(packed(Fault()))
        assert [one["authorization"] for one in foreign.metadata] == ["Bearer x"]


def test_a_value_without_a_json_form_is_shown_by_its_bytes(inspector: Inspector) -> None:
    late = any_pb2.Any(type_url="type.googleapis.com/google.protobuf.Timestamp")
    late.value = b"\x08\xff\xff\xff\xff\xff\xff\xff\x7f"
    with serving_foreign() as foreign:
        inspector.target = foreign.target
        (shown,) = inspector.to_dict(late)
    assert shown == {"@type": f"{late.type_url} (unreadable)", "value": "CP////////9/"}


def test_messages_packed_too_deep_are_shown_by_their_bytes(inspector: Inspector) -> None:
    deep = any_pb2.Any()
    for _ in range(2_000):
        deep = packed(deep)
    with serving_foreign() as foreign:
        inspector.target = foreign.target
        (shown,) = inspector.to_dict(deep)
    while isinstance(shown["value"], dict):
        shown = shown["value"]
    assert shown["value"]
