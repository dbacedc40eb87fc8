"""``--loop``: the event loop of the commands that serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from test_serve import run_anew, serving

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

MISSING = "raise ModuleNotFoundError(name='uvloop')"

INSTALLED = """
import asyncio
__version__ = "1.2.3"

def run(main):
    print("on uvloop", flush=True)
    main.close()
"""
"""A uvloop that ends at once, in place of the real one: the rest of the tests can run on that."""


def serve(folder: Path, uvloop: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs ``lro serve`` with a ``uvloop`` of the folder's, until it would listen or ends."""
    (folder / "uvloop.py").write_text(uvloop)
    address = ("--listen", "127.0.0.1:0", "--store", "memory:")
    return run_anew("serve", *address, "--log-level", "info", *options, cwd=folder)


COMMANDS = [
    ("serve",),
    ("work", "service:add", "--store", "postgresql://nowhere/db"),
    ("console", "--listen", "127.0.0.1:0"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_loop_that_is_not_installed_is_one_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "uvloop.py").write_text(MISSING)
    done = run_anew(*command, "--loop", "uvloop", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "lro: --loop uvloop needs uvloop: pip install 'lro-grpc[speed]'\n"


@pytest.mark.parametrize("options", [(), ("--loop", "auto"), ("--loop", "uvloop")], ids=str)
def test_where_uvloop_is_installed_it_is_taken_and_the_log_says_so(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    done = serve(tmp_path, INSTALLED, *options)
    assert (done.returncode, done.stdout) == (0, "on uvloop\n")
    assert "INFO lro_grpc: the event loop is that of uvloop 1.2.3" in done.stderr


@pytest.mark.parametrize(
    ("uvloop", "options"),
    [(MISSING, ()), (MISSING, ("--loop", "auto")), ("1 / 0", ("--loop", "asyncio"))],
    ids=["missing", "auto", "asyncio"],
)
def test_otherwise_it_serves_on_the_loop_of_asyncio(
    tmp_path: Path, uvloop: str, options: tuple[str, ...]
) -> None:
    (tmp_path / "uvloop.py").write_text(uvloop)
    with serving("--store", "memory:", *options, cwd=tmp_path) as served:
        served.process.terminate()
        assert served.process.wait(60) == 0


def test_another_loop_is_wrong_usage(tmp_path: Path) -> None:
    done = run_anew("serve", "--loop", "trio", cwd=tmp_path)
    assert done.returncode == 2
    assert "'trio' is not one of 'auto', 'asyncio', 'uvloop'" in done.stderr
