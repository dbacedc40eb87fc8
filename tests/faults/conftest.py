from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from killable import Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

DISK = "/var/tmp"
"""A place on a disk, where a commit takes its time: more processes die in the middle of one."""


def on_disk() -> AbstractContextManager[str]:
    """Makes a folder on the disk, for other tests have theirs in memory."""
    place = DISK if os.access(DISK, os.W_OK) else None
    return tempfile.TemporaryDirectory(prefix="lro-faults-", dir=place)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with on_disk() as folder:
        yield Path(folder)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    try:
        yield site
    finally:
        site.close()
    site.check_log()


@pytest.fixture(scope="module")
def new_site() -> Iterator[Callable[[], Site]]:
    """Makes sites that last as long as their module's tests."""
    sites: list[Site] = []
    with contextlib.ExitStack() as folders:

        def make() -> Site:
            sites.append(Site(Path(folders.enter_context(on_disk()))))
            return sites[-1]

        try:
            yield make
        finally:
            for site in sites:
                site.close()
        for site in sites:
            site.check_log()
