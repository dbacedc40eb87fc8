from __future__ import annotations

import itertools

import pytest

from lro.v1 import state_pb2
from lro_grpc._errors import Code, IllegalTransitionError
from lro_grpc._operation import states
from lro_grpc._operation.states import (
    BATCH_INSTANCE,
    DEPLOYMENT_OPERATION,
    JOB,
    OPERATION_STATUS,
    Lifecycle,
)

ALL = [JOB, BATCH_INSTANCE, OPERATION_STATUS, DEPLOYMENT_OPERATION]
DIALECTS = [OPERATION_STATUS, DEPLOYMENT_OPERATION]


def each(lifecycles: list[Lifecycle]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("machine", lifecycles, ids=lambda one: one.name)


def table(machine: Lifecycle) -> dict[str, set[str]]:
    return {
        state.name: {machine.states[number].name for number in state.next}
        for state in machine.states.values()
    }


def job(name: str) -> int:
    return state_pb2.JobState.Value(f"JOB_STATE_{name}")


# Proofs on the schema.


@each(ALL)
def test_one_state_is_the_first(machine):
    assert [state for state in machine.states.values() if state.initial] == [machine.initial]


@each(ALL)
def test_every_value_but_the_zero_is_reachable(machine):
    assert machine.reachable_from(machine.initial.number) == set(machine.states)


@each(ALL)
def test_the_zero_value_is_no_state(machine):
    assert 0 not in machine.states
    assert all(0 not in state.next for state in machine.states.values())


@each(ALL)
def test_every_state_has_a_way_to_one_in_which_an_operation_can_be_done(machine):
    for state in machine.states.values():
        ends = [machine.states[number] for number in machine.reachable_from(state.number)]
        assert any(one.terminal or one.final_when_done for one in ends), state.name


@each(ALL)
def test_terminal_states_and_only_they_have_nothing_after_them(machine):
    for state in machine.states.values():
        assert state.terminal == (not state.next), state.name
        assert not (state.terminal and state.final_when_done), state.name


@each(DIALECTS)
def test_the_words_stand_for_each_job_state_exactly_once(machine):
    stood_for = [job for state in machine.states.values() for job in state.represents]
    assert sorted(stood_for) == sorted(JOB.states)


@each([JOB, BATCH_INSTANCE])
def test_other_lifecycles_stand_for_no_job_state(machine):
    assert [state.name for state in machine.states.values() if state.represents] == []


@each(DIALECTS)
def test_a_word_for_a_terminal_state_is_terminal(machine):
    for state in machine.states.values():
        assert {JOB.is_terminal(number) for number in state.represents} == {state.terminal}


# The tables, in so many words.


def test_the_job_lifecycle_is_the_designed_one():
    designed = {
        "QUEUED": "PENDING PAUSED CANCELLING FAILED EXPIRED",
        "PENDING": "RUNNING QUEUED PAUSED CANCELLING FAILED EXPIRED",
        "RUNNING": "UPDATING PAUSED QUEUED CANCELLING SUCCEEDED PARTIALLY_SUCCEEDED FAILED EXPIRED",
        "UPDATING": "RUNNING",
        "PAUSED": "QUEUED CANCELLING FAILED EXPIRED",
        "CANCELLING": "SUCCEEDED FAILED CANCELLED",
        "SUCCEEDED": "",
        "FAILED": "",
        "CANCELLED": "",
        "EXPIRED": "",
        "PARTIALLY_SUCCEEDED": "",
    }
    assert table(JOB) == {
        f"JOB_STATE_{state}": {f"JOB_STATE_{one}" for one in following.split()}
        for state, following in designed.items()
    }
    assert JOB.initial.number == job("QUEUED")


def test_cancelling_ends_as_vertex_ai_states():
    """CANCELLING -> SUCCEEDED | FAILED | CANCELLED only."""
    assert JOB.states[job("CANCELLING")].next == {
        job("SUCCEEDED"),
        job("FAILED"),
        job("CANCELLED"),
    }


def test_the_lifecycle_of_a_target_is_that_of_alloydb():
    assert table(BATCH_INSTANCE) == {
        "PENDING_CREATE": {"CREATING", "FAILED"},
        "CREATING": {"READY", "FAILED", "DELETING"},
        "READY": {"DELETING"},
        "DELETING": {"ROLLED_BACK", "FAILED"},
        "FAILED": set(),
        "ROLLED_BACK": set(),
    }
    assert BATCH_INSTANCE.initial.name == "PENDING_CREATE"
    assert [one.name for one in BATCH_INSTANCE.states.values() if one.final_when_done] == ["READY"]


def test_the_words_of_azure_face_and_deployment_manager_never_go_back():
    assert table(OPERATION_STATUS) == {
        "notstarted": {"running", "failed"},
        "running": {"succeeded", "failed"},
        "succeeded": set(),
        "failed": set(),
    }
    assert table(DEPLOYMENT_OPERATION) == {
        "PENDING": {"RUNNING", "DONE"},
        "RUNNING": {"DONE"},
        "DONE": set(),
    }


def test_terminal_states_carry_the_code_of_their_error():
    codes = {state.name: state.code for state in JOB.states.values() if state.code}
    assert codes == {
        "JOB_STATE_FAILED": Code.UNKNOWN,
        "JOB_STATE_CANCELLED": Code.CANCELLED,
        "JOB_STATE_EXPIRED": Code.DEADLINE_EXCEEDED,
    }


# Steps.


@each(ALL)
def test_a_step_that_is_not_listed_is_refused(machine):
    """S28: FAILED_PRECONDITION."""
    for state in machine.states.values():
        for following in [0, 99, *machine.states]:
            if following in state.next:
                machine.check(state.number, following)
            else:
                with pytest.raises(IllegalTransitionError) as caught:
                    machine.check(state.number, following)
                assert caught.value.code is Code.FAILED_PRECONDITION
                assert caught.value.metadata["from"] == state.name
                assert caught.value.metadata["to"] == machine.name_of(following)


def test_a_path_is_checked_step_by_step():
    queued, pending, running, done = map(job, ("QUEUED", "PENDING", "RUNNING", "SUCCEEDED"))
    JOB.check(queued, pending, running, done)
    JOB.check(running)
    JOB.check()
    with pytest.raises(IllegalTransitionError, match="from QUEUED to RUNNING"):
        JOB.check(queued, running)
    with pytest.raises(IllegalTransitionError, match="from SUCCEEDED"):
        JOB.check(running, done, running)


@pytest.mark.parametrize("unknown", [0, 12, -1])
def test_there_is_no_step_from_a_number_that_is_no_state(unknown):
    with pytest.raises(IllegalTransitionError, match=f"from {unknown} "):
        JOB.check(unknown, job("PENDING"))


def test_a_state_that_the_schema_does_not_know_is_named_by_its_number():
    assert JOB.name_of(job("RUNNING")) == "JOB_STATE_RUNNING"
    assert JOB.name_of(99) == "99"


# Words of other dialects.

WORDS = {
    "SUCCEEDED": ("succeeded", "DONE"),
    "PARTIALLY_SUCCEEDED": ("succeeded", "DONE"),
    "FAILED": ("failed", "DONE"),
    "CANCELLED": ("failed", "DONE"),
    "EXPIRED": ("failed", "DONE"),
}


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize(
    "state", [one.name.removeprefix("JOB_STATE_") for one in JOB.states.values()]
)
def test_the_word_shows_the_end_or_whether_it_was_ever_started(state, started):
    unfinished = ("running", "RUNNING") if started else ("notstarted", "PENDING")
    words = tuple(one.state_for(job(state), started=started).name for one in DIALECTS)
    assert words == WORDS.get(state, unfinished)


@each(DIALECTS)
def test_the_word_never_goes_back_whatever_the_operation_does(machine):
    """Also when it is paused, released or queued again after it was started."""
    unstarted = {job(name) for name in ("QUEUED", "PENDING", "PAUSED", "CANCELLING")}
    for state, started in itertools.product(JOB.states, (False, True)):
        if not started and state not in unstarted:
            continue
        word = machine.state_for(state, started=started)
        for following in JOB.states[state].next:
            now_started = started or following == job("RUNNING")
            if not now_started and following == job("SUCCEEDED"):
                continue  # nothing succeeds that was never started
            later = machine.state_for(following, started=now_started)
            assert later == word or later.number in machine.states[word.number].next


def test_the_lifecycles_are_read_from_the_schemas_own_enums():
    names = {one.name for one in vars(states).values() if isinstance(one, Lifecycle)}
    assert names == {
        "lro.v1.JobState",
        "lro.v1.BatchCreateInstanceStatus.State",
        "lro.v1.OperationStatusType",
        "lro.v1.DeploymentOperation.Status",
    }
