"""A fresh cluster for each test."""

import pytest

from lab import Api, two_nodes
from pve_simulator import VirtualSimulator, World


@pytest.fixture
def world() -> World:
    return two_nodes()


@pytest.fixture
def sim(world):
    with VirtualSimulator(world) as simulator:
        yield simulator


@pytest.fixture
def api(sim) -> Api:
    return Api(sim)
