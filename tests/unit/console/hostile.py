"""Operations that mean harm, or that nobody has thought of, as Hypothesis strategies."""

from __future__ import annotations

from typing import Any

from google.longrunning import operations_pb2
from google.protobuf import any_pb2, struct_pb2, timestamp_pb2
from google.rpc import error_details_pb2, status_pb2
from hypothesis import strategies as st

from lro.v1 import batch_create_instances_pb2, operation_metadata_pb2
from lro.v1.operation_description_pb2 import DescribeOperationResponse
from lro_grpc import _anys

ODD = "<>&\"'`{}\\/\0\r\n\t\x1b\x7f\x85\xad\u061c\u200b\u200d\u202e\u2066\u2028\u3164\ufeff💥ß"
"""Characters that mean something to HTML, to a template, to a terminal, or to the eye."""

_MOST_BYTES = 8 * 1024 * 1024
"""Twice what a client reads of a server: more need not be tried, and takes gigabytes."""

texts = st.one_of(
    st.sampled_from(
        (
            *("", "<script>alert(1)</script>", "'\"><img src=x onerror=alert(1)>", "{{ 7*7 }}"),
            *("operations/", "/operations/", "..//%2F?name=", "javascript:alert(1)", "-rf"),
            *("\u202egnp.exe", "\0", "a\r\nb", "</pre></td></table>"),
        )
    ),
    st.sampled_from('x\u202e<💥"&').map(lambda one: one * 100_000),
    st.text(st.sampled_from(ODD), max_size=40),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
)
int32s = st.one_of(st.sampled_from((-5, 0, 101, 2_000_000_000)), st.integers(-(2**31), 2**31 - 1))
times = st.builds(
    timestamp_pb2.Timestamp,
    seconds=st.sampled_from(
        (0, 1, 1_790_000_000, 1_790_000_060, -62_135_596_801, 253_402_300_800, 2**63 - 1, -(2**63))
    ),
    nanos=st.sampled_from((0, 1, 999_999_999, -1, 2**31 - 1)),
)


def nested(depth: int) -> any_pb2.Any:
    """Returns an ``Any`` in an ``Any``, and so on."""
    made = any_pb2.Any(type_url="type.googleapis.com/nothing", value=b"\xff")
    for _ in range(depth):
        made = any_pb2.Any(
            type_url="type.googleapis.com/google.protobuf.Any", value=made.SerializeToString()
        )
    return made


def deep_struct(depth: int) -> any_pb2.Any:
    """Returns a ``Struct`` with lists in lists."""
    value = struct_pb2.Value(string_value="<b>")
    for _ in range(depth):
        value = struct_pb2.Value(list_value=struct_pb2.ListValue(values=[value]))
    return _anys.pack(struct_pb2.Struct(fields={"<i>": value}))


def wide_struct(size: int) -> any_pb2.Any:
    """Returns a ``Struct`` with many small fields."""
    return _anys.pack(
        struct_pb2.Struct(fields={f"<{n}>": struct_pb2.Value(number_value=n) for n in range(size)})
    )


def messages() -> st.SearchStrategy[any_pb2.Any]:
    """Returns an ``Any`` of whatever type and bytes."""
    urls = st.one_of(
        texts,
        st.sampled_from(
            (
                "type.googleapis.com/lro.v1.OperationMetadata",
                "type.googleapis.com/google.rpc.ErrorInfo",
                "type.googleapis.com/google.rpc.Help",
                "type.googleapis.com/google.protobuf.Struct",
                "type.googleapis.com/google.protobuf.Timestamp",
                "type.googleapis.com/google.protobuf.Any",
            )
        ),
    )
    links = st.builds(error_details_pb2.Help.Link, description=texts, url=texts)
    return st.one_of(
        st.builds(any_pb2.Any, type_url=urls, value=st.binary(max_size=40)),
        st.sampled_from((nested(150), deep_struct(30), wide_struct(6_000))),
        st.builds(
            error_details_pb2.ErrorInfo,
            reason=texts,
            domain=texts,
            metadata=st.dictionaries(texts, texts, max_size=4),
        ).map(_anys.pack),
        st.builds(error_details_pb2.Help, links=st.lists(links, max_size=3)).map(_anys.pack),
        st.builds(struct_pb2.Value, number_value=st.floats()).map(_anys.pack),
    )


def errors() -> st.SearchStrategy[status_pb2.Status]:
    """Returns an error of whatever code and details."""
    details = st.one_of(
        st.lists(messages(), max_size=3), messages().map(lambda packed: [packed] * 60)
    )
    return st.builds(status_pb2.Status, code=int32s, message=texts, details=details)


def batches() -> st.SearchStrategy[Any]:
    """Returns a batch whose targets and statuses need not fit each other."""

    def make(targets: list[str], state: int, error: status_pb2.Status, size: int) -> Any:
        made = batch_create_instances_pb2.BatchCreateInstancesMetadata(
            instance_targets=[*targets, *map(str, range(size))]
        )
        for target in made.instance_targets[::2]:
            made.instance_statuses[target].state = state  # type: ignore[assignment]
            made.instance_statuses[target].error.CopyFrom(error)
        return made

    plain = st.builds(status_pb2.Status, code=int32s, message=texts)
    return st.builds(make, st.lists(texts, max_size=3), int32s, plain, st.sampled_from((0, 1, 300)))


def metadata() -> st.SearchStrategy[operation_metadata_pb2.OperationMetadata]:
    """Returns the library's own metadata with whatever values."""
    return st.builds(
        operation_metadata_pb2.OperationMetadata,
        create_time=st.none() | times,
        start_time=st.none() | times,
        update_time=st.none() | times,
        end_time=st.none() | times,
        expire_time=st.none() | times,
        target=texts,
        verb=texts,
        status_detail=texts,
        api_version=texts,
        cancel_requested=st.booleans(),
        pause_requested=st.booleans(),
        state=int32s,
        progress_percent=int32s,
        attempt=int32s,
        batch_create_instances_metadata=st.none() | batches(),
        partial_failures=st.lists(errors(), max_size=1),
        details=st.none() | messages(),
    )


def operations() -> st.SearchStrategy[operations_pb2.Operation]:
    """Returns operations that any server may answer."""

    def make(name: str, done: bool, packed: Any, response: Any, error: Any) -> Any:
        made = operations_pb2.Operation(name=name, done=done, metadata=packed)
        if response is not None:
            made.response.CopyFrom(response)
        if error is not None:
            made.error.CopyFrom(error)
        return made

    return st.builds(
        make,
        texts,
        st.booleans(),
        st.none() | messages() | metadata().map(_anys.pack),
        st.none() | messages(),
        st.none() | errors(),
    )


def descriptions() -> st.SearchStrategy[DescribeOperationResponse]:
    """Returns descriptions that any server may answer."""

    def make(
        operation: Any, own: Any, text: str, number: int, time: Any, error: Any, request: Any
    ) -> DescribeOperationResponse:
        made = DescribeOperationResponse(
            operation=operation,
            metadata=own,
            method=text,
            caller=text,
            request_size_bytes=number,
            request=request,
            failed_attempt_count=number,
            max_attempts=number,
            schedule_time=time,
            deadline_time=time,
            lease_expire_time=time,
            source_operation=text,
            labels={text: text},
            rerun_operation=text,
            operator_caller=text,
            exclusive_target=text,
            concurrency_key=text,
        )
        made.wait_reasons.extend([1, 2, 3, 4, number])  # type: ignore[list-item]
        made.actions.extend([1, 2, 3, 4, 5, 6, number])  # type: ignore[list-item]
        room = max(0, _MOST_BYTES - made.ByteSize()) // max(
            1, 0 if error is None else error.ByteSize()
        )
        for at in range(min(60, 1 + room)):
            made.attempts.add(
                number=at,
                worker=text,
                start_time=time,
                end_time=time,
                outcome=number,  # type: ignore[arg-type]
                error=error,
            )
        return made

    return st.builds(
        make,
        operations(),
        st.none() | metadata(),
        texts,
        int32s,
        st.none() | times,
        st.none() | errors(),
        st.none() | messages(),
    )
