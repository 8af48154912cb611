"""How many desktops still fit: the same answer as placing them one by one."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daas.nodes.capacity import capacity
from daas.nodes.placement import Host, Need, Policy, choose_node

NEED, POLICY = Need(1024, 2, "tmpl"), Policy()
IMAGES = {"tmpl": "local"}
RANGE = ("10.0.0.10", "10.0.0.19")


def left(hosts, need=NEED, addresses=None, numbers=None):
    return capacity(hosts, need, POLICY, addresses or {}, numbers)


def test_each_node_says_how_many_and_what_ends_first():
    hosts = [
        Host("memory", 4096, cpus=64, images=IMAGES),
        Host("cores", 99_999, cpus=1, images=IMAGES),
        Host("limit", 99_999, cpus=64, images=IMAGES, max_desktops=3, desktops=1),
        Host("full", 512, cpus=64, images=IMAGES),
        Host("closed", 99_999, is_maintenance=True),
        Host("bare", 99_999, images={}),
        Host("gone", 99_999, is_online=False),
    ]
    found = left(hosts)

    assert {f.node: (f.fits, f.limited_by) for f in found.nodes} == {
        "memory": (4, "memory"),
        "cores": (4, "cpu"),
        "limit": (2, "limit"),
        "full": (0, "memory"),
        "closed": (0, "in maintenance"),
        "bare": (0, "template not reachable"),
        "gone": (0, "offline"),
    }
    assert found.fits == 10


def test_addresses_of_one_range_are_counted_once_for_all_its_nodes():
    hosts = [Host("a", 8192, addresses=RANGE), Host("b", 8192, addresses=RANGE)]
    found = left(hosts, addresses={RANGE: 10})
    assert (found.fits, found.limited_by) == (10, "addresses")
    assert [f.fits for f in found.nodes] == [8, 8]


def test_a_node_with_fewer_addresses_than_room_says_so():
    (fit,) = left([Host("a", 8192, addresses=RANGE)], addresses={RANGE: 3}).nodes
    assert (fit.fits, fit.limited_by) == (3, "addresses")


def test_numbers_limit_them_all():
    found = left([Host("a", 8192), Host("b", 8192)], numbers=5)
    assert (found.fits, found.limited_by) == (5, "VMIDs")


def test_with_one_node_lost_its_desktops_need_room_elsewhere():
    """Catches: a reserve on paper, of room that the lost desktops themselves will take."""
    hosts = [
        Host("a", 8192, held_mib=2048, desktops=2),
        Host("b", 8192, held_mib=5120, desktops=5),
    ]
    found = left(hosts)
    assert found.fits == 6 + 3
    assert (found.fits_one_lost, found.lost) == (1, "a")  # 3 on b, less the 2 that were on a


def test_one_node_alone_is_all_there_is_to_lose():
    found = left([Host("a", 8192)])
    assert (found.fits, found.fits_one_lost, found.lost) == (8, 0, "a")


def test_without_a_node_nothing_fits():
    found = left([])
    assert (found.fits, found.fits_one_lost, found.limited_by) == (0, 0, "no node")


hosts = st.lists(
    st.builds(
        Host,
        name=st.uuids().map(str),
        memory_mib=st.integers(0, 40),
        cpus=st.integers(0, 3),
        is_online=st.booleans(),
        is_maintenance=st.booleans(),
        max_desktops=st.none() | st.integers(0, 9),
        images=st.none() | st.just({"tmpl": "s"}) | st.just({}),
        foreign_mib=st.integers(0, 9),
        held_mib=st.integers(0, 9),
        desktops=st.integers(0, 3),
    ),
    max_size=4,
)


@given(hosts, st.integers(1, 9), st.integers(0, 3))
def test_as_many_fit_as_placement_then_places(found, mib, cpus):
    need = Need(mib, cpus, "tmpl")
    by_name, placed = {h.name: h for h in found}, 0
    while best := choose_node(list(by_name.values()), need, POLICY):
        placed += 1
        by_name[best.name] = replace(
            best,
            held_mib=best.held_mib + mib,
            held_cpus=best.held_cpus + cpus,
            desktops=best.desktops + 1,
        )
    assert left(found, need).fits == placed


@given(hosts, st.integers(0, 20))
def test_never_more_than_without_the_loss_and_never_less_than_none(found, numbers):
    answer = left(found, numbers=numbers)
    assert 0 <= answer.fits_one_lost <= answer.fits <= numbers
    assert answer.lost is not None or not any(h.is_online for h in found)


@pytest.mark.parametrize("cpus", [0, 2])
def test_a_desktop_of_no_size_is_limited_by_something_else(cpus):
    (fit,) = left([Host("a", 10, cpus=1, images=IMAGES)], Need(0, 2, "tmpl")).nodes
    assert (fit.fits, fit.limited_by) == (4, "cpu")
