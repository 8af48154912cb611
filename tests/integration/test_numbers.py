"""Numbers of machines: leased to one session at a time, never one that is somebody else's."""

import time

import pytest
from sqlalchemy import Select

from daas.errors import NoCapacity
from daas.nodes import numbers, reservations
from daas.nodes.models import Cluster, Node, Number
from daas.nodes.placement import Need
from daas.nodes.reservations import reserve
from support.databases import on_postgresql


def numbered(world, first=100, last=109):
    world.add(Cluster(name="pve", kind="fake", first_number=first, last_number=last))
    world.add(Node(name="n0", cluster="pve", memory_mib=1 << 20))


def place(world, session, cluster="pve"):
    with world.database.transaction() as db:
        return reserve(db, session, cluster, Need(1))


def release(world, *sessions):
    with world.database.transaction() as db:
        for session in sessions:
            reservations.release(db, session)


def leased(world):
    return {n.session: n.number for n in world.all(Number) if n.session}


def thirty_at_once(world):
    numbered(world, 100, 119)
    out = world.race(30, lambda i: place(world, f"s{i}"))
    given = [room.number for room in out if not isinstance(room, NoCapacity | Exception)]
    assert sorted(given) == list(range(100, 120))
    assert len([o for o in out if isinstance(o, NoCapacity)]) == 10


def test_thirty_at_once_lease_each_number_once(world):
    thirty_at_once(world)


@on_postgresql
def test_without_the_clusters_lock_the_key_of_the_table_says_no(world, monkeypatch):
    """The control of the test above: two choose the same number, and one of them fails."""
    choose = numbers.choose_number

    def slow(*args):
        time.sleep(0.02)
        return choose(*args)

    monkeypatch.setattr(numbers, "choose_number", slow)
    monkeypatch.setattr(Select, "with_for_update", lambda self, **kw: self)
    with pytest.raises(AssertionError):
        thirty_at_once(world)
    given = [n.number for n in world.all(Number)]
    assert len(given) == len(set(given)) < 20


def test_a_machine_without_numbers_leases_none(world):
    assert place(world, "a", "one").number is None and world.all(Number) == []


def test_asked_again_it_is_the_same_number(world):
    numbered(world)
    assert place(world, "a").number == place(world, "a").number == 100


def test_a_number_just_given_back_rests_however_small_the_range(world):
    """Catches: a new machine under a number that Proxmox still lists as the old one's."""
    numbered(world, 100, 100)
    place(world, "a")
    release(world, "a")
    assert "VMID" in place(world, "b").why

    world.pass_s(numbers.REST_S + 1)
    assert place(world, "b").number == 100


def test_the_range_is_gone_round_before_a_number_comes_again(world):
    numbered(world, 100, 102)
    for name in ("a", "b"):
        place(world, name)
        release(world, name)
    world.pass_s(numbers.REST_S + 1)
    assert [place(world, name).number for name in ("c", "d")] == [102, 100]


def test_a_number_that_a_machine_of_others_has_is_passed_over(world):
    numbered(world)
    world.add(
        Node(name="n1", cluster="pve", memory_mib=1, is_online=False, foreign_numbers=[100, 101])
    )
    assert place(world, "a").number == 102


def test_a_number_that_was_found_taken_is_not_tried_for_a_day(world):
    numbered(world, 100, 101)
    place(world, "a")
    with world.database.transaction() as db:
        numbers.give_up(db, "a")
    release(world, "a")
    assert place(world, "b").number == 101
    assert isinstance(place(world, "c"), NoCapacity)

    world.pass_s(numbers.FOREIGN_S + 1)
    assert place(world, "c").number == 100


def test_without_a_free_number_one_waits_and_is_told_which_setting_it_is(world):
    numbered(world, 100, 100)
    place(world, "a")
    why = place(world, "b").why
    assert why == "a free VMID: all of 100-100 are in use (DAAS_PROXMOX_VMIDS)"
