"""Filters of Deployment Manager, as its discovery document has them."""

from __future__ import annotations

import pytest
from operation_histories import LEASE, NOW, SECOND, create

from lro_grpc._errors import InvalidFilterError, cut
from lro_grpc._filtering.parser import parse
from lro_grpc._http.vendors.deployment_fields import RENAMED
from lro_grpc._http.vendors.deployment_filter import translated
from lro_grpc._operation.events import Cancel, Claim, Fail, Report
from lro_grpc._operation.record import Record

PARENT = "projects/p.q/locations/global"


def made(operation_id: str, **values: object) -> Record:
    return create(parent=PARENT, operation_id=operation_id, **values)


QUEUED = made("op-1", verb="insert", target="projects/p.q/locations/global/deployments/d")
RUNNING = Report(1, 40, "half (a) way").apply(
    Claim(LEASE).apply(made("op-23", verb="insert"), NOW + SECOND), NOW + 2 * SECOND
)
DONE = Fail(Report(1, 70, "no disk"), b"").apply(
    Claim(LEASE).apply(made("or-4", verb="delete"), NOW + SECOND), NOW + 2 * SECOND
)
CANCELLED = Cancel().apply(made("x.y", verb="update"), NOW + 3 * SECOND)
RECORDS = {"queued": QUEUED, "running": RUNNING, "done": DONE, "cancelled": CANCELLED}


def found(text: str, parent: str = PARENT) -> list[str]:
    meaning = parse(translated(text, parent))
    return [name for name, record in RECORDS.items() if meaning.matches(record)]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("name eq op-1", ["queued"]),
        ("name eq 'op-1'", ["queued"]),
        ('name eq "op-1"', ["queued"]),
        ("name eq op", []),  # it is the whole field
        ("name eq op-.*", ["queued", "running"]),
        ("name ne .*3", ["queued", "done", "cancelled"]),
        ("name eq op-1|or-4", ["queued", "done"]),
        ("name eq ^op-1|or-4$", ["queued", "done"]),
        ("name eq (op|or)-[0-9]{1,2}", ["queued", "running", "done"]),
        (r"name eq x\.y", ["cancelled"]),
        (r"name eq 'o[^p]-\d'", ["done"]),
        ("name eq projects/.*", []),  # the name is its last part
        ("operationType eq insert", ["queued", "running"]),
        ("operationType eq ins.*|del.*", ["queued", "running", "done"]),
        ("operationType ne insert", ["done", "cancelled"]),
        ("operationType eq INSERT", []),
        ("operationType  eq\t insert ", ["queued", "running"]),
        ("statusMessage eq half \\(a\\) way", ["running"]),
        ('statusMessage eq "half \\(.\\) way"', ["running"]),
        ("statusMessage eq 'AND|no disk'", ["done"]),
        ("statusMessage eq ''", ["queued", "cancelled"]),
        ("status eq DONE", ["done", "cancelled"]),
        ("status eq 'DONE|RUNNING'", ["running", "done", "cancelled"]),
        ("status eq .*ING", ["queued", "running"]),
        ("status ne .*ING", ["done", "cancelled"]),
        ("status eq done", []),
        ("status ne done", [*RECORDS]),
        ("(name eq o.*) (status ne DONE)", ["queued", "running"]),
        ('(name eq "o.*")(operationType eq (insert|delete))', ["queued", "running", "done"]),
        ("( name eq 'o.*' )  ( status ne 'DONE' ) ", ["queued", "running"]),
        (r"(statusMessage eq half \(a\).*)", ["running"]),
        ("(name eq [)o].*)", ["queued", "running", "done"]),
        ("(status eq DONE)", ["done", "cancelled"]),
        ("done eq true", ["done", "cancelled"]),
        ("done ne true", ["queued", "running"]),
        ("progress eq 40", ["running"]),
        ("progress ne 100", ["queued", "running"]),
        (f'target eq "{QUEUED.target[:-1]}[a-e]"', ["queued"]),
    ],
)  # fmt: skip
def test_eq_and_ne_are_regular_expressions_for_the_whole_field(text: str, names: list[str]) -> None:
    assert found(text) == names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", [*RECORDS]),
        ("status = DONE", ["done", "cancelled"]),
        ('status != "DONE"', ["queued", "running"]),
        ("status:RUNNING", ["running"]),
        ("status:*", [*RECORDS]),
        ("NOT status = PENDING", ["running", "done", "cancelled"]),
        ("(status = RUNNING) OR (status = PENDING) AND (operationType = insert)",
         ["queued", "running"]),
        ("(status = DONE) (operationType = delete)", ["done"]),
        ("operationType != insert", ["done", "cancelled"]),
        ("operationType:sert", ["queued", "running"]),
        ("operationType = ins*", ["queued", "running"]),
        ("statusMessage:half", ["running"]),
        ("statusMessage:*", ["running", "done"]),
        ("endTime:*", ["done", "cancelled"]),
        ("progress = 100", ["done", "cancelled"]),
        ("progress < 100", ["queued", "running"]),
        ("progress >= 40", ["running", "done", "cancelled"]),
        ("progress != 100 progress > 0", ["running"]),
        ("name = op-1", ["queued"]),
        ("name = 'op-*'", ["queued", "running"]),
        ("name = x.y", ["cancelled"]),
        ("name:op-2", ["running"]),
        ("name:foo", []),
        ('"op-2"', ["running"]),
        ("'status = DONE'", []),
        ("insert", ["queued", "running"]),
        ("done = true", ["done", "cancelled"]),
        ("name = 'eq' OR name = 'op-1'", ["queued"]),
    ],
)  # fmt: skip
def test_all_else_is_compared(text: str, names: list[str]) -> None:
    assert found(text) == names


@pytest.mark.parametrize(("field", "ours"), RENAMED.items())
def test_each_field_has_the_meaning_of_the_one_that_it_is(field: str, ours: str) -> None:
    for comparison in (":*", "= '2027-01-15T08:00:01Z'", "!= '2027-01-15T08:00:01Z'", ":insert"):
        if ours.endswith("_time") and comparison == ":insert":
            continue
        meaning, expected = (
            parse(translated(f"{field} {comparison}", PARENT)),
            parse(f"{ours} {comparison}"),
        )
        assert meaning.expression == expected.expression
    assert any(parse(f"{ours}:*").matches(one) for one in RECORDS.values())


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("name eq a AND status = DONE", 10, "with its value in quotes if that has spaces"),
        ("name eq a status=DONE", 17, "for comparisons use = and !="),
        ("name eq a status:DONE", 17, "stands alone, or in parentheses"),
        ("(name eq a) AND (status = DONE)", 13, "expected ( or the end"),
        ("(name eq a) OR (status eq b)", 13, "expected ( or the end"),
        ("(name eq a) (status = DONE)", 14, "expected a field, and eq or ne"),
        ("(status = DONE) (name eq a)", 23, "not mixed"),
        ("status = DONE AND name eq a", 24, "not mixed"),
        ("NOT name eq a", 10, "not mixed"),
        ("-name eq 'a'", 7, "not mixed"),
        ("name eq", 8, "expected a regular expression"),
        ("name ne  ", 10, "expected a regular expression"),
        ("(name eq )", 10, "expected a regular expression"),
        ("(name eq a", 11, "expected )"),
        ("(name eq 'a' b)", 14, "expected )"),
        ("name eq 'a' b", 12, "expected the end"),
        ("name eq 'a", 9, "has no end"),
        ("(name eq a) x", 13, "expected ( or the end"),
        ("((name eq a))", 8, "not mixed"),
        ("name eq a**", 11, "repeats what is repeated already"),
        ("name eq (a", 9, "has no end"),
        ("name eq 'a[b'", 11, "has no end"),
        (r"name eq \bfoo\b", 9, r"\b is not supported"),
        ("name eq (?i)foo", 9, "(?:x)"),
        ("name eq a{501}", 15, "more than 500 characters"),
        ("(operationType eq a{9}) (status eq +)", 36, "nothing to repeat"),
        ("zone eq x", 1, "there is no field 'zone'; the fields are name, status, progress, op"),
        ("(name eq a) (zone ne x)", 14, "there is no field 'zone'; the fields are name, status"),
        ("status = DONE zone:*", 15, "there is no field 'zone'; the fields are name, status"),
        ("NOT status.code = 5", 5, "there is no field 'status.code'; the fields are name, status"),
        ("insertTime eq 2027.*", 15, "is not an RFC 3339 time"),
        ("done eq tru.", 9, "neither true nor false"),
        ("progress eq 4.*", 13, "a whole number"),
        ("progress > half", 12, "a whole number"),
        ("progress = (1 OR 2)", 12, "a whole number"),
        ("status = FOO", 10, "one of DONE, RUNNING, PENDING"),
        ("status < DONE", 10, "by = != :"),
        ("status = (DONE OR RUNNING)", 10, "one of DONE, RUNNING, PENDING"),
        ("x" * 4097, 4097, "give 4096 at most"),
        ("name eq " + "a" * 4089, 4097, "give 4096 at most"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(text: str, position: int, says: str) -> None:
    with pytest.raises(InvalidFilterError) as caught:
        parse(translated(text, PARENT))
    assert says in caught.value.message
    if says.startswith(("is not an", "neither")):
        return  # the list says so of what has become of it
    assert caught.value.metadata["position"] == str(position)
    assert caught.value.message.startswith(f"filter {cut(text)!r}, ")  # as it was sent


@pytest.mark.parametrize("field", ["name", "status", "operationType"])
def test_the_regular_expressions_of_a_filter_share_one_limit(field: str) -> None:
    assert found(f"({field} ne x{{240}}) ({field} ne y{{240}})") == [*RECORDS]
    with pytest.raises(InvalidFilterError, match="for more than 500 characters"):
        translated(f"({field} ne (.?){{300}}) ({field} ne (.?){{300}})", PARENT)


def test_what_a_filter_becomes_has_its_limits_too() -> None:
    text = "statusMessage eq [" + r"\." * 2000 + "]"  # each of these is written twice
    with pytest.raises(InvalidFilterError, match="give 4096 at most"):
        parse(translated(text, PARENT))


@pytest.mark.parametrize("parent", ["projects/a+b/locations/global", 'projects/(".*)/locations/l'])
def test_the_project_is_no_part_of_the_expression(parent: str) -> None:
    assert found("name eq .*", parent) == []
    meaning = parse(translated("name eq op-.*", parent))
    assert meaning.matches(QUEUED._replace(name=f"{parent}/operations/op-1"))
