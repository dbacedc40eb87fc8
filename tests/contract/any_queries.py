"""Records and filters of any kind, for properties of whatever answers queries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.longrunning import operations_pb2
from google.rpc import status_pb2
from hypothesis import strategies as st

from lro.v1 import operation_metadata_pb2, state_pb2
from lro_grpc._filtering.expression import (
    And,
    Compare,
    Filter,
    Label,
    Like,
    Not,
    Or,
    PartialFailures,
)
from lro_grpc._filtering.in_message import VALUE
from lro_grpc._filtering.parser import parse
from lro_grpc._operation import labels, publication
from lro_grpc._operation.states import JOB
from lro_grpc.conformance import StoreConformance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lro_grpc._operation.record import Record

METHOD = StoreConformance.METHOD
START = StoreConformance.START

# Records, with few values, so that filters hit, and with strange ones.

STRANGE = "aB*/-.\x00\x01\x02 éÉß\N{KELVIN SIGN}\U0001f600'\"\\%_?[\n"
TEXTS = st.text(STRANGE, max_size=5) | st.text("aA", max_size=3)
NUMBERS = st.integers(-1, 3) | st.sampled_from([START, 2**63 - 1, -(2**63)])
TIMES = st.sampled_from([0, 1, START, START + 1, START + 1_000_000])
FLAGS = st.booleans()
STATES = st.sampled_from(sorted(JOB.states))
SEGMENTS = st.sampled_from(["a", "b", "ab", "-", "a-", "*", "?", "[a]", "A"])
PARENTS = st.lists(SEGMENTS, max_size=4).map("/".join)

TEXT_COLUMNS = (
    *("name", "target", "verb", "api_version", "status_detail", "response_type"),
    *("caller", "worker"),
)
TIME_COLUMNS = ("create_time", "start_time", "update_time", "end_time", "expire_time")
NUMBER_COLUMNS = ("progress_percent", "attempt", "error_code", "state")
FLAG_COLUMNS = ("done", "cancel_requested", "pause_requested")

KEYS = st.sampled_from(["a", "b", "ab"])
LABEL_VALUES = st.text("ab-", max_size=2)
LABELS = st.dictionaries(KEYS, LABEL_VALUES, max_size=3).map(labels.packed)

VALUES = st.fixed_dictionaries(
    {
        "parent": PARENTS,
        "target": TEXTS,
        "verb": TEXTS,
        "api_version": TEXTS,
        "status_detail": TEXTS,
        "response_type": TEXTS,
        "caller": TEXTS,
        "worker": TEXTS,
        "progress_percent": NUMBERS,
        "attempt": NUMBERS,
        "error_code": NUMBERS,
        "state": STATES,
        "cancel_requested": FLAGS,
        "pause_requested": FLAGS,
        "batch": st.sampled_from([b"", b"\x00"]),
        "labels": LABELS,
        **dict.fromkeys(TIME_COLUMNS, TIMES),
    }
)


def plain() -> Record:
    return publication.create(
        parent="",
        operation_id="op-1",
        method=METHOD,
        request=b"",
        metadata_type="lro.v1.OperationMetadata",
        now=START,
    )


@st.composite
def records(draw: st.DrawFn) -> Record:
    failures = draw(st.integers(0, 1)) * [status_pb2.Status(code=5)]
    served = operations_pb2.Operation()
    served.error.message = draw(TEXTS)
    served.metadata.Pack(operation_metadata_pb2.OperationMetadata(partial_failures=failures))
    return plain()._replace(operation=served.SerializeToString(), **draw(VALUES))


# Filters: trees of any shape, and texts of the language.

COMPARATORS = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
FOLDED = TEXTS.map(lambda text: "".join(c.lower() if c.isascii() else c for c in text))


def compare(columns: Sequence[str], values: st.SearchStrategy[Any]) -> Any:
    return st.builds(Compare, st.sampled_from(columns), COMPARATORS, values)


def like(parts: st.SearchStrategy[str], *, fold: bool) -> Any:
    return st.builds(
        Like,
        st.sampled_from(TEXT_COLUMNS),
        st.lists(parts, min_size=2, max_size=4).map(tuple),
        st.just(fold),
    )


def label(values: st.SearchStrategy[str]) -> Any:
    column, parts = st.just(VALUE), st.lists(values, min_size=2, max_size=3).map(tuple)
    likes = st.builds(Like, column, parts, st.booleans())
    compared = st.builds(Compare, column, COMPARATORS, values)
    return st.builds(Label, KEYS, st.none() | compared | likes | st.builds(Not, likes))


LEAVES = st.one_of(
    label(LABEL_VALUES | st.text("ab=,*", max_size=3)),
    compare(TEXT_COLUMNS, TEXTS),
    compare(TIME_COLUMNS, TIMES),
    compare(NUMBER_COLUMNS, NUMBERS),
    compare(FLAG_COLUMNS, st.integers(0, 1)),
    compare(["batch"], st.sampled_from([b"", b"\x00"])),
    like(TEXTS, fold=False),
    like(FOLDED, fold=True),
    st.just(PartialFailures()),
)
TREES = st.recursive(
    LEAVES,
    lambda trees: st.one_of(
        st.builds(Not, trees),
        st.builds(And, st.lists(trees, max_size=3).map(tuple)),
        st.builds(Or, st.lists(trees, max_size=3).map(tuple)),
    ),
    max_leaves=8,
)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


RESTRICTIONS = st.one_of(
    TEXTS.map(quoted),
    st.builds("{}{}{}".format, st.sampled_from(["name", "target"]), COMPARATORS, TEXTS.map(quoted)),
    st.builds("{}:{}".format, st.sampled_from(["verb", "response.@type"]), TEXTS.map(quoted)),
    st.builds("error.message{}{}".format, COMPARATORS, TEXTS.map(quoted)),
    st.builds(
        "{}{}{}".format, st.sampled_from(["worker", "caller"]), COMPARATORS, TEXTS.map(quoted)
    ),
    st.builds("{}{}{}".format, st.just("metadata.attempt"), COMPARATORS, st.integers(0, 2)),
    st.builds("error.code{}{}".format, COMPARATORS, st.sampled_from(["OK", "CANCELLED", "3"])),
    st.builds("state={}".format, st.sampled_from(state_pb2.JobState.keys())),
    st.builds("{}={}".format, st.sampled_from(FLAG_COLUMNS), st.sampled_from(["true", "false"])),
    st.builds(
        "{}{}{}".format,
        st.sampled_from(TIME_COLUMNS),
        COMPARATORS,
        st.sampled_from(["1970-01-01T00:00:00Z", "2027-01-15T08:00:00.000001Z"]),
    ),
    st.builds("{}:*".format, st.sampled_from(["error", "response", "end_time", "done", "target"])),
    st.just("partial_failures:*"),
    st.builds("labels.{}{}{}".format, KEYS, COMPARATORS, LABEL_VALUES.map(quoted)),
    st.builds("labels.{}={}".format, KEYS, LABEL_VALUES.map(quoted)),
    KEYS.map("labels:{}".format),
)
FILTER_TEXTS = st.recursive(
    RESTRICTIONS,
    lambda texts: st.one_of(
        st.lists(texts, min_size=1, max_size=3).map(" ".join),
        st.lists(texts, min_size=1, max_size=3).map(" AND ".join),
        st.lists(texts, min_size=1, max_size=3).map(" OR ".join),
        texts.map("-({})".format),
        texts.map("NOT ({})".format),
        texts.map("({})".format),
    ),
    max_leaves=8,
)
FILTERS = st.none() | st.builds(Filter, st.just(""), TREES) | FILTER_TEXTS.map(parse)
