"""Which node, which address, which number: pure decisions."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daas.nodes.placement import (
    Host,
    Need,
    Policy,
    awaits_turn,
    choose_address,
    choose_node,
    choose_number,
    lack,
    why_not,
)

FIRST, LAST = "10.0.0.10", "10.0.0.13"


POLICY = Policy()
IMAGES = {"tmpl": "local"}


def hosts(**free):
    return [Host(name, mib) for name, mib in free.items()]


def chosen(found, need, policy=POLICY, line=()):
    best = choose_node(found, need if isinstance(need, Need) else Need(need), policy, line)
    return best and best.name


def test_placement_takes_the_emptiest_node_that_fits():
    assert chosen(hosts(a=4096, b=8192), 1024) == "b"
    assert chosen([Host("a", 4096), Host("b", 8192, held_mib=6000)], 1024) == "a"
    assert chosen([Host("a", 4096, held_mib=4096), Host("b", 8192, held_mib=8000)], 1024) is None
    assert chosen([], 1) is None


def test_a_desktop_may_fill_a_node_to_the_last_mib():
    assert chosen(hosts(a=1024), 1024) == "a"
    assert chosen([Host("a", 1024, held_mib=1)], 1024) is None


def test_what_machines_of_others_take_is_not_free():
    assert chosen([Host("a", 4096, foreign_mib=3584)], 1024) is None


def test_between_equal_nodes_the_choice_is_the_same_each_time():
    """Catches: a choice by the order of rows, which differs from worker to worker."""
    assert chosen(hosts(a=9, b=9), 1) == chosen(hosts(b=9, a=9), 1)


def test_a_node_that_is_over_committed_already_takes_none():
    assert chosen([Host("a", 1024, held_mib=4096)], 1) is None


@pytest.mark.parametrize("a, b, need", list(product((0, 512, 1024, 2048), repeat=3)))
def test_what_is_chosen_fits_and_none_is_emptier(a, b, need):
    best = chosen(hosts(a=a, b=b), need)
    if best is None:
        assert max(a, b) < need
    else:
        assert {"a": a, "b": b}[best] == max(a, b) >= need


def test_cores_are_counted_with_what_policy_promises_of_each():
    vm = Host("a", 99999, cpus=2, images=IMAGES, held_cpus=14)
    assert lack(vm, Need(1, 2, "tmpl"), Policy(8.0)) == ""
    assert lack(vm, Need(1, 3, "tmpl"), Policy(8.0)) == "cpu"
    assert lack(replace(vm, foreign_cpus=1), Need(1, 2, "tmpl"), Policy(8.0)) == "cpu"


def test_a_containers_cores_are_a_ceiling_and_no_claim():
    """Catches: an LXD host that takes eight desktops a core and then says it is full."""
    assert lack(Host("a", 99999, cpus=1, held_cpus=500), Need(1, 2), POLICY) == ""


def test_a_clone_stays_where_its_templates_storage_is():
    near, far = Host("near", 1024, images=IMAGES), Host("far", 9999, images={})
    assert chosen([near, far], Need(512, 1, "tmpl")) == "near"
    assert lack(far, Need(512, 1, "tmpl"), POLICY) == "template not reachable"


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"is_online": False}, "offline"),
        ({"is_maintenance": True}, "in maintenance"),
        ({"images": {}}, "template not reachable"),
        ({"max_desktops": 3}, "limit"),
        ({"max_desktops": 0, "desktops": 0}, "limit"),
        ({"held_mib": 4000}, "memory"),
        ({"images": {"": "x"}, "held_cpus": 64}, "cpu"),
    ],
)
def test_each_reason_why_a_node_takes_none_has_its_word(change, reason):
    host = replace(Host("a", 4096, cpus=8, desktops=3), **change)
    assert lack(host, Need(1024, 1), POLICY) == reason
    assert why_not([host], Need(1024, 1), POLICY) == f"{reason} (a)"


def test_nodes_that_lack_the_same_are_named_together_and_not_all_sixteen():
    found = [Host(f"n{i}", 1) for i in range(6)] + [Host("m", 9999, is_maintenance=True)]
    said = why_not(found, Need(1024), POLICY)
    assert said == "memory (n0, n1, n2, n3 and 2 more); in maintenance (m)"


def test_a_tenants_desktops_are_spread_where_policy_says_so():
    emptier, other = Host("a", 9000, of_tenant=1), Host("b", 5000)
    assert chosen([emptier, other], 1024, Policy()) == "a"
    assert chosen([emptier, other], 1024, Policy(spread_tenants=True)) == "b"


# ---- the line


def test_a_node_is_kept_for_the_first_who_could_ever_take_it():
    """Catches: a small desktop that always gets in before a large one, which waits for ever."""
    full = Host("a", 2048, held_mib=1024)
    assert chosen([full], 512) == "a"
    assert chosen([full], 512, line=[Need(2048)]) is None
    assert awaits_turn([full], Need(512), POLICY, [Need(2048)])


def test_one_whom_no_node_could_take_delays_nobody():
    """Catches: one lost template, or one desktop too large for any node, and all wait for ever."""
    host = Host("a", 2048, images=IMAGES)
    for stuck in (Need(512, 1, "lost"), Need(4096, 1, "tmpl")):
        assert chosen([host], Need(512, 1, "tmpl"), line=[stuck]) == "a"
        assert not awaits_turn([host], Need(512, 1, "tmpl"), POLICY, [stuck])


def test_who_waits_for_one_node_does_not_keep_the_others():
    full, other = Host("a", 1024, held_mib=1024, images={"x": "s"}), Host("b", 1024, images=IMAGES)
    assert chosen([full, other], Need(512, 1, "tmpl"), line=[Need(512, 1, "x")]) == "b"


needs = st.builds(Need, st.integers(0, 9), st.integers(0, 4), st.sampled_from(["x", "y"]))
images = st.none() | st.dictionaries(st.sampled_from(["x", "y"]), st.just("s"))
clusters = st.lists(
    st.builds(
        Host,
        name=st.uuids().map(str),
        memory_mib=st.integers(0, 20),
        cpus=st.integers(0, 4),
        is_online=st.booleans(),
        is_maintenance=st.booleans(),
        max_desktops=st.none() | st.integers(0, 5),
        images=images,
        foreign_mib=st.integers(0, 5),
    ),
    max_size=5,
)


@given(clusters, st.lists(needs, max_size=30), st.booleans())
def test_whoever_comes_no_node_is_ever_over_committed(found, wishes, spread):
    policy, by_name = Policy(1.0, spread), {h.name: h for h in found}
    for need in wishes:
        best = choose_node(list(by_name.values()), need, policy)
        if best is None:
            assert all(lack(h, need, policy) for h in by_name.values())
            continue
        by_name[best.name] = took = replace(
            best,
            held_mib=best.held_mib + need.memory_mib,
            held_cpus=best.held_cpus + need.cpus,
            desktops=best.desktops + 1,
        )
        assert took.free_mib >= 0 and took.free_cpus(policy) >= 0
        assert took.max_desktops is None or took.desktops <= took.max_desktops


@given(clusters, st.lists(needs, max_size=6), needs)
def test_nobody_is_overtaken_on_a_node_he_could_take(found, line, need):
    best = choose_node(found, need, POLICY, line)
    if best:
        assert all(lack(best.emptied(), other, POLICY) for other in line)


@given(clusters, needs)
def test_who_is_not_placed_is_told_of_each_node_why(found, need):
    if choose_node(found, need, POLICY) is None:
        said = why_not(found, need, POLICY)
        assert said.count("(") == len({lack(h, need, POLICY) for h in found})


# ---- addresses and numbers


def test_numbers_are_given_in_turn_and_one_just_given_back_rests():
    assert choose_number(100, 103, {100}) == 101
    assert choose_number(100, 103, {103}, after=101) == 102
    assert choose_number(100, 103, {102, 103}, after=101) == 100
    assert choose_number(100, 103, {100, 101, 102, 103}) is None
    assert choose_number(100, 103, set(), after=999) == 100


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
