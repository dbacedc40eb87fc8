"""The tables and diagrams of the dialects.

The states come from the schema's ``(lro.v1.state)`` options, the fields from the dialects
themselves: one value of an operation is changed, and the places in a dialect's JSON that then
differ are where it shows that value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from google.protobuf import wrappers_pb2
from google.rpc import status_pb2

from lro_grpc._dialects.losses import NOT_SHOWN, lost_in
from lro_grpc._dialects.view import empty_response
from lro_grpc._errors import Code, LroError, to_status
from lro_grpc._operation.batch_states import BatchStates, Status
from lro_grpc._operation.states import (
    BATCH_INSTANCE,
    DEPLOYMENT_OPERATION,
    FAILED,
    JOB,
    OPERATION_STATUS,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    Lifecycle,
    State,
)
from lro_grpc.dialects import DIALECTS, OperationView
from tables.markdown import table

# States.


def states() -> str:
    """Returns the table of the states, by their names in each dialect."""
    rows = [
        [
            f"`{short(state)}`",
            result(state),
            words(OPERATION_STATUS, state),
            words(DEPLOYMENT_OPERATION, state) + (", `error`" if state.code else ""),
        ]
        for state in JOB.states.values()
    ]
    return table(["vertex_ai", "longrunning", "azure_face", "deployment_manager"], rows)


def result(state: State) -> str:
    """Returns an operation in this state as google.longrunning shows it."""
    if not state.terminal:
        return "`done: false`"
    if not state.code:
        return "`done`, `response`"
    return f"`done`, `error`, code {state.code.name}" + (" or its own" if owns_code(state) else "")


def owns_code(state: State) -> bool:
    """Tells whether a failure that ends in this state has a code of its own."""
    return state.code is Code.UNKNOWN


def words(dialect: Lifecycle, state: State) -> str:
    """Returns the word of a dialect for a state, or the two that it may have."""
    known = [OperationView(name="", state=state.number, start_time=time) for time in (0, 1)]
    early, late = (dialect.state_for(one.state, started=one.started).name for one in known)
    return f"`{early}`" if early == late else f"`{early}`; `{late}` once it has begun"


def short(state: State) -> str:
    """Returns a state's name without the prefix of its enum."""
    return state.name.removeprefix("JOB_STATE_")


def diagram(machine: Lifecycle) -> str:
    """Returns the state diagram of a lifecycle."""
    lines = [f"[*] --> {short(machine.initial)}"]
    for state in machine.states.values():
        following = (machine.states[number] for number in sorted(state.next))
        lines += [f"{short(state)} --> {short(one)}" for one in following]
        if state.terminal or state.final_when_done:
            lines.append(f"{short(state)} --> [*]")
    return mermaid(lines)


def diagram_of_results() -> str:
    """Returns the state diagram of google.longrunning: not done, and a node for each result."""
    ends: dict[str, str] = {}
    for state in JOB.states.values():
        if state.terminal:
            code = "any other code" if owns_code(state) else state.code.name
            ends[state.code.name] = f"error, {code}" if state.code else "response"
    lines = ['state "done: false" as not_done', "[*] --> not_done"]
    for node, text in ends.items():
        lines += [f'state "done: {text}" as {node}', f"not_done --> {node}", f"{node} --> [*]"]
    return mermaid(lines)


def mermaid(lines: list[str]) -> str:
    """Returns a state diagram of these lines."""
    return "\n".join(["```mermaid", "stateDiagram-v2", *(f"    {line}" for line in lines), "```"])


# Fields.


def fields() -> str:
    """Returns the table of the places where each dialect shows a value."""
    rows = [
        [
            value,
            *(", ".join(f"`{path}`" for path in places(name, value)) or "–" for name in DIALECTS),
        ]
        for value in CHANGES
    ]
    return table(["", *DIALECTS], rows)


def places(dialect: str, value: str) -> list[str]:
    """Returns the paths in the JSON of a dialect that differ when one value does."""
    found: set[str] = set()
    for pair in CHANGES[value]:
        before, after = (dict(leaves(shown(dialect, one))) for one in pair)
        found |= {
            path for path in before.keys() | after.keys() if before.get(path) != after.get(path)
        }
    return sorted(found)


def shown(dialect: str, view: OperationView) -> dict[str, Any]:
    """Returns the JSON of a dialect."""
    return DIALECTS[dialect].to_json(DIALECTS[dialect].from_view(view))


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Lists the values in a JSON by their paths; those of one list have one path."""
    if isinstance(value, dict) and not path.endswith(_WHOLE):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, f"{path}[]")
    else:
        yield path, value


_WHOLE = ("response", "instanceStatuses")
"""Values that no path leads into."""


def batch_with(state: Status.State.ValueType, failed: str = "") -> bytes:
    """Returns a batch of two instances: the first in this state, or one failed."""
    batch = BatchStates.begin(["i/1", "i/2"])
    if failed:
        batch.move(failed, Status.CREATING, Status.FAILED, error=error())
    elif state != Status.PENDING_CREATE:
        batch.move("i/1", state)
    return batch.serialized()


def error(code: Code = Code.ABORTED, message: str = "m", reason: str = "THIS") -> status_pb2.Status:
    """Returns an error."""
    return to_status(LroError(message, code=code, reason=reason, domain="d.example"))


def text(value: str) -> Any:
    """Returns a response."""
    packed = empty_response()
    packed.Pack(wrappers_pb2.StringValue(value=value))
    return packed


_NOW = 1_800_000_000_000_000
_BEGUN = OperationView(
    name="projects/p/locations/global/operations/op-1",
    state=RUNNING,
    target="projects/p/locations/global/deployments/d",
    create_time=_NOW,
    start_time=_NOW,
    update_time=_NOW,
    progress_percent=50,
    batch=batch_with(Status.CREATING),
)
_SUCCEEDED = replace(_BEGUN, state=SUCCEEDED, end_time=_NOW, response=text("x"))
_FAILED = replace(_BEGUN, state=FAILED, end_time=_NOW, error=error())
_BARE = replace(_BEGUN, target="", start_time=0, progress_percent=100)


def changed(known: OperationView, **values: Any) -> list[tuple[OperationView, OperationView]]:
    """Returns a pair of views, the second with other values."""
    return [(known, replace(known, **values))]


CHANGES: Mapping[str, list[tuple[OperationView, OperationView]]] = {
    "name": changed(_BEGUN, name="projects/p/locations/global/operations/op-2"),
    "state": [*changed(_BARE, state=QUEUED), *changed(_BARE, state=SUCCEEDED)],
    "created": changed(_BEGUN, create_time=_NOW + 1),
    "started": changed(_BEGUN, start_time=_NOW + 1),
    "last changed": changed(_BEGUN, update_time=_NOW + 1),
    "ended": changed(_SUCCEEDED, end_time=_NOW + 1),
    "kept until": changed(_SUCCEEDED, expire_time=_NOW + 1),
    "target": changed(_SUCCEEDED, target="projects/p/locations/global/deployments/e"),
    "verb": changed(_BEGUN, verb="create"),
    "API version": changed(_BEGUN, api_version="v1"),
    "status detail": changed(_BEGUN, status_detail="half"),
    "progress": changed(_BEGUN, progress_percent=51),
    "attempt": changed(_BEGUN, attempt=2),
    "cancel requested": changed(_BEGUN, cancel_requested=True),
    "pause requested": changed(_BEGUN, pause_requested=True),
    "instances": [
        *changed(_BEGUN, batch=batch_with(Status.PENDING_CREATE)),
        (
            replace(_FAILED, batch=batch_with(Status.FAILED, "i/1")),
            replace(_FAILED, batch=batch_with(Status.FAILED, "i/2")),
        ),
    ],
    "failures of parts": [
        (
            replace(_BEGUN, partial_failures=(status_pb2.Status(code=Code.ABORTED, message="m"),)),
            replace(_BEGUN, partial_failures=(status_pb2.Status(code=Code.NOT_FOUND),)),
        )
    ],
    "error: code": changed(_FAILED, error=error(code=Code.NOT_FOUND)),
    "error: message": changed(_FAILED, error=error(message="n")),
    "error: details": changed(_FAILED, error=error(reason="THAT")),
    "response": changed(_SUCCEEDED, response=text("y")),
    "caller": changed(_BEGUN, caller="user@example.com"),
    "request id": changed(_BEGUN, request_id="r"),
}
"""Values by what people call them, and pairs of operations that differ in nothing else."""


# Losses.


def lost(dialect: str) -> str:
    """Returns the list of the fields that do not come back from a dialect."""
    losses = lost_in(dialect)
    missing = ", ".join(f"`{field}`" for field, becomes in losses.items() if becomes == NOT_SHOWN)
    changed = [f"`{field}`: {why}." for field, why in losses.items() if why != NOT_SHOWN]
    return "\n".join(f"* {line}" for line in [f"Not shown: {missing}.", *changed])


BLOCKS: Mapping[str, Callable[[], str]] = {
    "lifecycle": partial(diagram, JOB),
    "states": states,
    "fields": fields,
    "longrunning_diagram": diagram_of_results,
    "alloydb_diagram": partial(diagram, BATCH_INSTANCE),
    "vertex_ai_diagram": partial(diagram, JOB),
    "azure_face_diagram": partial(diagram, OPERATION_STATUS),
    "deployment_manager_diagram": partial(diagram, DEPLOYMENT_OPERATION),
    **{f"{dialect}_lost": partial(lost, dialect) for dialect in DIALECTS},
}
"""The blocks on dialects, by name."""
