"""The alerts of docs/deploy/metrics.md are of metrics that there are, and the runbook has each."""

from __future__ import annotations

import re
import urllib.request
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import yaml
from pages import Page, without_blocks
from prometheus_client.parser import text_string_to_metric_families
from tables.metrics import documented, instruments
from test_serve import create, serving

from lro.v1.operation_description_pb2 import DescribeOperationResponse
from lro.v1.state_pb2 import JobState
from lro_grpc import OperationsClient
from lro_grpc._operation.states import JOB

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PAGE, RUNBOOK = Page("deploy/metrics.md"), Page("deploy/runbook.md")
(RULES_FILE,) = PAGE.texts("yaml")
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES_FILE)["groups"] for rule in group["rules"]
]
WORDS = {"max", "sum", "by", "rate", "increase", "histogram_quantile", "le", "up", "job"}
"""What is Prometheus's own in an expression."""
SHORT = {"method": "lro_operation_method", "state": "lro_operation_state"}


def labels_of(names: str) -> set[str]:
    """Returns the labels that the documentation gives a metric, as Prometheus has them."""
    return {SHORT.get(name, name.replace(".", "_")) for name in re.findall(r"[\w.]+", names)}


def series() -> dict[str, set[str]]:
    """Returns the labels of every series that a server may tell."""
    labels = {row[0].strip("`"): labels_of(row[3]) for row in documented()[2]}
    found: dict[str, set[str]] = {}
    for one in instruments():
        ends: Iterable[str] = [""]
        if one.kind == "histogram":
            ends = ["_bucket", "_sum", "_count"]
        found |= {one.in_prometheus + end: labels[one.name] for end in ends}
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_is_of_series_and_labels_that_there_are(rule: dict[str, Any]) -> None:
    known = series()
    expression = re.sub(r'"[^"]*"|\[\w+\]', "", rule["expr"])
    words = set(re.findall(r"[a-z_]\w*", expression))
    named = words & known.keys()
    assert named or rule["alert"] == "LroDown"
    labels = {label for name in named for label in known[name]}
    assert words - WORDS - named <= labels


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_it_is_about_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^## (.*)$", without_blocks(RUNBOOK), re.MULTILINE)
    assert page == "runbook.md"
    assert anchor in {heading.lower().replace(" ", "-") for heading in headings}
    for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
        assert label in rule["expr"] or label == "instance"


def test_a_server_tells_series_of_these_names_and_labels(tmp_path: Path) -> None:
    with serving("--metrics", "127.0.0.1:0", cwd=tmp_path) as served:
        address = served.banner[1].rpartition(" ")[2].strip()
        with grpc.insecure_channel(served.target) as channel:
            OperationsClient(channel).future(create(channel, "one"), response=None).exception()
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as reply:
            families = [*text_string_to_metric_families(reply.read().decode())]
    known = series()
    told = [one for family in families for one in family.samples if one.name.startswith("lro_")]
    assert len({one.name for one in told}) > 10
    assert {one.name for one in told} <= known.keys()
    assert [one for one in told if not set(one.labels) <= {*known[one.name], "le"}] == []


def test_the_states_that_alerts_name_are_states() -> None:
    named = set(re.findall(r'lro_operation_state="(\w+)"', RULES_FILE))
    assert named
    assert named <= {state.name for state in JOB.states.values()}
    assert named <= set(JobState.keys())


def test_the_runbook_has_every_reason_to_wait() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \|", RUNBOOK.section("Waits long"), re.MULTILINE)
    reasons = set(DescribeOperationResponse.WaitReason.keys())
    assert set(rows) == reasons - {"WAIT_REASON_UNSPECIFIED"}
