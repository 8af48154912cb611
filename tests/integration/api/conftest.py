"""Fixtures: a site, and the same behind a real server."""

from collections.abc import Iterator

import pytest

from support.site import Live, Site, make_site, serve


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One for all tests of a module: each has desktops of its own."""
    made = make_site(tmp_path_factory.mktemp("site"))
    yield made
    made.worker.stop()
    made.database.dispose()


@pytest.fixture(scope="module")
def live(site: Site) -> Iterator[Live]:
    made, thread = serve(site)
    yield made
    made.server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()
