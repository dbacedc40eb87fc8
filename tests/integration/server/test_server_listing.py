"""ListOperations: pages, tokens, sizes, filters and parents (S12 to S18, P10)."""

from __future__ import annotations

import asyncio
import base64
import itertools
import time
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2
from server_harness import (
    FLEET,
    PARENT,
    Gate,
    Instance,
    errors_logged,
    fleet,
    metadata_of,
    refused,
)

import lro_grpc
from lro_grpc._operation import publication
from lro_grpc.stores import MemoryStore

Serve = Any

OTHER = "projects/p/locations/other"


async def done_at_once(self: Any, request: Any, op: Any) -> Any:
    return Instance()


@pytest.fixture
def fleet_of_seven(serve: Serve, store: str) -> tuple[Any, list[str]]:
    """A server with seven operations and their names, newest first; others elsewhere."""
    server = serve(fleet("CreateInstance", done_at_once), store=store)
    names = [server.create().name for _ in range(7)]
    server.create(parent=OTHER)
    server.create(parent="")
    for name in names:
        server.done(name)
    return server, names[::-1]


def filled(count: int) -> MemoryStore:
    """Returns a store with that many operations under ``PARENT``, which nothing runs."""
    store = MemoryStore(lambda: time.time_ns() // 1000)

    async def fill() -> None:
        for number in range(count):
            await store.create(
                publication.create(
                    parent=PARENT,
                    operation_id=f"op-{number}",
                    method=f"/{FLEET}/CreateInstance",
                    request=b"",
                    metadata_type="lro.v1.OperationMetadata",
                    now=1,
                )
            )

    asyncio.run(fill())
    return store


def names_on(page: operations_pb2.ListOperationsResponse) -> list[str]:
    return [operation.name for operation in page.operations]


@pytest.mark.parametrize("sizes", [[1], [3], [3, 1, 2, 7], [0]])
def test_pages_give_each_operation_once_newest_first(
    fleet_of_seven: tuple[Any, list[str]], sizes: list[int]
) -> None:
    """The size may change from page to page (S13)."""
    server, expected = fleet_of_seven
    found: list[str] = []
    token = ""
    for size in itertools.cycle(sizes):
        page = server.list(page_size=size, page_token=token)
        assert len(page.operations) <= (size or 50)
        found += names_on(page)
        token = page.next_page_token
        if not token:
            break
    assert found == expected


def test_the_operations_on_a_page_are_those_that_get_returns(
    fleet_of_seven: tuple[Any, list[str]],
) -> None:
    server, names = fleet_of_seven
    assert list(server.list().operations) == [server.get(name) for name in names]


def test_an_exactly_full_last_page_has_no_token(fleet_of_seven: tuple[Any, list[str]]) -> None:
    """The empty token is the only sign of the end (S14)."""
    server, names = fleet_of_seven
    page = server.list(page_size=7)
    assert names_on(page) == names
    assert page.next_page_token == ""


def test_what_happens_between_pages_moves_nothing(fleet_of_seven: tuple[Any, list[str]]) -> None:
    server, names = fleet_of_seven
    first = server.list(page_size=3)
    server.create()  # newer than every page that is still to come
    server.delete(names[1])
    server.delete(names[3])
    second = server.list(page_size=50, page_token=first.next_page_token)
    assert names_on(second) == names[4:]


def test_each_parent_has_its_own(fleet_of_seven: tuple[Any, list[str]]) -> None:
    """P10."""
    server, names = fleet_of_seven
    assert server.names(PARENT) == names
    (elsewhere,) = server.names(OTHER)
    assert elsewhere.startswith(f"{OTHER}/operations/")
    (nowhere,) = server.names("operations")
    assert nowhere.startswith("operations/")
    assert server.names("projects/p") == []
    assert server.names("projects/p/locations/never-seen") == []


# Sizes (S12)


@pytest.mark.parametrize(
    ("asked", "given"), [(0, 50), (1, 1), (999, 999), (1000, 1000), (1001, 1000), (10**9, 1000)]
)
def test_the_size_is_a_default_or_clamped(serve: Serve, asked: int, given: int) -> None:
    server = serve(store=filled(1003))
    page = server.list(page_size=asked)
    assert len(page.operations) == given
    rest = server.list(page_size=asked, page_token=page.next_page_token)
    assert names_on(rest)[0] == f"{PARENT}/operations/op-{1002 - given}"


@pytest.mark.parametrize("size", [-1, -(2**31)])
def test_a_negative_size_is_refused(serve: Serve, size: int) -> None:
    server = serve()
    failure = refused(lambda: server.list(page_size=size))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.info.reason == "INVALID_PAGE_SIZE"
    assert failure.info.domain == "lro-grpc"
    assert failure.info.metadata["page_size"] == str(size)


# Tokens (S13, S15)


def assert_token_refused(server: Any, token: str, **fields: Any) -> None:
    failure = refused(lambda: server.list(page_token=token, **fields))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.info.reason == "INVALID_PAGE_TOKEN"
    assert failure.info.domain == "lro-grpc"


@pytest.fixture
def second_page(serve: Serve) -> tuple[Any, str]:
    """A server, and the token of a second page."""
    server = serve(store=filled(5))
    return server, server.list(page_size=2).next_page_token


def test_a_token_belongs_to_its_parent(second_page: tuple[Any, str]) -> None:
    server, token = second_page
    assert_token_refused(server, token, name=OTHER)
    assert_token_refused(server, token, name="operations")


def test_a_token_belongs_to_its_filter_and_is_looked_at_before_it(
    second_page: tuple[Any, str],
) -> None:
    server, token = second_page
    assert_token_refused(server, token, filter="done = true")
    assert_token_refused(server, token, filter="((((")


def test_a_token_serves_again_and_again(second_page: tuple[Any, str]) -> None:
    server, token = second_page
    once = server.list(page_size=2, page_token=token)
    assert server.list(page_size=2, page_token=token) == once


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "2",
        "AAAA",
        "====",
        "é",
        "\x00",
        " ",
        "A" * 32,
        "A" * 31,
        "A" * 100_000,
        base64.urlsafe_b64encode(b"\x00" * 24).decode(),
        base64.urlsafe_b64encode(b"operations/op-1").decode(),
    ],
)
def test_a_forged_token_is_refused(second_page: tuple[Any, str], token: str) -> None:
    server, _ = second_page
    assert_token_refused(server, token)


def test_a_token_with_any_character_changed_is_refused(second_page: tuple[Any, str]) -> None:
    server, token = second_page
    for place, letter in enumerate(token):
        other = "B" if letter == "A" else "A"
        assert_token_refused(server, token[:place] + other + token[place + 1 :])
    for changed in (token[:-1], token + "A", f" {token}", f"{token}\n", token[4:]):
        assert_token_refused(server, changed)


def test_another_servers_token_is_refused(serve: Serve) -> None:
    ours, theirs = serve(store=filled(5)), serve(store=filled(5))
    assert_token_refused(ours, theirs.list(page_size=2).next_page_token)


def test_a_token_is_opaque_and_url_safe(second_page: tuple[Any, str]) -> None:
    _, token = second_page
    assert all(letter.isalnum() or letter in "-_=" for letter in token)
    raw = base64.urlsafe_b64decode(token)
    assert PARENT.encode() not in raw
    assert (3).to_bytes(8, "big") not in raw  # the position


def test_tokens_outlive_the_server(serve: Serve, file_url: str) -> None:
    first = serve(fleet("CreateInstance", done_at_once), store=file_url)
    names = [first.create().name for _ in range(4)][::-1]
    token = first.list(page_size=2).next_page_token
    first.stop()
    second = serve(fleet("CreateInstance", done_at_once), store=file_url)
    assert names_on(second.list(page_token=token)) == names[2:]


# What cannot be listed


@pytest.mark.parametrize(
    "name",
    ["", "/", "operations/", "/operations", "projects//l", "projects/p/", "a b", "..", "é", "x?y"],
)
def test_a_malformed_parent_is_refused(serve: Serve, name: str) -> None:
    server = serve()
    failure = refused(lambda: server.list(name))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.info.reason == "INVALID_NAME"


# Filters (S16, S17)


@pytest.fixture
def fleet_of_three(serve: Serve, gate: Gate, store: str) -> tuple[Any, dict[str, str]]:
    """A server, and the names of an operation that is held, one that failed and one that ended."""

    async def by_instance(self: Any, request: Any, op: Any) -> Any:
        if request.instance_id == "failed":
            raise lro_grpc.LroError("no such schema", code=lro_grpc.Code.NOT_FOUND)
        if request.instance_id == "held":
            op.progress(40, "Waiting for the gate")
            await gate.pass_by_async()
        return Instance()

    def target(self: Any, request: Any, context: Any) -> lro_grpc.Prepared:
        return lro_grpc.Prepared(target=f"{request.parent}/instances/{request.instance_id}")

    server = serve(fleet("CreateInstance", by_instance, prepare=target), store=store)
    names = {key: server.create(instance_id=key).name for key in ("held", "failed", "ended")}
    server.create(parent=OTHER, instance_id="elsewhere")
    for key in ("failed", "ended"):
        server.done(names[key])
    while metadata_of(server.get(names["held"])).progress_percent != 40:
        pass
    return server, names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("done = true", ["ended", "failed"]),
        ("done = false", ["held"]),
        ("NOT done = true", ["held"]),
        ("state = RUNNING", ["held"]),
        ("metadata.state = (JOB_STATE_FAILED OR JOB_STATE_SUCCEEDED)", ["ended", "failed"]),
        ("error:*", ["failed"]),
        ("error.code = NOT_FOUND", ["failed"]),
        ("error.code != NOT_FOUND", []),
        ("NOT error.code = NOT_FOUND", ["ended", "held"]),
        ("response:*", ["ended"]),
        ('response.@type = "type.googleapis.com/lro.example.v1.Instance"', ["ended"]),
        ("metadata.@type = lro.v1.OperationMetadata", ["ended", "failed", "held"]),
        ("end_time > 2001-01-01T00:00:00Z", ["ended", "failed"]),
        ("create_time > 2001-01-01T00:00:00+02:00", ["ended", "failed", "held"]),
        ("progress_percent >= 40 AND progress_percent < 100", ["held"]),
        ('target = "*/instances/*ed" -status_detail:gate', ["ended", "failed"]),
        ("target = */held OR target = */ended verb = create", ["ended", "held"]),
        ("instances/FAILED", ["failed"]),
        ('"waiting for the gate"', ["held"]),
        ("elsewhere", []),
        ("", ["ended", "failed", "held"]),
        (" ", ["ended", "failed", "held"]),
    ],
)
def test_a_filter_lists_what_it_matches(
    fleet_of_three: tuple[Any, dict[str, str]], text: str, expected: list[str]
) -> None:
    server, names = fleet_of_three
    assert names_on(server.list(filter=text)) == [names[key] for key in expected]


def test_pages_of_a_filter_give_each_operation_once(
    fleet_of_seven: tuple[Any, list[str]],
) -> None:
    server, names = fleet_of_seven
    some = [names[place] for place in (0, 2, 3, 5, 6)]
    text = " OR ".join(f"name = {name}" for name in some)
    found, token = [], ""
    for size in itertools.chain([1], itertools.repeat(2)):
        page = server.list(filter=text, page_size=size, page_token=token)
        assert len(page.operations) <= size
        found += names_on(page)
        token = page.next_page_token
        if not token:
            break
    assert found == some


def test_a_token_of_a_filter_belongs_to_that_filter(second_page: tuple[Any, str]) -> None:
    """S13: any other argument than the size is to stay as it was."""
    server, _ = second_page
    token = server.list(filter="done = false", page_size=2).next_page_token
    assert server.list(filter="done = false", page_size=1, page_token=token).operations
    for other in ("", "done=false", "done = true", "(("):
        assert_token_refused(server, token, filter=other)
    assert_token_refused(server, token, filter="done = false", name="projects/-/locations/-")


@pytest.mark.parametrize("text", ["(", "done", "size = 3", "state = RUN", "é = ☃", "now()"])
def test_a_filter_that_cannot_be_answered_is_refused(
    serve: Serve, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve()
    failure = refused(lambda: server.list(filter=text))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.info.reason == "INVALID_FILTER"
    assert failure.info.domain == "lro-grpc"
    assert failure.info.metadata["filter"] == text
    assert errors_logged(caplog) == []


# Several parents


def test_a_wildcard_lists_over_the_parents(fleet_of_seven: tuple[Any, list[str]]) -> None:
    server, names = fleet_of_seven
    elsewhere = server.names(OTHER)
    for parent in ("projects/p/locations/-", "projects/-/locations/-", "-/-/-/-"):
        assert server.names(parent) == [*elsewhere, *names]
        first = server.list(parent, page_size=3)
        rest = server.list(parent, page_token=first.next_page_token)
        assert names_on(first) + names_on(rest) == [*elsewhere, *names]
    assert server.names("projects/-/locations/other") == elsewhere
    assert names_on(server.list("-/p/-/-", filter=f"name = {names[3]}")) == [names[3]]
    for parent in ("projects/-", "projects/-/locations", "projects/-/-/-/-"):
        assert server.names(parent) == []


def test_partial_success_is_for_several_parents(fleet_of_seven: tuple[Any, list[str]]) -> None:
    """S18, P10: of one store, all parents can be reached."""
    server, names = fleet_of_seven
    page = server.list("projects/p/locations/-", return_partial_success=True, page_size=7)
    assert names_on(page) == [*server.names(OTHER), *names[:6]]
    assert list(page.unreachable) == []
    token = page.next_page_token
    again = {"name": "projects/p/locations/-", "page_token": token}
    assert names_on(server.list(**again, return_partial_success=True)) == names[6:]
    assert_token_refused(server, token, name="projects/p/locations/-")


@pytest.mark.parametrize("name", [PARENT, "operations", "projects/p-"])
def test_partial_success_of_one_parent_is_refused(serve: Serve, name: str) -> None:
    """S18: it has no granularity that a partial success could have."""
    server = serve()
    failure = refused(lambda: server.list(name, return_partial_success=True))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.info.reason == "PARTIAL_SUCCESS_NEEDS_WILDCARD"
    assert failure.info.domain == "lro-grpc"
    assert failure.info.metadata["name"] == name


# What a client reads


def test_a_page_is_never_too_large_for_a_client(serve: Serve) -> None:
    """A gRPC client refuses more than 4 MiB unless it is configured otherwise."""

    async def at_length(self: Any, request: Any, op: Any) -> Any:
        raise lro_grpc.LroError("x" * 900_000)

    server = serve(fleet("CreateInstance", at_length))
    names = [server.create().name for _ in range(7)][::-1]
    for name in names:
        server.done(name)
    found, token, sizes = [], "", []
    while token or not sizes:
        page = server.list(page_token=token)
        sizes.append(page.ByteSize())
        found += names_on(page)
        token = page.next_page_token
    assert found == names
    assert max(sizes) < 4 * 1024 * 1024
    assert len(sizes) == 3


def test_a_parent_that_is_a_wildcard_alone_is_every_parent(serve: Serve, store: str) -> None:
    server = serve(fleet("CreateInstance", lambda self, request, op: Instance()), store=store)
    parents = (PARENT, "projects/q/locations/m", "folders/f")  # of the last one, none is made
    names = [server.create(parent=parent).name for parent in parents]
    assert names[2].startswith("operations/")
    assert server.names("-") == names[::-1]
