from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from killable import Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    try:
        yield site
    finally:
        site.close()
    site.check_log()


@pytest.fixture(scope="module")
def new_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Site]]:
    """Makes sites that last as long as their module's tests."""
    sites: list[Site] = []

    def make() -> Site:
        sites.append(Site(tmp_path_factory.mktemp("site")))
        return sites[-1]

    try:
        yield make
    finally:
        for site in sites:
            site.close()
    for site in sites:
        site.check_log()
