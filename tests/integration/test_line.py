"""Room on nodes: never promised twice, and first come, first served."""

import time

import pytest
from sqlalchemy import Select

from daas.errors import NoCapacity
from daas.nodes import reservations
from daas.nodes.models import Node, Reservation
from daas.nodes.placement import Need, Policy
from daas.nodes.reservations import reserve
from daas.sessions import queries
from daas.sessions.states import Desired
from support.databases import on_postgresql
from support.world import ADA, settings

RANGE = {"subnet": "10.8.0.1/24", "first_address": "10.8.0.10", "last_address": "10.8.0.59"}


def small(world, count=1, mib=1024, **kw):
    nodes = [Node(name=f"n{i}", cluster="small", memory_mib=mib, **kw) for i in range(count)]
    world.add_cluster("small", nodes)


def place(world, session, mib=1024, cluster="small"):
    with world.database.transaction() as db:
        return reserve(db, session, cluster, Need(mib))


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
    assert world.load(second).waiting_for == "room for 1024 MiB on a node of small: memory (n0)"
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


# ---- who may go before whom, and why one waits


def test_one_whose_template_is_nowhere_does_not_block_the_line(world):
    """Catches: a template that was deleted by hand stops every desktop of the installation."""
    small(world, 1, 4096, images={"tmpl": "local"})
    with world.database.transaction() as db:
        stuck = reserve(db, "stuck", "small", Need(512, image="lost"))
        room = reserve(db, "after", "small", Need(512, image="tmpl"))

    assert "template not reachable (n0)" in stuck.why
    assert (room.node, room.storage) == ("n0", "local")


def test_fifty_at_once_are_spread_evenly(world):
    small(world, 5, 99_999)
    world.race(50, lambda i: place(world, f"s{i}", mib=256))
    on = [r.node for r in world.all(Reservation)]
    assert {on.count(f"n{i}") for i in range(5)} == {10}


def test_a_tenants_desktops_are_spread_where_policy_says_so(world):
    small(world, 2, 4096)
    world.add(Node(name="big", cluster="small", memory_mib=99_999))
    policy = Policy(spread_tenants=True)
    with world.database.transaction() as db:
        rooms = [reserve(db, f"s{i}", "small", Need(16, tenant="acme"), policy) for i in range(3)]
        other = reserve(db, "other", "small", Need(16, tenant="evil"), policy)

    assert {room.node for room in rooms} == {"n0", "n1", "big"} and other.node == "big"


def test_a_node_in_maintenance_or_at_its_limit_takes_none_and_says_so(world):
    small(world, 1, 4096, is_maintenance=True)
    world.add(Node(name="n1", cluster="small", memory_mib=4096, max_desktops=1))
    assert place(world, "a", mib=16).node == "n1"
    assert place(world, "b", mib=16).why.endswith(": in maintenance (n0); limit (n1)")


def test_what_a_session_waits_for_is_on_it(world):
    world.settings = settings(data_dir=world.data_dir, cpu_overcommit=1)
    small(world, 1, 4096, cpus=1, images={"image-debian-1": "local"})
    first, second = world.ask(cluster="small", mib=16), world.ask(cluster="small", mib=16)
    for _ in range(4):
        world.work()
    waits = world.load(second).waiting_for or world.load(first).waiting_for
    assert waits == "room for 16 MiB on a node of small: cpu (n0)"


def test_when_a_large_one_goes_the_first_of_each_kind_are_woken(world):
    """Catches: four that wait for another template stand before all others, and each of these
    waits for its next look."""
    small(world, 1, 1024, images={"a": "local"})
    for i in range(6):
        world.add(Reservation(session=f"lost{i}", cluster="small", memory_mib=1, image="b"))
    world.add(Reservation(session="fits", cluster="small", memory_mib=1, image="a"))
    with world.database.reading() as db:
        line = reservations.next_in_line(db, "small")
    assert line == ["lost0", "lost1", "lost2", "lost3", "fits"]
