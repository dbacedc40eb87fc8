"""In every store a filter compares fields of services' own metadata, as their types have them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from any_queries import METHOD, START
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.rpc import status_pb2
from postgres_server import new_schema

from lro_grpc._errors import InvalidFilterError
from lro_grpc._filtering.message_fields import MOST_STEPS, MetadataTypes
from lro_grpc._filtering.parser import parse
from lro_grpc._operation import publication
from lro_grpc._operation.states import FAILED
from lro_grpc._stores.open_url import open_url
from lro_grpc.stores import Query, Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from lro_grpc._operation.record import Record

FIELD = descriptor_pb2.FieldDescriptorProto
PACKAGE = "test.filters.v1"


def declare() -> None:
    file = descriptor_pb2.FileDescriptorProto(
        name="test/filters/v1/report.proto",
        package=PACKAGE,
        syntax="proto3",
        dependency=[
            "google/protobuf/any.proto",
            "google/protobuf/duration.proto",
            "google/protobuf/struct.proto",
            "google/protobuf/timestamp.proto",
            "google/protobuf/wrappers.proto",
            "lro/v1/batch_create_instances.proto",
        ],
    )
    color = file.enum_type.add(name="ColorName")
    for number, name in enumerate(("UNSPECIFIED", "RED", "BLUE")):
        color.value.add(name=f"COLOR_NAME_{name}", number=number)
    inner = file.message_type.add(name="Inner")
    inner.field.add(name="note", number=1, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL)
    inner.field.add(name="deep", number=2, type_name=f".{PACKAGE}.Inner", label=1)
    report = file.message_type.add(name="Report")
    well_known = ".google.protobuf."
    kinds: Mapping[str, int | str] = {
        "text": FIELD.TYPE_STRING,
        "urgent": FIELD.TYPE_BOOL,
        "count": FIELD.TYPE_INT32,
        "large": FIELD.TYPE_UINT64,
        "ratio": FIELD.TYPE_DOUBLE,
        "share": FIELD.TYPE_FLOAT,
        "data": FIELD.TYPE_BYTES,
        "at": f"{well_known}Timestamp",
        "took": f"{well_known}Duration",
        "wrapped": f"{well_known}Int32Value",
        "label": f"{well_known}StringValue",
        "struct": f"{well_known}Struct",
        "packed": f"{well_known}Any",
        "inner": f".{PACKAGE}.Inner",
        "batch_create_instances_metadata": ".lro.v1.BatchCreateInstancesMetadata",
        "target": FIELD.TYPE_INT32,
    }
    for number, (name, kind) in enumerate(kinds.items(), 1):
        field = report.field.add(name=name, number=number, label=FIELD.LABEL_OPTIONAL)
        if isinstance(kind, str):
            field.type_name = kind
        else:
            field.type = kind  # type: ignore[assignment]
    report.field.add(
        name="color", number=20, type=FIELD.TYPE_ENUM, type_name=f".{PACKAGE}.ColorName", label=1
    )
    report.oneof_decl.add(name="_tries")
    report.field.add(
        name="tries", number=21, type=FIELD.TYPE_INT32, label=1, oneof_index=0, proto3_optional=True
    )
    report.field.add(name="items", number=22, type=FIELD.TYPE_STRING, label=FIELD.LABEL_REPEATED)
    other = file.message_type.add(name="Other")
    other.field.add(name="count", number=3, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL)
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())


declare()


def message_type(name: str) -> Any:
    descriptor = descriptor_pool.Default().FindMessageTypeByName(f"{PACKAGE}.{name}")
    return message_factory.GetMessageClass(descriptor)


REPORT, OTHER, INNER = message_type("Report"), message_type("Other"), message_type("Inner")
TYPES = MetadataTypes((REPORT, OTHER))


def record(operation_id: str, kind: Any, metadata: bytes, **values: Any) -> Record:
    return publication.create(
        parent="",
        operation_id=operation_id,
        method=METHOD,
        request=b"",
        metadata_type=kind.DESCRIPTOR.full_name,
        now=START,
        handler_metadata=metadata,
        **values,
    )


def full() -> Any:
    report: Any = REPORT(
        text="Blue Sky",
        urgent=True,
        count=-3,
        large=2**64 - 1,
        ratio=1.5,
        share=0.1,
        data=b"x",
        color=2,
        tries=0,
        items=["a"],
        target=4,
    )
    report.at.FromJsonString("2026-05-01T08:00:00.5Z")
    report.took.FromJsonString("90.5s")
    report.wrapped.value = 0
    report.label.value = "new"
    report.inner.note = "in"
    report.inner.deep.note = "deeper"
    report.packed.Pack(report.took)
    return report


def made() -> list[Record]:
    """``full``, ``empty``, ``other`` of another type, and two whose bytes are not of theirs."""
    failed = record("failed", REPORT, b"")
    no_room = publication.Outcome.failure(status_pb2.Status(code=5, message="No Room here"))
    return [
        record("full", REPORT, full().SerializeToString(), target="t", caller="ann"),
        record("empty", REPORT, b""),
        record("other", OTHER, OTHER(count="7").SerializeToString()),
        record("changed", REPORT, b"")._replace(handler_metadata=b"\x08\x07\x18\x07"),
        record("broken", REPORT, b"")._replace(handler_metadata=b"\xff", operation=b"\xff"),
        publication.published(failed, START, {"worker": "worker-7"}, no_room, path=(FAILED,)),
    ]


ALL = {"full", "empty", "other", "changed", "broken", "failed"}
PLAIN = {"empty", "failed"}
"""Those whose fields have their defaults."""

FOUND: Mapping[str, set[str]] = {
    'metadata.text = "Blue Sky"': {"full"},
    'metadata.text = "Blue*"': {"full"},
    'metadata.text != "Blue*"': {*PLAIN, "changed"},
    "metadata.text:sky": {"full"},
    "metadata.text:*": {"full"},
    'NOT metadata.text = "Blue*"': ALL - {"full"},
    'matches(metadata.text, "B.*y")': {"full"},
    "metadata.urgent = true": {"full"},
    "metadata.urgent = false": {*PLAIN, "changed"},
    "metadata.count = -3": {"full"},
    "metadata.count < 0": {"full"},
    "metadata.count = 7": {"changed", "other"},
    'metadata.count = "7"': {"changed", "other"},
    "metadata.count:7": {"changed", "other"},
    "metadata.count > 0": {"changed", "other"},
    'metadata.count = "7*"': {"other"},
    'metadata.count != "7*"': set(),
    "metadata.large = 18446744073709551615": {"full"},
    "metadata.ratio >= 1.5": {"full"},
    "metadata.ratio > 15e-1": set(),
    "metadata.ratio > -.5 AND metadata.ratio < 2": {"full", *PLAIN, "changed"},
    "metadata.share = 0.1": {"full"},
    "metadata.data:*": {"full"},
    "metadata.color = COLOR_NAME_BLUE": {"full"},
    "metadata.color = (RED OR BLUE)": {"full"},
    "metadata.color != BLUE": {*PLAIN, "changed"},
    "metadata.color = UNSPECIFIED": {*PLAIN, "changed"},
    "metadata.at = 2026-05-01T10:00:00.5+02:00": {"full"},
    "metadata.at != 2027-01-01T00:00:00Z": {"full"},
    "metadata.at < 2020-01-01T00:00:00Z": set(),
    "metadata.at:*": {"full"},
    "metadata.took > 90s": {"full"},
    "metadata.took = 90.5s": {"full"},
    "metadata.took > -1s": {"full"},
    "metadata.wrapped = 0": {"full"},
    "metadata.wrapped:*": {"full"},
    "metadata.wrapped != 1": {"full"},
    "metadata.label = n*": {"full"},
    "metadata.tries = 0": {"full"},
    "metadata.tries != 5": {"full"},
    "metadata.tries:*": {"full"},
    "metadata.inner:*": {"full"},
    "metadata.packed:*": {"full"},
    "metadata.struct:*": set(),
    "metadata.inner.note = in": {"full"},
    "metadata.inner.note != other": {"full"},
    "metadata.inner.deep.note:DEEP": {"full"},
    "metadata.inner.deep.deep.note = x": set(),
    "metadata.target = t": {"full"},
    "metadata.target = 4": set(),
    "metadata.batch_create_instances_metadata:*": set(),
    "error.message:room": {"failed"},
    'error.message = "No Room here"': {"failed"},
    "error.message != x": {"failed"},
    "NOT error.message:*": ALL - {"failed"},
    'matches(error.message, "No .*")': {"failed"},
    "worker = worker-7": {"failed"},
    'worker != ""': {"failed"},
    "caller = ann": {"full"},
    f"method = {METHOD.removeprefix('/')}": ALL,
    f'method = "{METHOD}"': ALL,
    "method = contract.v1.*": ALL,
    "method = */Run": ALL,
    "method:contract": ALL,
    "method != contract.v1.Contract/Run": set(),
}


@pytest.fixture(params=["memory", "sqlite", "sqlite reopened", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, bool]]:
    kind, _, reopened = request.param.partition(" ")
    if kind == "postgres":
        with new_schema(request.getfixturevalue("postgres_server")) as schema:
            yield schema, False
    else:
        yield "memory:" if kind == "memory" else f"sqlite:///{tmp_path}/o.db", bool(reopened)


async def listed(store: Store, text: str) -> set[str]:
    """The ids of what a filter finds."""
    page = await store.page(Query("", parse(text, TYPES)), position=b"", size=100, records=True)
    return {one.name.rpartition("/")[2] for one in page.records}


async def test_a_field_is_compared_as_its_type_has_it(store: tuple[str, bool]) -> None:
    url, reopened = store
    opened = open_url(url, lambda: START)
    await opened.open()
    try:
        await asyncio.gather(*(opened.create(one) for one in made()))
        if reopened:
            await opened.close()
            await opened.open()
        found = {text: await listed(opened, text) for text in FOUND}
    finally:
        await opened.close()
    # An operation that does not parse is in no list of a store that reads what it has written.
    unread = set() if url == "memory:" else {"broken"}
    assert found == {text: wanted - unread for text, wanted in FOUND.items()}


MISTAKES: Mapping[str, str] = {
    "metadata.nothing = 1": "there is no field 'metadata.nothing'",
    "metadata.inner.nothing = 1": "there is no field 'metadata.inner.nothing'",
    "metadata.text.more = 1": "text is a value, and has no fields",
    "metadata.at.seconds = 1": "at is a value, and has no fields",
    "metadata.wrapped.value = 1": "wrapped is a value, and has no fields",
    "metadata.items = a": "items holds several values",
    "metadata.struct.fields.x = a": "struct.fields holds several values",
    "metadata.inner = x": "use :*",
    "metadata.data = x": "use :*",
    "metadata.urgent = yes": "neither true nor false",
    "metadata.urgent < true": "use = != :",
    "metadata.large = 1.5": "not a whole number",
    "metadata.ratio = x": "is not a number",
    "metadata.share = 1e99": "beyond the numbers of 32 bits",
    "metadata.color = GREEN": "is no ColorName; give one of COLOR_NAME_UNSPECIFIED, COLOR_NAME_RED",
    "metadata.color = 2": "is no ColorName",
    "metadata.at = yesterday": "not an RFC 3339 time",
    "metadata.took = 5m": "not a duration in seconds",
    'matches(metadata.large, "x")': "this field is no text",
    "metadata.urgent": "compare this flag",
    "metadata. = 1": "expected a value or a field",
    "text = a": "there is no field 'text'",
    "error.details = 1": "there is no field 'error.details'",
    f"metadata{'.inner' * (MOST_STEPS + 1)}:*": f"{MOST_STEPS + 1} deep; give {MOST_STEPS}",
    f"metadata{'.deep' * 700}:*": "700 deep",
    f"metadata.text = {'x' * 8192}": "give 4096 at most",
}


@pytest.mark.parametrize("text", MISTAKES, ids=lambda text: text[:40])
def test_a_field_that_is_not_compared_so_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(InvalidFilterError) as raised:
        parse(text, TYPES)
    assert MISTAKES[text] in raised.value.message


def test_each_type_that_has_a_field_counts() -> None:
    parse(" ".join(["metadata.count = 7"] * 100), TYPES)
    with pytest.raises(InvalidFilterError, match="more than 200 values, wildcards, and types"):
        parse(" ".join(["metadata.count = 7"] * 101), TYPES)
    parse(" ".join(["metadata.text = 7"] * 200), TYPES)


def test_without_types_no_field_of_metadata_is_known() -> None:
    with pytest.raises(InvalidFilterError, match=r"no field 'metadata\.text'"):
        parse("metadata.text = a")


def test_a_deep_walk_is_no_deeper_than_a_message() -> None:
    filter_ = parse(f"metadata.inner{'.deep' * (MOST_STEPS - 2)}.note = x", TYPES)
    report: Any = REPORT()
    place = report.inner
    for _ in range(MOST_STEPS - 2):
        place = place.deep
    place.note = "x"
    assert filter_.matches(record("deep", REPORT, report.SerializeToString()))
    assert not filter_.matches(record("flat", REPORT, b""))


@pytest.mark.parametrize(
    "restriction",
    [
        *("metadata.text = a", "metadata.text:a", "metadata.text < b", "metadata.text = 'a*'"),
        *("metadata.text:*", "matches(metadata.text, '.*')"),
    ],
)
def test_of_a_text_that_is_none_nothing_is_true(restriction: str) -> None:
    """A type of proto2 lets any bytes be a text, such as those of a field that was bytes before."""
    file = descriptor_pb2.FileDescriptorProto(name="test/old/v1/old.proto", package="test.old.v1")
    old = file.message_type.add(name="Old")
    old.field.add(name="text", number=1, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL)
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
    found = descriptor_pool.Default().FindMessageTypeByName("test.old.v1.Old")
    kind = message_factory.GetMessageClass(found)
    asked = parse(restriction, MetadataTypes([kind]))
    assert asked.matches(record("op-1", kind, b"\x0a\x01a"))
    assert not asked.matches(record("op-1", kind, b"\x0a\x02\xff\xfe"))
