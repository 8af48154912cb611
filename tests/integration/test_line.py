"""Room on nodes: never promised twice, and first come, first served."""

import time

import pytest
from sqlalchemy import Select

from daas.errors import NoCapacity
from daas.nodes import reservations
from daas.nodes.models import Node, Reservation
from daas.nodes.reservations import reserve
from daas.sessions import queries
from daas.sessions.states import Desired
from support.databases import on_postgresql
from support.world import ADA

RANGE = {"subnet": "10.8.0.1/24", "first_address": "10.8.0.10", "last_address": "10.8.0.59"}


def small(world, count=1, mib=1024, **kw):
    nodes = [Node(name=f"n{i}", cluster="small", memory_mib=mib, **kw) for i in range(count)]
    world.add_cluster("small", nodes)


def place(world, session, mib=1024, cluster="small"):
    with world.database.transaction() as db:
        return reserve(db, session, cluster, mib)


def fifty_at_once(world):
    """Fifty ask for 24 places on three nodes; a fourth is off."""
    small(world, 3, 8192, **RANGE)
    world.add(Node(name="off", cluster="small", memory_mib=10**6, is_online=False))
    out = world.race(50, lambda i: place(world, f"s{i}"))

    held = [r for r in world.all(Reservation) if r.node]
    per_node = {n: [r.memory_mib for r in held if r.node == n] for n in ("n0", "n1", "n2", "off")}
    assert {n: sum(mib) for n, mib in per_node.items()} == {"n0": 8192, "n1": 8192, "n2": 8192} | {
        "off": 0
    }
    assert len({r.address for r in held}) == 24
    assert len([o for o in out if isinstance(o, NoCapacity)]) == 26


def test_50_at_once_never_over_commit_a_node_nor_share_an_address(world):
    """Catches: choose, then reserve, without the cluster's lock in between."""
    fifty_at_once(world)


@on_postgresql
def test_without_the_clusters_lock_they_would(world, monkeypatch):
    """The control of the test above. (SQLite's only writer is lock enough.)"""
    choose = reservations.choose_node

    def slow(*args):
        time.sleep(0.02)
        return choose(*args)

    monkeypatch.setattr(reservations, "choose_node", slow)
    monkeypatch.setattr(Select, "with_for_update", lambda self, **kw: self)
    with pytest.raises(AssertionError):
        fifty_at_once(world)


def test_room_that_is_kept_is_kept_once(world):
    small(world, 1, 4096, **RANGE)
    first = place(world, "a")
    assert place(world, "a") == first
    assert (first.node, first.address, first.gateway) == ("n0", "10.8.0.10/24", "10.8.0.1")
    assert len(world.all(Reservation)) == 1


def test_a_network_with_addresses_of_its_own_gives_them_itself(world):
    small(world, 1, 4096)
    room = place(world, "a")
    assert (room.node, room.address, room.gateway) == ("n0", None, None)


def test_addresses_that_others_use_are_not_given(world):
    small(world, 1, 9999, **RANGE, taken=["10.8.0.10", "10.8.0.11"])
    assert place(world, "a").address == "10.8.0.12/24"


def test_an_address_just_given_back_rests(world):
    small(world, 1, 9999, **RANGE)
    assert place(world, "a").address == "10.8.0.10/24"
    assert place(world, "b").address == "10.8.0.11/24"
    with world.database.transaction() as db:
        reservations.release(db, "a")
    assert place(world, "c").address == "10.8.0.12/24"


def test_without_a_free_address_one_waits(world):
    small(world, 1, 10**6, **{**RANGE, "last_address": "10.8.0.11"})
    place(world, "a"), place(world, "b")
    assert "address" in place(world, "c").why


def test_the_line_is_first_come_first_served(world):
    """Catches: a small one that always gets in before a large one, which waits for ever."""
    small(world, 1, 2048)
    place(world, "a", 2048)
    assert "room for 2048 MiB" in place(world, "large", 2048).why
    assert "1 before it" in place(world, "tiny", 16).why
    with world.database.transaction() as db:
        reservations.release(db, "a")
    assert isinstance(place(world, "tiny", 16), NoCapacity)  # though there is room

    assert place(world, "large", 2048).node == "n0"


def full(world, waiting=3):
    """One session has the only room; the others wait in line, in that order."""
    small(world)
    names = []
    for _ in range(waiting + 1):
        names.append(world.ask(cluster="small"))
        for _ in range(8):
            world.work()
            world.pass_s(1)
    return names


def test_a_session_waits_for_room_and_gets_it(world):
    first, second, third, _ = full(world)
    assert world.load(second).waiting_for == "room for 1024 MiB on a node of small"
    assert world.load(third).waiting_for == "its turn: 1 before it wait for room"
    world.delete(first)
    world.drain_until(lambda: world.load(second).status == "ready")

    assert world.load(second).waiting_for is None
    assert world.load(third).status == "requested"


def test_a_session_in_line_knows_its_place_and_how_long(world):
    names, now_s = full(world), world.now()
    with world.database.reading() as db:
        seen = [queries.outlook(db, queries.shown(db, ADA, n), now_s) for n in names]
        each = queries.create_s(db)
    assert [position for position, _ in seen] == [None, 1, 2, 3]
    etas = [eta for _, eta in seen[1:]]
    assert etas == sorted(etas) and etas[2] >= 3 * each


def test_who_leaves_the_line_lets_the_others_go_forward(world):
    first, second, third, fourth = full(world)
    world.delete(second)
    world.delete(first)
    world.drain_until(lambda: world.load(third).status == "ready")
    assert world.load(fourth).status == "requested"


def test_waiting_for_room_is_no_failure_however_long(world):
    """Catches: 200 pupils at 8 a.m., of whom the last hundred get `failed` after ten minutes."""
    first, second, third, _ = full(world)
    for _ in range(20):
        world.pass_s(700)
        world.work()
    assert world.load(second).status == "requested"
    world.delete(first)
    world.drain_until(lambda: world.load(second).status == "ready")
    assert world.load(third).status == "requested"


def test_one_that_cannot_be_destroyed_does_not_block_the_line(world):
    first, second, third, _ = full(world)
    destroy = world.provider.destroy

    def stubborn(name, state):
        if name == second:
            raise ConnectionResetError
        destroy(name, state)

    world.provider.destroy = stubborn
    world.delete(second)
    world.work(), world.work()
    world.delete(first)
    world.drain_until(lambda: world.load(third).status == "ready")
    assert world.load(second).status == "deleting"


def test_all_that_fit_go_when_a_large_one_goes(world):
    """Catches: one at a time, each fifteen seconds, when there is room for all."""
    small(world, 1, 6 * 1024)
    large = world.ask(cluster="small", mib=6 * 1024)
    world.drain()
    names = [world.ask(cluster="small") for _ in range(6)]
    for _ in range(24):
        world.work()
    world.delete(large)
    before = world.now()
    world.drain_until(lambda: {world.load(n).status for n in names} == {"ready"})
    assert world.now() - before < 12  # of which 5 are the guests' boot


def test_a_node_that_comes_back_is_used(world):
    small(world, 1, is_online=False)
    name = world.ask(cluster="small")
    for _ in range(4):
        world.work()
    assert world.load(name).status == "requested"
    with world.database.transaction() as db:
        db.get_one(Node, ("small", "n0")).is_online = True
    world.drain()
    assert world.load(name).status == "ready"


def test_a_stopped_session_keeps_its_room(world):
    """Catches: room given away while its machine still has its disk and address there."""
    small(world)
    name = world.ask(cluster="small")
    world.drain()
    world.want(name, Desired.STOPPED)
    world.drain()
    assert [r.session for r in world.all(Reservation)] == [name]
