"""Which node, which address: pure decisions."""

from itertools import product

import pytest

from daas.nodes.placement import choose_address, choose_node

FIRST, LAST = "10.0.0.10", "10.0.0.13"


def test_placement_takes_the_emptiest_node_that_fits():
    capacity = {"a": 4096, "b": 8192}
    assert choose_node(capacity, {}, 1024) == "b"
    assert choose_node(capacity, {"b": 6000}, 1024) == "a"
    assert choose_node(capacity, {"a": 4096, "b": 8000}, 1024) is None
    assert choose_node({}, {}, 1) is None


def test_a_desktop_may_fill_a_node_to_the_last_mib():
    assert choose_node({"a": 1024}, {}, 1024) == "a"
    assert choose_node({"a": 1024}, {"a": 1}, 1024) is None


def test_between_equal_nodes_the_choice_is_the_same_each_time():
    """Catches: a choice by the order of a dict, which differs from worker to worker."""
    assert choose_node({"a": 9, "b": 9}, {}, 1) == choose_node({"b": 9, "a": 9}, {}, 1)


def test_a_node_that_is_over_committed_already_takes_none():
    assert choose_node({"a": 1024}, {"a": 4096}, 1) is None


@pytest.mark.parametrize("a, b, need", list(product((0, 512, 1024, 2048), repeat=3)))
def test_what_is_chosen_fits_and_none_is_emptier(a, b, need):
    best = choose_node({"a": a, "b": b}, {}, need)
    if best is None:
        assert max(a, b) < need
    else:
        assert {"a": a, "b": b}[best] == max(a, b) >= need


def test_addresses_are_given_in_order():
    used: set[str] = set()
    given = []
    while address := choose_address(FIRST, LAST, used, given[-1] if given else None):
        given.append(address)
        used.add(address)

    assert given == ["10.0.0.10", "10.0.0.11", "10.0.0.12", "10.0.0.13"]


def test_an_address_that_was_just_given_back_rests_a_while():
    """Catches: the lowest free one each time: a new desktop answers where an old one just was,
    and a client's ARP entry, known host or open connection belongs to the old one."""
    assert choose_address(FIRST, LAST, {"10.0.0.11"}, after="10.0.0.11") == "10.0.0.12"


def test_after_the_last_address_the_first_comes_again():
    assert choose_address(FIRST, LAST, {LAST}, after=LAST) == FIRST
    assert choose_address(FIRST, LAST, {FIRST, LAST}, after=LAST) == "10.0.0.11"
    assert choose_address(FIRST, LAST, {FIRST}, after="10.0.0.12") == LAST


def test_without_a_free_address_there_is_none():
    used = {f"10.0.0.{n}" for n in range(10, 14)}
    assert choose_address(FIRST, LAST, used) is None
    assert choose_address(FIRST, LAST, used, after="10.0.0.12") is None


def test_a_range_that_was_changed_meanwhile_is_begun_anew():
    """Catches: an address out of the old range, one after the last given."""
    assert choose_address(FIRST, LAST, set(), after="192.168.7.7") == FIRST


def test_a_range_of_one_address_is_one():
    assert choose_address(FIRST, FIRST, set()) == FIRST
    assert choose_address(FIRST, FIRST, {FIRST}) is None


@pytest.mark.parametrize("taken", range(16))
def test_every_set_of_used_addresses_leaves_a_free_one_or_none(taken):
    all_ = [f"10.0.0.{n}" for n in range(10, 14)]
    used = {a for n, a in enumerate(all_) if taken >> n & 1}
    for after in (None, *all_):
        found = choose_address(FIRST, LAST, used, after)
        assert found in set(all_) - used if len(used) < 4 else found is None
