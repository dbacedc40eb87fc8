"""The schemas of messages: what protobuf writes fits them, and what does not fit is not read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import (
    any_pb2,
    duration_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from museum import Piece

from lro_grpc._dialects import canonical_json
from lro_grpc._http.comments import Comments
from lro_grpc._http.message_schemas import Schemas


def validator() -> Any:
    schemas = Schemas(Comments())
    piece = schemas.of_message(Piece.DESCRIPTOR)
    return Draft202012Validator({**piece, "components": {"schemas": dict(schemas.components)}})


VALIDATOR = validator()

WHOLE: dict[str, st.SearchStrategy[Any]] = {
    "Timestamp": st.builds(
        timestamp_pb2.Timestamp,
        seconds=st.integers(-62135596800, 253402300799),
        nanos=st.integers(0, 999_999_999),
    ),
    "Duration": st.builds(
        lambda seconds, nanos, sign: duration_pb2.Duration(
            seconds=sign * seconds, nanos=sign * nanos
        ),
        st.integers(0, 315_576_000_000),
        st.integers(0, 999_999_999),
        st.sampled_from([-1, 1]),
    ),
    "FieldMask": st.builds(
        field_mask_pb2.FieldMask, paths=st.lists(st.sampled_from(["a", "b_c", "d.e"]))
    ),
    "Struct": st.just(struct_pb2.Struct(fields={"a": struct_pb2.Value(number_value=1.5)})),
    "Value": st.sampled_from(
        [struct_pb2.Value(null_value=struct_pb2.NULL_VALUE), struct_pb2.Value(string_value="s")]
    ),
    "ListValue": st.just(struct_pb2.ListValue(values=[struct_pb2.Value(bool_value=True)])),
    "Any": st.sampled_from([any_pb2.Any(), any_pb2.Any(type_url="x/y.Z", value=b"\0")]),
    "StringValue": st.builds(wrappers_pb2.StringValue, value=st.text()),
    "Int64Value": st.builds(wrappers_pb2.Int64Value, value=st.integers(-(2**63), 2**63 - 1)),
    "BoolValue": st.builds(wrappers_pb2.BoolValue, value=st.booleans()),
}


def bits(count: int, *, signed: bool) -> st.SearchStrategy[int]:
    low, high = (-(2 ** (count - 1)), 2 ** (count - 1) - 1) if signed else (0, 2**count - 1)
    return st.integers(low, high)


SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_INT32: bits(32, signed=True),
    FieldDescriptor.CPPTYPE_INT64: bits(64, signed=True),
    FieldDescriptor.CPPTYPE_UINT32: bits(32, signed=False),
    FieldDescriptor.CPPTYPE_UINT64: bits(64, signed=False),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
    FieldDescriptor.CPPTYPE_FLOAT: st.floats(width=32),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_ENUM: st.integers(0, 2),
}


@st.composite
def pieces(draw: st.DrawFn, depth: int = 0) -> Any:
    """Draws pieces with any of their fields; the title is there, for it is required."""
    piece = Piece(title="t")
    for field in Piece.DESCRIPTOR.fields:
        kind = field.message_type
        if field.name == "title" or not draw(st.booleans()):
            continue
        if kind is None:
            plain = st.binary() if field.type == FieldDescriptor.TYPE_BYTES else st.text()
            value = draw(SCALARS.get(field.cpp_type, plain))
            if field.is_repeated:
                getattr(piece, field.name).append(value)
            else:
                setattr(piece, field.name, value)
        elif kind.name in WHOLE:
            getattr(piece, field.name).CopyFrom(draw(WHOLE[kind.name]))
        elif field.name == "labels":
            piece.labels[draw(st.text())] = draw(st.text())
        elif field.name in ("parts", "beside") and depth < 2:
            inside = draw(pieces(depth + 1))
            if field.name == "parts":
                piece.parts.append(inside)
            else:
                piece.beside["key"].CopyFrom(inside)
        elif not field.is_repeated:
            getattr(piece, field.name).SetInParent()
    return piece


@settings(deadline=None, max_examples=60)
@given(pieces())
def test_what_is_written_fits_the_schema(piece: Any) -> None:
    shown = json.loads(json.dumps(canonical_json.to_json(piece)))
    assert [error.message for error in VALIDATOR.iter_errors(shown)] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"ofInt32": 2**31},
        {"ofUint32": -1},
        {"ofInt64": "x"},
        {"ofUint64": "-1"},
        {"ofBool": "true"},
        {"ofString": 1},
        {"ofDouble": "many"},
        {"kind": "NONE"},
        {"took": "1m"},
        {"several": {}},
        {"extra": []},
        {"labels": {"a": 1}},
        {"parts": {}},
        {"parts": [{"title": "t", "ofBool": 1}]},
        {"maker": "m", "place": {}},
    ],
    ids=str,
)
def test_what_does_not_fit_is_not_read(wrong: Any) -> None:
    assert not VALIDATOR.is_valid({"title": "t", **wrong})
    with pytest.raises(ValueError, match=r".+"):
        canonical_json.parse(wrong, Piece())


def test_what_is_required_is_missed() -> None:
    assert VALIDATOR.is_valid({"title": "t"})
    assert not VALIDATOR.is_valid({})
