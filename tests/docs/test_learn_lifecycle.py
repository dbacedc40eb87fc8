"""docs/learn/lifecycle.md: its states are those of the schema."""

from __future__ import annotations

import re

from pages import Page

from lro_grpc._operation.states import JOB

PAGE = Page("learn/lifecycle.md")


def test_the_table_has_every_state_and_what_callers_see_of_it() -> None:
    shown = dict(re.findall(r"^\| ([A-Z_]+) \| .* \| (`done.*?) \|$", PAGE, re.MULTILINE))
    known = {}
    for state in JOB.states.values():
        code = "its own" if state.code.name == "UNKNOWN" else state.code.name
        end = f"`done`, `error`, code {code}" if state.code else "`done`, `response`"
        known[state.name.removeprefix("JOB_STATE_")] = end if state.terminal else "`done: false`"
    assert shown == known
