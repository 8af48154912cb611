"""What providers say of their nodes, in our table."""

import time
from dataclasses import replace

import pytest

from daas.errors import Unreachable
from daas.events import Event
from daas.jobs.models import Job
from daas.nodes import reservations
from daas.nodes.models import Node, Number, Reservation
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


def room(world, *sessions, node="pve1"):
    world.add(*(Reservation(session=s, cluster="one", node=node, memory_mib=1) for s in sessions))


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


def test_a_node_that_was_taken_out_of_the_cluster_is_forgotten_once_nothing_is_on_it(world):
    found(world, PVE1, replace(PVE1, name="pve2"))
    room(world, "a", node="pve2")
    found(world, PVE1)
    assert not node(world, "pve2").is_online
    with world.database.transaction() as db:
        reservations.release(db, "a")
    found(world, PVE1)
    assert [n.name for n in world.all(Node)] == ["pve1"]


def test_a_node_that_is_away_for_long_is_not_looked_at_all_the_time(world):
    world.provider.online = False
    waits = []
    for _ in range(2):
        world.wake("node", "one")
        world.work()
        waits.append(next(j.run_at for j in world.all(Job) if j.kind == "node") - world.now())
        world.pass_s(700)
    assert waits == [pytest.approx(5, abs=1), pytest.approx(30, abs=1)]


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

    assert 4 < job.run_at - world.now() <= 5 and not caplog.records
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


def test_what_others_take_of_a_node_and_what_it_can_clone_is_kept(world):
    info = replace(
        PVE1,
        foreign_mib=512,
        foreign_cpus=2,
        foreign_numbers=frozenset({104, 102}),
        images={"tmpl": "local"},
    )
    found(world, info)

    one = node(world)
    assert (one.foreign_mib, one.foreign_cpus, one.foreign_numbers) == (512, 2, [102, 104])
    assert one.images == {"tmpl": "local"}


def test_a_node_that_does_not_answer_keeps_its_last_facts(world):
    """Catches: a node of no memory and no addresses, whose desktops seem to be nowhere."""
    found(world, replace(PVE1, images={"tmpl": "local"}))
    found(world, NodeInfo("pve1", False, why="no route to host"))

    one = node(world)
    assert (one.is_online, one.why, one.cpus, one.memory_mib) == (
        False,
        "no route to host",
        8,
        4096,
    )
    assert one.images == {"tmpl": "local"} and one.first_address == "10.7.0.9"
    assert one.offline_since == pytest.approx(world.now(), abs=5)


def test_since_when_a_node_is_away_is_said_once_and_forgotten_when_it_is_back(world):
    found(world, PVE1)
    found(world, NodeInfo("pve1", False))
    since = node(world).offline_since
    world.pass_s(30)
    found(world, NodeInfo("pve1", False, why="still away"))
    assert node(world).offline_since == since and node(world).why == "still away"
    found(world, PVE1)
    assert node(world).offline_since is None


def test_who_is_on_a_node_that_goes_or_comes_is_woken(world):
    room(world, "a", "b")
    room(world, "c", node="pve2")
    found(world, PVE1)
    assert world.all(Job) == []
    found(world, NodeInfo("pve1", False))
    assert {j.key for j in world.all(Job)} == {"a", "b"}
    found(world, PVE1)

    wakes = {(j.kind, j.key): j.wakes for j in world.all(Job)}
    assert wakes == {("session", "a"): 2, ("session", "b"): 2, ("sweep", "fake"): 1}


def test_a_node_that_comes_back_wakes_the_line(world):
    world.add(Reservation(session="waits", cluster="one", memory_mib=1))
    found(world, NodeInfo("pve1", False))
    found(world, PVE1)
    assert "waits" in {j.key for j in world.all(Job)}


def test_a_node_that_flaps_writes_two_events_each_time_and_nothing_else(world):
    for _ in range(3):
        found(world, NodeInfo("pve1", False, why="flaps"))
        found(world, NodeInfo("pve1", False, why="flaps"))
        found(world, PVE1)
    assert [after for _, after, _ in told(world)] == ["offline", "online"] * 3


def test_a_number_of_a_machine_that_is_gone_is_not_foreign_any_more(world):
    foreign = {"cluster": "one", "is_foreign": True, "since": world.now()}
    world.add(Number(number=102, **foreign), Number(number=107, **foreign))
    found(world, replace(PVE1, foreign_numbers=frozenset({102})))
    found(world, PVE1)

    assert [n.number for n in world.all(Number)] == [107]  # which no look has ever shown


def test_a_refresh_costs_the_same_calls_with_a_thousand_sessions(world):
    """Catches: a look at each machine: 1,000 calls each half minute."""
    room(world, *(f"desktop-{n}" for n in range(1000)))
    world.wake("node", "one")
    world.work()
    assert [call[0] for call in world.provider.calls] == ["nodes"]
