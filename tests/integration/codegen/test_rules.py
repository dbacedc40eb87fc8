"""What the plugin refuses (D1 to D7), where it says so, and how a method is let off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from zoo_protos import FIRST, HEAD, rpc, zoo

pytestmark = pytest.mark.codegen

Respond = Callable[..., Any]

META = "lro.v1.OperationMetadata"
BARE = "  rpc {name}(Ask) returns (google.longrunning.Operation){body}\n"


def complaints(response: Any) -> list[str]:
    """Returns what the plugin complains of; it writes something or complains."""
    assert bool(response.error) != bool(response.file)
    header, *found = response.error.splitlines() or [""]
    assert header in ("", "the protos break rules for long-running methods")
    return list(found)


def half(name: str, field: str) -> str:
    option = f'    option (google.longrunning.operation_info).{field} = "{name}Response";\n'
    return BARE.format(name=name, body=f" {{\n{option}  }}")


@pytest.mark.parametrize(
    ("method", "line", "rule", "said"),
    [
        (BARE.format(name="Feed", body=";"), 0, "D1", 'response_type: "…" metadata_type: "…"'),
        (half("Feed", "response_type"), 1, "D1", 'lacks metadata_type: "…"'),
        (half("Feed", "metadata_type"), 1, "D1", 'lacks response_type: "…"'),
        (
            rpc("Feed").replace("google.longrunning.Operation)", "FeedResponse)"),
            1,
            "D1",
            "returns zoo.v1.FeedResponse; have it return google.longrunning.Operation",
        ),
        (rpc("Feed", "Feast"), 1, "D2", "'Feast' is no message that this file can see"),
        (rpc("Feed", metadata="lro.v1.Nothing"), 1, "D2", "metadata_type 'lro.v1.Nothing'"),
        (
            rpc("Feed", "google.rpc.Status"),
            1,
            "D2",
            'add import "google/rpc/status.proto";',
        ),
        (rpc("Feed", "FeedResponse.Dish"), 1, "D2", "'FeedResponse.Dish' is no message"),
        (rpc("Feed", "google.protobuf.Empty"), 1, "D3", "declare a FeedResponse"),
        (
            rpc("Feed", metadata="google.protobuf.Empty"),
            1,
            "D3",
            "declare a FeedMetadata, or take lro.v1.OperationMetadata",
        ),
        (rpc("CreateAnimal"), 1, "D4", "here Animal"),
        (rpc("UpdateAnimal"), 1, "D4", "here Animal"),
        (rpc("UndeleteAnimal"), 1, "D4", "here Animal"),
        (rpc("DeleteAnimal"), 1, "D4", "here google.protobuf.Empty, or Animal"),
        (
            rpc("BatchCreateAnimals", metadata="BatchCreateAnimalsOperationMetadata"),
            1,
            "D4",
            "here BatchCreateAnimalsResponse",
        ),
        (
            rpc("BatchCreateAnimals", "BatchCreateAnimalsResponse"),
            1,
            "D6",
            "named BatchCreateAnimalsOperationMetadata",
        ),
        (BARE.format(name="BatchCreateAnimals", body=";"), 0, "D7", 'metadata_type: "…"'),
        (half("BatchCreateAnimals", "response_type"), 1, "D7", 'lacks metadata_type: "…"'),
        (
            rpc("Feed").replace("returns (", "returns (stream "),
            0,
            "S2",
            "an operation is one response",
        ),
    ],
)
def test_a_method_that_breaks_a_rule(
    respond: Respond, method: str, line: int, rule: str, said: str
) -> None:
    """Named by the line of the method, or of its operation_info."""
    (complaint,) = complaints(respond(zoo(rpc("Walk"), method)))
    name = method.split("(")[0].split()[-1]
    where = FIRST + rpc("Walk").count("\n") + line
    assert complaint.startswith(f"zoo.proto:{where}: {rule}: {name}: ")
    assert said in complaint


@pytest.mark.parametrize(
    "method",
    [
        rpc("Feed", "FeedResponse.Meal"),
        rpc("Feed", ".zoo.v1.FeedResponse"),
        rpc("Feed", "zoo.v1.FeedResponse", "BatchCreateAnimalsOperationMetadata"),
        rpc("Feed", "v1.FeedResponse"),
        rpc("CreateAnimal", "Animal"),
        rpc("Created"),
        rpc("DeleteAnimal", "google.protobuf.Empty"),
        rpc("DeleteAnimal", "Animal"),
        rpc("BatchDeleteAnimals", "google.protobuf.Empty", "BatchCreateAnimalsOperationMetadata"),
        rpc("BatchFeed"),
        # AlloyDB's CreateSecondaryCluster has a Cluster: there is no message SecondaryCluster.
        rpc("CreateHungryAnimal", "Animal"),
        rpc("UpdateDiet", "Animal"),
        rpc("UpdateFeedResponse", "Animal"),  # which has no name, and so is no resource
        rpc("UndeleteHerd", "Animal"),
        rpc("DeleteHerd", "Animal"),
    ],
)
def test_a_method_that_breaks_none(respond: Respond, method: str) -> None:
    assert complaints(respond(zoo(method))) == []


@pytest.mark.parametrize("name", ["GetOperation", "WaitOperation"])
def test_a_service_that_mixes_operations_in_starts_none_by_that(
    respond: Respond, name: str
) -> None:
    """D1 is for methods that return what they have started."""
    assert complaints(respond(zoo(rpc("Feed"), BARE.format(name=name, body=";")))) == []
    (complaint,) = complaints(respond(zoo(BARE.format(name=f"{name}Log", body=";"))))
    assert ": D1: " in complaint


def test_a_name_of_another_package_is_a_full_one(respond: Respond) -> None:
    """D2."""
    files = {
        **zoo(
            rpc("Feed", "food.v1.Meal"),
            head=HEAD.replace("package zoo.v1;", 'package zoo.v1; import "food.proto";'),
        ),
        "food.proto": 'syntax = "proto3"; package zoo.food.v1; message Meal {}',
    }
    (complaint,) = complaints(respond(files))
    assert complaint.startswith(f"zoo.proto:{FIRST + 1}: D2: Feed: ")
    assert "write 'zoo.food.v1.Meal'" in complaint


def test_what_a_file_imports_publicly_is_imported(respond: Respond) -> None:
    """D2."""
    files = {
        **zoo(
            rpc("Feed", "zoo.food.v1.Meal"),
            head=HEAD.replace("package zoo.v1;", 'package zoo.v1; import "all.proto";'),
        ),
        "all.proto": 'syntax = "proto3"; import public "food.proto";',
        "food.proto": 'syntax = "proto3"; package zoo.food.v1; message Meal {}',
    }
    assert complaints(respond(files)) == []


def test_everything_that_is_wrong_is_said_at_once(respond: Respond) -> None:
    wrong = [rpc("CreateAnimal"), rpc("Feed", "Feast", "google.protobuf.Empty")]
    done = respond(zoo(*wrong, BARE.format(name="Walk", body=";")))
    found = [complaint.split(": ")[:3] for complaint in complaints(done)]
    lines = [FIRST + 1, FIRST + 7, FIRST + 7, FIRST + 12]
    assert found == [
        [f"zoo.proto:{lines[0]}", "D4", "CreateAnimal"],
        [f"zoo.proto:{lines[1]}", "D2", "Feed"],
        [f"zoo.proto:{lines[2]}", "D3", "Feed"],
        [f"zoo.proto:{lines[3]}", "D1", "Walk"],
    ]


# Exceptions, with their reasons


def allowing(text: str) -> str:
    return f"  // Creates an animal.\n  //\n  // {text}\n"


def test_a_method_with_a_reason_is_let_off(respond: Respond) -> None:
    comment = allowing("lro-grpc: allow D4 because the herd is what callers\n  // want to see.")
    response = respond(zoo(rpc("CreateAnimal", comment=comment)))
    assert complaints(response) == []
    text = response.file[0].content
    assert '"""Creates an animal."""' in text
    assert "herd" not in text


def test_several_rules_at_once(respond: Respond) -> None:
    comment = allowing("lro-grpc: allow D3, D4 because it was released so.")
    method = rpc("CreateAnimal", metadata="google.protobuf.Empty", comment=comment)
    assert complaints(respond(zoo(method))) == []


@pytest.mark.parametrize(
    "text",
    [
        "lro-grpc: allow D4",
        "lro-grpc: allow D4 because",
        "lro-grpc: allow D4 for reasons.",
        "lro-grpc: allow S3 because it is so.",
        "lro-grpc: forbid D4 because it is so.",
    ],
)
def test_an_exception_without_rule_or_reason_is_none(respond: Respond, text: str) -> None:
    found = complaints(respond(zoo(rpc("CreateAnimal", comment=allowing(text)))))
    assert [complaint.split(": ")[1] for complaint in found] == ["lro-grpc", "D4"]
    assert "write 'lro-grpc: allow D6 because …'" in found[0]


def test_an_exception_that_nothing_needs_is_refused(respond: Respond) -> None:
    comment = allowing("lro-grpc: allow D6 because it was so once.")
    (complaint,) = complaints(respond(zoo(rpc("CreateAnimal", "Animal", comment=comment))))
    assert "CreateAnimal: it allows D6, which it does not break" in complaint


def test_what_cannot_be_generated_cannot_be_allowed(respond: Respond) -> None:
    comment = allowing("lro-grpc: allow D2 because it is somewhere.")
    (complaint,) = complaints(respond(zoo(rpc("Feed", "Feast", comment=comment))))
    assert ": D2: Feed: " in complaint


WRONG = (rpc("CreateAnimal"), rpc("Feed", metadata="google.protobuf.Empty"))


@pytest.mark.parametrize(
    "option", ["allow=D4,D3", "allow=D3,allow=D4", "allow=D3,D4,D6,against={old}"]
)
def test_rules_may_be_allowed_for_protos_that_cannot_be_edited(
    respond: Respond, release: Any, capfd: Any, option: str
) -> None:
    """What breaks them is written all the same, and said."""
    old = release(zoo(rpc("Walk")), "--include_imports")
    response = respond(zoo(*WRONG), option.format(old=old))
    assert complaints(response) == []
    first, second = capfd.readouterr().err.splitlines()
    assert first.startswith(f"zoo.proto:{FIRST + 1}: D4: CreateAnimal: its response_type is")
    assert second.startswith(f"zoo.proto:{FIRST + 7}: D3: Feed: its metadata_type is")
    assert {line.rpartition(" (")[2] for line in (first, second)} == {"a warning: allowed)"}


def test_what_is_not_among_the_allowed_rules_is_refused(respond: Respond, capfd: Any) -> None:
    (complaint,) = complaints(respond(zoo(*WRONG), "allow=D4"))
    assert ": D3: Feed: " in complaint
    assert ": D4: CreateAnimal: " in capfd.readouterr().err


def test_no_option_allows_what_cannot_be_generated(respond: Respond) -> None:
    stream = rpc("Feed").replace("returns (", "returns (stream ")
    for method in (rpc("Feed", "Feast"), stream):
        (complaint,) = complaints(respond(zoo(method), "allow=D1,D2,D3,D4,D5,D6,D7"))
        assert ": Feed: " in complaint


# D5: what was released stays


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (rpc("Feed", "Animal"), "response_type was zoo.v1.FeedResponse and is zoo.v1.Animal now"),
        (rpc("Feed", metadata="Animal"), f"metadata_type was {META} and is zoo.v1.Animal now"),
    ],
)
def test_a_changed_type_breaks_clients(respond: Respond, release: Any, now: str, said: str) -> None:
    old = release(zoo(rpc("Feed")), "--include_imports")
    (complaint,) = complaints(respond(zoo(now), f"against={old}"))
    assert complaint.startswith(f"zoo.proto:{FIRST + 1}: D5: Feed: its {said}")


def test_the_same_type_by_another_name_breaks_nothing(respond: Respond, release: Any) -> None:
    old = release(zoo(rpc("Feed"), rpc("Walk")), "--include_imports")
    now = zoo(rpc("Feed", "zoo.v1.FeedResponse"), rpc("Look"))
    assert complaints(respond(now, f"against={old}")) == []


def test_a_change_may_be_allowed(respond: Respond, release: Any) -> None:
    old = release(zoo(rpc("Feed")), "--include_imports")
    comment = allowing("lro-grpc: allow D5 because nobody calls it yet.")
    now = zoo(rpc("Feed", "Animal", comment=comment))
    assert complaints(respond(now, f"against={old}")) == []
    assert complaints(respond(now)) == []  # only a comparison can show it


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("against={folder}/missing.binpb", "missing.binpb cannot be read"),
        ("against={folder}/zoo.proto", "zoo.proto cannot be read"),
        ("against={folder}/old.binpb", "old.binpb lacks google/longrunning/operations.proto"),
        ("against=", "'against=' is not known; there are against=FILE and allow=RULE,…"),
        ("clients=no", "'clients=no' is not known; there are against=FILE and allow=RULE,…"),
        ("D4", "'D4' is not known; there are against=FILE and allow=RULE,…"),
        ("allow=", "allow=: '' is none of the rules D1, D2, D3, D4, D5, D6, D7"),
        ("allow=D4,E8", "allow=E8: 'E8' is none of the rules D1,"),
        ("allow=S2", "allow=S2: 'S2' is none of the rules D1,"),
        ("allow=d4", "allow=d4: 'd4' is none of the rules D1,"),
    ],
)
def test_a_wrong_option_says_what_to_do(
    respond: Respond, release: Any, option: str, said: str
) -> None:
    old = release(zoo(rpc("Feed")))
    response = respond(zoo(rpc("Feed")), option.format(folder=old.parent))
    assert said in response.error
    assert not response.file
