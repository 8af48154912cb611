"""What providers say of their nodes, in our table."""

import time

import pytest

from daas.errors import Unreachable
from daas.events import Event
from daas.jobs.models import Job
from daas.nodes.models import Node
from daas.nodes.refresh import store
from daas.providers.base import NodeInfo
from fakes.providers import FakeProvider
from support.waiting import until

PVE1 = NodeInfo("pve1", True, 8, 4096, "10.7.0.1/24", ("10.7.0.9", "10.7.0.99"))


def found(world, *infos, why=""):
    with world.database.transaction() as db:
        store(db, "one", list(infos), why)


def node(world, name="pve1"):
    return next(n for n in world.all(Node) if n.name == name)


def told(world):
    return [(e.subject, e.after, e.reason) for e in world.all(Event)]


def test_the_table_says_what_was_found(world):
    found(world, PVE1, NodeInfo("pve2", True, 4, 2048, taken=frozenset({"10.7.0.4"})))

    one, two = node(world), node(world, "pve2")
    assert (one.cpus, one.memory_mib, one.subnet) == (8, 4096, "10.7.0.1/24")
    assert (one.first_address, one.last_address) == ("10.7.0.9", "10.7.0.99")
    assert two.taken == ["10.7.0.4"] and two.first_address is None


def test_a_node_that_is_gone_is_offline_and_comes_back(world):
    found(world, PVE1)
    found(world, why="the socket does not answer")
    assert (node(world).is_online, node(world).why) == (False, "the socket does not answer")
    found(world, why="the socket does not answer")  # said once
    found(world, PVE1)

    assert node(world).is_online
    assert [after for _, after, _ in told(world)] == ["offline", "online"]


def test_a_node_that_says_why_it_is_off_is_quoted(world):
    found(world, NodeInfo("pve1", False, why="storage is full"))
    assert told(world) == [("node/pve1", "offline", "storage is full")]


def test_a_look_that_finds_nothing_new_writes_nothing(world):
    found(world, PVE1)
    before = told(world)
    found(world, PVE1)
    assert told(world) == before


def test_the_next_look_comes_by_itself_and_an_outage_is_no_error(world, caplog):
    class Gone(FakeProvider):
        def nodes(self):
            raise Unreachable(5.0, "LXD to answer")

    world.provider = Gone(world.vault.instance)
    world.wake("node", "one")
    assert world.work()
    (job,) = world.all(Job)

    assert 25 < job.run_at - world.now() <= 30 and not caplog.records
    assert (node(world).is_online, node(world).why) == (False, "LXD to answer")


def test_a_cluster_that_was_removed_is_not_looked_at_any_more(world):
    world.wake("node", "no-such")
    assert world.work()
    assert world.all(Job) == []


@pytest.mark.parametrize("looks_s", [2.5])
def test_a_look_that_hangs_is_not_done_by_all_workers_in_turn(world, running, looks_s):
    """Catches: a lease that runs out while the provider thinks: each worker asks it again."""
    asked = []

    class Thinks(FakeProvider):
        def nodes(self):
            asked.append(1)
            time.sleep(looks_s)  # longer than the lease of 1.5 s
            return []

    world.provider = Thinks(world.vault.instance)
    running()
    running(name="2")
    world.wake("node", "one")
    until(lambda: not node(world).is_online, 10)
    assert len(asked) == 1
