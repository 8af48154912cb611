"""The product on the simulated provider: not installed yet, or started once a module."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.command import Product, free_port


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Product]:
    """Nothing is installed yet."""
    (tmp_path / "home/run").mkdir(parents=True)
    made = Product(tmp_path / "data", free_port(), tmp_path / "home")
    yield made
    made.stop()


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """It runs, and the default template is built."""
    folder = tmp_path_factory.mktemp("product")
    (folder / "home/run").mkdir(parents=True)
    made = Product(folder / "data", free_port(), folder / "home")
    assert made.run("init").returncode == 0
    made.serve()
    assert made.run("template", "build", "debian-12-xfce").returncode == 0
    yield made
    made.stop()
