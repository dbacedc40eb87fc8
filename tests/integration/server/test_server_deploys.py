"""A deploy meets the operations of the release before: methods and types come, go and change."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2
from google.protobuf import descriptor_pool, wrappers_pb2
from google.rpc import code_pb2
from releases import FIELD, message, method, release
from server_harness import SECONDS, Gate, Server, metadata_of, refused, serving

import lro_grpc
from lro.v1 import batch_create_instances_pb2, state_pb2
from lro_grpc._wire.headers import UNSERVED
from lro_grpc.testing import ManualClock

Text = wrappers_pb2.StringValue
TEXT, INT = FIELD.TYPE_STRING, FIELD.TYPE_INT64
State = state_pb2.JobState

Report = message("Report", title=TEXT)
"""The metadata of a release; the next one has renamed it."""
ReportProgress = message("ReportProgress", title=TEXT, pages=INT)
Chart = message("Chart", color=(5, TEXT))
Ask = message("Ask", name=TEXT, request_id=TEXT)
OldAsk = message("OldAsk", name=TEXT, size=INT)
NewAsk = message("NewAsk", name=TEXT, size=INT, tag=TEXT)
OtherAsk = message("OtherAsk", title=(7, TEXT))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/operations.db"


@pytest.fixture(params=["sync", "aio"])
def stack(request: Any) -> str:
    kind: str = request.param
    return kind


class Left:
    """Work that is begun by one release, and left when it stops: its handlers wait for ever."""

    def __init__(self, metadata: Callable[[Any], None] = lambda _: None) -> None:
        self.begun = Gate()
        self._metadata = metadata

    def run(self, request: Any, op: Any) -> Any:
        self._metadata(op.metadata)
        op.progress(10)
        op.checkpoint(Text(value="half"))
        self.begun.open()
        Gate().pass_by(op)
        return Text(value=request.SerializeToString().hex())

    def batch(self, request: Any, op: Any) -> Any:
        def create(name: str) -> None:
            if name == "two":
                self.begun.open()
                Gate().pass_by(op)

        op.batch(["one", "two", "three"], create=create, delete=lambda _: None)
        return Text(value=request.value)


def done(request: Any, op: Any) -> Any:
    return Text(value=f"{op.checkpoint_state.value if op.checkpoint_state else ''} is done")


def leave(stack: str, url: str, run: str = "run", count: int = 1, **how: Any) -> list[str]:
    """Has a release begin operations of ``Old``, and stop; returns their names."""
    left = Left()
    options = {"request": Text, "response": Text, "pausable": True, "concurrency": 1, **how}
    clock = {"clock": options.pop("clock")} if "clock" in options else {}
    configure = release({"Old": getattr(left, run)}, **options)
    with serving(stack, configure=configure, store=url, grace=0.5, **clock) as server:
        names = [server.start(method("Old"), Text(value=str(n))).name for n in range(count)]
        left.begun.block()
    return names


def hint(server: Server, name: str) -> str:
    """Returns what the answer of a Get says of an operation that nobody serves."""
    call = server.channel.unary_unary("/google.longrunning.Operations/GetOperation")
    body = operations_pb2.GetOperationRequest(name=name).SerializeToString()
    _, rpc = call.with_call(body, timeout=SECONDS)
    return str(dict(rpc.initial_metadata()).get(UNSERVED, ""))


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]


OTHER = release({"Other": done}, request=Text, response=Text)
"""A release that no longer has ``Old``."""


def test_a_method_that_is_gone_is_warned_of_and_shown(
    stack: str, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    names = leave(stack, url, count=3)
    caplog.clear()
    with serving(stack, configure=OTHER, store=url) as server:
        (warning,) = warnings_of(caplog)
        assert (
            f"3 operations wait for methods that are not served here: 3 of '{method('Old')}'"
            in (warning)
        )
        assert all(hint(server, name) == f"{method('Old')} is not served" for name in names)
        other = server.start(method("Other"), Text(value="x"))
        assert server.done(other.name).response.value
        assert hint(server, other.name) == ""
        assert metadata_of(server.get(names[0])).state == State.JOB_STATE_QUEUED


def test_of_a_shared_store_it_is_mentioned_that_another_process_has_to_serve_a_method(
    postgres: str, caplog: pytest.LogCaptureFixture
) -> None:
    leave("aio", postgres, count=2)
    caplog.set_level(logging.INFO, "lro_grpc")
    with serving("aio", configure=OTHER, store=postgres):
        pass
    (said,) = [one for one in caplog.records if "not served here" in one.getMessage()]
    assert said.levelno == logging.INFO
    assert said.getMessage() == (
        f"2 operations wait for methods that are not served here: 2 of '{method('Old')}'; another"
        " process has to serve them"
    )


def test_nothing_is_said_where_everything_is_served(
    stack: str, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    (name,) = leave(stack, url)
    caplog.clear()
    configure = release({"Old": done}, request=Text, response=Text)
    with serving(stack, configure=configure, store=url) as server:
        assert server.done(name).HasField("response")
    assert warnings_of(caplog) == []


def test_the_warning_is_bounded_and_plain(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever stands in the file."""
    leave("sync", url, count=30)
    with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
        database.execute(
            "UPDATE operations SET method = method || char(10, 27) || printf('%0300d', rowid)"
        )
    caplog.clear()
    with serving("sync", configure=OTHER, store=url):
        (warning,) = warnings_of(caplog)
    assert warning.isprintable()
    assert len(warning) < 2000
    assert warning.startswith("30 operations wait")
    assert "and of 20 more" in warning


def test_cancel_ends_what_nobody_serves(
    stack: str, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Though it has a checkpoint, which an attempt would have undone; and says so."""
    (name,) = leave(stack, url)
    with serving(stack, configure=OTHER, store=url) as server:
        server.cancel(name)
        ended = server.get(name)
    assert ended.done
    assert ended.error.code == code_pb2.CANCELLED
    assert "what was done of it is left" in ended.error.message
    assert metadata_of(ended).state == State.JOB_STATE_CANCELLED
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


def test_a_cancel_of_the_release_before_can_be_repeated(stack: str, url: str) -> None:
    """What waits to be undone there is CANCELLING, and waits on; a second Cancel ends it."""
    left = Left()
    configure = release({"Old": left.run}, request=Text, response=Text, pausable=True)
    with serving(stack, configure=configure, store=url, grace=0.5) as server:
        name = server.start(method("Old"), Text(value="x")).name
        left.begun.block()
        server.pause(name)
    with serving(stack, configure=OTHER, store=url) as server:
        assert not server.get(name).done
        server.cancel(name)
        assert server.get(name).done


def test_a_batch_that_nobody_serves_ends_with_its_targets(stack: str, url: str) -> None:
    (name,) = leave(stack, url, "batch")
    with serving(stack, configure=OTHER, store=url) as server:
        server.cancel(name)
        ended = server.get(name)
    batch = metadata_of(ended).batch_create_instances_metadata
    statuses = batch.instance_statuses
    failed = batch_create_instances_pb2.BatchCreateInstanceStatus.FAILED
    assert {one: statuses[one].state for one in statuses} == dict.fromkeys(statuses, failed)
    assert "what was done of it is left" in statuses["one"].error.message


def test_a_batch_that_nobody_serves_expires_at_its_deadline(stack: str, url: str) -> None:
    clock = ManualClock()
    (name,) = leave(stack, url, "batch", timeout=timedelta(hours=1), clock=clock)
    with serving(stack, configure=OTHER, store=url, clock=clock) as server:
        waiting = server.waiting(name)
        clock.advance(timedelta(hours=2))
        ended = waiting.result()
    assert metadata_of(ended).state == State.JOB_STATE_EXPIRED
    assert "what was done of it is left" in ended.error.message


def test_pause_and_resume_of_what_nobody_serves(
    stack: str, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    (name,) = leave(stack, url)
    with serving(stack, configure=OTHER, store=url) as server:
        server.pause(name)
        assert hint(server, name) == ""
    caplog.clear()
    with serving(stack, configure=OTHER, store=url) as server:
        assert warnings_of(caplog) == []
        server.resume(name)
        assert hint(server, name)
        (warning,) = warnings_of(caplog)
        assert f"1 of '{method('Old')}'" in warning
        server.pause(name)
        server.cancel(name)
        assert server.get(name).done


def test_a_rolled_back_deploy_loses_nothing(stack: str, url: str) -> None:
    (name,) = leave(stack, url)
    with serving(stack, configure=OTHER, store=url):
        pass
    configure = release({"Old": done}, request=Text, response=Text)
    with serving(stack, configure=configure, store=url) as server:
        assert server.done(name).HasField("response")


# A method that was renamed


def renamed(run: Any = done, **how: Any) -> Any:
    how = {"request": Text, "response": Text, "former_names": [method("Old")], **how}
    return release({"New": run}, **how)


def test_a_renamed_method_goes_on_with_the_operations_of_its_former_name(
    stack: str, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    names = leave(stack, url, count=3)
    caplog.clear()
    with serving(stack, configure=renamed(), store=url) as server:
        texts = []
        for name in names:
            text = Text()
            assert server.done(name).response.Unpack(text)
            texts.append(text.value)
        assert texts == ["half is done", " is done", " is done"]
        failure = refused(lambda: server.start(method("Old"), Text(value="x")))
        assert failure.code is grpc.StatusCode.UNIMPLEMENTED
    assert warnings_of(caplog) == []


def test_former_operations_share_the_options_of_the_method(url: str) -> None:
    """Its concurrency, and its queue."""
    leave("sync", url, count=2)
    gate, begun, running, most = Gate(), Gate(), [0], [0]

    def run(request: Any, op: Any) -> Any:
        begun.open()
        running[0] += 1
        most[0] = max(most[0], running[0])
        gate.block()
        running[0] -= 1
        return Text()

    configure = renamed(run, concurrency=1)
    limits = lro_grpc.Limits(queue=2)
    with serving("sync", configure=configure, store=url, limits=limits) as server:
        begun.block()
        names = [server.start(method("New"), Text()).name]
        failure = refused(lambda: server.start(method("New"), Text()))
        assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        gate.open()
        assert all(server.done(name) for name in names)
    assert most == [1]


def test_a_request_id_of_the_former_method_starts_nothing_twice(stack: str, url: str) -> None:
    request = Ask(name="x", request_id="r")
    types = {"request": Ask, "response": Text}
    with serving(stack, configure=release({"Old": done}, **types), store=url) as server:
        name = server.start(method("Old"), request).name
    configure = renamed(request=Ask)
    with serving(stack, configure=configure, store=url) as server:
        assert server.start(method("New"), request).name == name
        request.name = "another"
        failure = refused(lambda: server.start(method("New"), request))
        assert failure.code is grpc.StatusCode.ALREADY_EXISTS


def test_a_deleted_operation_of_the_former_method_keeps_its_request_id_until_it_ends(
    stack: str, url: str
) -> None:
    request = Ask(name="x", request_id="r")
    ended, begun = Gate(), [Gate(), Gate()]

    def run(request: Any, op: Any) -> Any:
        begun.pop().open()
        ended.pass_by(op)
        return Text()

    types = {"request": Ask, "response": Text}
    first, second = begun[1], begun[0]
    with serving(stack, configure=release({"Old": run}, **types), store=url, grace=0.5) as server:
        name = server.start(method("Old"), request).name
        first.block()
        server.delete(name)
    with serving(stack, configure=renamed(run, request=Ask), store=url) as server:
        second.block()
        failure = refused(lambda: server.start(method("New"), request))
        assert failure.code is grpc.StatusCode.ABORTED
        assert failure.info.reason == "DELETED_OPERATION_IN_PROGRESS"
        begun.append(Gate())
        ended.open()
        again = None
        while again is None:
            with contextlib.suppress(grpc.RpcError):
                again = server.start(method("New"), request)
        assert server.done(again.name).HasField("response")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["Old"], "give the full name"),
        ([""], "give the full name"),
        ([None], "give the full name"),
        (["/deploys.v1.Reports/Old/"], "give the full name"),
        (method("Old"), "give a list of names"),
        ([method("New")], "of one method only"),
        ([method("Old"), method("Old")], "of one method only"),
        (["/google.longrunning.Operations/GetOperation"], "of one method only"),
    ],
)
def test_a_former_name_that_cannot_be_one_is_refused(names: Any, said: str) -> None:
    operations = lro_grpc.Operations("memory:")
    with pytest.raises(lro_grpc.ConfigurationError, match=said):
        renamed(former_names=names)(operations)


def test_a_former_name_is_of_one_method() -> None:
    operations = lro_grpc.Operations("memory:")
    renamed()(operations)
    with pytest.raises(lro_grpc.ConfigurationError, match="a former name of /deploys"):
        release({"Old": done}, request=Text, response=Text)(operations)
    with pytest.raises(lro_grpc.ConfigurationError, match="of one method only"):
        release({"Newer": done}, request=Text, response=Text, former_names=[method("Old")])(
            operations
        )


# Types that have changed


def leave_report(stack: str, url: str, title: str = "sales") -> str:
    """Leaves an operation with metadata of the type ``Report``."""

    def fill(metadata: Any) -> None:
        metadata.title = title

    left = Left(fill)
    configure = release({"Old": left.run}, request=Text, response=Text, metadata=Report)
    with serving(stack, configure=configure, store=url, grace=0.5) as server:
        name = server.start(method("Old"), Text(value="x")).name
        left.begun.block()
    return name


def test_metadata_that_was_renamed_is_adopted(stack: str, url: str) -> None:
    name = leave_report(stack, url)

    def run(request: Any, op: Any) -> Any:
        assert isinstance(op.metadata, ReportProgress)
        op.metadata.pages = 3
        return Text()

    configure = release({"Old": run}, request=Text, response=Text, metadata=ReportProgress)
    with serving(stack, configure=configure, store=url) as server:
        ended = server.done(name)
    found = ReportProgress()
    assert ended.HasField("response"), ended
    assert ended.metadata.Unpack(found)
    assert (found.title, found.pages) == ("sales", 3)


def test_metadata_that_does_not_fit_waits_for_a_release_that_it_fits(
    stack: str, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And no other operation of the method waits for it."""
    name = leave_report(stack, url)
    caplog.clear()
    chart = release({"Old": done}, request=Text, response=Text, metadata=Chart, concurrency=1)
    with serving(stack, configure=chart, store=url, sweep=timedelta(milliseconds=20)) as server:
        names = [server.start(method("Old"), Text()).name for _ in range(3)]
        assert all(server.done(one).HasField("response") for one in names)
        assert hint(server, name) == (
            "its metadata, a deploys.v1.Report, does not fit deploys.v1.Chart"
        )
        assert not server.get(name).done
    (warning,) = warnings_of(caplog)
    assert f"{name} cannot be gone on with: its metadata" in warning
    report = release({"Old": done}, request=Text, response=Text, metadata=Report, max_attempts=1)
    with serving(stack, configure=report, store=url) as server:
        assert server.done(name).HasField("response")


def test_a_filter_of_a_field_goes_past_metadata_of_a_former_type(stack: str, url: str) -> None:
    """And past what does not have the field that a type of the same name had."""
    name = leave_report(stack, url)
    chart = release({"Old": done}, request=Text, response=Text, metadata=Chart)
    with serving(stack, configure=chart, store=url) as server:
        other = server.start(method("Old"), Text()).name
        server.done(other)
        for text, expected in {
            'metadata.color = ""': [other],
            "metadata.color != red": [other],
            "NOT metadata.color = red": [other, name],
        }.items():
            listed = server.list("operations", filter=text).operations
            assert [one.name for one in listed] == expected
        failure = refused(lambda: server.list("operations", filter="metadata.title = sales"))
        assert failure.code == grpc.StatusCode.INVALID_ARGUMENT


def test_cancel_ends_what_does_not_fit(stack: str, url: str) -> None:
    name = leave_report(stack, url)
    chart = release({"Old": done}, request=Text, response=Text, metadata=Chart)
    with serving(stack, configure=chart, store=url) as server:
        server.cancel(name)
        assert server.get(name).error.code == code_pb2.CANCELLED


def test_terminate_ends_what_does_not_fit_and_others_may_serve(
    stack: str, postgres: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A Cancel leaves it to a server that can undo it; what the warning advises ends it."""
    name = leave_report(stack, postgres)
    caplog.clear()
    chart = release({"Old": done}, request=Text, response=Text, metadata=Chart)
    with serving(stack, configure=chart, store=postgres) as server:
        while not warnings_of(caplog):  # it is tried at the start
            assert not server.get(name).done
        server.cancel(name)
        assert not server.get(name).done
        server.terminate(name, "no release can go on with it")
        assert server.get(name).done
    (warning,) = warnings_of(caplog)
    assert f"{name} cannot be gone on with" in warning
    assert warning.endswith("or terminate them")


def leave_request(url: str, body: bytes, ask: Any) -> str:
    """Leaves an operation that was started with a request, and never ran."""
    gate = Gate()

    def run(request: Any, op: Any) -> Any:
        gate.open()
        Gate().pass_by(op)

    configure = release({"Old": run}, request=ask, response=Text, concurrency=1)
    with serving("sync", configure=configure, store=url, grace=0.5) as server:
        server.start(method("Old"), ask())
        gate.block()
        answer = server.call(method("Old"), body)
    return operations_pb2.Operation.FromString(answer).name


def told(request: Any, op: Any) -> Any:
    return Text(value=f"{request.name}, {request.size}")


def test_a_request_whose_type_has_changed_is_not_run_with_defaults(url: str) -> None:
    name = leave_request(url, OldAsk(name="x", size=7).SerializeToString(), OldAsk)
    configure = release({"Old": done}, request=OtherAsk, response=Text)
    with serving("sync", configure=configure, store=url) as server:
        other = server.start(method("Old"), OtherAsk(title="t")).name
        assert server.done(other).HasField("response")
        assert hint(server, name) == "its request does not fit deploys.v1.OtherAsk"
    configure = release({"Old": told}, request=OldAsk, response=Text)
    with serving("sync", configure=configure, store=url) as server:
        text = Text()
        assert server.done(name).response.Unpack(text)
    assert text.value == "x, 7"


def test_a_request_whose_type_has_more_fields_now_runs(url: str) -> None:
    """A renamed one, too."""
    name = leave_request(url, OldAsk(name="x", size=7).SerializeToString(), OldAsk)
    configure = release({"Old": told}, request=NewAsk, response=Text)
    with serving("sync", configure=configure, store=url) as server:
        assert server.done(name).HasField("response")


def test_a_field_that_a_rolled_back_release_knew_is_not_dropped(url: str) -> None:
    """Each release has its own fields of one and the same name."""
    new = message("Asked", descriptor_pool.DescriptorPool(), name=TEXT, size=INT, tag=TEXT)
    old = message("Asked", descriptor_pool.DescriptorPool(), name=TEXT, size=INT)
    name = leave_request(url, new(name="x", tag="gold").SerializeToString(), new)
    configure = release({"Old": told}, request=old, response=Text)
    with serving("sync", configure=configure, store=url) as server:
        other = server.start(method("Old"), old(name="y")).name
        assert server.done(other).HasField("response")
        assert not server.get(name).done
        assert hint(server, name) == "its request does not fit deploys.v1.Asked"


def test_a_field_of_a_newer_client_blocks_nothing(url: str) -> None:
    """The server has never known it, neither at the start nor after a restart."""
    name = leave_request(url, NewAsk(name="x", size=7, tag="gold").SerializeToString(), OldAsk)
    configure = release({"Old": told}, request=OldAsk, response=Text)
    with serving("sync", configure=configure, store=url) as server:
        assert server.done(name).HasField("response")
