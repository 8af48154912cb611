"""The product on this machine's LXD: pool and bridge as DAAS_LXD_POOL and DAAS_LXD_BRIDGE say. One
that is not there fails the tests; nothing is skipped."""

from collections.abc import Iterator

import pytest

from e2e.product import Product, folder, lxd_settings

TEMPLATE = "debian-12-xfce"


@pytest.fixture(scope="session")
def lxd() -> dict[str, str]:
    """The settings of every installation of these tests."""
    return {**lxd_settings(), "DAAS_PROVIDER": "lxd", "MAX_CONCURRENT_SESSIONS": "100"}


@pytest.fixture(scope="session")
def product(lxd: dict[str, str]) -> Iterator[Product]:
    """`daas serve` with the template built."""
    made = Product(folder("lxd"), **lxd)
    made.init()
    try:
        made.start()
        made.build(TEMPLATE)
        made.clear()
        yield made
        made.clear()
    finally:
        made.stop()
