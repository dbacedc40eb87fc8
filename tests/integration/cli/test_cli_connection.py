"""The connection of ``lro`` to a server, and the line that says why there is none."""

from __future__ import annotations

import base64
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from foreign_server import Foreign, launch, serving_foreign
from google.longrunning import operations_pb2_grpc
from lro_process import Lro
from server_certificates import Authority
from server_harness import SECONDS, serving

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from cli_world import World

NO_DESCRIPTION = "lro: no description: this server has no DescribeOperation\n"
"""What ``lro get`` says of a server that has GetOperation alone."""


def one_line(result: subprocess.CompletedProcess[str], code: int) -> str:
    """Returns the error, which has to be all that was printed."""
    assert (result.returncode, result.stdout) == (code, "")
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("lro: ")
    return result.stderr


def usage_error(result: subprocess.CompletedProcess[str]) -> str:
    assert (result.returncode, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr
    return " ".join(result.stderr.replace("│", " ").split())


class Secure:
    """A server with TLS, and files for its clients."""

    def __init__(self, foreign: Foreign, authority: Authority, folder: Path) -> None:
        self.foreign = foreign
        self.name = foreign.put(launch())
        self.lro = Lro(foreign.target)
        ca, cert, key = authority.client_files(folder, "client")
        self.ca = ("--ca-cert", str(ca))
        self.identity = ("--cert", str(cert), "--key", str(key))
        self.environment = {"LRO_CA_CERT": str(ca), "LRO_CERT": str(cert), "LRO_KEY": str(key)}


@pytest.fixture(params=[True, False], ids=["asks", "does not ask"])
def asks(request: pytest.FixtureRequest) -> bool:
    """Whether the server asks its clients for certificates."""
    return bool(request.param)


@pytest.fixture
def secure(asks: bool, tmp_path: Path) -> Iterator[Secure]:
    authority = Authority()
    with serving_foreign("v1", authority.server(asks=asks)) as foreign:
        yield Secure(foreign, authority, tmp_path)


def test_a_server_with_tls(secure: Secure, asks: bool) -> None:
    identity = secure.identity if asks else ()
    shown = secure.lro("get", secure.name, *secure.ca, *identity)
    assert (shown.returncode, shown.stderr) == (0, NO_DESCRIPTION)
    assert "rocket: R7" in shown.stdout  # its reflection is asked in the same way
    assert secure.lro("get", secure.name, **secure.environment).stdout == shown.stdout


def test_a_server_with_tls_that_is_asked_in_plain_text(secure: Secure) -> None:
    result = secure.lro("get", secure.name)
    assert one_line(result, 1).endswith("if it expects TLS, give --tls)\n")


@pytest.mark.parametrize("asks", [True])
def test_a_server_that_wants_a_certificate(secure: Secure) -> None:
    result = secure.lro("get", secure.name, *secure.ca)
    assert one_line(result, 1).endswith("if it expects a certificate, give --cert and --key)\n")


@pytest.mark.parametrize("asks", [False])
def test_a_server_of_an_authority_that_is_not_trusted(secure: Secure) -> None:
    result = secure.lro("get", secure.name, "--tls")
    assert one_line(result, 1).endswith(
        "(the certificate is not by an authority that is trusted: give --ca-cert)\n"
    )


@pytest.mark.parametrize("asks", [False])
def test_a_server_whose_certificate_is_for_another_name(secure: Secure) -> None:
    target = ("--target", secure.foreign.target.replace("127.0.0.1", "localhost"))
    result = secure.lro("get", secure.name, *secure.ca, *target)
    assert one_line(result, 1).endswith("is for another name: give --server-name)\n")
    named = secure.lro("get", secure.name, *secure.ca, *target, "--server-name", "127.0.0.1")
    assert (named.returncode, named.stderr) == (0, NO_DESCRIPTION)


def test_a_server_without_tls_that_is_asked_with_it(foreign: Foreign) -> None:
    result = Lro(foreign.target)("get", foreign.put(launch()), LRO_TLS="1")
    assert one_line(result, 1).endswith(
        "(the server does not speak TLS: leave out the TLS options)\n"
    )


def test_files_that_are_no_certificates(foreign: Foreign, tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    result = Lro(foreign.target)("get", "operations/x", "--ca-cert", str(junk))
    assert "are --ca-cert, --cert and --key PEM files" in one_line(result, 1)


@pytest.mark.parametrize(
    "command", ["get", "wait", "watch", "cancel", "pause", "resume", "delete", "list"]
)
def test_a_server_that_does_not_exist(command: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{closed.getsockname()[1]}"
        result = Lro(target)(command, "operations/x")
    assert one_line(result, 1).endswith(f"(is a server listening on {target}?)\n")


@pytest.mark.parametrize("command", ["get", "wait", "watch", "delete", "list"])
@pytest.mark.parametrize("words", ["failed to connect to all addresses", "Socket closed"])
def test_a_server_behind_the_one_that_answers_is_not_taken_for_it(words: str, command: str) -> None:
    """As behind a fallback that passes calls on to a server that is away."""

    class PassesOn(operations_pb2_grpc.OperationsServicer):
        def GetOperation(self, request: Any, context: Any) -> Any:
            context.abort(grpc.StatusCode.UNAVAILABLE, words)

        DeleteOperation = ListOperations = GetOperation

    with serving("sync", attach={"fallback": PassesOn()}) as server:
        result = Lro(server.target)(command, "operations/x")
    assert one_line(result, 1) == f"lro: UNAVAILABLE: {words}\n"


def test_a_server_that_never_answers() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        result = Lro(target)("get", "operations/x", "--timeout", "0.3")
    assert one_line(result, 4).startswith("lro: DEADLINE_EXCEEDED: ")


@pytest.mark.parametrize(
    ("code", "exit_code", "advice"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, 1, "(try --metadata 'authorization=Bearer …')"),
        (grpc.StatusCode.PERMISSION_DENIED, 1, "(try as someone else, with --metadata or --cert)"),
        (grpc.StatusCode.UNIMPLEMENTED, 1, "does not offer this)"),
        (grpc.StatusCode.INVALID_ARGUMENT, 2, "no\n"),
        (grpc.StatusCode.INTERNAL, 1, "no\n"),
    ],
)
def test_a_refusal_is_one_line(
    foreign: Foreign, code: grpc.StatusCode, exit_code: int, advice: str
) -> None:
    foreign.refusal = (code, "no")
    for command in ("get", "wait", "watch", "list"):
        error = one_line(Lro(foreign.target)(command, "operations/x"), exit_code)
        assert error.startswith(f"lro: {code.name}: no")
        assert error.rstrip().endswith(advice.rstrip())


@pytest.mark.parametrize("command", ["cancel", "delete", "pause", "resume", "terminate"])
def test_a_missing_rpc_is_one_line(foreign: Foreign, command: str) -> None:
    options = ["--reason", "it hangs"] if command == "terminate" else []
    name = foreign.put(launch(done=False))
    error = one_line(Lro(foreign.target)(command, name, *options), 1)
    assert error.startswith("lro: UNIMPLEMENTED: ")
    assert error.endswith(f"(the server at {foreign.target} does not offer this)\n")


def test_lines_of_a_servers_message_become_one(foreign: Foreign) -> None:
    error = one_line(Lro(foreign.target)("get", "operations/x"), 1)
    assert error.startswith("lro: NOT_FOUND: no operations/x anywhere (`lro list` ")


def test_metadata_is_sent_with_each_call(foreign: Foreign) -> None:
    secret = base64.b64encode(b"\x00\xff").decode()
    lro = Lro(foreign.target)
    name = foreign.put(launch())
    lro("list", "operations", "-H", "Authorization=Bearer a=b", "--metadata", f"x-bin={secret}")
    lro("get", name, LRO_METADATA=f"authorization=Bearer a=b\nx-bin={secret}\n")
    for sent in foreign.metadata:
        assert (sent["authorization"], sent["x-bin"]) == ("Bearer a=b", b"\x00\xff")
    lro("get", name, "-H", "x-user=me", LRO_METADATA="authorization=Bearer a=b")
    assert "authorization" not in foreign.metadata[-1]
    assert foreign.metadata[-1]["x-user"] == "me"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-H", "nonsense"], "'nonsense' is not KEY=VALUE"),
        (["-H", "a b=c"], "'a b' is not KEY=VALUE"),
        (["-H", "x-bin=secret!"], "'x-bin' has a value that is not base64"),
        (["-H", "x-bin=gehe\u00efm"], "'x-bin' has a value that is not base64"),
        (["-H", "x=é"], "'x' has a value beyond printable ASCII"),
        (["--target", ""], "give HOST:PORT"),
        (["--key", __file__], "needs --cert beside it"),
        (["--cert", __file__], "needs --key beside it"),
        (["--ca-cert", "no-such-file"], "does not exist"),
        (["--timeout", "0"], "0 is not above zero"),
        (["--timeout", "inf"], "'inf' is no duration"),
        (["--timeout", "nan"], "'nan' is no duration"),
        (["--timeout", "soon"], "'soon' is no duration"),
        (["--output", "xml"], "xml"),
        (["operations/y"], "operations/y"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], says: str) -> None:
    result = Lro("127.0.0.1:1")("get", "operations/x", *arguments, COLUMNS="200")
    assert says in usage_error(result)


def test_a_wrong_name_is_wrong_usage(world: World) -> None:
    for command in ("get", "wait", "watch", "cancel", "pause", "resume", "delete"):
        assert "'junk' is not an operation's name" in one_line(world.lro(command, "junk"), 2)


@pytest.mark.parametrize("output", ["table", "json", "yaml"])
def test_a_reader_that_stops_reading_is_no_error(foreign: Foreign, output: str) -> None:
    foreign.put(*(launch(number) for number in range(2000)))  # more than a pipe holds
    with Lro(foreign.target).started(
        "list", "projects/acme/locations/moon", "--output", output
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(SECONDS) == 141


@pytest.mark.parametrize("command", ["list", "get", "wait", "watch"])
def test_a_closed_output_is_no_error(foreign: Foreign, command: str) -> None:
    read, write = os.pipe()
    os.close(read)
    with Lro(foreign.target).started(command, foreign.put(launch()), stdout=write) as process:
        os.close(write)
        assert process.stderr.read() == ""
        assert process.wait(SECONDS) == 141


def test_an_output_that_is_full_is_one_line(foreign: Foreign) -> None:
    with (
        open("/dev/full", "w") as full,
        Lro(foreign.target).started("get", foreign.put(launch()), stdout=full) as process,
    ):
        assert process.stderr.read() == "lro: [Errno 28] No space left on device\n"
        assert process.wait(SECONDS) == 1
