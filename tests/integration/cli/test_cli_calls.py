"""``lro list``, ``get``, ``cancel``, ``pause``, ``resume``, ``terminate`` and ``delete``."""

from __future__ import annotations

import json
import re
import threading
from datetime import timedelta, timezone
from typing import TYPE_CHECKING

import grpc
import pytest
import yaml
from cli_world import Fleet, World, add
from foreign_server import launch
from google.longrunning import operations_pb2
from google.protobuf import json_format
from google.protobuf.wrappers_pb2 import StringValue as Text
from lro_process import Lro
from releases import method, release
from server_harness import PARENT, metadata_of, serving

import lro_grpc
from lro.example.v1.fleet_service_pb2 import CreateInstanceRequest
from lro.v1 import operation_metadata_pb2, state_pb2
from lro.v1.operation_description_pb2 import CompletionDelivery
from lro_grpc._dialects.registry import DIALECTS, to_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from foreign_server import Foreign

MOON = "projects/acme/locations/moon"
ESCAPE = "\x1b"


def test_a_list_in_a_pipe_is_lines_with_tabs(world: World) -> None:
    first = world.done(world.create(instance_id="x" * 60))
    second = world.done(world.create("fail"))
    result = world.lro("list", PARENT, COLUMNS="40")
    assert (result.returncode, result.stderr) == (0, "")
    head, *rows = (line.split("\t") for line in result.stdout.splitlines())
    assert head == ["NAME", "STATE", "PROGRESS", "VERB", "TARGET", "CREATED", "DETAIL"]
    assert [row[:5] + row[6:] for row in rows] == [
        [
            *(second.name, "FAILED", "40%", "create", f"{PARENT}/instances/one"),
            "RESOURCE_EXHAUSTED: the disk is full",
        ],
        [first.name, "SUCCEEDED", "100%", "create", f"{PARENT}/instances/{'x' * 60}", "building"],
    ]


def test_a_list_on_a_terminal_has_short_names_and_fits(world: World) -> None:
    names = [world.done(world.create(schema)).name for schema in ("", "fail")]
    code, written = world.lro.on_terminal("list", PARENT, columns=90)
    assert code == 0
    plain = re.sub(rf"{ESCAPE}\[[0-9;]*m", "", written)
    lines = plain.splitlines()
    assert lines[0] == f"{PARENT}/operations/"
    assert [line.split()[:2] for line in lines[2:]] == [
        [names[1].rpartition("/")[2], "FAILED"],
        [names[0].rpartition("/")[2], "SUCCEEDED"],
    ]
    assert max(map(len, lines)) <= 90
    assert ESCAPE in written


def test_an_empty_list_is_its_head(world: World) -> None:
    result = world.lro("list", "projects/-/locations/-")
    assert (result.returncode, len(result.stdout.splitlines())) == (0, 1)


def test_a_list_as_json_has_an_operation_in_each_line(world: World) -> None:
    operations = [world.done(world.create(schema)) for schema in ("fail", "")]
    result = world.lro("list", PARENT, "--output", "json")
    shown = [
        json_format.Parse(line, operations_pb2.Operation()) for line in result.stdout.splitlines()
    ]
    assert shown == operations[::-1]


def test_a_list_as_yaml_has_the_same_as_documents(world: World) -> None:
    for schema in ("fail", ""):
        world.done(world.create(schema))
    as_json = world.lro("list", PARENT, "-o", "json").stdout.splitlines()
    as_yaml = world.lro("list", PARENT, "-o", "yaml").stdout
    assert list(yaml.safe_load_all(as_yaml)) == [json.loads(line) for line in as_json]


def test_a_filter_is_the_servers_affair(world: World) -> None:
    world.done(world.create())
    failed = world.done(world.create("fail"))
    result = world.lro("list", PARENT, "--filter", "state = FAILED")
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == ["NAME", failed.name]


def test_a_time_of_a_filter_may_be_as_long_ago_as_one_says(world: World) -> None:
    name = world.done(world.create()).name
    for text, expected in {
        "create_time > now-1h": [name],
        "create_time < now-30m": [],
        "create_time < now+1d AND end_time > now-2d": [name],
    }.items():
        assert world.lro("list", "-q", "--filter", text).stdout.split() == expected
    refused = world.lro("list", "--filter", "create_time > now-1w")
    assert "'now-1w' is not an RFC 3339 time" in refused.stderr
    refused = world.lro("list", "--filter", "create_time > now-999999999d")
    assert refused.returncode == 2
    assert "now-999999999d is not within" in refused.stderr


def test_a_filter_may_name_any_field_that_the_server_has(
    world: World,
) -> None:
    """What the server refuses, it refuses by the name of the field."""
    name = world.done(world.create()).name
    for text in ("method = */CreateInstance", "worker:*", 'caller = "" AND done = true'):
        assert world.lro("list", "-q", "--filter", text).stdout.split() == [name], text
    refused = world.lro("list", "--filter", "metadata.colour = red")
    assert refused.returncode == 2
    assert "there is no field 'metadata.colour'" in refused.stderr


def test_a_bad_filter_is_reported_in_the_servers_words(world: World) -> None:
    result = world.lro("list", PARENT, "--filter", "state = (")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("lro: INVALID_ARGUMENT: filter 'state = (', character 10")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["--limit", "3"], [3]),
        (["--limit", "3", "--page-size", "2"], [2, 2]),
        (["--limit", "2", "--page-size", "2"], [2]),
        (["--page-size", "4"], [4, 4]),
        ([], [500]),
    ],
)
def test_a_list_asks_for_no_more_pages_than_it_prints(
    foreign: Foreign, arguments: list[str], asked: list[int]
) -> None:
    foreign.put(*(launch(number) for number in range(7)))
    result = Lro(foreign.target)("list", MOON, "-o", "json", *arguments)
    limit = int(arguments[1]) if "--limit" in arguments else 7
    assert len(result.stdout.splitlines()) == limit
    lists = [r for r in foreign.requests if isinstance(r, operations_pb2.ListOperationsRequest)]
    assert [request.page_size for request in lists] == asked


def test_values_that_the_metadata_lacks_are_left_out(foreign: Foreign) -> None:
    bare = operations_pb2.Operation(name=f"{MOON}/operations/bare")
    over = operations_pb2.Operation(name=f"{MOON}/operations/over", done=True)
    over.error.code = 1
    foreign.put(bare, over)
    lro = Lro(foreign.target)
    rows = [line.split("\t")[1:] for line in lro("list", MOON).stdout.splitlines()[1:]]
    assert rows == [["RUNNING", *"-----"], ["CANCELLED", *"----", "CANCELLED"]]
    assert lro("get", bare.name).stdout.split() == [bare.name, "state", "RUNNING"]
    code, written = lro.on_terminal("list", MOON)
    assert code == 0
    assert "RUNNING" in written


def test_text_of_a_server_commands_no_terminal(foreign: Foreign) -> None:
    operation = operations_pb2.Operation(name=f"{MOON}/operations/evil", done=True)
    operation.error.code = 2
    operation.error.message = f"{ESCAPE}[2J[red]\r\nlro: all is well"
    foreign.put(operation)
    code, written = Lro(foreign.target).on_terminal("list", MOON)
    assert code == 0
    assert f"{ESCAPE}[2J" not in written
    assert "UNKNOWN:  [2J[red]  lro: all is well" in written


def test_get_shows_the_whole_summary(world: World) -> None:
    succeeded, failed = (world.done(world.create(schema)).name for schema in ("", "fail"))
    shown = world.lro("get", succeeded).stdout
    assert shown.startswith(f"{succeeded}\n  state      SUCCEEDED\n  progress   100%\n")
    assert re.search(r"^  created    \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$", shown, re.MULTILINE)
    assert f"  target     {PARENT}/instances/one\n" in shown
    assert "    '@type': type.googleapis.com/lro.example.v1.Instance\n" in shown
    assert "    sizeBytes: '42'\n" in shown
    shown = world.lro("get", failed).stdout
    assert "  error      RESOURCE_EXHAUSTED: the disk is full\n" in shown
    assert "      reason: DISK_FULL\n" in shown


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_get_shows_protobufs_json_form(world: World, output: str) -> None:
    operation = world.done(world.create("fail"))
    result = world.lro("get", operation.name, "--output", output)
    parsed = yaml.safe_load(result.stdout)  # JSON is YAML, too
    assert json_format.ParseDict(parsed, operations_pb2.Operation()) == operation


def test_get_shows_a_batch_as_a_table(world: World) -> None:
    name = world.batch()
    world.fleet.may_go_on.set()
    world.done(name)
    shown = world.lro("get", name).stdout
    batch = shown.partition("  batch\n")[2].splitlines()[:4]
    assert [line.split(maxsplit=2)[:2] for line in batch] == [
        ["instance", "state"],
        ["one", "ROLLED_BACK"],
        ["two", "FAILED"],
        ["three", "FAILED"],
    ]
    assert batch[2].endswith("RESOURCE_EXHAUSTED: no room")


def test_cancel_takes_several_names_and_goes_on_after_an_error(world: World) -> None:
    names = [world.create("hold", "one"), "operations/missing", world.create("hold", "two")]
    result = world.lro("cancel", *names)
    assert result.returncode == 1
    assert result.stdout.splitlines() == [
        f"asked to cancel {name}; `lro wait {name}` tells what comes of it"
        for name in (names[0], names[2])
    ]
    assert result.stderr.startswith(
        "lro: NOT_FOUND: operation 'operations/missing' not found (`lro list` "
    )
    assert [world.done(name).error.code for name in (names[0], names[2])] == [1, 1]


def test_cancel_may_wait_and_exits_with_the_outcome(world: World) -> None:
    result = world.lro("cancel", world.create("hold"), "--wait")
    assert result.returncode == 3
    assert "  state      CANCELLED\n" in result.stdout


def test_nobody_is_asked_to_cancel_what_is_done(world: World) -> None:
    names = [world.done(world.create(schema)).name for schema in ("", "fail")]
    result = world.lro("cancel", *names)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        f"{name} is done already, {state}; there is nothing to cancel"
        for name, state in zip(names, ("SUCCEEDED", "FAILED"), strict=True)
    ]
    waited = world.lro("cancel", "--wait", *names)
    assert waited.returncode == 1
    assert "  state      FAILED\n" in waited.stdout


def test_who_may_cancel_need_not_be_one_who_may_see(fleet_that_hides: World) -> None:
    name = fleet_that_hides.create("hold")
    result = fleet_that_hides.lro("cancel", name)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"asked to cancel {name}; ")


@pytest.fixture
def fleet_that_hides() -> Iterator[World]:
    """A fleet that lets nobody see an operation."""

    def authorize(access: lro_grpc.Access) -> bool:
        return access.permission != "operations.get"

    fleet = Fleet()
    with serving("sync", fleet, authorize=authorize) as server:
        try:
            yield World(fleet, server)
        finally:
            fleet.may_go_on.set()


def test_pause_and_resume(world: World) -> None:
    name = world.create("hold")
    result = world.lro("pause", name)
    assert result.stdout == f"asked to pause {name}; `lro get {name}` tells whether it has\n"
    while metadata_of(operation := world.server.get(name)).state != state_pb2.JOB_STATE_PAUSED:
        assert not operation.done
    assert "  state      PAUSED\n" in world.lro("get", name).stdout
    assert world.lro("pause", name).stdout == f"paused {name}; `lro resume {name}` lets it go on\n"
    result = world.lro("resume", name)
    assert result.stdout == f"resumed {name}; `lro watch {name}` shows how it goes on\n"
    world.fleet.may_go_on.set()
    assert world.done(name).HasField("response")


def test_a_pause_out_of_place_is_refused_in_one_line(world: World) -> None:
    name = world.done(world.create()).name
    for command in ("pause", "resume"):
        result = world.lro(command, name)
        assert result.returncode == 1
        assert result.stderr.startswith("lro: FAILED_PRECONDITION: ")
        assert len(result.stderr.splitlines()) == 1


def test_get_tells_how_far_a_service_is_with_telling_of_the_end() -> None:
    refused = threading.Event()

    def refuse(event: lro_grpc.CompletionEvent) -> None:
        refused.set()
        raise lro_grpc.UndeliverableError("nobody\tlistens")

    with serving("sync", Fleet(), add=add, on_done=refuse) as server:
        world = World(Fleet(), server)
        name = world.done(world.create()).name
        assert refused.wait(60)
        while server.describe(name).delivery.state != CompletionDelivery.FAILED:
            pass
        shown = world.lro("get", name).stdout
    assert "  told       FAILED, 1 attempt, FAILED_PRECONDITION: nobody listens\n" in shown


def test_get_tells_what_a_description_tells(world: World) -> None:
    name = world.done(world.create("fail")).name
    result = world.lro("get", name)
    assert (result.returncode, result.stderr) == (0, "")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["method", "lro.example.v1.FleetService/CreateInstance"] in lines
    assert ["you", "may", "rerun,", "delete"] in lines
    assert "outcome" not in result.stdout
    told = world.lro("get", name, "--attempts", "--request").stdout
    rows = told[told.index("  attempts\n") :].splitlines()
    assert rows[1].split() == ["number", "worker", "started", "ended", "outcome", "error"]
    assert rows[2].split()[0] == "1"
    assert "FAILED" in rows[2]
    assert "RESOURCE_EXHAUSTED: the disk is full" in rows[2]
    shown = yaml.safe_load(told.partition("  request\n")[2])
    assert shown["instanceId"] == "one"


def test_it_is_shown_and_listed_when_a_delayed_start_begins(world: World) -> None:
    started = world.server.operations.start_operation_sync(
        "/lro.example.v1.FleetService/CreateInstance",
        CreateInstanceRequest(parent=PARENT, instance_id="late"),
        delay=timedelta(hours=1),
    )
    time = metadata_of(started).schedule_time.ToDatetime(tzinfo=timezone.utc)
    shown = world.lro("get", started.name).stdout
    assert "SCHEDULED until" in shown
    listed = world.lro("list", PARENT).stdout.splitlines()[-1]
    begins = listed.rpartition("begins not before ")[2]
    assert begins.startswith(f"{time:%Y-%m-%d %H:%M}")
    assert begins in shown
    world.server.cancel(started.name)
    assert "begins not before" not in world.lro("list", PARENT).stdout


def test_labels_are_shown_and_listed_by(world: World) -> None:
    started = world.server.operations.start_operation_sync(
        "/lro.example.v1.FleetService/CreateInstance",
        CreateInstanceRequest(parent=PARENT, instance_id="labelled"),
        labels={"team": "maps", "env": "prod"},
    )
    world.done(world.create())
    assert "  labels     env=prod, team=maps\n" in world.lro("get", started.name).stdout
    listed = world.lro("list", PARENT, "--filter", "labels.env = prod", "-o", "json").stdout
    assert [json.loads(line)["name"] for line in listed.splitlines()] == [started.name]


def test_a_concurrency_key_is_shown_where_there_is_one(world: World) -> None:
    """By those alone who may describe the operation; lists and the operation itself have none."""
    keyed, plain = (world.done(world.create(instance_id=one)).name for one in ("keyed", "plain"))
    assert "  key        tenant 7\n" in world.lro("get", keyed).stdout
    assert "  key  " not in world.lro("get", plain).stdout
    for command in (["get", keyed], ["list", PARENT]):
        assert "tenant 7" not in world.lro(*command, "-o", "json").stdout


def test_it_is_shown_that_an_operation_waits_for_a_place_of_its_key(world: World) -> None:
    running = world.create("hold", "keyed")
    while metadata_of(world.server.get(running)).state != state_pb2.JOB_STATE_RUNNING:
        world.server.wait(running, 0.05)
    waiting = world.create(instance_id="keyed")
    assert "  waits      CONCURRENCY_KEY\n" in world.lro("get", waiting).stdout
    assert "  waits  " not in world.lro("get", running).stdout
    world.fleet.may_go_on.set()
    world.done(waiting)


def test_get_has_a_description_in_json_if_more_is_asked_for(world: World) -> None:
    name = world.done(world.create()).name
    plain = json.loads(world.lro("get", name, "-o", "json").stdout)
    assert plain["name"] == name
    told = json.loads(world.lro("get", name, "-o", "json", "--attempts").stdout)
    assert told["operation"] == plain
    assert "request" not in told
    told = json.loads(world.lro("get", name, "-o", "json", "--request").stdout)
    assert told["request"]["parent"] == PARENT
    assert world.lro("get", name, "--as", "alloydb", "--request").returncode == 2


def test_get_does_without_a_description(foreign: Foreign) -> None:
    """Of a server that has none; but not if what only that tells is asked for."""
    one = operations_pb2.Operation(name=f"{MOON}/operations/one")
    foreign.put(one)
    lro = Lro(foreign.target)
    result = lro("get", one.name)
    assert (result.returncode, result.stdout.split()) == (0, [one.name, "state", "RUNNING"])
    assert result.stderr == "lro: no description: this server has no DescribeOperation\n"
    again = lro("get", "-", stdin=f"{one.name}\n{one.name}\n")
    assert (again.returncode, again.stdout.count("RUNNING")) == (0, 2)
    assert again.stderr == result.stderr
    for option in ("--attempts", "--request"):
        result = lro("get", one.name, option)
        assert (result.returncode, result.stdout.split()[0]) == (1, one.name)
        assert "no description" in result.stderr


@pytest.mark.parametrize(
    "code", [lro_grpc.Code.PERMISSION_DENIED, lro_grpc.Code.RESOURCE_EXHAUSTED]
)
def test_get_does_without_a_description_that_is_refused(code: lro_grpc.Code) -> None:
    def authorize(access: lro_grpc.Access) -> bool:
        if access.permission.startswith("operations.describe"):
            raise lro_grpc.LroError("not now", code=code)
        return True

    with serving("sync", Fleet(), authorize=authorize) as server:
        name = server.done(server.create().name).name
        result = Lro(server.target)("get", name)
    assert result.returncode == 0
    assert "SUCCEEDED" in result.stdout
    assert result.stderr.startswith(f"lro: no description: {code.name}")


def test_terminate_takes_several_names_and_a_reason(world: World) -> None:
    names = [world.create("hold", "one"), "operations/missing", world.create("hold", "two")]
    result = world.lro("terminate", *names, "--reason", "it hangs")
    assert result.returncode == 1
    assert result.stdout.splitlines() == [
        f"terminated {name}; what it has done was not undone" for name in (names[0], names[2])
    ]
    assert result.stderr.startswith(
        "lro: NOT_FOUND: operation 'operations/missing' not found (`lro list` "
    )
    for name in (names[0], names[2]):
        ended = world.server.get(name)
        assert (ended.done, ended.error.code) == (True, 10)
        assert "it hangs" in ended.error.message


def test_terminate_needs_a_reason(world: World) -> None:
    name = world.create("hold")
    result = world.lro("terminate", name)
    assert result.returncode == 2
    assert "--reason" in result.stderr
    assert not world.server.get(name).done


def test_delete(world: World) -> None:
    name = world.done(world.create()).name
    assert world.lro("delete", name).stdout == f"deleted {name}\n"
    gone = world.lro("get", name)
    assert gone.returncode == 1
    assert gone.stderr == (
        f"lro: NOT_FOUND: operation {name!r} not found (`lro list` has the names that there are)\n"
    )


@pytest.mark.parametrize("dialect", DIALECTS)
def test_get_shows_a_batch_in_each_dialect(world: World, dialect: str) -> None:
    name = world.batch()
    world.fleet.may_go_on.set()
    done = world.done(name)

    shown = world.lro("get", name, "--as", dialect)

    assert shown.returncode == 0
    assert json.loads(shown.stdout) == to_json(done, dialect)


def test_a_dialect_that_cannot_show_an_operation_is_one_line(world: World) -> None:
    name = world.create()
    world.done(name)

    refused = world.lro("get", name, "--as", "alloydb")

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("lro: FAILED_PRECONDITION: ")
    assert refused.stderr.count("\n") == 1


def test_an_unknown_dialect_is_wrong_usage(world: World) -> None:
    assert world.lro("get", "operations/1", "--as", "xml").returncode == 2


@pytest.mark.parametrize("output", ["table", "json", "yaml"])
def test_get_says_that_nobody_serves_an_operation(tmp_path: Path, output: str) -> None:
    def run(request: Text, op: object) -> Text:
        raise lro_grpc.RetryableError("not yet", retry_after=timedelta(hours=1))

    url = f"sqlite:///{tmp_path}/operations.db"
    configure = release({"Old": run}, request=Text, response=Text)
    with serving("sync", configure=configure, store=url) as server:
        name = server.start(method("Old"), Text()).name
    with serving("sync", store=url) as server:
        shown = Lro(server.target)("get", name, "--output", output)
        followed = []
        for command in ("wait", "watch"):
            with Lro(server.target).started(command, name) as process:
                followed.append(process.stderr.readline())
    assert shown.returncode == 0
    assert name in shown.stdout
    assert shown.stderr == (
        f"lro: {name} waits, and nobody will go on with it: {method('Old')} is not served\n"
    )
    assert followed == [shown.stderr] * 2


@pytest.mark.parametrize("output", ["table", "json", "yaml"])
@pytest.mark.parametrize("command", ["get", "list"])
def test_no_form_of_output_has_characters_that_do_not_show(
    foreign: Foreign, command: str, output: str
) -> None:
    """They are escaped, so that the value is the same; in a table they are left out."""
    hidden = "safe\u202eexe.\u2066x\u2069\u200b\x85 ü"
    operation = launch()
    operation.metadata.ClearField("value")
    operation.error.message = hidden
    operation.error.code = 5
    foreign.put(operation)
    shown = Lro(foreign.target)(command, operation.name if command == "get" else MOON, "-o", output)
    has_description = (command, output) == ("get", "table")  # of which there is none
    assert (shown.returncode, bool(shown.stderr)) == (0, has_description)
    assert all(c.isprintable() or c in "\n\t" for c in shown.stdout)
    if output == "yaml":
        (loaded,) = yaml.safe_load_all(shown.stdout)
        assert loaded["error"]["message"] == hidden
    elif output == "json":
        assert json.loads(shown.stdout)["error"]["message"] == hidden
    else:
        assert "safe exe." in shown.stdout


def test_a_time_at_which_an_operation_will_end_is_not_one_at_which_it_ended(
    foreign: Foreign,
) -> None:
    """As in gapic-showcase's ``WaitMetadata``."""
    waiting = operations_pb2.Operation(name=f"{MOON}/operations/waits")
    metadata = operation_metadata_pb2.OperationMetadata()
    metadata.end_time.FromJsonString("2100-01-01T00:00:00Z")
    waiting.metadata.Pack(metadata)
    shown = Lro(foreign.target)("get", foreign.put(waiting)).stdout
    assert re.search(r"^  to end +2100-01-01 00:00:00 UTC$", shown, re.MULTILINE)
    assert "ended" not in shown


def test_a_server_that_says_itself_why_it_is_unavailable_is_not_doubted(foreign: Foreign) -> None:
    foreign.refusal = (grpc.StatusCode.UNAVAILABLE, "the store has lost its file")
    refused = Lro(foreign.target)("get", f"{MOON}/operations/1")
    assert (refused.returncode, refused.stderr) == (
        1,
        "lro: UNAVAILABLE: the store has lost its file\n",
    )
